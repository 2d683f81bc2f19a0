//! What time requires: limits that have passed, servers past their age, pools to be kept warm.
//!
//! Looks at queues, servers and logins, never at idle clients one by one unless they have a limit.
//! Called by the worker through `tick`, as often as it likes; returns when it wants to be called next.

use std::sync::atomic::Ordering;

use maitred_wire::effects::Traces;
use maitred_wire::{Code, Complaint};

use crate::action::{ClientEnd, Mail, ServerEnd};
use crate::client::State as ClientState;
use crate::ids::{ClientId, PoolId, ServerId, Time, WorkerId};
use crate::pool::Pool;
use crate::server::State;
use crate::Relay;

/// How often idle clients are looked through, if any has a limit; limits hold to that grain.
const IDLE_ROUND_US: u64 = 1_000_000;

/// How often pools with waiters are looked at anew, against mail that crossed.
const RETRY_ROUND_US: u64 = 50_000;

impl Relay {
    /// Do what is due at `now`; returns the next moment at which something may be due.
    pub fn tick(&mut self, now: Time) -> Time {
        self.now = now;
        let mut next = Time::NEVER;
        next = next.min(self.tick_logins());
        for at in 0..self.pools.len() {
            next = next.min(self.tick_pool(PoolId(at as u32)));
        }
        let ids: Vec<ServerId> = self.servers.keys().collect();
        for id in ids {
            next = next.min(self.tick_server(id));
        }
        next = next.min(self.tick_idle_clients());
        if !self.hubs.is_empty() {
            next = next.min(self.tick_hubs());
        }
        self.give_login_turns();
        if !self.login_queue.is_empty() {
            next = next.min(now + RETRY_ROUND_US);
        }
        self.settle();
        next
    }

    fn tick_logins(&mut self) -> Time {
        let now = self.now;
        let mut next = Time::NEVER;
        for _ in 0..self.logins.len() {
            let Some(id) = self.logins.pop_front() else { break };
            let deadline = match self.clients.get(id).map(|client| &client.state) {
                Some(ClientState::Login(login) | ClientState::Welcome(login)) => login.deadline,
                _ => continue,
            };
            if deadline <= now {
                self.login_timed_out(id);
            } else {
                next = next.min(deadline);
                self.logins.push_back(id);
            }
        }
        next
    }

    fn login_timed_out(&mut self, id: ClientId) {
        let limit_ms = self.routes.snapshot.limits.client_login_timeout_ms;
        let client = &self.clients[id];
        let complaint = if matches!(client.state, ClientState::Welcome(_)) {
            let queue_ms = client.identity.settings.queue_timeout_ms;
            let is_queue = queue_ms > 0 && (limit_ms == 0 || queue_ms <= limit_ms);
            let (limit_ms, setting) = if is_queue {
                (queue_ms, "pool.queue_timeout")
            } else {
                (limit_ms, "limits.client_login_timeout")
            };
            Complaint { fatal: true, ..self.queue_timeout(client.pool, limit_ms, setting) }
        } else {
            Complaint::fatal(
                Code::NotAuthorized,
                format!("login took longer than {} s", limit_ms as f64 / 1e3),
            )
            .hint("finish the login sooner, or raise limits.client_login_timeout")
        };
        self.end_client(id, ClientEnd::LoginTimeout, Some(complaint));
    }

    fn tick_pool(&mut self, at: PoolId) -> Time {
        let now = self.now;
        if self.pools[at.0 as usize].timeout_at <= now {
            self.time_out_waiters(at);
        }
        let mut next = self.pools[at.0 as usize].timeout_at;
        let pool = &self.pools[at.0 as usize];
        let is_wanted = pool.waiting > 0 || !pool.welcome_waiters.is_empty();
        if is_wanted {
            self.welcome_clients(at);
            self.send_away_if_hopeless(at);
            self.want_server(at);
            let pool = &self.pools[at.0 as usize];
            let retry = pool.shared.retry_at().max(pool.shared.rate_at());
            next = next.min(if retry > now { retry } else { now + RETRY_ROUND_US });
        }
        next.min(self.keep_warm(at))
    }

