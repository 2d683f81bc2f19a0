//! Many clients, each asking for its own marker, while everything else goes wrong at random.
//!
//! The model: each request ends with exactly one Ready, and before it stand either its own answer or
//! exactly one error that the faults of the run allow; no row ever carries another client's marker.
//! `World` holds the counts to their limits after every step.

use std::collections::VecDeque;

use maitred_relay::sim::database::Door;
use maitred_relay::sim::frontend::{
    bind, copy_data, copy_done, describe, execute, parse, query, run_prepared, sync, Reply,
};
use maitred_relay::sim::setup::snapshot;
use maitred_relay::sim::{Pieces, Random, World};
use maitred_relay::snapshot::{PoolMode, Snapshot};

/// A request with one Ready.
struct Unit {
    bytes: Vec<u8>,
    /// Its answer when nothing goes wrong, without settings and Ready; None: any.
    answer: Option<String>,
    /// Errors that it brings upon itself.
    own_errors: &'static [&'static str],
    after: After,
}

/// What a client knows once the answer has come.
enum After {
    Nothing,
    Named(String),
    Zone(String),
}

struct Actor {
    client: usize,
    mark: String,
    under_way: VecDeque<Unit>,
    asked: u64,
    transaction: char,
    names: Vec<String>,
    zone: Option<String>,
    /// Somebody asked to cancel what it runs, and that may still hit until then.
    cancel_until: u64,
    sent_at: u64,
}

