//! What a server's errors, settings and `Ready` mean beyond being passed on.
//!
//! Passes no bytes on itself. Called by `server` while it reads a server's messages.

use maitred_wire::{Code, Complaint, Fault, Transaction};

use crate::action::{ClientEnd, ServerEnd};
use crate::answers::{Answer, Unit};
use crate::ids::{ClientId, ServerId, Time};
use crate::server;
use crate::snapshot::PoolMode;
use crate::Relay;

/// What one server message did beyond being passed on.
pub(crate) enum Aftermath {
    None,
    /// A unit of work ended; whether its client waited for it.
    Ready(bool),
    Lost(Fault),
    Ended(ServerEnd),
}

impl Relay {
    /// An error: whose it is, and what it makes void.
    pub(crate) fn note_failure(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        here: &[u8],
    ) -> (bool, Aftermath) {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let error = server.dialect.error_of(here);
        if error.is_fatal {
            // Why not at its close, which comes next: until then it might be lent.
            server.farewell = Some(error.message);
            server.farewell_state = Some(error.sqlstate);
            return (false, Aftermath::Ended(ServerEnd::ClosedByPeer));
        }
        if server.owed.is_empty() {
            return (false, Aftermath::Lost(Fault("an error that answers nothing")));
        }
        if server.is_adjusting() {
            return (false, self.adjusting_failed(id, client, error));
        }
        let at_fault = server.owed.front().map(|owed| owed.answer);
        let is_own = server.owed.front().is_some_and(|owed| !owed.shown);
        if is_own && server.is_questioned() {
            if error.is_cancelled {
                server.note_cancelled_question();
                server.settle_failure();
            } else {
                self.lose_with_state(id, client, &error.message);
            }
            return (false, Aftermath::None);
        }
        if is_own && at_fault == Some(Answer::Ready(Unit::Query)) {
            // A statement that was to make it clean.
            server.farewell = Some(error.message);
            return (false, Aftermath::Ended(ServerEnd::NotCleaned));
        }
        if let (Some(Answer::Bound(Some(key)) | Answer::Described(_, Some(key))), true) =
            (at_fault, error.is_stale())
        {
            server.statements.remove(key);
            server.stale.push(key);
            let knows_columns = client
                .and_then(|client| self.clients.get(client)?.statements.as_ref())
                .is_some_and(|statements| statements.described.contains(&key));
            if self.heal(id, key, error.is_missing || !knows_columns) {
                return (false, Aftermath::None);
            }
        }
        let server = self.servers.get_mut(id).expect("the caller holds it");
        server.stop_recording();
        server.note_failed_text(false);
        let refusal = server.refusals.front().cloned();
        let skipped = server.settle_failure();
        let mut shown = skipped.shown;
        let own_words = match at_fault {
            Some(Answer::Refused) => refusal,
            _ if error.is_cancelled => server.time_out.take(),
            _ => None,
        };
        if own_words.is_some() {
            shown = false;
            let complaint = own_words;
            let dialect = server.dialect;
            if let (Some(client), Some(complaint)) = (client, complaint) {
                let voice = self.voice(client);
                self.say(client, |out| dialect.say_error(out, &complaint, voice));
            }
        }
        if let Some(client) = client.and_then(|client| self.clients.get_mut(client)) {
            client.undo(skipped);
        }
        (shown, Aftermath::None)
    }

