//! Connecting or logging in to a database did not work: whom that concerns, and what they are told.
//!
//! Opens nothing itself. Called by `open` and `upkeep`, by `server` when a socket ends during its login.

use std::sync::Arc;

use maitred_wire::{Code, Complaint};

use crate::action::{Action, ClientEnd, Event, ServerEnd};
use crate::budget::{DatabaseCode, Trouble};
use crate::ids::{PoolId, ServerId, Time};
use crate::open::Purpose;
use crate::server::State;
use crate::snapshot::SslMode;
use crate::Relay;

impl Relay {
    /// Connecting or logging in did not work.
    pub(crate) fn opening_failed(
        &mut self,
        id: ServerId,
        code: Option<DatabaseCode>,
        cause: String,
        is_refusal: bool,
    ) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        let State::Opening(opening) = &server.state else { return };
        let only_for = match &opening.purpose {
            Purpose::Exclusive(wish) => Some(wish.client),
            Purpose::Pool | Purpose::Hub(_) | Purpose::Kill(_) => None,
        };
        let is_pools = matches!(opening.purpose, Purpose::Pool);
        let is_extra = !opening.purpose.is_in_pool();
        let shared = Arc::clone(&server.shared);
        let at = server.pool;
        let lasting = code.is_some_and(is_lasting);
        let is_plain = !server.tls;
        let route = &self.pools[at.0 as usize].route;
        if lasting && is_plain && is_pools && route.endpoint.tls.mode == SslMode::Allow && !shared.wants_tls()
        {
            // Spec: libpq's sslmode=allow: clear text first, TLS when that is refused.
            shared.set_wants_tls();
            self.lose_server(id, ServerEnd::LoginFailed);
            return;
        }
        let settings = &route.settings;
        let (first, most) = (settings.login_retry_ms, settings.login_retry_max_ms);
        let dice = self.dice.roll(u64::MAX);
        if lasting {
            shared.set_salted(None);
        }
        let cause = if is_refusal { format!("the database refuses: {cause}") } else { cause };
        let trouble = Trouble { cause: cause.clone(), code, at: now, lasting };
        if let Some(client) = only_for {
            self.lose_server(id, ServerEnd::LoginFailed);
            let complaint = with_code(Complaint::fatal(Code::ServerUnreachable, cause), code);
            self.end_client(client, ClientEnd::ServerLost, Some(complaint));
            return;
        }
        if is_extra {
            self.lose_server(id, ServerEnd::LoginFailed);
            return;
        }
        // Invariant: the failure is noted before the turn to open is given up, or the next attempt
        // would not wait.
        let retry_ms = shared.note_failure(now, trouble, first, most, dice);
        self.actions.push(Action::Tell(Event::ServerFailed {
            endpoint: shared.key.endpoint.clone(),
            database: shared.key.database.clone(),
            user: shared.key.user.clone(),
            cause,
            retry_ms,
        }));
        self.lose_server(id, ServerEnd::LoginFailed);
        self.nudge_others(at);
        self.send_away_if_hopeless(at);
    }

    /// If waiting will not help, tell those who wait what is wrong.
    pub(crate) fn send_away_if_hopeless(&mut self, at: PoolId) {
        if self.down_complaint(at, Time(0)).is_none() {
            return;
        }
        for client in std::mem::take(&mut self.pools[at.0 as usize].welcome_waiters) {
            let since = self.clients.get(client).map_or(Time(0), |client| client.asked_at);
            match self.down_complaint(at, since) {
                None => self.pools[at.0 as usize].welcome_waiters.push(client),
                Some(complaint) => {
                    let complaint = Complaint { fatal: true, ..complaint };
                    self.end_client(client, ClientEnd::ServerLost, Some(complaint));
                }
            }
        }
        let waiters = std::mem::take(&mut self.pools[at.0 as usize].waiters);
        for (client, since) in waiters {
            if !self.clients.get(client).is_some_and(|client| client.is_waiting_since(since)) {
                continue;
            }
            match self.down_complaint(at, since) {
                None => self.pools[at.0 as usize].waiters.push_back((client, since)),
                Some(complaint) => {
                    self.leave_queue(client);
                    self.fail_pending(client, complaint);
                }
            }
        }
        self.publish_share(at);
    }

    /// Why no server can be had, with the counts of this moment.
    pub(crate) fn unreachable(&self, at: PoolId) -> Complaint {
        let pool = &self.pools[at.0 as usize];
        let trouble = pool.shared.trouble().unwrap_or_default();
        let complaint = Complaint::error(
            Code::ServerUnreachable,
            format!(
                "no connection to database \"{}\" at {}: {}",
                pool.route.key.database, pool.route.key.endpoint, trouble.cause
            ),
        )
        .detail(format!(
            "last tried {:.1} s ago; {}",
            self.now.since(trouble.at) as f64 / 1e6,
            self.counts(at)
        ));
        with_code(complaint, trouble.code)
    }
}

/// SQLSTATEs at login that a later try will meet again.
///
/// Spec: PostgreSQL, appendix A: class 28 (authorization), 3D000 (no such database), 42501.
///
/// Spec: MySQL and MariaDB "Error Reference": access denied, unknown database, a method that we lack.
fn is_lasting((state, number): DatabaseCode) -> bool {
    const NUMBERS: [u16; 6] = [1044, 1045, 1049, 1251, 1275, 1698];
    state.starts_with(b"28")
        || &state == b"3D000"
        || &state == b"42501"
        || number.is_some_and(|number| NUMBERS.contains(&number))
}

/// A complaint with the database's own code.
fn with_code(complaint: Complaint, code: Option<DatabaseCode>) -> Complaint {
    Complaint {
        sqlstate: code.map(|(state, _)| state),
        number: code.and_then(|(_, number)| number),
        ..complaint
    }
}