struct Run {
    random: Random,
    world: World,
    actors: Vec<Actor>,
    mode: PoolMode,
    workers: usize,
    next_mark: usize,
    answered: usize,
    failed: usize,
    may_lose: bool,
    may_time_out: bool,
    may_be_stale: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut config: Snapshot = snapshot(1 + random.below(4) as u32);
        let pool = &mut config.databases[0].pool;
        pool.mode = *random.pick(&[
            PoolMode::Transaction,
            PoolMode::Transaction,
            PoolMode::Session,
            PoolMode::Statement,
        ]);
        pool.queue_timeout_ms = 400;
        pool.login_retry_ms = 10;
        pool.login_retry_max_ms = 50;
        let may_time_out = random.once_in(2);
        if may_time_out {
            pool.query_timeout_ms = 20;
        }
        if random.once_in(3) {
            pool.server_statements_bytes = 300;
        }
        if random.once_in(4) {
            pool.server_lifetime_ms = 100;
            pool.server_lifetime_jitter = 50;
        }
        if random.once_in(4) {
            pool.reserve_size = 1;
            pool.reserve_after_ms = 5;
        }
        let mode = pool.mode;
        config.limits.buffer_bytes = *random.pick(&[4_000, 16_000, 64_000]);
        let workers = 1 + random.below(4) as usize;
        let mut world = World::with_workers(config, workers, seed);
        if random.once_in(2) {
            world.pieces = Pieces::Random;
        }
        world.latency_us = 10 + random.below(300);
        world.cancel_us = random.below(3_000);
        world.cancel_end_us = random.below(1_000);
        world.slow_settings_us = if random.once_in(2) { random.below(500) } else { 0 };
        let (may_lose, may_be_stale) = (random.once_in(2), random.once_in(4));
        let actors = Vec::new();
        Run {
            random,
            world,
            actors,
            mode,
            workers,
            next_mark: 0,
            answered: 0,
            failed: 0,
            may_lose,
            may_time_out,
            may_be_stale,
        }
    }

    fn arrive(&mut self) -> Actor {
        let worker = self.random.below(self.workers as u64) as usize;
        let client = self.world.arrive(worker, "ann", "shop");
        self.next_mark += 1;
        Actor {
            client,
            mark: format!("m{}.", self.next_mark),
            under_way: VecDeque::new(),
            asked: 0,
            transaction: '?',
            names: Vec::new(),
            zone: None,
            cancel_until: 0,
            sent_at: 0,
        }
    }

    fn unit(&mut self, at: usize, is_alone: bool) -> Unit {
        let actor = &mut self.actors[at];
        actor.asked += 1;
        let mark = format!("{}{}", actor.mark, actor.asked);
        let plain = |bytes: Vec<u8>, answer: String| Unit {
            bytes,
            answer: Some(answer),
            own_errors: &[],
            after: After::Nothing,
        };
        match self.random.below(16) {
            0 => plain(
                [parse("", "select $1"), bind("", "", &[&mark]), describe('P', ""), execute("", 0), sync()]
                    .concat(),
                format!("1 2 T D:{mark} C:SELECT 1"),
            ),
            1 => plain(
                query(&format!("sleep {} {mark}", self.random.below(8_000))),
                format!("T D:{mark} C:SELECT 1"),
            ),
            2 => plain(
                query(&format!("select {mark}; select {mark}b")),
                format!("T D:{mark} C:SELECT 1 T D:{mark}b C:SELECT 1"),
            ),
            3 => Unit { own_errors: &["22012"], ..plain(query("fail"), "never".into()) },
            4 => {
                let name = format!("s{}", actor.asked);
                let mut unit =
                    plain([parse(&name, &format!("select {}$1", actor.mark)), sync()].concat(), "1".into());
                unit.after = After::Named(name);
                unit
            }
            5..=7 if !actor.names.is_empty() => {
                let name = self.random.pick(&actor.names).clone();
                plain(run_prepared(&name, &["v"]), format!("2 D:{}v C:SELECT 1", actor.mark))
            }
            8 => plain(
                [query("copyin t"), copy_data(mark.as_bytes()), copy_done()].concat(),
                format!("G C:COPY {}", mark.len()),
            ),
            9 => {
                let (count, size) = (1 + self.random.below(30), self.random.below(900));
                let row = format!("D:{mark}{}", "x".repeat(size as usize));
                let rows = vec![row; count as usize].join(" ");
                plain(query(&format!("rows {count} {size} {mark}")), format!("T {rows} C:SELECT {count}"))
            }
            10 => {
                plain(query(&format!("copyout 3 {mark}")), format!("H d:{mark} d:{mark} d:{mark} c C:COPY 3"))
            }
            11 if actor.transaction == 'I' => {
                // Known again when it has been answered.
                actor.zone = None;
                let mut unit = plain(query(&format!("set TimeZone={mark}")), "C:SET".into());
                unit.after = After::Zone(mark);
                unit
            }
            12 if actor.zone.is_some() => {
                let zone = actor.zone.clone().expect("some");
                plain(query("show TimeZone"), format!("T D:{zone} C:SELECT 1"))
            }
            13 if is_alone && actor.transaction == 'I' => {
                actor.names.clear();
                plain(query("deallocate all"), "C:DEALLOCATE ALL".into())
            }
            _ => plain(query(&format!("select {mark}")), format!("T D:{mark} C:SELECT 1")),
        }
    }

    /// An idle client asks for something: one unit, or several at once.
    fn ask(&mut self, at: usize) {
        let state = self.actors[at].transaction;
        let in_block = matches!(state, 'T' | 'E');
        let word =
            |word: &str| Unit { bytes: query(word), answer: None, own_errors: &[], after: After::Nothing };
        let units = match self.random.below(6) {
            0 if in_block => vec![word("commit")],
            1 if in_block || state == 'E' => vec![word("rollback")],
            0 if self.mode != PoolMode::Statement => vec![word("begin")],
            // Inside a block settings and names come and go with it: no part of the model.
            2 if !in_block => (0..2 + self.random.below(5)).map(|_| self.unit(at, false)).collect(),
            _ => vec![self.unit(at, true)],
        };
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.bytes.clone()).collect();
        let actor = &mut self.actors[at];
        actor.under_way.extend(units);
        actor.sent_at = self.world.now;
        let client = actor.client;
        self.world.send(client, &bytes);
    }

    /// Look at what a client has been told; true if it is done with everything.
    fn hear(&mut self, at: usize) {
        let actor = &mut self.actors[at];
        let client = actor.client;
        while let Some(end) =
            self.world.clients[client].replies.iter().position(|reply| matches!(reply, Reply::Ready(_)))
        {
            let told: Vec<Reply> = self.world.clients[client].replies.drain(..=end).collect();
            let Some(Reply::Ready(state)) = told.last() else { unreachable!() };
            let was = std::mem::replace(&mut actor.transaction, *state);
            if was == '?' {
                continue;
            }
            let unit = actor.under_way.pop_front().expect("a Ready that nobody asked for");
            let mut answer = Vec::new();
            let mut errors = Vec::new();
            for reply in &told[..end] {
                match reply {
                    Reply::Setting(name, value) => {
                        assert!(
                            name != "TimeZone" || value == "UTC" || value.starts_with(&actor.mark),
                            "{value}"
                        );
                    }
                    Reply::Error { code, fatal, .. } => {
                        assert!(!fatal);
                        errors.push(code.clone());
                    }
                    Reply::Row(value) => {
                        assert!(value.starts_with(&actor.mark), "{} got {value}", actor.mark);
                        answer.push(reply.brief());
                    }
                    Reply::CopyData(value) => {
                        assert!(value.starts_with(actor.mark.as_bytes()), "{} got {value:?}", actor.mark);
                        answer.push(reply.brief());
                    }
                    _ => answer.push(reply.brief()),
                }
            }
            let answer = answer.join(" ");
            if errors.is_empty() {
                if let Some(expected) = &unit.answer {
                    assert!(
                        unit.own_errors.is_empty() && answer == *expected,
                        "{}: {answer}, not {expected}",
                        actor.mark
                    );
                }
                self.answered += 1;
                match unit.after {
                    After::Named(name) if *state == 'I' => actor.names.push(name),
                    After::Zone(zone) => actor.zone = Some(zone),
                    _ => {}
                }
            } else {
                assert_eq!(errors.len(), 1, "{}: {errors:?}", actor.mark);
                let code = errors[0].as_str();
                let is_cancelled =
                    code == "57014" && (actor.cancel_until >= actor.sent_at || self.may_time_out);
                let is_lost =
                    matches!(code, "08006" | "08001" | "57P01") && (self.may_lose || self.may_time_out);
                // A cancelled change of settings costs the server, and with it the transaction.
                let is_late = code == "53300";
                let is_aborted = code == "25P02" && was != 'I';
                let is_stale = code == "0A000" && self.may_be_stale;
                let is_own = unit.own_errors.contains(&code);
                assert!(
                    is_cancelled || is_lost || is_late || is_aborted || is_stale || is_own,
                    "{}: {code} after {answer}",
                    actor.mark
                );
                self.failed += 1;
                // A name that was to be made is perhaps there and perhaps not: it is never used again.
                if is_lost && self.mode == PoolMode::Session {
                    panic!("a session outlived its server");
                }
            }
        }
    }

    fn disturb(&mut self) {
        let now = self.world.now;
        match self.random.below(12) {
            0..=2 => {
                let at = self.random.below(self.actors.len() as u64) as usize;
                let client = self.actors[at].client;
                if let Some(key) = self.world.clients[client].key.clone() {
                    let worker = self.random.below(self.workers as u64) as usize;
                    self.world.cancel_with(worker, &key);
                    self.actors[at].cancel_until = now + 50_000;
                }
            }
            3 => {
                let at = self.random.below(self.actors.len() as u64) as usize;
                let client = self.actors[at].client;
                self.world.leave(client);
                self.actors[at] = self.arrive();
            }
            4 if self.may_lose && !self.world.lines.is_empty() => {
                let line = self.random.below(self.world.lines.len() as u64) as usize;
                let way = self.random.below(4);
                if self.world.lines[line].session.is_logged_in() {
                    self.world.disturb(line, |session| match way {
                        0 => session.end(),
                        1 => session.terminate(b"57P01", "terminating connection"),
                        2 => session.say_goodbye_only(b"57P01", "terminating connection"),
                        _ => session.babble(),
                    });
                }
            }
            5 if self.may_lose => {
                let doors = [Door::Down, Door::Hangup, Door::Refuse(*b"57P03", "starting up".into())];
                let door = self.random.pick(&doors).clone();
                self.world.doors.insert("db1".into(), door);
            }
            6 if self.may_be_stale => self.world.version += 1,
            7 => self.world.with_all(|relay, now| relay.reconnect(now, None)),
            8 => self.world.with_all(|relay, _| relay.pause(None)),
            _ => {
                self.world.doors.clear();
                self.world.with_all(|relay, now| relay.resume(now, None));
            }
        }
    }

    fn go(mut self) -> (usize, usize) {
        for _ in 0..3 + self.random.below(8) {
            let actor = self.arrive();
            self.actors.push(actor);
        }
        for _ in 0..400 {
            for at in 0..self.actors.len() {
                self.hear(at);
                let actor = &self.actors[at];
                let client = actor.client;
                if self.world.clients[client].is_closed {
                    let last = self.world.brief(client);
                    let is_session = self.mode == PoolMode::Session;
                    let is_lost = last.ends_with("F:08006") || last.ends_with("F:57P01");
                    let is_explained =
                        (is_lost && is_session) || last.ends_with("F:53300") || last.ends_with("F:08001");
                    assert!(is_explained, "{}closed with {last}", actor.mark);
                    self.actors[at] = self.arrive();
                } else if actor.transaction != '?' && actor.under_way.is_empty() && !self.random.once_in(3) {
                    self.ask(at);
                }
            }
            if self.random.once_in(8) {
                self.disturb();
            }
            self.world.run_for(self.random.below(1_500));
        }
        self.world.doors.clear();
        self.world.with_all(|relay, now| relay.resume(now, None));
        self.world.run_for(15_000_000);
        for at in 0..self.actors.len() {
            self.hear(at);
            let actor = &self.actors[at];
            let is_closed = self.world.clients[actor.client].is_closed;
            assert!(is_closed || actor.under_way.is_empty(), "{} got no answer", actor.mark);
        }
        self.world.everybody_leaves();
        (self.answered, self.failed)
    }
}

#[test]
fn every_request_is_answered_once_and_by_its_own_answer() {
    let (mut answered, mut failed) = (0, 0);
    for seed in Random::seeds(120) {
        let (a, f) = Run::new(seed).go();
        answered += a;
        failed += f;
    }
    assert!(answered > 10 * failed && failed > 0, "{answered} answered, {failed} failed");
}
