//! Stopping what others run, where that takes a session of its own to say (MySQL).
//!
//! A server that runs something for a client is stopped by another, opened for that alone beyond the pool; until
//! that has ended, and one harmless round trip has passed, nobody else gets the first. Clients name each other by
//! the numbers that we gave them. Called by `cancel` and `commands`.

use std::sync::Arc;

use maitred_wire::{dialect, ClientMessage, Code, Complaint};

use crate::action::{Action, ClientEnd, Mail, ServerEnd};
use crate::client::{State as ClientState, Step};
use crate::ids::{ClientId, ServerId, WorkerId};
use crate::open::Purpose;
use crate::server::State;
use crate::Relay;

/// What one client wants of another.
#[derive(Clone, Debug)]
pub struct Kill {
    /// The other, by the number that it was greeted with.
    pub number: u32,
    /// End it, not only what it runs.
    pub is_end: bool,
    /// Who asks: only one's own may be stopped, unless by an administrator.
    pub user: String,
    pub is_admin: bool,
}

/// What became of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    Done,
    NotThere,
    NotAllowed,
}

impl Killed {
    /// The number and the words of its error, if it is one.
    fn failure(self, number: u64) -> Option<(u16, String)> {
        match self {
            Killed::Done => None,
            Killed::NotThere => Some((1094, format!("Unknown thread id: {number}"))),
            Killed::NotAllowed => Some((1095, format!("You are not owner of thread {number}"))),
        }
    }
}

impl Relay {
    /// Open a server that stops what `id` runs.
    pub(crate) fn open_killer(&mut self, id: ServerId) {
        let at = self.servers[id].pool;
        match self.permit_for_idle(|relay| relay.permit_beyond_pool(at)) {
            Some(permit) => {
                let killer = self.begin_opening(at, permit, Purpose::Kill(id));
                self.servers[killer].kills = Some(id);
            }
            None => self.kill_over(id),
        }
    }

    /// It is logged in: have it say so.
    pub(crate) fn begin_killing(&mut self, killer: ServerId, id: ServerId) {
        let now = self.now;
        let number = self.servers.get(id).map(|server| server.key.pid);
        let Some(number) = number else {
            self.lose_server(killer, ServerEnd::Spent);
            return;
        };
        let server = &mut self.servers[killer];
        server.state = State::Cleaning { until: now.after_ms(crate::cleaning::CLEANING_MS) };
        server.dialect.write_query(&mut server.output, &format!("KILL QUERY {number}"));
        server.owe_hidden(now);
        self.flush_server(killer);
    }

    /// Who was to stop what `id` runs has ended, one way or the other.
    pub(crate) fn kill_over(&mut self, id: ServerId) {
        self.cancel_over(id);
    }

    /// A client wants to stop another's query, or the other itself. True: its number is one of ours, and an answer
    /// will come.
    pub(crate) fn ask_to_kill(&mut self, requester: ClientId, kill: Kill) -> bool {
        let Some(to) = self.worker_of_number(kill.number) else { return false };
        if let Some(agreed) = self.clients.get_mut(requester).and_then(|client| client.agreed.as_mut()) {
            agreed.is_asking = true;
        }
        let mail = Mail::Kill { kill, from: self.worker, requester };
        if to == self.worker {
            self.outgoing.push((to, mail));
        } else {
            self.actions.push(Action::Mail { to, mail });
        }
        true
    }

    /// Another's wish has arrived where its victim is.
    pub(crate) fn kill_for(&mut self, kill: &Kill, from: WorkerId, requester: ClientId) {
        let killed = self.kill_here(kill);
        if from == self.worker {
            self.killed(requester, kill.number, killed);
        } else {
            let mail = Mail::Killed { requester, number: kill.number, killed };
            self.actions.push(Action::Mail { to: from, mail });
        }
    }

