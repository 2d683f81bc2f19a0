//! Many clients of both protocols on the same workers, each asking for its own marker, while everything else goes
//! wrong at random.
//!
//! The model: each command ends once, with its own answer or with one error that the faults of the run allow; no
//! row, setting, statement or table is ever another client's. `World` looks at every free server after each step.

mod asking;

use std::collections::VecDeque;

use maitred_relay::sim::database::Door;
use maitred_relay::sim::frontend::{self as postgres, Reply};
use maitred_relay::sim::mysql::can;
use maitred_relay::sim::mysql::frontend::{kill_connection, query};
use maitred_relay::sim::parts::trace;
use maitred_relay::sim::setup::with_mysql;
use maitred_relay::sim::{Pieces, Random, World};
use maitred_relay::snapshot::PoolMode;

use crate::asking::{Actor, After, Statement, Unit};

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
}

const VALUES: [(&str, &str); 3] = [("schema", "store"), ("sql_mode", "STRICT_TRANS_TABLES"), ("@x", "NULL")];

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut config = with_mysql(1 + random.below(4) as u32);
        let mode = *random.pick(&[PoolMode::Transaction, PoolMode::Transaction, PoolMode::Session]);
        let may_time_out = random.once_in(3);
        let statements = if random.once_in(3) { 300 } else { 1 << 20 };
        let lifetime = if random.once_in(4) { 100 } else { 0 };
        for database in &mut config.databases {
            let pool = &mut database.pool;
            pool.mode = mode;
            pool.queue_timeout_ms = 400;
            pool.login_retry_ms = 10;
            pool.login_retry_max_ms = 50;
            pool.server_statements_bytes = statements;
            pool.server_lifetime_ms = lifetime;
            pool.query_timeout_ms = if may_time_out { 20 } else { 0 };
        }
        config.limits.buffer_bytes = *random.pick(&[4_000, 16_000, 64_000]);
        let workers = 1 + random.below(3) as usize;
        let mut world = World::with_workers(config, workers, seed);
        world.has_mariadb = random.once_in(2);
        if random.once_in(2) {
            world.pieces = Pieces::Random;
        }
        world.latency_us = 10 + random.below(300);
        let may_lose = random.once_in(2);
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
        }
    }

    fn arrive(&mut self) -> Actor {
        let worker = self.random.below(self.workers as u64) as usize;
        let is_mysql = !self.random.once_in(5);
        let mut capabilities = can::PLAIN;
        for flag in [can::DEPRECATE_EOF, can::SESSION_TRACK, can::FOUND_ROWS, can::MULTI_STATEMENTS] {
            // Why not even: with each class a pool has room for fewer.
            capabilities |= if self.random.once_in(3) { flag } else { 0 };
        }
        let client = match is_mysql {
            true => self.world.arrive_mysql(worker, "ann", "store", capabilities),
            false => self.world.arrive(worker, "ann", "shop"),
        };
        self.next_mark += 1;
        Actor {
            client,
            is_mysql,
            mark: format!("m{}.", self.next_mark),
            capabilities,
            under_way: VecDeque::new(),
            asked: 0,
            is_known: false,
            in_transaction: false,
            is_autocommit: true,
            statements: Vec::new(),
            values: VALUES.iter().map(|(name, value)| (*name, Some((*value).to_owned()))).collect(),
            insert_id: None,
            table: None,
            lock: None,
            cancel_until: 0,
            may_be_killed: false,
            must_end: false,
            sent_at: 0,
        }
    }

    /// An idle client asks for something: one unit, or several at once.
    fn ask(&mut self, at: usize) {
        let actor = &self.actors[at];
        let is_mysql = actor.is_mysql;
        let word = |word: &str| Unit {
            bytes: if is_mysql { query(word) } else { postgres::query(word) },
            answer: None,
            own_errors: &[],
            after: After::Nothing,
        };
        let units = match self.random.below(6) {
            0 if actor.in_transaction => vec![word("COMMIT")],
            1 if actor.in_transaction => vec![word("ROLLBACK")],
            0 => vec![word("BEGIN")],
            2 => (0..2 + self.random.below(5)).map(|_| self.unit(at, false)).collect(),
            _ => vec![self.unit(at, true)],
        };
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.bytes.clone()).collect();
        let actor = &mut self.actors[at];
        actor.under_way.extend(units);
        actor.sent_at = self.world.now;
        let client = actor.client;
        trace(|| {
            format!("{} {}c{client} asks {:?}", self.world.now, actor.mark, String::from_utf8_lossy(&bytes))
        });
        self.world.send(client, &bytes);
    }

    /// Look at what a client has been told.
    fn hear(&mut self, at: usize) {
        loop {
            let actor = &self.actors[at];
            if actor.is_known && actor.under_way.is_empty() {
                // What comes now stands before the end of the connection.
                return;
            }
            let wanted = match actor.under_way.front() {
                Some(unit) => {
                    1 + unit
                        .answer
                        .iter()
                        .flat_map(|answer| answer.split(' '))
                        .filter(|word| *word == "Z")
                        .count()
                }
                None => 1,
            };
            let replies = &self.world.clients[actor.client].replies;
            let ends: Vec<usize> =
                (0..replies.len()).filter(|at| matches!(replies[*at], Reply::Ready(_))).collect();
            let Some(end) = ends.get(wanted - 1).copied() else { return };
            let told: Vec<Reply> = self.world.clients[actor.client].replies.drain(..=end).collect();
            self.take_in(at, &told);
        }
    }

    fn take_in(&mut self, at: usize, told: &[Reply]) {
        let now = self.world.now;
        let (may_lose, may_time_out, mode) = (self.may_lose, self.may_time_out, self.mode);
        let actor = &mut self.actors[at];
        let Some(Reply::Ready(state)) = told.last() else { unreachable!() };
        if !std::mem::replace(&mut actor.is_known, true) {
            return;
        }
        let unit = actor
            .under_way
            .pop_front()
            .unwrap_or_else(|| panic!("{}an end that nobody asked for", actor.mark));
        let was_open = actor.in_transaction;
        // Why not then: behind an error a MySQL client does not know.
        if *state != '?' {
            actor.in_transaction = matches!(state, 'T' | 'E');
        }
        let mut answer = Vec::new();
        let mut errors = Vec::new();
        trace(|| format!("{now} {}told {}", actor.mark, maitred_relay::sim::frontend::brief(told)));
        for reply in &told[..told.len() - 1] {
            match reply {
                Reply::Setting(name, value) => {
                    let is_own = value.starts_with(&actor.mark)
                        || VALUES.iter().any(|(_, default)| default == value)
                        || !matches!(&**name, "schema" | "sql_mode");
                    assert!(is_own, "{}told of {name}={value}", actor.mark);
                }
                Reply::Error { code, message, hint, .. } => {
                    errors.push((code.clone(), format!("{message} {hint}")))
                }
                Reply::Row(value) => {
                    let is_foreign =
                        value.starts_with('m') && value.contains('.') && !value.starts_with(&actor.mark);
                    assert!(!is_foreign, "{}got {value}", actor.mark);
                    answer.push(reply.brief());
                }
                Reply::Prepared(number) => {
                    answer.push("P".into());
                    if let After::Prepared(row) = &unit.after {
                        actor.statements.push(Statement {
                            number: *number,
                            row: row.clone(),
                            is_told: false,
                            cursor: None,
                            value: String::new(),
                        });
                    }
                }
                Reply::Ready(_) => answer.push("Z".into()),
                _ => answer.push(reply.brief()),
            }
        }
        let answer = answer.join(" ");
        if errors.is_empty() {
            if let Some(expected) = &unit.answer {
                assert!(
                    unit.own_errors.is_empty() && answer == *expected,
                    "{}at {now}: {answer}, not {expected} after {}",
                    actor.mark,
                    String::from_utf8_lossy(&unit.bytes)
                );
            }
            self.answered += 1;
            match unit.after {
                After::Value(name, value) => {
                    actor
                        .values
                        .iter_mut()
                        .filter(|(known, _)| *known == name)
                        .for_each(|known| known.1 = Some(value.clone()));
                }
                After::Cursor(which, count) => actor.statements[which].cursor = Some(count),
                After::Fetched(which, left) => {
                    actor.statements[which].cursor = (left != u64::MAX).then_some(left)
                }
                After::Made(name) => match name.strip_prefix("lock ") {
                    Some(name) => actor.lock = Some(name.to_owned()),
                    None => actor.table = Some(name),
                },
                After::Gone(name) if name.is_empty() => actor.lock = None,
                After::Gone(_) => actor.table = None,
                After::Renewed => {
                    actor.statements.clear();
                    actor.is_autocommit = true;
                    actor.insert_id = None;
                    // Spec: the schema stays.
                    actor.values.iter_mut().filter(|(name, _)| *name != "schema").for_each(
                        |(name, value)| {
                            *value = VALUES
                                .iter()
                                .find(|(known, _)| known == name)
                                .map(|(_, value)| (*value).to_owned());
                        },
                    );
                }
                After::Inserted => actor.insert_id = answer.rsplit(' ').next().map(str::to_owned),
                After::Autocommit(is_on) => actor.is_autocommit = is_on,
                After::Nothing | After::Prepared(_) => {}
            }
            return;
        }
        let ends = told.iter().filter(|reply| matches!(reply, Reply::Ready(_))).count();
        assert!(errors.len() <= ends, "{}: {errors:?}", actor.mark);
        let (code, text) = (errors[0].0.as_str(), &errors[0].1);
        let is_own = unit.own_errors.contains(&code);
        let is_cancelled =
            matches!(code, "1317" | "57014") && (actor.cancel_until >= actor.sent_at || may_time_out);
        let is_lost = matches!(code, "2013" | "2003" | "08006" | "08001" | "57P01")
            && (may_lose || may_time_out || actor.cancel_until >= actor.sent_at);
        let is_late = matches!(code, "1205" | "53300");
        let is_killed = code == "1927" && (actor.may_be_killed || may_lose);
        let is_aborted = code == "25P02" && was_open;
        // A statement whose cursor or table went with its server.
        let is_missed = matches!(code, "1421" | "1146" | "1051" | "1461") && (may_lose || may_time_out);
        assert!(
            is_own || is_killed || is_cancelled || is_lost || is_late || is_aborted || is_missed,
            "{}at {now}: {code} {text} after {answer} for {}",
            actor.mark,
            String::from_utf8_lossy(&unit.bytes)
        );
        actor.must_end = is_lost && mode == PoolMode::Session;
        self.failed += 1;
        if is_own {
            return;
        }
        // What the command would have done is perhaps done and perhaps not.
        match unit.after {
            After::Value(name, _) => {
                actor.values.iter_mut().filter(|(known, _)| *known == name).for_each(|known| known.1 = None);
            }
            After::Made(_) | After::Gone(_) => (actor.table, actor.lock) = (None, None),
            _ => {}
        }
        actor.insert_id = None;
        actor.statements.iter_mut().for_each(|statement| statement.cursor = None);
        if is_lost || is_missed || is_killed {
            (actor.table, actor.lock) = (None, None);
            // No server tells of it: what was set in the transaction that was lost is lost, too.
            actor.values[2].1 = None;
            if is_lost || is_killed {
                actor.in_transaction = false;
            }
        }
    }

    fn disturb(&mut self) {
        let now = self.world.now;
        let at = self.random.below(self.actors.len() as u64) as usize;
        let client = self.actors[at].client;
        let what = self.random.below(14);
        trace(|| format!("{now} disturb {what} {client}"));
        match what {
            0..=2 if self.actors[at].is_mysql && self.actors[at].is_known => {
                let number = self.world.frontend(client).number;
                let worker = self.random.below(self.workers as u64) as usize;
                let killer = self.world.arrive_mysql(worker, "ann", "store", can::PLAIN);
                let is_end = self.random.once_in(5);
                self.actors[at].cancel_until = now + 50_000;
                self.actors[at].may_be_killed |= is_end;
                let bytes = match is_end {
                    true => kill_connection(number),
                    false => query(&format!("KILL QUERY {number}")),
                };
                self.world.frontend(killer).first_words = bytes;
            }
            3 => {
                self.world.leave(client);
                self.actors[at] = self.arrive();
            }
            4 | 5 if self.may_lose && !self.world.lines.is_empty() => {
                let line = self.random.below(self.world.lines.len() as u64) as usize;
                let way = self.random.below(3);
                if self.world.mysql_lines().contains(&line) {
                    self.world.disturb_mysql(line, |session| match way {
                        0 => session.end(),
                        1 => session.terminate(),
                        _ => session.babble(),
                    });
                }
            }
            6 if self.may_lose => {
                let doors = [Door::Down, Door::Hangup, Door::Refuse(*b"53300", "full".into())];
                let door = self.random.pick(&doors).clone();
                self.world.doors.insert("my1".into(), door);
            }
            7 => self.world.with_all(|relay, now| relay.reconnect(now, None)),
            8 => self.world.with_all(|relay, _| relay.pause(None)),
            9 if self.may_lose => {
                for line in self.world.mysql_lines() {
                    let is_refusing = self.random.once_in(4);
                    self.world.disturb_mysql(line, |session| session.refuses_to_prepare = is_refusing);
                }
            }
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
                    let is_lost = ["2013", "1053", "08006", "57P01"].iter().any(|code| last.contains(code));
                    let is_refused =
                        ["2003", "08001", "53300", "1205"].iter().any(|code| last.contains(code));
                    let is_cut = actor.is_mysql && self.may_lose;
                    let is_explained = (is_lost && self.mode == PoolMode::Session)
                        || is_refused
                        || is_cut
                        || self.may_time_out
                        || actor.may_be_killed;
                    assert!(is_explained, "{}closed with {last}", actor.mark);
                    self.actors[at] = self.arrive();
                } else if actor.is_known
                    && actor.under_way.is_empty()
                    && !self.random.once_in(3)
                    && !actor.must_end
                    && self.world.clients[client].replies.is_empty()
                {
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
            let front = actor.under_way.front().map(|unit| String::from_utf8_lossy(&unit.bytes).into_owned());
            assert!(is_closed || !actor.must_end, "{}outlived its server", actor.mark);
            let is_heard = self.world.clients[actor.client].replies.is_empty();
            assert!(is_closed || is_heard && front.is_none(), "{}got no answer to {front:?}", actor.mark);
        }
        self.world.everybody_leaves();
        (self.answered, self.failed)
    }
}

#[test]
fn every_command_is_answered_once_and_by_its_own_answer() {
    let (mut answered, mut failed) = (0, 0);
    for seed in Random::seeds(150) {
        trace(|| format!("seed {seed}"));
        let (a, f) = Run::new(seed).go();
        answered += a;
        failed += f;
    }
    assert!(answered > 10 * failed && failed > 0, "{answered} answered, {failed} failed");
}
