//! Lend servers to clients: now, or in the order in which they came.
//!
//! ```text
//!   client asks ──► idle server? ──yes──► lease ──► over ──► older waiter elsewhere? ──► moved there
//!                       │ no                          │ own waiter? ──► lease
//!                       ▼                             └► idle (most recent first)
//!                    queue ──► open one, if every budget has a place; else take one from a worker
//!                              with an idle one; else wait
//! ```
//!
//! Never opens or closes a socket; it returns actions. Called by `client` when a request needs a
//! server, by `server` when a lease is over, by `upkeep` as time passes.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use maitred_wire::dialect::ServerError;
use maitred_wire::{ClientMessage, Code, Complaint};

use crate::action::{Action, ClientEnd, Mail, ServerEnd};
use crate::adjust;
use crate::aftermath::Aftermath;
use crate::budget::{PoolKey, PoolShared};
use crate::cleaning::CLEANING_MS;
use crate::client;
use crate::counters::PoolCounters;
use crate::ids::{ClientId, PoolId, ServerId, Time};
use crate::route::Route;
use crate::server;
use crate::snapshot::{PoolMode, WhenDown};
use crate::trace::Standing;
use crate::Relay;

/// Servers of the same kind on this worker, and who waits for one.
#[derive(Debug)]
pub struct Pool {
    pub route: Route,
    pub shared: Arc<PoolShared>,
    /// Free servers, most recently used last.
    /// Enter: `put_idle`. Leave: `lend`, `upkeep`, a move to another worker, its end.
    pub idle: Vec<ServerId>,
    /// Clients that asked while no server was free, oldest first; one that is not `Waiting` since
    /// the same moment has left and is skipped. Enter: `lend`. Leave: `next_waiter`, `tick`.
    pub waiters: VecDeque<(ClientId, Time)>,
    /// The next moment at which one of them has waited long enough; not later than that.
    pub timeout_at: Time,
    /// How many of them still wait.
    pub waiting: u32,
    /// Clients that have logged in and wait to be told what a fresh server says.
    pub welcome_waiters: Vec<ClientId>,
    /// The snapshot has no such pool any more: it serves those who have a lease, and nobody else.
    pub is_gone: bool,
    /// Servers on this worker, in whatever state.
    pub servers: u32,
    /// What its newest client has agreed on.
    pub flags: u64,
    pub counters: PoolCounters,
}

/// The answer to `lend`.
pub enum Lent {
    Now(ServerId),
    Queued,
    Refused(Complaint),
}

/// How much older another worker's waiter must be before a server moves to it.
///
/// Why: moving costs two system calls and a wake-up, and under load nearly every lease would end in
/// one; a client's arrival is noted once a round of its worker anyway, not at the microsecond it came.
/// Measured: two workers over one by CPU, 1.24 times without, 1.79 with it (`make bench`, workers).
const FAIRNESS_GRAIN_US: u64 = 500;

/// How many idle servers are looked at for one with the client's settings.
const MATCH_DEPTH: usize = 8;

/// How long one waits before a server that has agreed on something else is closed for it, though others would
/// take that at once. Why at all: a login for each lease would be the price of strict order.
const MISFIT_MS: u64 = 20;

impl Pool {
    pub fn mode(&self) -> PoolMode {
        self.route.settings.mode
    }

    pub fn is_paused(&self) -> bool {
        self.shared.paused.load(Ordering::Acquire)
    }
}

impl Relay {
    /// The pool of `route` on this worker, made on first use.
    pub(crate) fn pool_for(&mut self, route: Route) -> PoolId {
        if let Some(at) = self.pool_index.get(&route.key) {
            self.pools[at.0 as usize].route = route;
            return *at;
        }
        let at = PoolId(self.pools.len() as u32);
        let shared = self.shared.pool(&route.key, route.settings.size);
        self.pool_index.insert(route.key.clone(), at);
        self.pools.push(Pool {
            route,
            shared,
            idle: Vec::new(),
            waiters: VecDeque::new(),
            timeout_at: Time::NEVER,
            waiting: 0,
            welcome_waiters: Vec::new(),
            is_gone: false,
            servers: 0,
            flags: 0,
            counters: PoolCounters::default(),
        });
        at
    }

