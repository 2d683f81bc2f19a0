//! The multiplexer: many clients, few servers, nobody's bytes to anybody else.
//!
//! No I/O, no clock, no threads: bytes and time are arguments, actions are return values. One
//! [`Relay`] belongs to one worker; what holds over all workers is in [`budget`]. `reactor` is the
//! caller in the product, `sim` in tests.
//!
//! Read `client`, `pool` and `server` first; the rest serves them.

pub mod action;
mod adjust;
pub mod aftermath;
pub mod agreed;
pub mod answers;
pub mod budget;
pub mod cancel;
mod carry;
pub mod cleaning;
pub mod client;
mod client_bytes;
pub mod commands;
pub mod console;
pub mod counters;
pub mod departure;
pub mod drain;
pub mod executes;
mod findings;
pub mod forward;
pub mod heal;
pub mod hub;
pub mod ids;
pub mod kill;
mod last_number;
mod leftovers;
pub mod listeners;
pub mod login;
pub mod loss;
mod made;
mod modes;
pub mod numbered;
pub mod open;
pub mod pool;
pub mod proven;
pub mod refusal;
pub mod report;
pub mod route;
pub mod sequences;
pub mod server;
pub mod session_state;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod snapshot;
pub mod statements;
mod things;
pub mod trace;
mod tracking;
pub mod transfer;
pub mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use maitred_wire::handshake::{Errand, ErrandOutcome};
use maitred_wire::Dialect;
use slotmap::{Key as _, SlotMap};

use crate::action::{Action, Mail, Patron};
use crate::budget::{PoolKey, Shared};
use crate::client::{Client, Identity};
use crate::counters::WorkerCounters;
use crate::heal::StatementTable;
use crate::hub::{Hub, HubKey};
use crate::ids::{ClientId, PoolId, PublicId, ServerId, Time, WorkerId};
use crate::listeners::Heard;
use crate::pool::Pool;
use crate::route::Routes;
use crate::server::Server;
use crate::session_state::{Settings, SettingsTable};
use crate::snapshot::PoolSettings;
use crate::statements::StatementHasher;

/// What is known of a connection when it is accepted.
#[derive(Clone, Debug)]
pub struct ClientOpened {
    /// Peer address as text; empty for a Unix socket.
    pub address: String,
    pub local_address: Arc<str>,
    pub is_tls: bool,
    /// What its listener speaks.
    pub dialect: Dialect,
}

/// One worker's multiplexer.
#[derive(Debug)]
pub struct Relay {
    pub worker: WorkerId,
    shared: Arc<Shared>,
    routes: Arc<Routes>,
    /// The time of the call under way.
    now: Time,
    clients: SlotMap<ClientId, Client>,
    servers: SlotMap<ServerId, Server>,
    pools: Vec<Pool>,
    pool_index: HashMap<PoolKey, PoolId>,
    /// What the caller is to do, in order.
    actions: Vec<Action>,
    /// Clients that may go on with what they sent earlier. Enter: whoever freed or lent a server.
    /// Leave: `settle`. Why: going on at once would nest one client's work in another's.
    ready: VecDeque<ClientId>,
    /// Clients logging in, oldest first; looked through by `tick`.
    logins: VecDeque<ClientId>,
    /// Logins that wait for a turn to have a password salted. Enter: `client_login_steps`. Leave:
    /// `give_login_turns`.
    login_queue: VecDeque<(ClientId, Errand)>,
    /// By slot of their id, for cancel keys and operators.
    by_slot: Vec<ClientId>,
    identities: HashMap<String, HashMap<String, Arc<Identity>>>,
    nobody: Arc<Identity>,
    no_settings: Arc<Settings>,
    console_limits: PoolSettings,
    settings: SettingsTable,
    statement_table: StatementTable,
    hasher: StatementHasher,
    /// Listening servers that this worker keeps.
    hubs: HashMap<Arc<HubKey>, Hub>,
    /// Who hears what on this worker.
    heard: HashMap<Arc<HubKey>, Heard>,
    /// Mail of the call under way, in order; this worker's own is opened before the call ends.
    outgoing: Vec<(WorkerId, Mail)>,
    /// Emptied buffers for the next output.
    spare: Vec<Vec<u8>>,
    /// Messages up to this size are passed on only whole.
    hold_bytes: usize,
    idle_round_at: Time,
    pub counters: WorkerCounters,
    dice: Dice,
}

/// How many emptied buffers are kept, and how large they may be.
const SPARES: usize = 256;
const SPARE_BYTES: usize = 64 * 1024;

