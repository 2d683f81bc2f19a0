//! Clients choose what they are told of their sessions; their servers go on to tell us everything (MySQL).
//!
//! A choice is made in a client's own words, on its server; behind them the server is asked what it is and told again
//! to tell all. Decides nothing about leases. Called by `server` for answers, by `trace` for what was asked.

use maitred_wire::dialect::Explained;

use crate::ids::{ClientId, ServerId};
use crate::server::State;
use crate::trace::Asked;
use crate::Relay;

/// A choice that was made, and is being asked for.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// The settings that were named.
    names: Vec<Box<str>>,
    /// What the server answered.
    pub row: Option<Box<[u8]>>,
    may_have_failed: bool,
}

impl Relay {
    /// A client may have chosen what its session tells.
    ///
    /// Why at once, in a transaction too: until it is told again, the server does not say what changes.
    pub(crate) fn ask_for_choice(&mut self, id: ServerId) {
        let now = self.now;
        let Some(server) = self.servers.get(id) else { return };
        if !server.owed.is_empty() || !matches!(server.state, State::Leased(_)) || server.is_questioned() {
            return;
        }
        if server.trace.as_ref().is_none_or(|trace| trace.pending.blinds.is_empty()) {
            return;
        }
        if self.must_tell(id) {
            // And then this, once it has told.
            self.ask_what_went_wrong(id);
            return;
        }
        let server = &mut self.servers[id];
        let (dialect, client) = (server.dialect, server.client());
        let trace = server.trace.as_mut().expect("looked at above");
        let names = std::mem::take(&mut trace.pending.blinds);
        let choice = Choice { names, row: None, may_have_failed: trace.has_statement_failed };
        trace.asked = Some(Asked { choice: Some(choice), ..Asked::default() });
        server.explaining = Explained::ALL;
        dialect.write_choice_question(&mut server.output);
        server.owe_hidden(now);
        server.ask_for_untold(now);
        self.disturb(client);
        self.flush_server(id);
    }

    /// The server has answered; `is_void`: it was kept from it.
    pub(crate) fn keep_choice(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        choice: Choice,
        is_void: bool,
    ) {
        let now = self.now;
        if is_void {
            self.servers[id].trace_mut(now).pending.blinds = choice.names;
            return;
        }
        let agreed = client.and_then(|client| self.clients.get_mut(client)?.agreed.as_mut());
        if let (Some(agreed), Some(row)) = (agreed, choice.row) {
            agreed.tracking.read(&row, &choice.names, choice.may_have_failed);
        }
    }
}
