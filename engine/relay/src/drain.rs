//! Pause, resume, kill, reload and shut down, as an operator asks for them.
//!
//! Changes what is lent and who may stay; signals and time limits are Python's. Every worker's relay
//! is told the same. Called by `reactor::engine` through the workers.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use maitred_wire::{Code, Complaint};

use crate::action::{ClientEnd, ServerEnd};
use crate::client::State as ClientState;
use crate::ids::{ClientId, PoolId, ServerId, Time, WorkerId};
use crate::route::Routes;
use crate::server::State;
use crate::Relay;

impl Relay {
    /// Pools of `database`, or all.
    fn pools_of(&self, database: Option<&str>) -> Vec<PoolId> {
        let is_meant = |name: &str| database.is_none_or(|database| database == name);
        (0..self.pools.len())
            .filter(|at| is_meant(&self.pools[*at].shared.key.database))
            .map(|at| PoolId(at as u32))
            .collect()
    }

    /// Lend no more servers; what is leased ends as usual.
    pub fn pause(&mut self, database: Option<&str>) {
        self.shared.set_paused(database, true);
    }

    /// Lend again.
    pub fn resume(&mut self, now: Time, database: Option<&str>) {
        self.now = now;
        self.shared.set_paused(database, false);
        for at in self.pools_of(database) {
            // Why each once: one that suits nobody who waits is idle again.
            for _ in 0..self.pools[at.0 as usize].idle.len() {
                let pool = &mut self.pools[at.0 as usize];
                if pool.waiting == 0 || pool.idle.is_empty() {
                    break;
                }
                let id = pool.idle.remove(0);
                self.give(id);
            }
            self.publish_share(at);
            self.want_server(at);
        }
        self.settle();
    }

    /// Servers of `database` that are leased here, whatever the pause.
    pub fn leased(&self, database: Option<&str>) -> usize {
        self.servers
            .values()
            .filter(|server| database.is_none_or(|database| server.shared.key.database == database))
            .filter(|server| !matches!(server.state, State::Idle | State::Opening(_)))
            .count()
    }

