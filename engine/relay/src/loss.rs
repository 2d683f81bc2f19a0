//! What the loss of a server means to its client, and the errors that say why there is none.
//!
//! Nothing is silent: each unit of work that was sent gets an error and its end. Called by `server`
//! when a socket ends or is doubted, by `pool`, `open` and `upkeep` for the texts.

use std::sync::Arc;

use maitred_wire::{Code, Complaint, Transaction};

use crate::action::{Action, ClientEnd, Event, ServerEnd};
use crate::answers::Answer;
use crate::client::{Client, State as ClientState};
use crate::ids::{ClientId, PoolId, ServerId, Time};
use crate::open::Purpose;
use crate::server::{Held, Server, State};
use crate::snapshot::PoolMode;
use crate::Relay;

/// How much of a statement is kept for the slow-query report.
const TEXT_KEPT: usize = 2048;

impl Relay {
    /// Close a server for `reason`: its places are free, its client is told what it lost.
    pub(crate) fn lose_server(&mut self, id: ServerId, reason: ServerEnd) {
        let Some(mut server) = self.servers.remove(id) else { return };
        let at = server.pool;
        let shared = Arc::clone(&server.shared);
        let was = std::mem::replace(&mut server.state, State::Idle);
        let hub = was.hub().cloned();
        self.pools[at.0 as usize].servers -= u32::from(hub.is_none() && server.kills.is_none());
        let mut last_words = Vec::new();
        let is_cut = match was {
            State::Leased(client) => self.clients.get(client).is_some_and(Client::is_mid_message),
            _ => reason == ServerEnd::ClientLeft,
        };
        // In the middle of a file it would be part of that.
        let is_cut = is_cut || server.dialect.takes_turns() && server.copy.is_some();
        let is_deaf = matches!(reason, ServerEnd::ClosedByPeer | ServerEnd::LoginFailed);
        // Why: behind half a message a goodbye would be its other half, and what the database then
        // read as a whole would be carried out.
        let is_cut = is_cut || server.is_taking_file();
        if !is_deaf && !is_cut && server.output.is_empty() {
            server.dialect.write_quit(&mut last_words);
        }
        *self.counters.server_ends.entry(reason.name()).or_default() += 1;
        self.actions.push(Action::CloseServer { server: id, last_words });
        let is_opening = matches!(was, State::Opening(_));
        if !is_opening {
            self.actions.push(Action::Tell(Event::ServerClosed {
                server: crate::public_server_id(self.worker, id),
                endpoint: shared.key.endpoint.clone(),
                database: shared.key.database.clone(),
                user: shared.key.user.clone(),
                reason: reason.name(),
                detail: server.farewell.clone().unwrap_or_default(),
            }));
        }
        for (from, requester) in std::mem::take(&mut server.cancel_waiters) {
            self.cancel_answered(from, requester);
        }
        server.permit = Default::default();
        self.shared.forget_notifier(&shared.key.endpoint, server.key.pid);
        match was {
            State::Opening(opening) if matches!(opening.purpose, Purpose::Pool) => shared.end_opening(),
            State::Idle => self.pools[at.0 as usize].idle.retain(|idle| *idle != id),
            State::Leased(client) => self.tell_loss(client, &server),
            State::Raw(client) => self.end_client(client, ClientEnd::ServerLost, None),
            _ => {}
        }
        match hub {
            Some(key) if is_opening => self.hub_not_opened(&key),
            Some(key) => self.hub_lost(&key, server.farewell.as_deref().unwrap_or(reason.name())),
            None => {}
        }
        if let Some(target) = server.kills {
            self.kill_over(target);
        }
        self.publish_share(at);
        self.want_server(at);
    }

    /// As `lose_server`, whatever state it is in, by an operator's wish.
    pub(crate) fn close_server(&mut self, id: ServerId, reason: ServerEnd) {
        self.lose_server(id, reason);
    }