    /// A setting changed: it is the client's from now on, and the server's. `is_adjusting`: we had it so.
    pub(crate) fn note_setting(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        name: &[u8],
        value: &[u8],
        is_adjusting: bool,
    ) -> bool {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return false;
        };
        if server.dialect.is_identity(name) {
            // What the database says of itself: for the client to know, for nobody to set.
            return client.is_some() && !is_adjusting;
        }
        let fresh = server.shared.welcome();
        let is_default = fresh.is_some_and(|fresh| fresh.settings.value(name) == Some(value));
        let mut settings = (*server.settings).clone();
        let mut changed = if is_default { settings.remove(name) } else { settings.set(name, value) };
        let limits = &self.pools[server.pool.0 as usize].route.settings;
        let is_excess = changed
            && !is_default
            && !is_adjusting
            && limits.mode != PoolMode::Session
            && !settings.set_within(name, value, limits.client_state_bytes);
        if changed {
            server.settings = self.settings.intern(settings);
        }
        if server.is_discarded {
            return false;
        }
        let Some(client) = client.and_then(|client| self.clients.get_mut(client)) else { return false };
        if is_adjusting && client.settings.value(name) == Some(value) {
            return false;
        }
        let is_back = is_default && !is_adjusting && server.is_resetting(name);
        let own = client.own_settings.value(name).filter(|_| is_back).map(str::to_owned);
        if is_adjusting
            && client.own_settings.value(name).is_some_and(|own| client.settings.value(name) == Some(own))
        {
            // The database's own spelling of what its client began with.
            let mut settings = (*client.own_settings).clone();
            let _ = if is_default { settings.remove(name) } else { settings.set(name, value) };
            client.own_settings = self.settings.intern(settings);
        }
        let mut settings = (*client.settings).clone();
        changed = match &own {
            Some(own) => settings.set(name, own),
            None if is_default || is_excess => settings.remove(name),
            None => settings.set(name, value),
        };
        if changed {
            client.settings = self.settings.intern(settings);
        }
        if let (Some(own), dialect) = (own, server.dialect) {
            // Spec: RESET returns to what the session began with; for the client that is its own.
            let (id, name) = (server.client().expect("it has one"), name.to_owned());
            self.say(id, |out| dialect.say_setting(out, &name, &own));
            return false;
        }
        if is_excess {
            self.keep_excess(id);
        }
        changed || !is_adjusting
    }

    /// A unit of work ended.
    pub(crate) fn note_ready(&mut self, id: ServerId, client: Option<ClientId>, shown: bool) {
        let now = self.now;
        let server = self.servers.get_mut(id).expect("the caller holds it");
        if !server.owed.is_empty() {
            // Why: in a pipeline the next unit begins when the one before it has ended.
            server.asked_at = now;
        }
        if server.settled.is_some_and(|owed| owed.adjusts) {
            return;
        }
        if server.is_questioned() {
            self.note_answered(id, client);
            return;
        }
        if let server::State::Listening(key) = &server.state {
            let key = std::sync::Arc::clone(key);
            self.hub_ready(&key);
            return;
        }
        server.quiet_since = now;
        server.is_discarded = false;
        server.timeouts = 0;
        server.time_out = None;
        if let Some(client) = client.filter(|_| shown || !server.dialect.takes_turns()) {
            self.count_unit(id, client);
        }
        let server = self.servers.get_mut(id).expect("the caller holds it");
        match server.transaction {
            Transaction::None => {
                server.transaction_at = Time::NEVER;
                // Why again: what others prepared meanwhile was understood as of before the commit.
                if std::mem::take(&mut server.has_defined) {
                    server.shared.definitions.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
                }
            }
            _ if server.transaction_at == Time::NEVER => server.transaction_at = now,
            _ => {}
        }
        if let (Some(client), true) = (client, self.is_forbidden_block(id)) {
            let complaint =
                Complaint::fatal(Code::Unsupported, "transaction blocks are not allowed in statement mode")
                    .hint("use pool.mode = \"transaction\" for this database or user");
            self.end_client(client, ClientEnd::TransactionInStatementMode, Some(complaint));
        }
    }

    /// Has the client opened a transaction block where statements alone are served?
    pub(crate) fn is_forbidden_block(&self, id: ServerId) -> bool {
        let server = &self.servers[id];
        server.transaction != Transaction::None
            && self.pools[server.pool.0 as usize].mode() == PoolMode::Statement
    }
}
