//! Open servers: one at a time per pool, within every budget, with a pause after failures.
//!
//! Decides when and notes how it went; connecting is the worker's, the login's bytes are the
//! dialect's. Called by `pool` when somebody needs a server and by `upkeep` to keep some warm.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use maitred_wire::dialect::{Reading, ServerHandshake};
use maitred_wire::handshake::{ErrandOutcome, LoginTo, ServerStep};
use maitred_wire::{Code, Complaint};

use crate::action::{Action, Event, Mail, Patron, ServerEnd};
use crate::budget::{Budget, Level, Permit, Welcome};
use crate::client;
use crate::hub::HubKey;
use crate::ids::{ClientId, PoolId, ServerId, Time};
use crate::server::{Server, State};
use crate::session_state::Settings;
use crate::snapshot::{Address, SslMode};
use crate::Relay;

/// Minor protocol version that we offer to servers; they answer with the newest they know.
const NEWEST_MINOR: u16 = 2;

/// Whom a server is opened for.
#[derive(Debug)]
pub enum Purpose {
    Pool,
    /// One replication client.
    Exclusive(Exclusive),
    /// All who listen to a database.
    Hub(Arc<HubKey>),
    /// Somebody who wants to stop what this server runs.
    Kill(ServerId),
}

impl Purpose {
    /// Does it count in the size of its pool?
    pub(crate) fn is_in_pool(&self) -> bool {
        matches!(self, Purpose::Pool | Purpose::Exclusive(_))
    }
}

/// A server for one client alone.
#[derive(Debug)]
pub struct Exclusive {
    pub client: ClientId,
    pub replication: String,
    /// The client's own startup parameters: nobody else will use the server.
    pub parameters: Vec<(String, String)>,
}

/// A server that is being connected to or logged in to.
#[derive(Debug)]
pub struct Opening {
    handshake: ServerHandshake,
    pub started: Time,
    pub deadline: Time,
    /// What it reports of itself.
    settings: Settings,
    pub purpose: Purpose,
}

impl Relay {
    /// Open one server for the pool if that is allowed now.
    pub(crate) fn open_server(&mut self, at: PoolId) {
        let now = self.now;
        let pool = &self.pools[at.0 as usize];
        let shared = Arc::clone(&pool.shared);
        if shared.retry_at() > now || self.is_draining() {
            return;
        }
        let settings = &pool.route.settings;
        let reserve = settings.reserve_size;
        let is_urgent = || {
            let oldest = self.oldest_waiter(at).unwrap_or(now);
            now >= oldest.after_ms(settings.reserve_after_ms)
        };
        let extra = if reserve > 0 && is_urgent() { reserve } else { 0 };
        // Why here: every request that has to wait asks, and then a full pool is the rule; the budgets
        // of all workers are looked up behind one lock.
        if !shared.servers.has_place(extra) {
            self.close_misfit(at);
            return;
        }
        if self.leaves_turn_to_others(at) || !shared.try_begin_opening() {
            return;
        }
        let permit = match self.server_permit(at, extra) {
            Ok(permit) => permit,
            Err(full) => {
                shared.end_opening();
                // Why: while the pool itself is full, a place elsewhere would not help it.
                if shared.servers.has_place(extra) {
                    self.evict_for(at, &full);
                }
                return;
            }
        };
        if !shared.take_rate_turn(now, self.pools[at.0 as usize].route.settings.connects_per_s) {
            shared.end_opening();
            return;
        }
        self.begin_opening(at, permit, Purpose::Pool);
    }

    /// Has another worker's client waited longer, for a server that has agreed on something else? Then it is that
    /// worker's to open one.
    ///
    /// Why: what were opened here would be closed for that client as soon as it is there.
    fn leaves_turn_to_others(&mut self, at: PoolId) -> bool {
        let pool = &self.pools[at.0 as usize];
        if self.shared.workers == 1 || !pool.route.endpoint.dialect.takes_turns() {
            return false;
        }
        let shared = Arc::clone(&pool.shared);
        let Some((to, since)) = shared.longest_waiting(self.worker) else { return false };
        let own = self.oldest_waiter(at).unwrap_or(Time::NEVER);
        let is_theirs = since < own && shared.flags_wanted(to) != self.wanted_flags(at);
        if is_theirs {
            self.actions.push(Action::Mail { to, mail: Mail::Nudge { pool: shared } });
        }
        is_theirs
    }

    /// The pool is full, and has idle servers though somebody waits: they have agreed on something else. The
    /// longest idle one gives its place.
    fn close_misfit(&mut self, at: PoolId) {
        let pool = &self.pools[at.0 as usize];
        let longest_idle = pool.idle.first().copied().filter(|_| pool.waiting > 0);
        if let Some(id) = longest_idle.filter(|id| self.servers[*id].dialect.takes_turns()) {
            self.lose_server(id, ServerEnd::Evicted);
        }
    }