impl Relay {
    pub fn new(worker: WorkerId, shared: Arc<Shared>, routes: Arc<Routes>) -> Self {
        let mut settings = SettingsTable::default();
        let no_settings = settings.intern(Settings::default());
        let console_limits = PoolSettings::without_limits();
        let nobody =
            Identity { user: String::new(), database: String::new(), settings: console_limits.clone() };
        let seed = shared
            .secret
            .iter()
            .fold(u64::from(worker.0) + 1, |sum, byte| sum.wrapping_mul(257) + u64::from(*byte));
        Self {
            worker,
            hasher: StatementHasher::new(&shared.secret),
            shared,
            hold_bytes: routes.snapshot.limits.hold_bytes(),
            routes,
            now: Time(0),
            clients: SlotMap::with_key(),
            servers: SlotMap::with_key(),
            pools: Vec::new(),
            pool_index: HashMap::new(),
            actions: Vec::new(),
            ready: VecDeque::new(),
            logins: VecDeque::new(),
            login_queue: VecDeque::new(),
            by_slot: Vec::new(),
            identities: HashMap::new(),
            nobody: Arc::new(nobody),
            no_settings,
            console_limits,
            settings,
            statement_table: StatementTable::default(),
            hubs: HashMap::new(),
            heard: HashMap::new(),
            outgoing: Vec::new(),
            spare: Vec::new(),
            idle_round_at: Time(0),
            counters: WorkerCounters::default(),
            dice: Dice(seed),
        }
    }

    pub fn limits(&self) -> &snapshot::Limits {
        &self.routes.snapshot.limits
    }

    /// Where a server is, or is being opened.
    pub fn endpoint_of(&self, id: ServerId) -> Option<Arc<snapshot::Endpoint>> {
        self.servers.get(id).map(|server| Arc::clone(&server.endpoint))
    }

    pub fn is_server_tls(&self, id: ServerId) -> bool {
        self.servers.get(id).is_some_and(|server| server.tls)
    }

    /// Has everybody left, as a drain wants?
    pub fn is_drained(&self) -> bool {
        self.is_draining() && self.clients.is_empty()
    }

    /// An emptied buffer, for output.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Give a buffer back that has been written.
    #[inline]
    pub fn give_buffer(&mut self, buffer: Vec<u8>) {
        self.keep_spare(buffer);
    }

    /// Move what is to be done into `into`, in order.
    pub fn take_actions(&mut self, into: &mut Vec<Action>) {
        into.append(&mut self.actions);
    }

    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    pub fn server_count(&self) -> usize {
        self.servers.len()
    }

    /// Let every client go on that may.
    fn settle(&mut self) {
        loop {
            while let Some(id) = self.ready.pop_front() {
                self.proceed(id);
            }
            if self.outgoing.is_empty() || !self.deliver_post() {
                return;
            }
        }
    }

    /// Work done elsewhere is back.
    pub fn errand_done(&mut self, now: Time, patron: Patron, outcome: ErrandOutcome) {
        self.now = now;
        match patron {
            Patron::Client(id) => self.client_errand_done(id, outcome),
            Patron::Server(id) => self.server_errand_done(id, outcome),
        }
        self.settle();
    }

    /// Another worker's relay has something to say.
    pub fn mail(&mut self, now: Time, mail: Mail) {
        self.now = now;
        self.open_mail(mail);
        self.settle();
    }

    fn open_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Want { pool, from, flags } => self.spare_server(&pool, from, flags),
            Mail::Parcel(server) => drop(self.accept_parcel(self.now, *server)),
            Mail::Nudge { pool } => {
                if let Some(at) = self.pool_index.get(&pool.key).copied() {
                    self.welcome_clients(at);
                    self.send_away_if_hopeless(at);
                    self.want_server(at);
                }
            }
            Mail::Evict { pool, budget } => drop(self.evict(&pool, &budget)),
            Mail::Cancel { key, from, requester } => self.cancel_by_key(&key, from, requester),
            Mail::CancelDone { requester } => {
                self.end_client(requester, action::ClientEnd::CancelRequest, None);
            }
            Mail::Kill { kill, from, requester } => self.kill_for(&kill, from, requester),
            Mail::Killed { requester, number, killed } => self.killed(requester, number, killed),
            Mail::ToHub { key, pool, order } => self.hub_order(&key, &pool, order),
            Mail::Vacate { endpoint, database } => self.leave_database(&endpoint, &database),
            Mail::FromHub { key, news } => self.hub_news(&key, news),
        }
    }

    /// The client that operators and Python know by this number.
    fn client_by_public(&self, public: u64) -> Option<ClientId> {
        let id = *self.by_slot.get((public & 0xffff_ffff) as usize)?;
        (self.clients.contains_key(id) && public_client_id(self.worker, id) == public).then_some(id)
    }

    fn keep_spare(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES && self.spare.len() < SPARES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// A client's number for operators.
pub fn public_client_id(worker: WorkerId, id: ClientId) -> u64 {
    PublicId::new(worker, id.data().as_ffi()).0
}

/// A server's number for operators.
pub fn public_server_id(worker: WorkerId, id: ServerId) -> u64 {
    PublicId::new(worker, id.data().as_ffi()).0
}

/// Small random numbers for jitter; seeded, so that scenarios repeat.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// A number from 0 to `most`.
    fn roll(&mut self, most: u64) -> u64 {
        // Spec: xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        if most == u64::MAX {
            number
        } else {
            number % (most + 1)
        }
    }
}
