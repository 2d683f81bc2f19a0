//! A client leaves, for whatever reason: what it held is freed, and its server made clean.
//!
//! Closes no socket; it returns the action. Called by `client`, `login`, `upkeep` and `drain`.

use maitred_wire::effects::Traces;
use maitred_wire::Complaint;

use crate::action::{Action, ClientEnd, ServerEnd};
use crate::client::State;
use crate::ids::{ClientId, ServerId, Time};
use crate::server;
use crate::things::Unexplained;
use crate::Relay;

impl Relay {
    /// The socket of a client ended.
    pub fn client_closed(&mut self, now: Time, id: ClientId) {
        self.now = now;
        self.end_client(id, ClientEnd::Vanished, None);
        self.settle();
    }

    /// Close a client for `reason`, with a last word if there is one, and free what it held.
    pub(crate) fn end_client(&mut self, id: ClientId, reason: ClientEnd, complaint: Option<Complaint>) {
        let Some(mut client) = self.clients.remove(id) else { return };
        let mut last_words = std::mem::take(&mut client.output);
        if let (State::Leased(server), Some(agreed)) = (&client.state, &mut client.agreed) {
            agreed.sequence = self.servers[*server].next_sequence_shown();
        }
        // Why: half a message cannot be taken back, and what stood behind it would be its other half.
        let is_cut = client.is_sending_in_vain()
            || matches!(&client.state, State::Leased(server)
                if self.servers[*server].is_message_cut() || self.servers[*server].is_taking_file());
        if let Some(complaint) = complaint.filter(|_| !is_cut) {
            client.dialect.say_error(&mut last_words, &complaint, client.voice());
        }
        match client.state {
            State::Waiting { .. } => {
                self.pools[client.pool.0 as usize].waiting -= 1;
                self.publish_share(client.pool);
            }
            State::Leased(server) => self.abandon(server, client.is_mid_message()),
            State::Raw(server) => self.lose_server(server, ServerEnd::ClientLeft),
            State::Welcome(_) => {
                self.pools[client.pool.0 as usize].welcome_waiters.retain(|waiter| *waiter != id);
            }
            _ => {}
        }
        self.note_client_end(id, &client, reason);
        self.forget_subscription(id, client.pool, client.subscription.take());
        drop(client.permit);
        self.actions.push(Action::CloseClient { client: id, last_words });
    }

    /// The client of a leased server is gone: stop what runs, then make the server clean.
    pub(crate) fn abandon(&mut self, id: ServerId, is_cut: bool) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        let mode = self.pools[server.pool.0 as usize].mode();
        server.must_reset |= mode == crate::snapshot::PoolMode::Session;
        server.stop_recording();
        server.is_promised = false;
        let unexplained = std::mem::take(&mut server.unexplained);
        server.must_reset |= unexplained != Unexplained::Nothing;
        if server.is_paused {
            server.is_paused = false;
            self.actions.push(Action::ResumeServer(id));
        }
        server.must_reset |= server.wrong_modes().is_some();
        let is_undone = self.forget_trace(id);
        let server = &mut self.servers[id];
        if !server.held.is_empty() {
            server.held.clear();
            server.must_reset = true;
        }
        // Why: a file that was asked for would have to be ended in its own words.
        let is_cut = is_cut || server.dialect.takes_turns() && server.copy.is_some();
        if is_cut || !is_undone {
            // Half a message has been sent: no request can follow it. Or something was loaded that stays.
            server.state = server::State::Cleaning { until: now };
            self.lose_server(id, ServerEnd::ClientLeft);
            return;
        }
        server.state = server::State::Cleaning { until: now.after_ms(crate::cleaning::CLEANING_MS) };
        if unexplained == Unexplained::Failure {
            // Why: it may be in another schema, where a new session in the same connection would begin.
            server.ask_for_untold(now);
        }
        // What was forwarded in the same breath as its client's last mistake is on its way, too.
        self.flush_server(id);
        let server = &self.servers[id];
        let is_running = server.is_awaited() && server.copy != Some(maitred_wire::CopyDirection::In);
        if is_running {
            self.cancel_server(id);
        }
        if self.servers[id].is_free() {
            self.release(id);
        } else {
            self.clean(id);
        }
    }

    /// A client leaves a server with traces: they are gone before anybody else gets it.
    /// False: they cannot be undone.
    pub(crate) fn forget_trace(&mut self, id: ServerId) -> bool {
        let server = &mut self.servers[id];
        let Some(trace) = server.trace.take() else { return true };
        let mut left = trace.pins;
        left.add(trace.pending.begins);
        let pending = &trace.pending;
        let is_touched = trace.asked.is_some() || !pending.settings.is_empty() || !pending.blinds.is_empty();
        server.must_reset |= is_touched || !left.without(Traces::PRIVATE).is_empty();
        left.without(server.dialect.undone()).is_empty()
    }
}
