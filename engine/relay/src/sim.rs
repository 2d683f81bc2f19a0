//! A virtual world for relays: workers, a clock, scripted clients and a scripted database.
//!
//! Performs each [`Action`] as `reactor::worker` does, but in virtual time and from one seed, so
//! that every run repeats; never part of the product. Used by the scenarios in `tests`.
//!
//! ```text
//!   client ──► lane ──► relay ──► lane ──► session     each arrow takes `latency_us`, in order;
//!   client ◄── lane ◄── relay ◄── lane ◄── session     in `pieces` of some size
//! ```

mod arrive;
mod checks;
pub mod database;
mod extended;
pub mod frontend;
pub mod mysql;
mod notify;
pub mod parts;
mod perform;
pub mod random;
pub mod setup;
mod statements;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use maitred_wire::{CancelKey, Dialect};

use crate::action::{Action, Event as Told};
use crate::budget::{PoolShared, Shared};
use crate::ids::{Time, WorkerId};
use crate::route::Routes;
use crate::sim::database::{Door, Session};
use crate::sim::frontend::Reply;
pub use crate::sim::parts::Pieces;
use crate::sim::parts::{Desk, Due, Event, Line, Patron};
pub use crate::sim::random::Random;
use crate::snapshot::Snapshot;
use crate::{ClientOpened, Relay};

/// Between two looks at a worker's duties while there is work, as in `reactor::worker`.
const TICK_US: u64 = 10_000;

pub struct World {
    pub seed: u64,
    pub now: u64,
    pub random: Random,
    pub shared: Arc<Shared>,
    pub desks: Vec<Desk>,
    pub clients: Vec<Patron>,
    pub lines: Vec<Line>,
    /// What meets those who connect to an endpoint, by its name; `Open` for those not named.
    pub doors: BTreeMap<String, Door>,
    /// Sessions that an endpoint allows at once; 0 is no limit.
    pub max_sessions: usize,
    pub latency_us: u64,
    /// How long a cancel connection takes until the database hears the request, and until it ends.
    pub cancel_us: u64,
    pub cancel_end_us: u64,
    /// Writing to a database takes ten milliseconds for each write.
    pub slow_writes: bool,
    /// A reload has lowered a limit: what is open may exceed it.
    pub relaxed: bool,
    /// What sessions say right behind the Ready of their login.
    pub breath: Vec<u8>,
    /// How long applying settings takes a session.
    pub slow_settings_us: u64,
    /// How bytes arrive.
    pub pieces: Pieces,
    /// What Python was told.
    pub told: Vec<Told>,
    /// MySQL's endpoints are MariaDB's.
    pub has_mariadb: bool,
    /// The schema's version: what was prepared before has another one.
    pub version: u64,
    /// Times at which connections to endpoints were attempted.
    pub attempts: Vec<u64>,
    /// Servers on their way between two workers.
    travelling: usize,
    due: BinaryHeap<Reverse<Due>>,
    order: u64,
    actions: Vec<Action>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} at {} us", self.seed, self.now);
        }
    }
}

impl World {
    pub fn new(snapshot: Snapshot) -> World {
        World::with_workers(snapshot, 1, 1)
    }

    pub fn with_workers(snapshot: Snapshot, workers: usize, seed: u64) -> World {
        World::with_secret(snapshot, workers, seed, [7; 32])
    }