    /// The client's server is gone: answer what was sent, remember what cannot be answered yet.
    fn tell_loss(&mut self, id: ClientId, server: &Server) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let cause = server.farewell.clone().unwrap_or_else(|| "it closed the connection".to_owned());
        // Why the database's own code: applications look for it, whoever passes it on.
        let complaint = Complaint {
            // Why not where there are numbers: drivers know by ours that the query may have been run.
            sqlstate: server.farewell_state.filter(|_| !server.dialect.takes_turns()),
            ..Complaint::error(Code::ServerLost, "the server connection was lost")
                .detail(format!("{} at {}: {cause}", server.shared.key.database, server.endpoint.name))
        };
        let is_session = client.identity.settings.mode == PoolMode::Session && server.loss.is_none();
        let complaint = server.loss.as_deref().cloned().unwrap_or(complaint);
        let is_cut = server.is_message_cut();
        if let Some(agreed) = &mut client.agreed {
            agreed.sequence = server.next_sequence_shown();
        }
        if is_session || is_cut {
            // A session's state is lost with its server; half a message cannot be taken back.
            let last =
                (!is_cut && !server.is_taking_file()).then_some(Complaint { fatal: true, ..complaint });
            client.state = ClientState::Idle;
            self.end_client(id, ClientEnd::ServerLost, last);
            return;
        }
        client.state = ClientState::Idle;
        client.idle_since = self.now;
        client.asked_at = Time::NEVER;
        client.drop_rest();
        let is_heard_elsewhere = self.lose_source(id);
        let dialect = server.dialect;
        let units =
            server.owed.iter().filter(|owed| owed.shown && matches!(owed.answer, Answer::Ready(_))).count();
        let waits_for_file = server.is_taking_file();
        if let (true, Some(agreed)) = (waits_for_file, &mut self.clients[id].agreed) {
            agreed.after_file = Some(Box::new(complaint.clone()));
        }
        for _ in 0..if waits_for_file { 0 } else { units } {
            self.count_error(id);
            let voice = self.voice(id);
            self.say(id, |out| {
                dialect.say_error(out, &complaint, voice);
                dialect.say_ready(out, Transaction::None);
            });
        }
        self.clients[id].begin_answer();
        if server.unsynced > 0 || server.skipping {
            if !server.skipping {
                self.count_error(id);
                let voice = self.voice(id);
                self.say(id, |out| dialect.say_error(out, &complaint, voice));
            }
            self.clients[id].state = ClientState::Skipping;
        } else if units == 0
            && (server.transaction != Transaction::None
                || server.has_irreplaceable(is_heard_elsewhere)
                || server.may_have_set()
                || server.held.iter().any(|(_, held)| *held == Held::Values))
        {
            self.clients[id].lost = Some(Box::new(complaint));
        }
        self.ready.push_back(id);
        self.leave_if_draining(id);
    }

    /// The server goes, and with it what its client believes to have: it is told at its next request.
    pub(crate) fn lose_with_state(&mut self, id: ServerId, client: Option<ClientId>, cause: &str) {
        if let Some(server) = self.servers.get_mut(id) {
            server.farewell = Some(cause.to_owned());
        }
        self.lose_server(id, ServerEnd::NotCleaned);
        let Some(client) = client.and_then(|client| self.clients.get_mut(client)) else { return };
        let text = format!("the server connection was lost: {cause}");
        client.lost.get_or_insert_with(|| Box::new(Complaint::error(Code::ServerLost, text)));
    }

    /// A client that left the queue empty-handed: its request fails with `complaint`.
    pub(crate) fn fail_pending(&mut self, id: ClientId, complaint: Complaint) {
        if let Some(client) = self.clients.get_mut(id) {
            client.lost = Some(Box::new(complaint));
            self.ready.push_back(id);
        }
    }

    pub(crate) fn queue_full(&self, at: PoolId, limit: u32) -> Complaint {
        Complaint::error(
            Code::LimitExceeded,
            format!("too many clients wait for a server: {limit} of {limit} (pool.queue_length)"),
        )
        .detail(self.counts(at))
        .hint("raise pool.size if the database has room, or pool.queue_length")
    }

    pub(crate) fn queue_timeout(&self, at: PoolId, limit_ms: u64, setting: &str) -> Complaint {
        let trouble = self.pools[at.0 as usize].shared.trouble();
        let text = format!("no server came free within {} s ({setting})", limit_ms as f64 / 1e3);
        let complaint = match trouble {
            Some(trouble) => {
                let endpoint = &self.pools[at.0 as usize].route.key.endpoint;
                Complaint::error(Code::ServerUnreachable, format!("{text}; {endpoint}: {}", trouble.cause))
            }
            None => Complaint::error(Code::QueueTimeout, text)
                .hint("shorten transactions, or raise pool.size if the database has room"),
        };
        complaint.detail(self.counts(at))
    }

    /// No place in some budget for a server that is needed now.
    pub(crate) fn no_place(&self, at: PoolId) -> Complaint {
        Complaint::error(Code::TooManyConnections, "no place for one more server connection")
            .detail(self.counts(at))
            .hint("raise pool.size, databases.NAME.max_servers or limits.servers")
    }

    /// The counts of a pool at this moment, for errors.
    pub(crate) fn counts(&self, at: PoolId) -> String {
        let pool = &self.pools[at.0 as usize];
        let leased = pool.servers as usize - pool.idle.len();
        let paused = if pool.is_paused() { "; the pool is paused" } else { "" };
        format!(
            "pool {}/{}: {} of {} servers open, {} idle here, {} busy here, {} waiting here{paused}",
            pool.shared.key.database,
            pool.shared.key.user,
            pool.shared.servers.used(),
            pool.shared.servers.limit(),
            pool.idle.len(),
            leased,
            pool.waiting,
        )
    }

    pub(crate) fn count_error(&mut self, id: ClientId) {
        if let Some(pool) = self.clients.get(id).and_then(|client| self.pools.get_mut(client.pool.0 as usize))
        {
            pool.counters.client_errors += 1;
        }
    }

    /// Note the beginning of the statement that runs, if slow ones are reported.
    pub(crate) fn note_text(&mut self, id: ServerId, message: &[u8]) {
        if self.routes.snapshot.slow_query_ms > 0 {
            let server = &mut self.servers[id];
            let text = server.dialect.query_text(message);
            server.text.clear();
            server.text.extend_from_slice(&text[..text.len().min(TEXT_KEPT)]);
        }
    }

    /// As `note_text`, for a statement prepared earlier.
    pub(crate) fn note_definition(&mut self, id: ServerId, statement: &crate::statements::Statement) {
        if self.routes.snapshot.slow_query_ms > 0 {
            let server = &mut self.servers[id];
            let text = server.dialect.definition_text(&statement.definition);
            server.text.clear();
            server.text.extend_from_slice(&text[..text.len().min(TEXT_KEPT)]);
        }
    }

    /// A client's unit of work has ended: count it, and report it if it was slow.
    pub(crate) fn count_unit(&mut self, id: ServerId, client: ClientId) {
        let now = self.now;
        let server = &mut self.servers[id];
        let took = now.since(server.unit_at);
        server.unit_at = now;
        let counters = &mut self.pools[server.pool.0 as usize].counters;
        counters.queries += 1;
        counters.query_us += took;
        if server.transaction == Transaction::None {
            counters.transactions += 1;
            counters.transaction_us +=
                if server.transaction_at == Time::NEVER { took } else { now.since(server.transaction_at) };
        }
        let limit_ms = self.routes.snapshot.slow_query_ms;
        if limit_ms > 0 && took >= limit_ms * 1000 {
            let mut shape = String::new();
            server.dialect.shape(&server.text, &mut shape, TEXT_KEPT);
            let event = Event::SlowQuery {
                duration_us: took,
                wait_us: server.waited_us,
                database: server.shared.key.database.clone(),
                user: self.clients.get(client).map(|client| client.identity.user.clone()).unwrap_or_default(),
                shape,
                client: crate::public_client_id(self.worker, client),
            };
            self.actions.push(Action::Tell(event));
        }
    }

    /// A client is gone: count it, and tell Python.
    pub(crate) fn note_client_end(&mut self, id: ClientId, client: &Client, reason: ClientEnd) {
        *self.counters.client_ends.entry(reason.name()).or_default() += 1;
        if reason != ClientEnd::CancelRequest && self.routes.snapshot.log_connections {
            self.actions.push(Action::Tell(Event::ClientClosed {
                client: crate::public_client_id(self.worker, id),
                user: client.identity.user.clone(),
                database: client.identity.database.clone(),
                address: client.address.to_string(),
                reason: reason.name(),
            }));
        }
    }
}

/// What a client is told when the server that heard notifications for it is gone.
pub(crate) fn listening_lost() -> Complaint {
    Complaint::fatal(Code::Shutdown, "terminating connection: the server that listened for it was lost")
        .hint("connect and LISTEN again, then look for what may have been missed")
}

impl Server {
    /// Would nothing of its client's be lost with it?
    pub(crate) fn holds_nothing(&self) -> bool {
        let is_free = self.transaction == Transaction::None && self.held.is_empty();
        is_free && !self.has_irreplaceable(false) && !self.may_have_set()
    }

    /// May its client have set, or prepared, what nobody else knows yet?
    pub(crate) fn may_have_set(&self) -> bool {
        let is_settled = self.trace.as_ref().is_some_and(|trace| trace.settled.is_some());
        is_settled
            || self.suspected().any(|effects| !effects.settings.is_empty() || !effects.things.is_empty())
    }
}