    /// A server that is to listen for all. It counts in every budget but the pool's size.
    ///
    /// # Errors
    /// No place, or not now.
    pub(crate) fn begin_listening(&mut self, at: PoolId, key: Arc<HubKey>) -> Result<ServerId, ()> {
        if self.is_draining() {
            return Err(());
        }
        let permit = self.permit_for_idle(|relay| relay.permit_beyond_pool(at)).ok_or(())?;
        Ok(self.begin_opening(at, permit, Purpose::Hub(key)))
    }

    /// Places as `take` wants them, if need be for an idle server that is closed.
    pub(crate) fn permit_for_idle(
        &mut self,
        take: impl Fn(&Relay) -> Result<Permit, Arc<Budget>>,
    ) -> Option<Permit> {
        match take(self) {
            Ok(permit) => Some(permit),
            Err(full) => {
                self.give_up_idle(&full);
                take(self).ok()
            }
        }
    }

    /// Places for one more server, or the budget that is full.
    fn server_permit(&self, at: PoolId, extra: u32) -> Result<Permit, Arc<Budget>> {
        let [endpoint, database, user] = self.budgets_above(at);
        let pool = &self.pools[at.0 as usize];
        Permit::take(&[&self.shared.servers, &endpoint, &database, &user, &pool.shared.servers], extra)
    }

    /// As `server_permit`, outside the pool's size.
    pub(crate) fn permit_beyond_pool(&self, at: PoolId) -> Result<Permit, Arc<Budget>> {
        let [endpoint, database, user] = self.budgets_above(at);
        Permit::take(&[&self.shared.servers, &endpoint, &database, &user], 0)
    }

    /// The budgets of a pool's endpoint, database and user.
    fn budgets_above(&self, at: PoolId) -> [Arc<Budget>; 3] {
        let route = &self.pools[at.0 as usize].route;
        let (endpoint, key) = (&route.endpoint, &route.key);
        [
            self.shared.named(Level::EndpointServers, &endpoint.name, endpoint.max_servers),
            self.shared.named(Level::DatabaseServers, &key.database, route.max_database_servers),
            self.shared.named(Level::UserServers, &key.user, route.max_user_servers),
        ]
    }

    /// A server of a replication client's own.
    ///
    /// # Errors
    /// What to tell the client when there is no place.
    pub(crate) fn open_exclusive(&mut self, at: PoolId, wish: Exclusive) -> Result<(), Complaint> {
        let Some(permit) = self.permit_for_idle(|relay| relay.server_permit(at, 0)) else {
            return Err(self.no_place(at));
        };
        self.begin_opening(at, permit, Purpose::Exclusive(wish));
        Ok(())
    }

    pub(crate) fn begin_opening(&mut self, at: PoolId, permit: Permit, purpose: Purpose) -> ServerId {
        let now = self.now;
        let flags = self.wanted_flags(at);
        let pool = &mut self.pools[at.0 as usize];
        pool.servers += u32::from(purpose.is_in_pool());
        let route = &pool.route;
        let mode = route.endpoint.tls.mode;
        let (replication, own) = match &purpose {
            Purpose::Exclusive(wish) => (Some(wish.replication.clone()), wish.parameters.clone()),
            Purpose::Pool | Purpose::Hub(_) | Purpose::Kill(_) => (None, Vec::new()),
        };
        let login = LoginTo {
            user: route.key.user.clone(),
            database: route.remote_database.clone(),
            password: route.password.clone(),
            parameters: route.parameters.iter().cloned().chain(own).collect(),
            replication,
            minor: NEWEST_MINOR,
            ask_tls: (mode >= SslMode::Prefer || pool.shared.wants_tls()) && !route.endpoint.tls.direct,
            tls_optional: mode == SslMode::Prefer,
            salted: pool.shared.salted(),
            capabilities: route.endpoint.dialect.asked_of_servers(flags),
            is_local: matches!(route.endpoint.address, Address::Unix { .. }),
            ..LoginTo::default()
        };
        let settings = &route.settings;
        let opening = Opening {
            handshake: route.endpoint.dialect.server_handshake(login),
            started: now,
            deadline: now.after_ms(settings.connect_timeout_ms),
            settings: Settings::default(),
            purpose,
        };
        let server = Server::opening(
            at,
            pool,
            opening,
            permit,
            route.endpoint.dialect,
            Arc::clone(&self.no_settings),
            now,
        );
        let endpoint = Arc::clone(&route.endpoint);
        let timeout_ms = settings.connect_timeout_ms;
        let id = self.servers.insert(server);
        self.servers[id].flags = flags;
        self.actions.push(Action::OpenServer { server: id, endpoint, timeout_ms });
        id
    }