    pub fn with_secret(snapshot: Snapshot, workers: usize, seed: u64, secret: [u8; 32]) -> World {
        let shared = Shared::new(workers, secret);
        let routes = Routes::new(snapshot, &shared).expect("a snapshot that can be used");
        let desk = |worker| Desk {
            relay: Relay::new(WorkerId(worker as u16), Arc::clone(&shared), Arc::clone(&routes)),
            ticked: 0,
            next_tick: Time(0),
            clients: HashMap::new(),
            servers: HashMap::new(),
        };
        World {
            seed,
            now: 1_000_000,
            random: Random::new(seed),
            desks: (0..workers).map(desk).collect(),
            shared,
            clients: Vec::new(),
            lines: Vec::new(),
            doors: BTreeMap::new(),
            max_sessions: 0,
            latency_us: 100,
            cancel_us: 300,
            cancel_end_us: 100,
            slow_writes: false,
            relaxed: false,
            breath: Vec::new(),
            slow_settings_us: 0,
            pieces: Pieces::Whole,
            told: Vec::new(),
            has_mariadb: false,
            version: 0,
            attempts: Vec::new(),
            travelling: 0,
            due: BinaryHeap::new(),
            order: 0,
            actions: Vec::new(),
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.due.push(Reverse(Due { at, order: self.order, event }));
    }

    fn pieces(&mut self, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        match self.pieces {
            Pieces::Whole => {}
            // Of long ones the beginning: there is nothing new behind it.
            Pieces::Bytes if bytes.len() > 1 => {
                let rest = bytes.split_off(bytes.len().min(4_000));
                pieces = bytes.chunks(1).map(<[u8]>::to_vec).collect();
                bytes = rest;
            }
            Pieces::Bytes => {}
            Pieces::Random => {
                while bytes.len() > 1 && !self.random.once_in(4) {
                    let most = bytes.len() as u64;
                    let is_short = self.random.once_in(2);
                    let end = 1 + self.random.below(if is_short { most.min(8) } else { most }) as usize;
                    let rest = bytes.split_off(end.min(bytes.len()));
                    pieces.push(std::mem::replace(&mut bytes, rest));
                }
            }
        }
        // No socket gives more at once.
        pieces.extend(bytes.chunks(32 * 1024).map(<[u8]>::to_vec));
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// Somebody connects to a worker; says nothing yet.
    pub fn open(&mut self, worker: usize) -> usize {
        self.open_as(worker, Dialect::Postgres)
    }

    pub(in crate::sim) fn open_as(&mut self, worker: usize, dialect: Dialect) -> usize {
        let opened = ClientOpened {
            address: "10.0.0.1:5000".into(),
            local_address: "10.0.0.2:6432".into(),
            is_tls: false,
            dialect,
        };
        let id = self.desks[worker].relay.client_opened(Time(self.now), opened);
        let client = self.clients.len();
        self.desks[worker].clients.insert(id, client);
        self.clients.push(Patron {
            worker,
            id,
            mysql: None,
            input: Vec::new(),
            replies: Vec::new(),
            is_closed: false,
            has_left: false,
            key: None,
            reads: true,
            stuck: Vec::new(),
            is_writing: false,
            is_paused: false,
            held: Vec::new(),
            sent_at: 0,
            got_at: 0,
            heard_at: 0,
            is_raw: false,
            raw: Vec::new(),
        });
        self.perform(worker);
        client
    }

    /// Connect and send a startup packet for `user` on `database`; does not wait.
    pub fn arrive(&mut self, worker: usize, user: &str, database: &str) -> usize {
        let client = self.open(worker);
        self.send(client, &frontend::startup(&[("user", user), ("database", database)]));
        client
    }

    /// Log in to `shop` and wait until that is done; what was said meanwhile is dropped.
    pub fn login(&mut self, worker: usize) -> usize {
        self.login_as(worker, "ann", "shop")
    }

    pub fn login_as(&mut self, worker: usize, user: &str, database: &str) -> usize {
        let client = self.arrive(worker, user, database);
        self.run_until(|world| world.is_ready(client), 120_000_000);
        self.take(client);
        client
    }

    pub fn is_ready(&self, client: usize) -> bool {
        matches!(self.clients[client].replies.last(), Some(Reply::Ready(_))) || self.clients[client].is_closed
    }

    /// Bytes that a client sends now.
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        if let Some(mysql) = &mut self.clients[client].mysql {
            mysql.note_sent(bytes);
        }
        self.say(client, bytes);
    }

    pub(in crate::sim) fn say(&mut self, client: usize, bytes: &[u8]) {
        for piece in self.pieces(bytes.to_vec()) {
            let patron = &mut self.clients[client];
            patron.sent_at = patron.sent_at.max(self.now + self.latency_us);
            let at = patron.sent_at;
            self.at(at, Event::FromClient(client, piece));
        }
    }

    /// A client closes its connection.
    pub fn leave(&mut self, client: usize) {
        let patron = &mut self.clients[client];
        if patron.has_left {
            return;
        }
        patron.has_left = true;
        patron.sent_at = patron.sent_at.max(self.now + self.latency_us);
        let at = patron.sent_at;
        self.at(at, Event::ClientLeft(client));
    }

    /// A cancel request with `key`, by a connection of its own to `worker`.
    pub fn cancel_with(&mut self, worker: usize, key: &CancelKey) -> usize {
        let requester = self.open(worker);
        self.send(requester, &frontend::cancel_request(key));
        requester
    }

    pub fn cancel(&mut self, client: usize) -> usize {
        let key = self.clients[client].key.clone().expect("logged in");
        self.cancel_with(self.clients[client].worker, &key)
    }

    /// What a client was told since the last time.
    pub fn take(&mut self, client: usize) -> Vec<Reply> {
        std::mem::take(&mut self.clients[client].replies)
    }

    pub fn brief(&mut self, client: usize) -> String {
        frontend::brief(&self.take(client))
    }

    /// Send, wait for as many Ready as there are requests for one, and say what came, in brief.
    pub fn ask(&mut self, client: usize, bytes: &[u8]) -> String {
        self.ask_for(client, bytes, 1)
    }

    pub fn ask_for(&mut self, client: usize, bytes: &[u8], readies: usize) -> String {
        self.send(client, bytes);
        self.run_until(
            |world| {
                let patron = &world.clients[client];
                let count = patron.replies.iter().filter(|reply| matches!(reply, Reply::Ready(_))).count();
                count >= readies || patron.is_closed
            },
            120_000_000,
        );
        self.brief(client)
    }

    pub fn query(&mut self, client: usize, sql: &str) -> String {
        self.ask(client, &frontend::query(sql))
    }

    /// Is nothing on its way?
    pub fn is_calm(&self) -> bool {
        self.due.is_empty()
    }

    /// Sessions that are open now at the database, as it sees them.
    pub fn sessions(&self) -> usize {
        self.lines.iter().filter(|line| line.is_logged_in() && !line.is_over()).count()
    }

    /// Every statement that any session ran, in order of time.
    pub fn ran(&self) -> Vec<database::Ran> {
        let mut all: Vec<_> = self.lines.iter().flat_map(|line| line.ran().iter().cloned()).collect();
        all.sort_by_key(|ran| ran.at);
        all
    }

    /// The session whose log has a statement that contains `text`.
    pub fn session_that_ran(&self, text: &str) -> usize {
        let found = self.lines.iter().position(|line| line.ran().iter().any(|ran| ran.text.contains(text)));
        found.unwrap_or_else(|| panic!("nobody ran {text}"))
    }

    /// Let the database do something to a session of its own accord.
    pub fn disturb(&mut self, line: usize, what: impl FnOnce(&mut Session)) {
        what(&mut self.lines[line].session);
        self.collect(line);
    }

    pub fn pools(&self) -> Vec<Arc<PoolShared>> {
        self.shared.pools()
    }

    /// Call a relay, then perform what it wants.
    pub fn with<T>(&mut self, worker: usize, call: impl FnOnce(&mut Relay, Time) -> T) -> T {
        let now = Time(self.now);
        let answer = call(&mut self.desks[worker].relay, now);
        self.perform(worker);
        answer
    }

    /// As `with`, for every worker.
    pub fn with_all(&mut self, mut call: impl FnMut(&mut Relay, Time)) {
        for worker in 0..self.desks.len() {
            self.with(worker, &mut call);
        }
    }

    /// Take a new snapshot everywhere.
    pub fn apply(&mut self, snapshot: Snapshot) {
        let routes = Routes::new(snapshot, &self.shared).expect("a snapshot that can be used");
        self.with_all(|relay, now| relay.apply(now, Arc::clone(&routes)));
    }

    /// Let time pass.
    pub fn run_for(&mut self, us: u64) {
        let until = self.now + us;
        while self.next_at() <= until {
            self.step();
        }
        self.now = until;
    }

    /// Let time pass until `done`. Panics if that takes longer than `most_us`.
    pub fn run_until(&mut self, done: impl Fn(&World) -> bool, most_us: u64) {
        let until = self.now + most_us;
        while !done(self) {
            assert!(self.next_at() <= until, "still not so after {} s", most_us as f64 / 1e6);
            self.step();
        }
    }

    fn next_at(&self) -> u64 {
        let event = self.due.peek().map_or(u64::MAX, |due| due.0.at);
        let tick = self.desks.iter().map(|desk| desk.next_tick.0).min().unwrap_or(u64::MAX);
        event.min(tick).max(self.now)
    }

    /// Do the next thing that is due.
    pub fn step(&mut self) {
        let at = self.next_at();
        self.now = at;
        let late = self.desks.iter().position(|desk| desk.next_tick.0 <= at);
        match late {
            Some(worker) => self.tick(worker),
            None => {
                let Some(Reverse(due)) = self.due.pop() else { return };
                self.on_event(due.order, due.event);
            }
        }
        self.check_counts();
    }

    fn tick(&mut self, worker: usize) {
        let now = self.now;
        let next = self.desks[worker].relay.tick(Time(now));
        assert!(next.0 > now, "tick asks for a moment that has passed: the worker would spin");
        self.desks[worker].next_tick = next;
        self.desks[worker].ticked = now;
        self.perform_quietly(worker);
    }

    /// Something happened at a worker: it looks at its duties soon.
    fn touch(&mut self, worker: usize) {
        let desk = &mut self.desks[worker];
        desk.next_tick = desk.next_tick.min(Time((desk.ticked + TICK_US).max(self.now)));
    }

    fn perform(&mut self, worker: usize) {
        self.perform_quietly(worker);
        self.touch(worker);
    }

    fn perform_quietly(&mut self, worker: usize) {
        loop {
            let mut actions = std::mem::take(&mut self.actions);
            self.desks[worker].relay.take_actions(&mut actions);
            if actions.is_empty() {
                self.actions = actions;
                return;
            }
            for action in actions.drain(..) {
                self.act(worker, action);
            }
            self.actions = actions;
        }
    }

    /// Close every client, and wait until all servers are idle again.
    pub fn everybody_leaves(&mut self) {
        for client in 0..self.clients.len() {
            if !self.clients[client].is_closed {
                if !self.clients[client].reads {
                    self.read_again(client);
                }
                self.leave(client);
            }
        }
        self.run_for(25_000_000);
        self.check_empty();
    }
}
