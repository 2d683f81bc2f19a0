//! A server that has no client any more is made clean for the next, step by step.
//!
//! Lends nothing. Called by `pool` when a lease is over, by `server` as the answers come, by `departure`.

use std::sync::Arc;

use maitred_wire::dialect::Explained;
use maitred_wire::Transaction;

use crate::action::ServerEnd;
use crate::answers::{Answer, Unit};
use crate::ids::{ServerId, Time};
use crate::server::{self, Server};
use crate::session_state::Settings;
use crate::snapshot::PoolMode;
use crate::things::{schema_under, Unexplained, SCHEMA};
use crate::Relay;

/// What stands in `reset_query` for a new session in the same connection.
const RENEWAL: &str = "RESET CONNECTION";

/// How long a server may take to become clean after its client left. Origin: PgBouncer's
/// `cancel_wait_timeout`.
pub(crate) const CLEANING_MS: u64 = 10_000;

impl Relay {
    /// Make a server clean step by step; closed if its time runs out (`tick`).
    pub(crate) fn clean(&mut self, id: ServerId) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        let server::State::Cleaning { .. } = server.state else { return };
        if server.passing > 0 || !server.input.is_empty() {
            return;
        }
        if server.kills.is_some() {
            if server.owed.is_empty() {
                self.lose_server(id, ServerEnd::Spent);
            }
            return;
        }
        let dialect = server.dialect;
        if server.is_taking_file() {
            // Why: there are no words for "never mind", and an empty file would be loaded.
            self.lose_server(id, ServerEnd::ClientLeft);
            return;
        }
        if server.copy == Some(maitred_wire::CopyDirection::In) && !server.copy_failed {
            dialect.write_copy_fail(&mut server.output, "the client left");
            server.copy_failed = true;
            self.flush_server(id);
            return;
        }
        if server.unsynced > 0 || server.skipping {
            dialect.write_sync(&mut server.output);
            server.unsynced = 0;
            server.skipping = false;
            server.owe(Answer::Ready(Unit::Sync), false, now);
            self.flush_server(id);
            return;
        }
        if server.is_cancelling {
            return;
        }
        if let Some(owed) = server.owed.front() {
            // Why: of a pipeline a cancel stops one unit; the next has begun since and wants its own.
            if owed.shown && server.asked_at > server.cancelled_at && server.asked_at != Time::NEVER {
                self.cancel_server(id);
            }
            return;
        }
        if server.must_reset && dialect.takes_turns() {
            let settings = &self.pools[server.pool.0 as usize].route.settings;
            // Why that text: no statement does it, and configurations say it so.
            if settings.mode != PoolMode::Session || settings.reset_query == RENEWAL {
                self.renew_session(id);
                return;
            }
        }
        let step = if server.transaction != Transaction::None {
            Some("ROLLBACK".to_owned())
        } else if server.must_reset {
            server.must_reset = false;
            let settings = &self.pools[server.pool.0 as usize].route.settings;
            // Why: `reset_query` says how sessions end; what a pin left must be gone whatever it says.
            let is_session = settings.mode == PoolMode::Session;
            let reset = if is_session { &settings.reset_query } else { dialect.reset_text() };
            (!reset.is_empty()).then(|| reset.to_owned())
        } else {
            None
        };
        let server = self.servers.get_mut(id).expect("held above");
        // Why: what these change is none of the next client's doing.
        server.explaining = Explained::ALL;
        if let Some(sql) = step {
            dialect.write_query(&mut server.output, &sql);
            server.statements.unnamed = None;
            server.owe_hidden(now);
            self.flush_server(id);
        } else if server.must_probe {
            // Why: a cancel that the database delivered late hits this round trip and nobody's query.
            server.must_probe = false;
            dialect.write_sync(&mut server.output);
            server.owe(Answer::Ready(Unit::Sync), false, now);
            self.flush_server(id);
        } else {
            self.release(id);
        }
    }

    /// Have a server begin a new session in the same connection.
    fn renew_session(&mut self, id: ServerId) {
        self.servers[id].must_reset = false;
        self.write_renewal(id, Server::owe_hidden);
        self.flush_server(id);
    }

    /// Write what makes a new session in the same connection; each request is owed by `owe`.
    fn write_renewal(&mut self, id: ServerId, owe: fn(&mut Server, Time)) {
        let now = self.now;
        let server = &mut self.servers[id];
        // Why: it says that its settings changed, which nobody asked for but us.
        server.explaining = Explained::ALL;
        let parameters = &self.pools[server.pool.0 as usize].route.parameters;
        let mut requests = server.dialect.write_renewal(&mut server.output, parameters).unwrap_or_default();
        let fresh = server.shared.welcome();
        // Why though it is still there: MySQL 9.7 forgets its character set.
        if let Some(schema) = schema_under(&server.settings, fresh.as_deref()) {
            requests += server.dialect.write_settings(&mut server.output, &[(SCHEMA, Some(schema))]);
        }
        for _ in 0..requests {
            owe(server, now);
        }
        server.forget_numbers();
        server.unexplained = Unexplained::Nothing;
        let mut settings = Settings::default();
        for name in server.dialect.lasting_settings() {
            if let Some(value) = server.settings.value(name) {
                settings.set(name, value);
            }
        }
        self.servers[id].settings = self.settings.intern(settings);
    }

    /// Have a server begin a new session, hidden, with the settings that it has now.
    pub(crate) fn begin_anew(&mut self, id: ServerId) {
        let wanted = Arc::clone(&self.servers[id].settings);
        self.write_renewal(id, Server::owe_adjustment);
        let there = Arc::clone(&self.servers[id].settings);
        self.write_change(id, &there, &wanted);
        self.servers[id].settings = wanted;
    }
}