    /// The socket is connected (and, with direct TLS, encrypted): begin the login.
    pub fn server_connected(
        &mut self,
        now: Time,
        id: ServerId,
        address: String,
        local_address: String,
        is_tls: bool,
    ) {
        self.now = now;
        let Some(server) = self.servers.get_mut(id) else { return };
        server.address = address;
        server.local_address = local_address;
        server.tls = is_tls;
        let timeout = self.pools[server.pool.0 as usize].route.settings.login_timeout_ms;
        if let State::Opening(opening) = &mut server.state {
            opening.deadline = now.after_ms(timeout);
        }
        self.login_steps(id);
        self.settle();
    }

    /// TLS to the server is up, which the login had asked for; `binding` is what ties the two together.
    pub fn server_secured(&mut self, now: Time, id: ServerId, binding: Option<Vec<u8>>) {
        self.now = now;
        if let Some(server) = self.servers.get_mut(id) {
            server.tls = true;
            if let State::Opening(opening) = &mut server.state {
                if let Some(hash) = binding {
                    opening.handshake.bind_channel(hash);
                }
                opening.handshake.tls_started();
                self.login_steps(id);
            }
        }
        self.settle();
    }

    pub(crate) fn login_bytes(&mut self, id: ServerId, bytes: &[u8]) {
        if let Some(State::Opening(opening)) = self.servers.get_mut(id).map(|server| &mut server.state) {
            opening.handshake.feed(bytes);
            self.login_steps(id);
        }
    }

    pub(crate) fn server_errand_done(&mut self, id: ServerId, outcome: ErrandOutcome) {
        if let Some(State::Opening(opening)) = self.servers.get_mut(id).map(|server| &mut server.state) {
            opening.handshake.errand_done(outcome);
            self.login_steps(id);
        }
    }

    fn login_steps(&mut self, id: ServerId) {
        loop {
            let Some(server) = self.servers.get_mut(id) else { return };
            let State::Opening(opening) = &mut server.state else { return };
            let step = opening.handshake.next();
            opening.handshake.take_output(&mut server.output);
            match step {
                ServerStep::NeedMore => break,
                ServerStep::StartTls => {
                    self.flush_server(id);
                    self.actions.push(Action::StartServerTls(id));
                    return;
                }
                ServerStep::Errand(errand) => {
                    self.actions.push(Action::Errand { patron: Patron::Server(id), errand });
                    break;
                }
                ServerStep::Setting { name, value } => {
                    opening.settings.set(&name, &value);
                }
                ServerStep::Key(key) => server.key = key,
                ServerStep::Ready => {
                    self.opened(id);
                    return;
                }
                ServerStep::Refused(refusal) => {
                    let number = (refusal.number != 0).then_some(refusal.number);
                    self.opening_failed(id, Some((refusal.sqlstate, number)), refusal.message, true);
                    return;
                }
                ServerStep::Failed(complaint) => {
                    let is_lasting =
                        complaint.code == Code::WrongPassword || complaint.code == Code::NotAuthorized;
                    let code = is_lasting.then_some((*b"28P01", None));
                    self.opening_failed(id, code, complaint.message, false);
                    return;
                }
            }
        }
        self.flush_server(id);
    }

    /// Logged in: the server joins its pool, or its replication client.
    fn opened(&mut self, id: ServerId) {
        let now = self.now;
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let State::Opening(mut opening) = std::mem::replace(&mut server.state, State::Idle) else { return };
        let rest = opening.handshake.take_rest();
        server.reading = Reading::new(opening.handshake.capabilities());
        let shared = Arc::clone(&server.shared);
        let at = server.pool;
        let route = &self.pools[at.0 as usize].route;
        shared.note_success();
        if let Some(salted) = opening.handshake.take_salted() {
            shared.set_salted(Some(salted));
        }
        let jitter = u64::from(route.settings.server_lifetime_jitter.min(100));
        let lifetime = route.settings.server_lifetime_ms;
        let spread = lifetime * jitter / 100;
        server.retire_at =
            now.after_ms(if lifetime == 0 { 0 } else { (lifetime - self.dice.roll(spread)).max(1) });
        self.actions.push(Action::Tell(Event::ServerOpened {
            server: crate::public_server_id(self.worker, id),
            endpoint: shared.key.endpoint.clone(),
            database: shared.key.database.clone(),
            user: shared.key.user.clone(),
            login_us: now.since(opening.started),
        }));
        match opening.purpose {
            Purpose::Pool => {}
            Purpose::Exclusive(Exclusive { client, .. }) => {
                self.begin_raw(client, id, &opening.settings);
                if !rest.is_empty() && self.servers.contains_key(id) {
                    self.pass_to_client(client, id, &rest);
                }
                return;
            }
            Purpose::Hub(key) => {
                self.counters.servers_opened += 1;
                self.servers[id].state = State::Listening(Arc::clone(&key));
                self.hub_opened(&key);
                return;
            }
            Purpose::Kill(target) => {
                self.counters.servers_opened += 1;
                self.begin_killing(id, target);
                return;
            }
        }
        self.counters.servers_opened += 1;
        shared.end_opening();
        let is_first = shared.welcome().is_none_or(|welcome| welcome.settings != opening.settings);
        if is_first {
            shared.set_welcome(Arc::new(Welcome { settings: opening.settings }));
            self.nudge_others(at);
        }
        self.welcome_clients(at);
        // What the server said of its own accord with its last word of the login.
        let used = self.read_server(id, &rest);
        if let Some(server) = self.servers.get_mut(id) {
            server.input.extend_from_slice(&rest[used..]);
            self.release(id);
        }
        self.want_server(at);
    }