    /// Does a query begin with the wish that clients of ours, by the numbers that we gave them, be stopped? They are, and
    /// what became of that is told in the place of what it says, where it says more. None: nothing is to be waited for.
    pub(crate) fn kill_by_text(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Option<Step> {
        let dialect = self.clients[id].dialect;
        if !Self::is_whole(message, here) {
            return None;
        }
        let kills = dialect.kills_of(dialect.query_text(here));
        let is_alone = kills.first()?.is_alone;
        if !is_alone && !self.clients[id].says_several() {
            return None;
        }
        loop {
            let done = &mut self.clients[id].agreed.as_mut()?.kills;
            let killing = kills.get(done.len())?;
            // Why no further: what fails ends the text.
            if done.last().is_some_and(|killed| killed.is_some_and(|killed| killed != Killed::Done)) {
                return None;
            }
            let number = u32::try_from(killing.number).unwrap_or_default();
            let kill = self.wish_to_kill(id, number, killing.kill == dialect::Kill::Connection);
            if self.ask_to_kill(id, kill) {
                let agreed = self.clients[id].agreed.as_mut()?;
                agreed.is_killing_within = !is_alone;
                return Some(match is_alone {
                    true => Step::Used(self.drop_message(id, message, here)),
                    false => Step::Wait,
                });
            }
            self.clients[id].agreed.as_mut()?.kills.push(None);
        }
    }

    /// A text that began with such wishes, with statements in their place that answer the same.
    pub(crate) fn text_behind_kills(&mut self, id: ClientId, text: &[u8]) -> Option<Vec<u8>> {
        let client = &mut self.clients[id];
        let done = std::mem::take(&mut client.agreed.as_mut()?.kills);
        if done.iter().all(Option::is_none) {
            return None;
        }
        let dialect = client.dialect;
        let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
        for (killing, killed) in dialect.kills_of(text).into_iter().zip(done) {
            let Some(killed) = killed else { continue };
            out.extend_from_slice(&text[at..killing.statement.start]);
            let failure = killed.failure(killing.number);
            let failure = failure.as_ref().map(|(number, text)| (*number, text.as_str()));
            out.extend_from_slice(dialect.statement_answering(failure).as_bytes());
            at = killing.statement.end;
        }
        out.extend_from_slice(&text[at..]);
        Some(out)
    }

    fn kill_here(&mut self, kill: &Kill) -> Killed {
        let Some(id) = self.client_of_number(kill.number) else { return Killed::NotThere };
        let client = &self.clients[id];
        if !client.dialect.takes_turns() {
            return Killed::NotThere;
        }
        if client.identity.user != kill.user && !kill.is_admin {
            return Killed::NotAllowed;
        }
        match (&client.state, kill.is_end) {
            (_, true) => {
                let complaint = Complaint {
                    number: Some(1927),
                    sqlstate: Some(*b"70100"),
                    ..Complaint::fatal(Code::Shutdown, "Connection was killed")
                };
                self.end_client(id, ClientEnd::Killed, Some(complaint));
            }
            (ClientState::Waiting { .. }, false) => {
                self.leave_queue(id);
                let complaint = Complaint::error(Code::Cancelled, "Query execution was interrupted")
                    .detail("the client was waiting for a server connection");
                self.fail_pending(id, complaint);
            }
            // Why not just working: what we ask ourselves after the client's last answer is not its query.
            (ClientState::Leased(server), false) if self.servers[*server].is_awaited() => {
                let server = *server;
                self.cancel_server(server);
            }
            _ => {}
        }
        Killed::Done
    }

    /// The answer to the wish of a client here.
    pub(crate) fn killed(&mut self, requester: ClientId, number: u32, killed: Killed) {
        let Some(agreed) = self.clients.get_mut(requester).and_then(|client| client.agreed.as_mut()) else {
            return;
        };
        agreed.is_asking = false;
        if std::mem::take(&mut agreed.is_killing_within) {
            agreed.kills.push(Some(killed));
            self.ready.push_back(requester);
            return;
        }
        let complaint = killed.failure(u64::from(number)).map(|(number, text)| Complaint {
            number: Some(number),
            sqlstate: Some(*b"HY000"),
            ..Complaint::error(Code::NotAuthorized, text)
        });
        match complaint {
            None => self.say_done(requester),
            Some(complaint) => {
                self.count_error(requester);
                let (dialect, voice) = (self.clients[requester].dialect, self.voice(requester));
                self.say(requester, |out| dialect.say_error(out, &complaint, voice));
            }
        }
        self.ready.push_back(requester);
    }

    /// What a client wants killed, with its right to it.
    pub(crate) fn wish_to_kill(&self, id: ClientId, number: u32, is_end: bool) -> Kill {
        let identity = Arc::clone(&self.clients[id].identity);
        let known = self.routes.user(&identity.user).ok().flatten();
        Kill { number, is_end, user: identity.user.clone(), is_admin: known.is_some_and(|known| known.admin) }
    }
}