    /// The pool of `key` on this worker, made if the configuration still has it.
    pub(crate) fn pool_of_key(&mut self, key: &PoolKey) -> Option<PoolId> {
        match self.pool_index.get(key).copied() {
            Some(at) => Some(at),
            None => self.routes.route_of_pool(key).map(|route| self.pool_for(route)),
        }
    }

    /// Servers that are not free just now.
    pub fn busy_servers(&self) -> usize {
        self.pools.iter().map(|pool| (pool.servers as usize).saturating_sub(pool.idle.len())).sum()
    }

    /// Lend a server to a client that asks for `message`, or put it in the queue.
    pub(crate) fn lend(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Lent {
        if self.clients[id].is_misplaced {
            self.put_in_place(id);
        }
        let client = &self.clients[id];
        let at = client.pool;
        if let Some(place) = self.place_for(id) {
            let place = self.place_of_sequences(id, place, message, here);
            let server = self.pools[at.0 as usize].idle.remove(place);
            self.publish_share(at);
            self.attach(server, id, 0);
            return Lent::Now(server);
        }
        self.enqueue(id)
    }

    /// Where in its pool is the idle server that suits a client best?
    #[inline]
    fn place_for(&self, id: ClientId) -> Option<usize> {
        let client = &self.clients[id];
        let pool = &self.pools[client.pool.0 as usize];
        if pool.idle.is_empty() || pool.is_paused() {
            return None;
        }
        let (wanted, flags) = (&client.settings, client.flags());
        let suits = |server: &ServerId| self.servers[*server].flags == flags;
        // Why not before those who wait for the same: they came first. Those of other flags wait for others.
        if pool.waiting > 0 && !client.dialect.takes_turns() {
            return None;
        }
        // Why: what its last statement left is there still, if nobody has had the server since.
        if client.dialect.takes_turns() {
            if let Some(place) = client.last_lease.and_then(|(last, lease)| {
                let is_untouched = self.servers.get(last).is_some_and(|server| server.leases == lease);
                pool.idle.iter().rposition(|idle| *idle == last).filter(|_| is_untouched)
            }) {
                return Some(place).filter(|place| suits(&pool.idle[*place]));
            }
        }
        // Why: the same settings save a round trip; the most recent has the warmest cache.
        let last = pool.idle.len() - 1;
        let is_same =
            |server: &ServerId| suits(server) && Arc::ptr_eq(&self.servers[*server].settings, wanted);
        let recent = pool.idle.iter().rev().take(MATCH_DEPTH).position(is_same);
        recent.or_else(|| pool.idle.iter().rev().position(suits)).map(|depth| last - depth)
    }

    fn enqueue(&mut self, id: ClientId) -> Lent {
        let now = self.now;
        let client = &self.clients[id];
        let at = client.pool;
        let limit = client.identity.settings.queue_length;
        let timeout_ms = client.identity.settings.queue_timeout_ms;
        if self.is_draining() {
            return Lent::Refused(Complaint::fatal(Code::Shutdown, SHUTTING_DOWN));
        }
        let pool = &mut self.pools[at.0 as usize];
        if limit > 0 && pool.waiting + pool.shared.waiting_elsewhere(self.worker) >= limit {
            pool.counters.queue_refusals += 1;
            return Lent::Refused(self.queue_full(at, limit));
        }
        if let Some(complaint) = self.down_complaint(at, now) {
            self.open_server(at);
            return Lent::Refused(complaint);
        }
        let pool = &mut self.pools[at.0 as usize];
        pool.waiters.push_back((id, now));
        pool.timeout_at = pool.timeout_at.min(now.after_ms(timeout_ms));
        pool.waiting += 1;
        self.clients[id].state = client::State::Waiting { since: now };
        self.publish_share(at);
        self.want_server(at);
        Lent::Queued
    }

    /// The complaint with which those who have waited since `since` are sent away now, if the endpoint is
    /// known not to serve.
    ///
    /// Why since: a refusal says nothing of later tries; the database or the role may have been made by now.
    pub(crate) fn down_complaint(&self, at: PoolId, since: Time) -> Option<Complaint> {
        let pool = &self.pools[at.0 as usize];
        if !pool.shared.is_failing() {
            return None;
        }
        let trouble = pool.shared.trouble()?;
        let is_hopeless =
            trouble.lasting && since <= trouble.at || pool.route.settings.when_down == WhenDown::Fail;
        // Why: servers that are open still serve, whatever a new login met.
        let has_open = pool.shared.servers.used() > u32::from(pool.shared.is_opening());
        (is_hopeless && !has_open).then(|| self.unreachable(at))
    }

    /// The oldest client that still waits.
    fn next_waiter(&mut self, at: PoolId) -> Option<(ClientId, Time)> {
        let pool = &mut self.pools[at.0 as usize];
        while let Some((client, since)) = pool.waiters.front().copied() {
            let still = self.clients.get(client).is_some_and(|client| client.is_waiting_since(since));
            if still {
                return Some((client, since));
            }
            pool.waiters.pop_front();
        }
        None
    }

    /// Since when the oldest client that still waits has done so.
    pub(crate) fn oldest_waiter(&self, at: PoolId) -> Option<Time> {
        let waiters = &self.pools[at.0 as usize].waiters;
        let still =
            |id: &ClientId, since: &Time| self.clients.get(*id).is_some_and(|c| c.is_waiting_since(*since));
        waiters.iter().find(|(id, since)| still(id, since)).map(|(_, since)| *since)
    }

    /// A client leaves the queue without a server.
    pub(crate) fn leave_queue(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !matches!(client.state, client::State::Waiting { .. }) {
            return;
        }
        client.state = client::State::Idle;
        let at = client.pool;
        self.pools[at.0 as usize].waiting -= 1;
        self.publish_share(at);
    }

    /// Tell the other workers what is idle here and how long somebody has waited.
    pub(crate) fn publish_share(&mut self, at: PoolId) {
        if self.shared.workers == 1 {
            return;
        }
        let (oldest, flags) = if self.pools[at.0 as usize].waiting == 0 {
            (Time::NEVER, 0)
        } else {
            let waiter = self.next_waiter(at);
            waiter.map_or((Time::NEVER, 0), |(id, since)| (since, self.clients[id].flags()))
        };
        let pool = &self.pools[at.0 as usize];
        let share = pool.shared.share(self.worker);
        share.idle.store(pool.idle.len() as u32, Ordering::Release);
        share.waiting.store(pool.waiting, Ordering::Release);
        share.oldest_flags.store(flags, Ordering::Release);
        share.oldest_wait.store(oldest.0, Ordering::Release);
    }

    /// Make the lease: from here on the client's messages go to this server.
    fn attach(&mut self, server_id: ServerId, client_id: ClientId, waited_us: u64) {
        let now = self.now;
        self.ensure_buffer(server_id);
        let has_own_sequences = self.has_own_sequences(client_id, server_id);
        let server = &mut self.servers[server_id];
        let client = &mut self.clients[client_id];
        debug_assert!(server.is_free() && !server.is_cancelling);
        server.copy_failed = false;
        server.state = server::State::Leased(client_id);
        server.leased_at = now;
        server.quiet_since = now;
        server.waited_us = waited_us;
        server.leases += 1;
        server.finished = 0;
        server.has_own_sequences = has_own_sequences;
        client.last_lease = Some((server_id, server.leases));
        client.state = client::State::Leased(server_id);
        server.names = Some(client.settings.meaning(server.dialect.naming_settings()));
        self.pools[server.pool.0 as usize].counters.note_lease(waited_us);
        self.adjust(server_id, client_id);
        if self.must_forget_sequences(server_id) {
            self.forget_sequences(server_id);
        }
    }

    /// Bring a server's settings to its client's, in front of what comes next. False: they are.
    fn adjust(&mut self, server_id: ServerId, client_id: ClientId) -> bool {
        let now = self.now;
        let server = &mut self.servers[server_id];
        let client = &self.clients[client_id];
        if Arc::ptr_eq(&server.settings, &client.settings) {
            return false;
        }
        let (had, wanted) = (Arc::clone(&server.settings), Arc::clone(&client.settings));
        let dialect = server.dialect;
        let fresh = server.shared.welcome();
        let mut changes = adjust::plan(dialect, &had, &wanted);
        adjust::name_defaults(dialect, &mut changes, fresh.as_deref().map(|fresh| &fresh.settings));
        let is_due = !changes.is_empty();
        if is_due {
            server.change_settings(&changes, now);
        }
        self.servers[server_id].settings = wanted;
        is_due
    }

    /// The client's settings were refused by the server: the client is told what a direct login
    /// would have told it, and the server, whose settings are now unknown, is closed.
    pub(crate) fn adjusting_failed(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        error: ServerError,
    ) -> Aftermath {
        let time_out = self.servers.get_mut(id).and_then(|server| server.time_out.take());
        if error.is_cancelled {
            // Why: the cancel was meant for the client's request, which has not begun yet.
            let own = Box::new(Complaint::error(Code::Cancelled, error.message.as_str()));
            if let Some(server) = self.servers.get_mut(id) {
                // Why only then: with a transaction or the like, more is lost than one request.
                let mode = self.pools[server.pool.0 as usize].mode();
                let is_begun = mode == PoolMode::Session && server.preparing.is_some();
                if !is_begun && server.holds_nothing() {
                    server.loss = Some(time_out.unwrap_or(own));
                } else {
                    server.farewell = Some(error.message);
                }
            }
        } else if self.servers.get(id).is_some_and(|server| server.preparing.is_some()) {
            // What a statement was prepared under is no more: the run fails, on whatever server.
            self.lose_server(id, ServerEnd::NotCleaned);
            if let Some(client) = client.and_then(|client| self.clients.get_mut(client)) {
                let (sqlstate, number) = (Some(error.sqlstate), error.number);
                let complaint = Complaint::error(Code::UnknownStatement, error.message);
                client.lost.get_or_insert_with(|| Box::new(Complaint { sqlstate, number, ..complaint }));
            }
            return Aftermath::None;
        } else if let Some(server) = self.servers.get_mut(id).filter(|server| server.dialect.takes_turns()) {
            // Why not its end: what cannot be taken back may be another's, whom a routine let set it.
            let (sqlstate, number) = (Some(error.sqlstate), error.number);
            let complaint = Complaint::error(Code::ServerLost, error.message)
                .hint("a server did not accept this session's settings and was closed; try again");
            server.loss = Some(Box::new(Complaint { sqlstate, number, ..complaint }));
        } else if let Some(client) = client {
            let complaint = Complaint {
                sqlstate: Some(error.sqlstate),
                number: error.number,
                ..Complaint::fatal(Code::Unsupported, error.message)
                    .hint("the client's startup parameters or settings are not accepted by the database")
            };
            self.end_client(client, ClientEnd::LoginRefused, Some(complaint));
        }
        self.lose_server(id, ServerEnd::NotCleaned);
        Aftermath::None
    }

    /// A lease may be over: give the server back if it is free and the mode says so.
    pub(crate) fn end_lease_if_over(&mut self, id: ServerId) {
        let Some(server) = self.servers.get(id) else { return };
        let server::State::Leased(client_id) = server.state else { return };
        if !server.is_free() || server.is_promised {
            return;
        }
        let mode = self.pools[server.pool.0 as usize].mode();
        let Some(client) = self.clients.get_mut(client_id) else { return };
        if client.passing > 0 {
            return;
        }
        if mode == PoolMode::Session {
            // The lease goes on; only a pending wish to leave ends it.
            client.asked_at = Time::NEVER;
            if self.standing(id) != Standing::Asked {
                self.go_on(id, client_id);
            }
            return;
        }
        match self.standing(id) {
            Standing::Clean if self.correct_modes(id) => return,
            Standing::Clean => {}
            Standing::Asked => return,
            Standing::Pinned => {
                if let Some(client) = self.clients.get_mut(client_id) {
                    client.asked_at = Time::NEVER;
                    self.go_on(id, client_id);
                }
                return;
            }
        }
        let Some(client) = self.clients.get_mut(client_id) else { return };
        client.state = client::State::Idle;
        client.asked_at = Time::NEVER;
        client.idle_since = self.now;
        if client.has_input() {
            self.ready.push_back(client_id);
        } else {
            self.tell_held(client_id);
            self.leave_if_draining(client_id);
        }
        self.release(id);
    }

    /// A lease goes on beyond a transaction.
    fn go_on(&mut self, id: ServerId, client: ClientId) {
        if self.adjust(id, client) {
            self.disturb(Some(client));
            self.flush_server(id);
        }
        if self.clients.get(client).is_some_and(|client| client.has_input()) {
            self.ready.push_back(client);
        } else {
            self.tell_held(client);
            self.leave_if_draining(client);
        }
    }

    /// A server has no client: make it clean if it must be, then give it to the next.
    pub(crate) fn release(&mut self, id: ServerId) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        // Why: it was not read because of a client that no longer has it.
        if std::mem::take(&mut server.is_paused) {
            self.actions.push(Action::ResumeServer(id));
        }
        if server.is_cancelling || server.must_probe || server.must_reset || !server.is_free() {
            server.state = server::State::Cleaning { until: now.after_ms(CLEANING_MS) };
            self.clean(id);
            return;
        }
        server.stop_recording();
        if let Some(reason) = self.reason_to_retire(id) {
            self.lose_server(id, reason);
            return;
        }
        self.give(id);
    }