    /// Finish the logins that waited for a first server of the pool.
    pub(crate) fn welcome_clients(&mut self, at: PoolId) {
        if self.pools[at.0 as usize].shared.welcome().is_some() {
            for client in std::mem::take(&mut self.pools[at.0 as usize].welcome_waiters) {
                self.finish_login(client);
            }
        }
    }

    /// The other workers' clients may be waiting for the same thing.
    pub(crate) fn nudge_others(&mut self, at: PoolId) {
        let shared = &self.pools[at.0 as usize].shared;
        for worker in 0..self.shared.workers as u16 {
            let to = crate::ids::WorkerId(worker);
            if to != self.worker {
                self.actions.push(Action::Mail { to, mail: Mail::Nudge { pool: Arc::clone(shared) } });
            }
        }
    }

    /// Another pool's idle server stands in the way of a shared limit: let the longest idle one go.
    fn evict_for(&mut self, at: PoolId, full: &Arc<Budget>) {
        let asking = Arc::clone(&self.pools[at.0 as usize].shared);
        if !self.evict(&asking, full) {
            for worker in 0..self.shared.workers as u16 {
                let to = crate::ids::WorkerId(worker);
                if to != self.worker {
                    let mail = Mail::Evict { pool: Arc::clone(&asking), budget: Arc::clone(full) };
                    self.actions.push(Action::Mail { to, mail });
                }
            }
        }
    }

    /// Close the longest idle server of another pool that holds a place in `full`. True if there was one.
    pub(crate) fn evict(&mut self, asking: &Arc<crate::budget::PoolShared>, full: &Arc<Budget>) -> bool {
        let victim = self
            .pools
            .iter()
            .filter(|pool| !Arc::ptr_eq(&pool.shared, asking) && pool.waiting == 0)
            .filter(|pool| pool.shared.servers.used() > pool.route.settings.min_size)
            .filter_map(|pool| pool.idle.first().copied())
            .filter(|id| self.servers[*id].permit.holds(full))
            .min_by_key(|id| self.servers[*id].idle_since);
        match victim {
            Some(id) => {
                self.lose_server(id, ServerEnd::Evicted);
                if let Some(at) = self.pool_index.get(&asking.key).copied() {
                    self.want_server(at);
                }
                self.nudge_pool(asking);
                true
            }
            None => false,
        }
    }

    /// Close the longest idle server that holds a place in `full`, of whatever pool.
    fn give_up_idle(&mut self, full: &Arc<Budget>) {
        let idle = self.pools.iter().flat_map(|pool| pool.idle.iter().copied());
        let holders = idle.filter(|id| self.servers[*id].permit.holds(full));
        if let Some(id) = holders.min_by_key(|id| self.servers[*id].idle_since) {
            self.lose_server(id, ServerEnd::Evicted);
        }
    }

    fn nudge_pool(&mut self, shared: &Arc<crate::budget::PoolShared>) {
        for (worker, share) in shared.shares.iter().enumerate() {
            if share.oldest_wait.load(Ordering::Acquire) != Time::NEVER.0 {
                let to = crate::ids::WorkerId(worker as u16);
                if to != self.worker {
                    self.actions.push(Action::Mail { to, mail: Mail::Nudge { pool: Arc::clone(shared) } });
                }
            }
        }
    }

    /// Join a replication client and the server that was opened for it.
    fn begin_raw(&mut self, client_id: ClientId, id: ServerId, settings: &Settings) {
        if !self.clients.contains_key(client_id) {
            self.lose_server(id, ServerEnd::ClientLeft);
            return;
        }
        self.servers[id].state = State::Raw(client_id);
        self.say_welcome(client_id, settings, None);
        let client = &mut self.clients[client_id];
        if let client::State::Welcome(mut login) =
            std::mem::replace(&mut client.state, client::State::Raw(id))
        {
            client.put_input(login.handshake.take_rest());
        }
        let sent_before = client.take_input();
        self.login_over(client_id);
        self.pass_to_server(id, client_id, &sent_before);
    }
}