    /// Send those away who have waited longer than they may: the limit is each user's own, so the
    /// whole queue is looked at, though only when somebody's time is up.
    fn time_out_waiters(&mut self, at: PoolId) {
        let now = self.now;
        let mut late = Vec::new();
        let mut timeout_at = Time::NEVER;
        let mut waiters = std::mem::take(&mut self.pools[at.0 as usize].waiters);
        waiters.retain(|(id, since)| {
            let Some(client) = self.clients.get(*id).filter(|client| client.is_waiting_since(*since)) else {
                return false;
            };
            let limit_ms = client.identity.settings.queue_timeout_ms;
            let deadline = since.after_ms(limit_ms);
            if deadline <= now {
                late.push((*id, limit_ms));
                return false;
            }
            timeout_at = timeout_at.min(deadline);
            true
        });
        let pool = &mut self.pools[at.0 as usize];
        (pool.waiters, pool.timeout_at) = (waiters, timeout_at);
        for (id, limit_ms) in late {
            self.pools[at.0 as usize].counters.queue_timeouts += 1;
            let complaint = self.queue_timeout(at, limit_ms, "pool.queue_timeout");
            self.leave_queue(id);
            self.fail_pending(id, complaint);
        }
    }

    /// Open servers up to the minimum, as long as the endpoint serves.
    fn keep_warm(&mut self, at: PoolId) -> Time {
        let pool = &self.pools[at.0 as usize];
        let least = pool.route.settings.min_size.min(pool.route.settings.size);
        if least == 0
            || pool.is_gone
            || pool.is_paused()
            || self.is_draining()
            || pool.shared.servers.used() >= least
        {
            return Time::NEVER;
        }
        self.open_server(at);
        let retry = self.pools[at.0 as usize].shared.retry_at();
        if retry > self.now {
            retry
        } else {
            self.now + RETRY_ROUND_US
        }
    }

    fn tick_server(&mut self, id: ServerId) -> Time {
        let now = self.now;
        let Some(server) = self.servers.get(id) else { return Time::NEVER };
        let settings = &self.pools[server.pool.0 as usize].route.settings;
        match &server.state {
            State::Opening(opening) => {
                let deadline = opening.deadline;
                if deadline <= now {
                    let what = if server.address.is_empty() { "connecting" } else { "logging in" };
                    let cause =
                        format!("{what} took longer than {:.1} s", now.since(opening.started) as f64 / 1e6);
                    self.opening_failed(id, None, cause, false);
                    return Time::NEVER;
                }
                deadline
            }
            State::Idle => {
                let least = settings.min_size;
                let idle_deadline = if server.shared.servers.used() > least {
                    server.idle_since.after_ms(settings.server_idle_timeout_ms)
                } else {
                    Time::NEVER
                };
                let reason =
                    self.reason_to_retire(id).or((idle_deadline <= now).then_some(ServerEnd::IdleTimeout));
                let retire_at = server.retire_at;
                if let Some(reason) = reason {
                    self.lose_server(id, reason);
                    return Time::NEVER;
                }
                idle_deadline.min(retire_at)
            }
            State::Leased(client) => {
                let client = *client;
                self.tick_lease(id, client)
            }
            State::Cleaning { until } => {
                let until = *until;
                if until <= now {
                    self.lose_server(id, ServerEnd::NotCleaned);
                    return Time::NEVER;
                }
                until
            }
            // `tick_hubs` looks after listening servers.
            State::Raw(_) | State::Moving(_) | State::Listening(_) => Time::NEVER,
        }
    }

