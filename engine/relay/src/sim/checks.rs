//! What must hold between any two calls of a relay, and when everybody has left.
//!
//! Looks inside, changes nothing. Called by `World` after each step.

use crate::sim::World;
use crate::Relay;

impl World {
    /// Places taken and servers that exist are the same number, and no limit is passed.
    pub(super) fn check_counts(&self) {
        let here: usize = self.desks.iter().map(|desk| desk.relay.server_count()).sum();
        assert_eq!(
            self.shared.servers.used() as usize,
            here + self.travelling,
            "places taken in limits.servers"
        );
        for budget in [&self.shared.servers, &self.shared.clients, &self.shared.logins] {
            assert!(budget.limit() == 0 || budget.used() <= budget.limit(), "{} is over", budget.setting);
        }
        for desk in &self.desks {
            desk.relay.check(self.relaxed);
            let lent_to_nobody = desk.relay.pools.iter().flat_map(|pool| &pool.idle);
            for line in lent_to_nobody.filter_map(|server| desk.servers.get(server)) {
                let Some(session) = &self.lines[*line].mysql else { continue };
                let left = session.leftovers();
                assert!(left.is_empty() && !session.has_kept_values(), "a free server has {left:?}");
            }
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
}

/// Looks inside that only tests need.
impl Relay {
    /// Invariants that hold between any two calls.
    fn check(&self, is_relaxed: bool) {
        for (at, pool) in self.pools.iter().enumerate() {
            let most = pool.shared.servers.limit() + pool.route.settings.reserve_size;
            let used = pool.shared.servers.used();
            assert!(
                is_relaxed || pool.shared.servers.limit() == 0 || used <= most,
                "{used} of {most} servers in a pool"
            );
            let waiting = self
                .clients
                .values()
                .filter(|client| {
                    client.pool.0 as usize == at
                        && matches!(client.state, crate::client::State::Waiting { .. })
                })
                .count();
            assert_eq!(pool.waiting as usize, waiting, "waiters counted");
            let is_here = |server: &&crate::server::Server| {
                server.pool.0 as usize == at && server.state.hub().is_none() && server.kills.is_none()
            };
            let servers = self.servers.values().filter(is_here).count();
            assert_eq!(pool.servers as usize, servers, "servers counted");
            for id in &pool.idle {
                let server = &self.servers[*id];
                assert!(matches!(server.state, crate::server::State::Idle), "idle and {:?}", server.state);
                assert!(
                    server.is_free() && !server.is_cancelling && !server.must_probe && !server.is_paused,
                    "idle and not free"
                );
            }
        }
        for (id, server) in &self.servers {
            if let crate::server::State::Leased(client) = server.state {
                let client = self.clients.get(client).expect("a lease has its client");
                assert!(
                    matches!(client.state, crate::client::State::Leased(of) if of == id),
                    "a lease that one side ended"
                );
            }
        }
        for (id, client) in &self.clients {
            if let crate::client::State::Leased(server) = client.state {
                let server = self.servers.get(server).expect("a lease has its server");
                assert!(
                    matches!(server.state, crate::server::State::Leased(of) if of == id),
                    "a lease that one side ended"
                );
            }
        }
        assert!(self.ready.is_empty(), "somebody was left who could go on");
    }

    /// No client is here: every server is idle and clean.
    fn check_quiet(&self) {
        for server in self.servers.values() {
            assert!(
                matches!(server.state, crate::server::State::Idle | crate::server::State::Listening(_)),
                "a server is left {:?}",
                server.state
            );
            assert!(
                server.owed.is_empty() && server.input.is_empty() && server.output.is_empty(),
                "bytes are left"
            );
            assert!(
                server.is_free() && server.pending_names.is_empty() && server.in_flight == 0,
                "something is left"
            );
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