    /// Close every client and server of `database`. Returns how many clients.
    pub fn kill(&mut self, now: Time, database: Option<&str>) -> usize {
        self.now = now;
        let clients: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.pool.0 != u32::MAX)
            .filter(|(_, client)| database.is_none_or(|database| client.identity.database == database))
            .map(|(id, _)| id)
            .collect();
        let killed = Complaint::fatal(Code::Shutdown, "terminating connection due to administrator command");
        for id in &clients {
            self.end_client(*id, ClientEnd::Killed, Some(killed.clone()));
        }
        let servers: Vec<ServerId> = self
            .servers
            .iter()
            .filter(|(_, server)| database.is_none_or(|database| server.shared.key.database == database))
            .map(|(id, _)| id)
            .collect();
        for id in servers {
            self.close_server(id, ServerEnd::Killed);
        }
        self.settle();
        clients.len()
    }

    /// Close one client. False: there is none of that number here.
    pub fn kill_client(&mut self, now: Time, public: u64) -> bool {
        self.now = now;
        let Some(id) = self.client_by_public(public) else { return false };
        let killed = Complaint::fatal(Code::Shutdown, "terminating connection due to administrator command");
        self.end_client(id, ClientEnd::Killed, Some(killed));
        self.settle();
        true
    }

    /// Close each server of `database` when it is next free.
    pub fn reconnect(&mut self, now: Time, database: Option<&str>) {
        self.now = now;
        for at in self.pools_of(database) {
            self.pools[at.0 as usize].shared.stale_before.store(now.0 + 1, Ordering::Release);
            for id in self.pools[at.0 as usize].idle.clone() {
                self.lose_server(id, ServerEnd::Reconfigured);
            }
        }
        self.settle();
    }

    /// Take a new snapshot: from here on everything is looked up in it.
    pub fn apply(&mut self, now: Time, routes: Arc<Routes>) {
        self.now = now;
        self.routes = routes;
        self.hold_bytes = self.routes.snapshot.limits.hold_bytes();
        for at in 0..self.pools.len() {
            let at = PoolId(at as u32);
            self.apply_to_pool(at);
        }
        let gone: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.pool.0 != u32::MAX)
            .filter(|(_, client)| self.routes.database(&client.identity.database).is_none())
            .map(|(id, _)| id)
            .collect();
        let removed = Complaint::fatal(Code::Shutdown, "the database was removed from the configuration");
        for id in gone {
            self.end_client(id, ClientEnd::Killed, Some(removed.clone()));
        }
        self.refresh_identities();
        self.prepare_pools();
        for at in 0..self.pools.len() {
            self.want_server(PoolId(at as u32));
        }
        self.settle();
    }

    fn apply_to_pool(&mut self, at: PoolId) {
        let now = self.now;
        let pool = &self.pools[at.0 as usize];
        let key = pool.shared.key.clone();
        let old = &pool.route;
        let route = self.routes.route_of_pool(&key);
        let is_same = route.as_ref().is_some_and(|route| {
            *route.endpoint == *old.endpoint
                && route.password == old.password
                && route.parameters == old.parameters
                && route.remote_database == old.remote_database
        });
        if !is_same {
            pool.shared.stale_before.store(now.0 + 1, Ordering::Release);
            pool.shared.forget_past();
        }
        self.pools[at.0 as usize].is_gone = route.is_none();
        if let Some(route) = route {
            self.pools[at.0 as usize].shared.servers.set_limit(route.settings.size);
            self.pools[at.0 as usize].route = route;
        }
        // The limits of those who wait may be others now.
        self.pools[at.0 as usize].timeout_at = now;
        for id in self.pools[at.0 as usize].idle.clone() {
            if let Some(reason) = self.reason_to_retire(id) {
                self.lose_server(id, reason);
            }
        }
    }

    /// Make the pools that are to be kept warm and whose user is known, before any client asks.
    ///
    /// Why one worker: the minimum is the pool's, not each worker's.
    pub fn prepare_pools(&mut self) {
        if self.worker != WorkerId(0) {
            return;
        }
        let routes = Arc::clone(&self.routes);
        for database in routes.snapshot.databases.iter().filter(|database| database.name != "*") {
            let route = database.user.as_ref().and_then(|user| routes.route(&database.name, user));
            if let Some(route) = route.filter(|route| route.settings.min_size > 0) {
                self.pool_for(route);
            }
        }
    }

    /// The limits of clients that are here already follow the new snapshot.
    fn refresh_identities(&mut self) {
        let old = std::mem::take(&mut self.identities);
        let ids: Vec<ClientId> = self.clients.keys().collect();
        drop(old);
        for id in ids {
            let client = &self.clients[id];
            if client.pool.0 == u32::MAX {
                continue;
            }
            let identity = Arc::clone(&client.identity);
            if let Some(route) = self.routes.route(&identity.database, &identity.user) {
                let fresh = self.identity(&identity.user, &identity.database, &route.settings);
                self.clients[id].identity = fresh;
                let at = self.clients[id].pool;
                self.clients[id].is_misplaced = self.pools[at.0 as usize].shared.key != route.key;
            }
        }
        for at in 0..self.pools.len() {
            self.move_waiters(PoolId(at as u32));
        }
    }

    /// Those who wait in a pool that is no longer theirs wait in the other, in the same order.
    fn move_waiters(&mut self, at: PoolId) {
        let is_misplaced = |id: &ClientId| self.clients.get(*id).is_some_and(|client| client.is_misplaced);
        let pool = &self.pools[at.0 as usize];
        let logins: Vec<ClientId> = pool.welcome_waiters.iter().copied().filter(&is_misplaced).collect();
        let waiters: Vec<ClientId> = pool.waiters.iter().map(|(id, _)| *id).filter(&is_misplaced).collect();
        for id in waiters {
            if matches!(self.clients[id].state, ClientState::Waiting { .. }) {
                self.leave_queue(id);
                self.ready.push_back(id);
            }
        }
        for id in logins {
            self.pools[at.0 as usize].welcome_waiters.retain(|waiter| *waiter != id);
            self.put_in_place(id);
            let to = self.clients[id].pool;
            self.pools[to.0 as usize].welcome_waiters.push(id);
            self.welcome_clients(to);
        }
    }

    /// The client's requests go where the snapshot says from now on.
    pub(crate) fn put_in_place(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.is_misplaced = false;
        let identity = Arc::clone(&client.identity);
        if let Some(route) = self.routes.route(&identity.database, &identity.user) {
            let at = self.pool_for(route);
            self.clients[id].pool = at;
            self.check_subscription(id);
        }
    }

    /// Begin to leave: idle clients are told now, the others when their transaction is over.
    pub fn drain(&mut self, now: Time) {
        self.now = now;
        self.shared.draining.store(true, Ordering::Release);
        let ids: Vec<ClientId> = self.clients.keys().collect();
        for id in ids {
            self.leave_if_draining(id);
        }
        let idle: Vec<ServerId> = self
            .servers
            .iter()
            .filter(|(_, server)| matches!(server.state, State::Idle))
            .map(|(id, _)| id)
            .collect();
        for id in idle {
            self.lose_server(id, ServerEnd::Drained);
        }
        self.settle();
    }

    /// While draining, a client with nothing under way is let go.
    pub(crate) fn leave_if_draining(&mut self, id: ClientId) {
        if !self.is_draining() {
            return;
        }
        let Some(client) = self.clients.get(id) else { return };
        let may_leave = match &client.state {
            ClientState::Idle => client.is_quiet(),
            ClientState::Leased(server) => {
                self.servers[*server].is_free() && client.passing == 0 && !client.has_input()
            }
            ClientState::Console { is_busy } => !is_busy,
            ClientState::Raw(_) => true,
            ClientState::Login(_) | ClientState::Welcome(_) => true,
            // What it asks for has not begun.
            ClientState::Waiting { .. } | ClientState::Skipping => true,
        };
        if may_leave {
            let complaint = Complaint::fatal(Code::Shutdown, crate::pool::SHUTTING_DOWN);
            self.end_client(id, ClientEnd::Drained, Some(complaint));
        }
    }
}
