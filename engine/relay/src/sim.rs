//! A virtual world for relays: workers, a clock, scripted clients and a scripted database.
//!
//! Performs each [`Action`] as `reactor::worker` does, but in virtual time and from one seed, so
//! that every run repeats; never part of the product. Used by the scenarios in `tests`.
//!
//! ```text
//!   client ──► lane ──► relay ──► lane ──► session     each arrow takes `latency_us`, in order;
//!   client ◄── lane ◄── relay ◄── lane ◄── session     with `splits` in pieces of random size
//! ```

pub mod database;
pub mod frontend;
pub mod setup;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use maitred_wire::{CancelKey, Dialect};

use crate::action::{Action, Event as Told, Mail};
use crate::budget::{PoolShared, Shared};
use crate::ids::{ClientId, ServerId, Time, WorkerId};
use crate::route::Routes;
use crate::server::Server;
use crate::sim::database::{Door, Session};
use crate::sim::frontend::Reply;
use crate::snapshot::Snapshot;
use crate::{ClientOpened, Relay};

/// Between two looks at a worker's duties while there is work, as in `reactor::worker`.
const TICK_US: u64 = 10_000;

/// Small random numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Debug)]
enum Event {
    /// Arrives at the relay.
    FromClient(usize, Vec<u8>),
    ClientLeft(usize),
    /// Arrives at the client.
    ToClient(usize, Vec<u8>),
    ClientClosed(usize),
    ClientWritten(usize),
    FromSession(usize, Vec<u8>),
    SessionLeft(usize),
    ToSession(usize, Vec<u8>),
    SessionClosed(usize),
    SessionWritten(usize),
    SessionWake(usize),
    Connected(usize),
    Detach(usize),
    Parcel(usize, WorkerId, Box<Server>),
    Mail(WorkerId, Mail),
    /// The database hears a cancel request.
    Cancel(String, CancelKey),
    CancelDone(usize, ServerId),
    Errand(usize, crate::action::Patron, maitred_wire::handshake::Errand),
}

struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One worker: its relay and when it looks at the clock next.
pub struct Desk {
    pub relay: Relay,
    ticked: u64,
    next_tick: Time,
    clients: HashMap<ClientId, usize>,
    servers: HashMap<ServerId, usize>,
}

/// A client as the world sees it.
#[derive(Debug)]
pub struct Patron {
    pub worker: usize,
    pub id: ClientId,
    input: Vec<u8>,
    /// What it has been told and nobody has taken yet.
    pub replies: Vec<Reply>,
    /// The relay closed it.
    pub is_closed: bool,
    /// It has left.
    pub has_left: bool,
    pub key: Option<CancelKey>,
    /// A client that does not read: what is written to it stays under way.
    pub reads: bool,
    stuck: Vec<Vec<u8>>,
    is_writing: bool,
    is_paused: bool,
    held: Vec<Event>,
    sent_at: u64,
    got_at: u64,
    /// When its last answer arrived.
    pub heard_at: u64,
    pub is_raw: bool,
    pub raw: Vec<u8>,
}