    /// The limits of a client that holds a server.
    fn tick_lease(&mut self, id: ServerId, client_id: ClientId) -> Time {
        let now = self.now;
        if self.servers[id].pins().has(Traces::ROUTINE) && self.servers[id].is_free() && self.is_wanted(id) {
            self.end_lease_if_over(id);
            return now + RETRY_ROUND_US;
        }
        let server = &self.servers[id];
        let Some(client) = self.clients.get(client_id) else { return Time::NEVER };
        let limits = &client.identity.settings;
        let query = if server.is_working() {
            server.asked_at.after_ms_opt(limits.query_timeout_ms)
        } else {
            Time::NEVER
        };
        let transaction = server.transaction_at.after_ms_opt(limits.transaction_timeout_ms);
        // Half a batch, too, holds a server as a transaction does.
        let is_quiet = !server.is_working() && !server.is_free();
        let idle = if is_quiet {
            server.quiet_since.after_ms(limits.idle_transaction_timeout_ms)
        } else {
            Time::NEVER
        };
        let pinned = if !server.pins().is_empty() && server.is_free() {
            server.quiet_since.after_ms_opt(limits.pin_timeout_ms)
        } else {
            Time::NEVER
        };
        let query_limit_ms = limits.query_timeout_ms;
        let seconds = |ms: u64| ms as f64 / 1e3;
        let (reason, complaint) = if query <= now {
            let text = format!("query took longer than {} s", seconds(limits.query_timeout_ms));
            let complaint = Complaint::error(Code::Cancelled, format!("canceling statement: {text}"))
                .hint("make it shorter, or raise pool.query_timeout");
            (ClientEnd::TransactionTimeout, complaint)
        } else if transaction <= now {
            let text =
                format!("transaction was open for more than {} s", seconds(limits.transaction_timeout_ms));
            let hint = "commit sooner, or raise pool.transaction_timeout";
            (ClientEnd::TransactionTimeout, Complaint::fatal(Code::TransactionTooLong, text).hint(hint))
        } else if idle <= now {
            let text = format!(
                "idle in a transaction for more than {} s",
                seconds(limits.idle_transaction_timeout_ms)
            );
            let hint =
                "commit or roll back before doing something else, or raise pool.idle_transaction_timeout";
            (ClientEnd::TransactionTimeout, Complaint::fatal(Code::IdleInTransaction, text).hint(hint))
        } else if pinned <= now && server.pins() == Traces::SEQUENCES {
            // Why not closed: nobody is told what is not its own, so nothing breaks.
            self.servers[id].trace = None;
            self.end_lease_if_over(id);
            return Time::NEVER;
        } else if pinned <= now && server.pins() == Traces::ROUTINE {
            // Why: there may be nothing that keeps it.
            let trace = self.servers[id].trace.as_mut().expect("it has pins");
            trace.pins = Traces::NONE;
            trace.pending.begins.add(Traces::ROUTINE);
            trace.pending.ends.add(Traces::LOCKS);
            self.end_lease_if_over(id);
            return Time::NEVER;
        } else if pinned <= now {
            let words = server.pins().names().collect::<Vec<_>>().join(", ");
            let text =
                format!("kept a server ({words}) and asked nothing for {} s", seconds(limits.pin_timeout_ms));
            let hint = "release what keeps it (see SHOW PINS) before doing something else, or raise pool.pin_timeout";
            (ClientEnd::PinTimeout, Complaint::fatal(Code::IdleTooLong, text).hint(hint))
        } else {
            return query.min(transaction).min(idle).min(pinned).min(self.look_again(id));
        };
        if complaint.fatal {
            self.end_client(client_id, reason, Some(complaint));
        } else {
            // Why: the database itself ends the query, so the transaction's state stays true; a
            // server that does not obey within the same time again is given up.
            let server = self.servers.get_mut(id).expect("held above");
            server.asked_at = now;
            server.timeouts += 1;
            if server.timeouts > 1 {
                server.farewell = Some(complaint.message);
                self.lose_server(id, ServerEnd::QueryTimeout);
            } else {
                server.time_out = Some(Box::new(complaint));
                let again = now.after_ms(query_limit_ms);
                self.cancel_server(id);
                return again;
            }
        }
        Time::NEVER
    }