    /// Give a free, clean server to whoever has waited longest, or let it idle.
    pub(crate) fn give(&mut self, id: ServerId) {
        let at = self.servers[id].pool;
        let is_paused = self.pools[at.0 as usize].is_paused();
        let own = if is_paused { None } else { self.next_waiter(at) };
        if self.shared.workers > 1 && !is_paused {
            let shared = Arc::clone(&self.pools[at.0 as usize].shared);
            if let Some((to, since)) = shared.longest_waiting(self.worker) {
                let is_older = own.is_none_or(|(_, own_since)| since + FAIRNESS_GRAIN_US < own_since);
                let is_misfit = shared.flags_wanted(to) != self.servers[id].flags;
                if is_older && is_misfit && self.now >= since.after_ms(MISFIT_MS) {
                    self.lose_server(id, ServerEnd::Evicted);
                    self.nudge_others(at);
                    return;
                }
                if is_older && !is_misfit {
                    self.servers[id].state = server::State::Moving(to);
                    self.actions.push(Action::MoveServer { server: id, to });
                    return;
                }
            }
        }
        if let Some((oldest, since)) = own {
            let flags = self.servers[id].flags;
            if self.clients[oldest].flags() != flags {
                self.give_to_other(id, at, flags, since);
                return;
            }
        }
        match own {
            Some((client, since)) => {
                let pool = &mut self.pools[at.0 as usize];
                pool.waiters.pop_front();
                pool.waiting -= 1;
                let waited_us = self.now.since(since);
                self.publish_share(at);
                self.attach(id, client, waited_us);
                self.ready.push_back(client);
            }
            None => self.put_idle(id),
        }
    }