/// A server connection as the world sees it.
#[derive(Debug)]
pub struct Line {
    pub endpoint: String,
    pub worker: usize,
    pub server: Option<ServerId>,
    pub session: Session,
    pub opened_at: u64,
    is_writing: bool,
    is_paused: bool,
    is_moving: bool,
    held: Vec<Event>,
    sent_at: u64,
    got_at: u64,
    has_hung_up: bool,
    woken_at: u64,
}

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
    /// Cut all bytes in pieces of random size.
    pub splits: bool,
    /// What Python was told.
    pub told: Vec<Told>,
    /// The schema's version: what was prepared before has another one.
    pub version: u64,
    /// Times at which connections to endpoints were attempted.
    pub attempts: Vec<u64>,
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
        let shared = Shared::new(workers, [7; 32]);
        let routes = Routes::new(snapshot, &shared).expect("a snapshot that can be used");
        let desk = |worker| Desk {
            relay: Relay::new(WorkerId(worker as u16), Dialect::Postgres, Arc::clone(&shared), Arc::clone(&routes)),
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
            splits: false,
            told: Vec::new(),
            version: 0,
            attempts: Vec::new(),
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
        while self.splits && bytes.len() > 1 && !self.random.once_in(4) {
            let most = bytes.len() as u64;
            let end = if self.random.once_in(2) { 1 + self.random.below(most.min(8)) } else { 1 + self.random.below(most) };
            let rest = bytes.split_off((end as usize).min(bytes.len()));
            pieces.push(std::mem::replace(&mut bytes, rest));
        }
        pieces.push(bytes);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// Somebody connects to a worker; says nothing yet.
    pub fn open(&mut self, worker: usize) -> usize {
        let opened = ClientOpened { address: "10.0.0.1:5000".into(), local_address: "10.0.0.2:6432".into(), is_tls: false };
        let id = self.desks[worker].relay.client_opened(Time(self.now), opened);
        let client = self.clients.len();
        self.desks[worker].clients.insert(id, client);
        self.clients.push(Patron {
            worker,
            id,
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

    /// Sessions that are open now at the database, as it sees them.
    pub fn sessions(&self) -> usize {
        self.lines.iter().filter(|line| line.session.is_logged_in() && !line.session.is_over).count()
    }

    /// Every statement that any session ran, in order of time.
    pub fn ran(&self) -> Vec<database::Ran> {
        let mut all: Vec<_> = self.lines.iter().flat_map(|line| line.session.ran.iter().cloned()).collect();
        all.sort_by_key(|ran| ran.at);
        all
    }

    /// The session whose log has a statement that contains `text`.
    pub fn session_that_ran(&self, text: &str) -> usize {
        let found = self.lines.iter().position(|line| line.session.ran.iter().any(|ran| ran.text.contains(text)));
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
                self.on_event(due.event);
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

    fn act(&mut self, worker: usize, action: Action) {
        let (now, latency) = (self.now, self.latency_us);
        match action {
            Action::FlushClient(id) => {
                if let Some(client) = self.desks[worker].clients.get(&id).copied() {
                    self.pump_client(client);
                }
            }
            Action::FlushServer(id) => {
                if let Some(line) = self.desks[worker].servers.get(&id).copied() {
                    self.pump_line(line);
                }
            }
            Action::CloseClient { client: id, last_words } => {
                let client = self.desks[worker].clients.remove(&id).expect("a client is closed once");
                self.to_client(client, last_words);
                let at = self.clients[client].got_at.max(now + latency);
                self.at(at, Event::ClientClosed(client));
            }
            Action::CloseServer { server, last_words } => {
                if let Some(line) = self.desks[worker].servers.remove(&server) {
                    self.to_session(line, last_words);
                    self.lines[line].server = None;
                    let at = self.lines[line].sent_at.max(now + latency);
                    self.at(at, Event::SessionClosed(line));
                }
            }
            Action::PauseClient(id) => self.pause_client(worker, id, true),
            Action::ResumeClient(id) => self.pause_client(worker, id, false),
            Action::PauseServer(id) => self.pause_server(worker, id, true),
            Action::ResumeServer(id) => self.pause_server(worker, id, false),
            Action::OpenServer { server, endpoint, .. } => self.connect(worker, server, &endpoint.name),
            Action::OpenCancel { server, endpoint, key } => {
                self.at(now + self.cancel_us, Event::Cancel(endpoint.name.clone(), key));
                self.at(now + self.cancel_us + self.cancel_end_us, Event::CancelDone(worker, server));
            }
            Action::Errand { patron, errand } => self.at(now + 5_000, Event::Errand(worker, patron, errand)),
            Action::Mail { to, mail } => self.at(now + 5, Event::Mail(to, mail)),
            Action::MoveServer { server, .. } => {
                if let Some(line) = self.desks[worker].servers.get(&server).copied() {
                    self.lines[line].is_moving = true;
                    if !self.lines[line].is_writing {
                        self.at(now + 5, Event::Detach(line));
                    }
                }
            }
            Action::Tell(event) => self.told.push(event),
            Action::StartClientTls(_) | Action::StartServerTls(_) => panic!("scenarios have no TLS"),
        }
    }

    fn connect(&mut self, worker: usize, server: ServerId, endpoint: &str) {
        let number = self.lines.len();
        let open = self.lines.iter().filter(|line| line.endpoint == endpoint && !line.session.is_over).count();
        let door = self.doors.get(endpoint).cloned().unwrap_or(Door::Open);
        let door = if self.max_sessions > 0 && open >= self.max_sessions && door == Door::Open {
            Door::Refuse(*b"53300", "sorry, too many clients already".into())
        } else {
            door
        };
        self.attempts.push(self.now);
        self.lines.push(Line {
            endpoint: endpoint.to_owned(),
            worker,
            server: Some(server),
            session: Session::new(number, door.clone(), self.version),
            opened_at: self.now,
            is_writing: false,
            is_paused: false,
            is_moving: false,
            held: Vec::new(),
            sent_at: 0,
            got_at: 0,
            has_hung_up: false,
            woken_at: 0,
        });
        self.desks[worker].servers.insert(server, number);
        match door {
            Door::Silent => {}
            _ => self.at(self.now + self.latency_us, Event::Connected(number)),
        }
    }

    fn pause_client(&mut self, worker: usize, id: ClientId, is_paused: bool) {
        let Some(client) = self.desks[worker].clients.get(&id).copied() else { return };
        self.clients[client].is_paused = is_paused;
        if !is_paused {
            for event in std::mem::take(&mut self.clients[client].held) {
                self.at(self.now, event);
            }
        }
    }

    fn pause_server(&mut self, worker: usize, id: ServerId, is_paused: bool) {
        let Some(line) = self.desks[worker].servers.get(&id).copied() else { return };
        self.lines[line].is_paused = is_paused;
        if !is_paused {
            self.let_go(line);
        }
    }

    fn let_go(&mut self, line: usize) {
        for event in std::mem::take(&mut self.lines[line].held) {
            self.at(self.now, event);
        }
    }

    fn pump_client(&mut self, client: usize) {
        let patron = &mut self.clients[client];
        if patron.is_writing {
            return;
        }
        let mut bytes = Vec::new();
        self.desks[patron.worker].relay.take_client_output(patron.id, &mut bytes);
        if bytes.is_empty() {
            return;
        }
        patron.is_writing = true;
        if patron.reads {
            self.to_client(client, bytes);
            self.at(self.now + 10, Event::ClientWritten(client));
        } else {
            patron.stuck.push(bytes);
        }
    }

    /// A client that did not read does so from now on.
    pub fn read_again(&mut self, client: usize) {
        self.clients[client].reads = true;
        for bytes in std::mem::take(&mut self.clients[client].stuck) {
            self.to_client(client, bytes);
        }
        if self.clients[client].is_writing {
            self.at(self.now + 10, Event::ClientWritten(client));
        }
    }

    fn to_client(&mut self, client: usize, bytes: Vec<u8>) {
        for piece in self.pieces(bytes) {
            let patron = &mut self.clients[client];
            patron.got_at = patron.got_at.max(self.now + self.latency_us);
            let at = patron.got_at;
            self.at(at, Event::ToClient(client, piece));
        }
    }

    fn pump_line(&mut self, line: usize) {
        let entry = &mut self.lines[line];
        let Some(id) = entry.server else { return };
        if entry.is_writing {
            return;
        }
        let mut bytes = Vec::new();
        self.desks[entry.worker].relay.take_server_output(id, &mut bytes);
        if !bytes.is_empty() {
            entry.is_writing = true;
            self.to_session(line, bytes);
            self.at(self.now + 10, Event::SessionWritten(line));
        } else if entry.is_moving {
            self.at(self.now + 5, Event::Detach(line));
        }
    }

    fn to_session(&mut self, line: usize, bytes: Vec<u8>) {
        for piece in self.pieces(bytes) {
            let entry = &mut self.lines[line];
            entry.sent_at = entry.sent_at.max(self.now + self.latency_us);
            let at = entry.sent_at;
            self.at(at, Event::ToSession(line, piece));
        }
    }

    /// What a session has to say goes on its way.
    fn collect(&mut self, line: usize) {
        let bytes = std::mem::take(&mut self.lines[line].session.out);
        for piece in self.pieces(bytes) {
            let entry = &mut self.lines[line];
            entry.got_at = entry.got_at.max(self.now + self.latency_us);
            let at = entry.got_at;
            self.at(at, Event::FromSession(line, piece));
        }
        let entry = &mut self.lines[line];
        if entry.session.is_over && !entry.has_hung_up {
            entry.has_hung_up = true;
            let at = entry.got_at.max(self.now + self.latency_us);
            self.at(at, Event::SessionLeft(line));
        }
        if let Some(at) = self.lines[line].session.wake_at() {
            if self.lines[line].woken_at != at {
                self.lines[line].woken_at = at;
                self.at(at, Event::SessionWake(line));
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = Time(self.now);
        match event {
            Event::FromClient(client, _) | Event::ClientLeft(client) if self.clients[client].is_paused => {
                self.clients[client].held.push(event);
            }
            Event::FromClient(client, bytes) => {
                let (worker, id) = (self.clients[client].worker, self.clients[client].id);
                if self.desks[worker].clients.contains_key(&id) {
                    self.with(worker, |relay, now| relay.client_bytes(now, id, &bytes));
                }
            }
            Event::ClientLeft(client) => {
                let (worker, id) = (self.clients[client].worker, self.clients[client].id);
                if self.desks[worker].clients.contains_key(&id) {
                    self.with(worker, |relay, now| relay.client_closed(now, id));
                }
            }
            Event::ToClient(client, bytes) => {
                let patron = &mut self.clients[client];
                patron.heard_at = now.0;
                if patron.is_raw {
                    patron.raw.extend_from_slice(&bytes);
                    return;
                }
                patron.input.extend_from_slice(&bytes);
                frontend::read_replies(&mut patron.input, &mut patron.replies);
                for reply in &patron.replies {
                    if let Reply::Key(key) = reply {
                        patron.key = Some(key.clone());
                    }
                }
            }
            Event::ClientClosed(client) => self.clients[client].is_closed = true,
            Event::ClientWritten(client) => {
                let (worker, id) = (self.clients[client].worker, self.clients[client].id);
                self.clients[client].is_writing = false;
                if self.desks[worker].clients.contains_key(&id) {
                    self.with(worker, |relay, now| relay.client_written(now, id));
                    self.pump_client(client);
                }
            }
            Event::FromSession(line, _) | Event::SessionLeft(line) if self.lines[line].is_paused => {
                self.lines[line].held.push(event);
            }
            Event::FromSession(line, bytes) => {
                if let Some(id) = self.lines[line].server {
                    let worker = self.lines[line].worker;
                    self.with(worker, |relay, now| relay.server_bytes(now, id, &bytes));
                } else if self.lines[line].is_moving {
                    self.lines[line].held.push(Event::FromSession(line, bytes));
                }
            }
            Event::SessionLeft(line) => {
                if let Some(id) = self.lines[line].server {
                    let worker = self.lines[line].worker;
                    self.with(worker, |relay, now| relay.server_closed(now, id, None));
                } else if self.lines[line].is_moving {
                    self.lines[line].held.push(Event::SessionLeft(line));
                }
            }
            Event::ToSession(line, bytes) => {
                self.lines[line].session.version = self.version;
                self.lines[line].session.feed(now.0, &bytes);
                self.collect(line);
            }
            Event::SessionClosed(line) => {
                self.lines[line].session.end();
                self.lines[line].has_hung_up = true;
            }
            Event::SessionWritten(line) => {
                self.lines[line].is_writing = false;
                if let Some(id) = self.lines[line].server {
                    let worker = self.lines[line].worker;
                    self.with(worker, |relay, now| relay.server_written(now, id));
                    self.pump_line(line);
                }
            }
            Event::SessionWake(line) => {
                self.lines[line].session.wake(now.0);
                self.collect(line);
            }
            Event::Connected(line) => self.on_connected(line),
            Event::Detach(line) => self.on_detached(line),
            Event::Parcel(line, to, server) => {
                let worker = usize::from(to.0);
                let id = self.desks[worker].relay.accept_parcel(now, *server);
                self.desks[worker].servers.insert(id, line);
                let entry = &mut self.lines[line];
                (entry.worker, entry.server, entry.is_moving) = (worker, Some(id), false);
                self.with(worker, |relay, now| relay.parcel_ready(now, id));
                self.let_go(line);
            }
            Event::Mail(to, mail) => self.with(usize::from(to.0), |relay, now| relay.mail(now, mail)),
            Event::Cancel(endpoint, key) => {
                let is_meant = |line: &Line| line.endpoint == endpoint && line.session.key == key && !line.session.is_over;
                if let Some(line) = self.lines.iter().position(is_meant) {
                    self.lines[line].session.cancel(now.0);
                    self.collect(line);
                }
            }
            Event::CancelDone(worker, server) => self.with(worker, |relay, now| relay.cancel_done(now, server)),
            Event::Errand(worker, patron, errand) => {
                let salted = errand.run();
                self.with(worker, |relay, now| relay.errand_done(now, patron, salted));
            }
        }
    }

    fn on_connected(&mut self, line: usize) {
        let (worker, Some(id)) = (self.lines[line].worker, self.lines[line].server) else { return };
        if self.lines[line].session.door == Door::Down {
            self.lines[line].session.end();
            self.lines[line].has_hung_up = true;
            self.with(worker, |relay, now| relay.server_closed(now, id, Some("connection refused".into())));
            return;
        }
        let address = format!("{}:5432", self.lines[line].endpoint);
        self.with(worker, |relay, now| relay.server_connected(now, id, address, "10.0.0.2:777".into(), false));
    }

    fn on_detached(&mut self, line: usize) {
        let (worker, Some(id)) = (self.lines[line].worker, self.lines[line].server) else { return };
        let parcel = self.with(worker, |relay, now| relay.take_parcel(now, id));
        if let Some((to, server)) = parcel {
            self.desks[worker].servers.remove(&id);
            self.lines[line].server = None;
            self.at(self.now + 5, Event::Parcel(line, to, server));
        }
    }

    /// Places taken and servers that exist are the same number, and no limit is passed.
    fn check_counts(&self) {
        let moving = self.due.iter().filter(|due| matches!(due.0.event, Event::Parcel(..))).count();
        let here: usize = self.desks.iter().map(|desk| desk.relay.server_count()).sum();
        assert_eq!(self.shared.servers.used() as usize, here + moving, "places taken in limits.servers");
        for budget in [&self.shared.servers, &self.shared.clients, &self.shared.logins] {
            assert!(budget.limit() == 0 || budget.used() <= budget.limit(), "{} is over", budget.setting);
        }
        for desk in &self.desks {
            desk.relay.check();
        }
    }

    /// Everybody has left: nothing may be held for anybody.
    pub fn check_empty(&self) {
        assert_eq!(self.shared.clients.used(), 0, "clients");
        assert_eq!(self.shared.logins.used(), 0, "logins");
        for desk in &self.desks {
            assert_eq!(desk.relay.client_count(), 0, "clients");
            desk.relay.check_quiet();
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

/// Looks inside that only tests need.
impl Relay {
    /// Invariants that hold between any two calls.
    fn check(&self) {
        for (at, pool) in self.pools.iter().enumerate() {
            let most = pool.shared.servers.limit() + pool.route.settings.reserve_size;
            let used = pool.shared.servers.used();
            assert!(pool.shared.servers.limit() == 0 || used <= most, "{used} of {most} servers in a pool");
            let waiting = self
                .clients
                .values()
                .filter(|client| client.pool.0 as usize == at && matches!(client.state, crate::client::State::Waiting { .. }))
                .count();
            assert_eq!(pool.waiting as usize, waiting, "waiters counted");
            let servers = self.servers.values().filter(|server| server.pool.0 as usize == at).count();
            assert_eq!(pool.servers as usize, servers, "servers counted");
            for id in &pool.idle {
                let server = &self.servers[*id];
                assert!(matches!(server.state, crate::server::State::Idle), "idle and {:?}", server.state);
                assert!(server.is_free() && !server.is_cancelling && !server.must_probe && !server.is_paused, "idle and not free");
            }
        }
        for (id, server) in &self.servers {
            if let crate::server::State::Leased(client) = server.state {
                let client = self.clients.get(client).expect("a lease has its client");
                assert!(matches!(client.state, crate::client::State::Leased(of) if of == id), "a lease that one side ended");
            }
        }
        for (id, client) in &self.clients {
            if let crate::client::State::Leased(server) = client.state {
                let server = self.servers.get(server).expect("a lease has its server");
                assert!(matches!(server.state, crate::server::State::Leased(of) if of == id), "a lease that one side ended");
            }
        }
        assert!(self.ready.is_empty(), "somebody was left who could go on");
    }

    /// No client is here: every server is idle and clean.
    fn check_quiet(&self) {
        for server in self.servers.values() {
            assert!(matches!(server.state, crate::server::State::Idle), "a server is left {:?}", server.state);
            assert!(server.owed.is_empty() && server.input.is_empty() && server.output.is_empty(), "bytes are left");
            assert!(server.is_free() && server.pending_names.is_empty() && server.in_flight == 0, "something is left");
        }
        for pool in &self.pools {
            assert_eq!((pool.waiting, pool.welcome_waiters.len()), (0, 0), "waiters are left");
            assert_eq!(pool.idle.len(), pool.servers as usize, "every server is idle");
        }
        assert!(self.login_queue.is_empty() && self.actions.is_empty());
    }

    /// Bytes held for clients and servers, for tests of back pressure.
    pub fn held_bytes(&self) -> usize {
        let clients: usize = self.clients.values().map(crate::client::Client::held_bytes).sum();
        clients + self.servers.values().map(|server| server.input.len() + server.backlog()).sum::<usize>()
    }
}