    fn tick_idle_clients(&mut self) -> Time {
        let now = self.now;
        let has_limits = self
            .identities
            .values()
            .flat_map(|users| users.values())
            .any(|i| i.settings.client_idle_timeout_ms > 0);
        if !has_limits {
            return Time::NEVER;
        }
        if self.idle_round_at > now {
            return self.idle_round_at;
        }
        self.idle_round_at = now + IDLE_ROUND_US;
        let late: Vec<(ClientId, u64)> = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_quiet())
            .filter_map(|(id, client)| {
                let limit_ms = client.identity.settings.client_idle_timeout_ms;
                (client.idle_since.after_ms(limit_ms) <= now).then_some((id, limit_ms))
            })
            .collect();
        for (id, limit_ms) in late {
            let complaint = Complaint::fatal(
                Code::IdleTooLong,
                format!("client was idle for more than {} s", limit_ms as f64 / 1e3),
            )
            .hint(
                "raise pool.client_idle_timeout, or let the application's pool close idle connections first",
            );
            self.end_client(id, ClientEnd::IdleTimeout, Some(complaint));
        }
        self.idle_round_at
    }

    /// The client of server `id` wants nobody else in `database` of its endpoint: we leave, at once where
    /// we are idle and else when the lease ends.
    ///
    /// Spec: PostgreSQL waits up to five seconds for others to leave.
    pub(crate) fn vacate(&mut self, id: ServerId, database: &str) {
        let endpoint = self.servers[id].shared.key.endpoint.clone();
        for worker in 0..self.shared.workers as u16 {
            let mail = Mail::Vacate { endpoint: endpoint.clone(), database: database.to_owned() };
            self.post(WorkerId(worker), mail);
        }
    }

    /// Close what is idle in `database` of `endpoint`, and the rest as soon as it is free.
    pub(crate) fn leave_database(&mut self, endpoint: &str, database: &str) {
        let now = self.now;
        let is_there =
            |pool: &Pool| pool.shared.key.endpoint == endpoint && pool.route.remote_database == database;
        let pools: Vec<&Pool> = self.pools.iter().filter(|pool| is_there(pool)).collect();
        for pool in &pools {
            // Why: a server may be asked at this moment what a client that has just left has left behind.
            pool.shared.vacated_before.store(now.0, Ordering::Release);
        }
        for id in pools.iter().flat_map(|pool| pool.idle.clone()).collect::<Vec<_>>() {
            self.lose_server(id, ServerEnd::Vacated);
        }
        if let Some(id) = self.unused_hub(endpoint, database) {
            self.lose_server(id, ServerEnd::Vacated);
        }
    }

    /// Why a free server should not be lent again; None: it is good.
    pub(crate) fn reason_to_retire(&self, id: ServerId) -> Option<ServerEnd> {
        let server = &self.servers[id];
        let shared = &server.shared;
        if self.is_draining() {
            return Some(ServerEnd::Drained);
        }
        if server.retire_at <= self.now {
            return Some(ServerEnd::Lifetime);
        }
        let is_gone = self.pools[server.pool.0 as usize].is_gone;
        if is_gone || server.opened_at.0 < shared.stale_before.load(Ordering::Acquire) {
            return Some(ServerEnd::Reconfigured);
        }
        if server.opened_at.0 < shared.vacated_before.load(Ordering::Acquire) {
            return Some(ServerEnd::Vacated);
        }
        let settings = &self.pools[server.pool.0 as usize].route.settings;
        let most = shared.servers.limit() + settings.reserve_size;
        let is_over = shared.servers.limit() > 0 && shared.servers.used() > most;
        is_over.then_some(ServerEnd::Reconfigured)
    }
}

impl Time {
    /// As `after_ms`, from a moment that may be "never".
    fn after_ms_opt(self, ms: u64) -> Time {
        if self == Time::NEVER {
            Time::NEVER
        } else {
            self.after_ms(ms)
        }
    }
}