    /// The oldest that waits needs a server that has agreed on something else.
    fn give_to_other(&mut self, id: ServerId, at: PoolId, flags: u64, since: Time) {
        let is_patient =
            self.now < since.after_ms(MISFIT_MS) || self.pools[at.0 as usize].shared.is_opening();
        let suits = |(client, since): &(ClientId, Time)| {
            self.clients.get(*client).is_some_and(|c| c.is_waiting_since(*since) && c.flags() == flags)
        };
        let place = if is_patient { self.pools[at.0 as usize].waiters.iter().position(suits) } else { None };
        let Some(place) = place else {
            // Nobody here wants it more: it gives its place to one that is wanted.
            self.put_idle(id);
            self.want_server(at);
            return;
        };
        let pool = &mut self.pools[at.0 as usize];
        let Some((client, since)) = pool.waiters.remove(place) else { return };
        pool.waiting -= 1;
        let waited_us = self.now.since(since);
        self.publish_share(at);
        self.attach(id, client, waited_us);
        self.ready.push_back(client);
    }

    /// What the next server to be opened is to agree on: what the oldest that waits has agreed on.
    pub(crate) fn wanted_flags(&mut self, at: PoolId) -> u64 {
        let waiter = self.next_waiter(at).map(|(client, _)| client);
        let pool = &self.pools[at.0 as usize];
        let newcomer = pool.welcome_waiters.first().copied();
        waiter.or(newcomer).and_then(|id| self.clients.get(id)).map_or(pool.flags, |client| client.flags())
    }

    pub(crate) fn put_idle(&mut self, id: ServerId) {
        let now = self.now;
        let server = &mut self.servers[id];
        server.state = server::State::Idle;
        server.idle_since = now;
        let at = server.pool;
        self.pools[at.0 as usize].idle.push(id);
        self.publish_share(at);
    }

    /// Somebody needs a server here: get one from where there is one, or open one.
    pub(crate) fn want_server(&mut self, at: PoolId) {
        let pool = &self.pools[at.0 as usize];
        if pool.is_paused() {
            return;
        }
        if pool.waiting > 0 && self.shared.workers > 1 {
            if let Some(to) = pool.shared.somewhere_idle(self.worker) {
                let (pool, from) = (Arc::clone(&pool.shared), self.worker);
                let flags = self.wanted_flags(at);
                let mail = Mail::Want { pool, from, flags };
                self.actions.push(Action::Mail { to, mail });
            }
        }
        let pool = &self.pools[at.0 as usize];
        let is_welcome_wanted = !pool.welcome_waiters.is_empty() && pool.shared.welcome().is_none();
        if pool.waiting > 0 || is_welcome_wanted {
            self.open_server(at);
        }
    }

    /// Another worker's client waits for a server that we may have idle.
    pub(crate) fn spare_server(&mut self, shared: &Arc<PoolShared>, to: crate::ids::WorkerId, flags: u64) {
        let Some(at) = self.pool_index.get(&shared.key).copied() else { return };
        let pool = &mut self.pools[at.0 as usize];
        if pool.waiting > 0 || pool.is_paused() {
            return;
        }
        let fitting = pool.idle.iter().rposition(|id| self.servers[*id].flags == flags);
        match fitting {
            Some(place) => {
                let id = pool.idle.remove(place);
                self.publish_share(at);
                self.servers[id].state = server::State::Moving(to);
                self.actions.push(Action::MoveServer { server: id, to });
            }
            None if !shared.servers.has_place(0) => {
                // None here has agreed on that: one gives its place.
                if let Some(id) = pool.idle.first().copied() {
                    self.lose_server(id, ServerEnd::Evicted);
                    self.actions.push(Action::Mail { to, mail: Mail::Nudge { pool: Arc::clone(shared) } });
                }
            }
            None => {}
        }
    }
}

/// What a client is told that must go because we do.
pub(crate) const SHUTTING_DOWN: &str = "terminating connection: the proxy is shutting down";
