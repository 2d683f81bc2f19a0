//! Commands that take turns: each is answered before the next is acted upon (MySQL).
//!
//! Takes no lease and gives none back; prepared statements are `numbered`'s. Called by `client` and `forward`; for what
//! a server answers, by `server`.

use maitred_wire::dialect::Explained;
use maitred_wire::{ClientMessage, Code, Complaint, Fault, Intent, Reply, Target};

use crate::aftermath::Aftermath;
use crate::answers::{Answer, Unit};
use crate::client::{State, Step};
use crate::ids::{ClientId, ServerId};
use crate::Relay;

/// Spec: nothing is said to these, whatever becomes of them.
pub(crate) fn is_unanswered(intent: Intent) -> bool {
    matches!(intent, Intent::Append | Intent::Close(_))
}

impl Relay {
    /// A command without an answer, of a client that has lost its server.
    pub(crate) fn pass_over(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Step {
        if let (Intent::Close(_), Ok(number)) =
            (message.intent, self.clients[id].dialect.statement_number(here))
        {
            self.forget_numbered(id, number);
        }
        Step::Used(self.drop_message(id, message, here))
    }

    /// Send a command to the client's server and note what that makes it owe.
    pub(crate) fn forward_command(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let server = &mut self.servers[to];
        if matches!(message.intent, Intent::CopyData | Intent::CopyDone) {
            if self.clients[id].is_sending_in_vain() {
                return Ok(self.end_in_vain(id, message, here));
            }
            if server.owed.is_empty() && server.held.is_empty() {
                return Ok(Step::Used(self.drop_message(id, message, here)));
            }
            if server.is_taking_file() {
                server.reading.follow(here);
            }
            if message.intent == Intent::CopyDone {
                server.copy = None;
            }
            return Ok(self.pass_command(id, to, message, here));
        }
        if server.is_awaited() || server.preparing.is_some() || self.is_choked(id) {
            return Ok(Step::Wait);
        }
        let server = &self.servers[to];
        if server.may_reset(&self.clients[id].own_settings) || server.is_telling() {
            return Ok(Step::Wait);
        }
        let now = self.now;
        self.ensure_buffer(to);
        self.servers[to].quiet_since = now;
        self.servers[to].is_promised = false;
        self.clients[id].begin_answer();
        if message.intent == Intent::Replicate {
            return Ok(self.begin_replication(id, to, here));
        }
        match message.intent {
            Intent::Append if self.clients[id].lost.is_some() => {
                return Ok(self.pass_over(id, message, here));
            }
            Intent::Close(_) => {}
            _ => {
                if let Some(complaint) = self.clients[id].lost.take() {
                    return Ok(self.fail_command(id, &complaint, message, here));
                }
            }
        }
        if message.intent == Intent::Query {
            if let Some(shown) = self.show_left(id, Some(to), message, here) {
                return Ok(shown);
            }
        }
        match message.intent {
            Intent::Query => self.forward_text(id, to, message, here),
            Intent::Prepare => self.forward_preparation(id, to, message, here),
            Intent::Run => self.forward_run(id, to, message, here),
            Intent::Fetch | Intent::Append | Intent::Rewind | Intent::Close(Target::Statement) => {
                self.forward_numbered(id, to, message, here)
            }
            Intent::Command(reply) => {
                self.servers[to].settle_things();
                self.servers[to].explaining = Explained::ALL;
                self.servers[to].owe(Answer::Ready(Unit::Reply(reply)), true, now);
                Ok(self.pass_command(id, to, message, here))
            }
            _ => self.answer_command(id, message, here),
        }
    }

    /// Pass a command on as it came.
    pub(crate) fn pass_command(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Step {
        self.servers[to].output.extend_from_slice(here);
        self.clients[id].passing = message.total - here.len();
        Step::Used(here.len())
    }

    /// Answer a command with an error of ours, in the place of any server.
    pub(crate) fn fail_command(
        &mut self,
        id: ClientId,
        complaint: &Complaint,
        message: ClientMessage,
        here: &[u8],
    ) -> Step {
        self.count_error(id);
        if message.intent == Intent::Run {
            self.note_types_in_vain(id, message, here);
        }
        self.say_failure(id, complaint, message);
        Step::Used(self.drop_message(id, message, here))
    }

    /// From here on the server is this client's own, and nobody reads what passes between the two.
    fn begin_replication(&mut self, id: ClientId, to: ServerId, here: &[u8]) -> Step {
        if !self.servers[to].owed.is_empty() {
            return Step::Wait;
        }
        self.servers[to].trace = None;
        self.servers[to].state = crate::server::State::Raw(id);
        self.clients[id].state = State::Raw(to);
        self.pass_to_server(to, id, here);
        Step::Used(here.len())
    }

    /// Is a whole text there?
    pub(crate) fn is_whole(message: ClientMessage, here: &[u8]) -> bool {
        here.len() == message.total && !message.goes_on()
    }

    fn forward_text(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        if let Some(step) = self.kill_by_text(id, message, here) {
            return Ok(step);
        }
        let now = self.now;
        let dialect = self.clients[id].dialect;
        let killed = self.text_behind_kills(id, dialect.query_text(here));
        let text = killed.as_deref().unwrap_or(dialect.query_text(here));
        let mut judged = dialect.effects_of(text);
        if judged.as_ref().is_some_and(|effects| effects.settings.unnamed) {
            self.servers[to].settle_things();
            if let Some(known) = self.effects_of_executed(id, to, text) {
                judged = known;
            }
        }
        self.begin_statement(to, text, judged.as_deref());
        let mut suspected = Ok(());
        if let Some(effects) = self.judged_here(to, judged.as_deref(), text) {
            suspected = self.suspect(to, &effects, text);
        }
        if suspected.is_ok() && !Self::is_whole(message, here) {
            // Whatever stands in the part that is not here yet.
            suspected = self.suspect(to, &dialect.effects_of_rest(), text);
        }
        if let Err(complaint) = suspected {
            return Ok(self.fail_command(id, &complaint, message, here));
        }
        self.prepare_insert_id(id, to, judged.as_deref());
        let is_whole = Self::is_whole(message, here);
        let answered = match is_whole.then(|| self.answer_in_text(id, to, text)).transpose() {
            Ok(answered) => answered.flatten(),
            Err(complaint) => return Ok(self.fail_command(id, &complaint, message, here)),
        };
        self.servers[to].owe(Answer::Ready(Unit::Query), true, now);
        self.note_text(to, here);
        if let Some(answered) = answered.or(killed) {
            dialect.write_query_text(&mut self.servers[to].output, &answered);
            return Ok(Step::Used(self.drop_message(id, message, here)));
        }
        Ok(self.pass_command(id, to, message, here))
    }

    /// Tell a client that its command was carried out.
    pub(crate) fn say_done(&mut self, id: ClientId) {
        let (dialect, mut voice) = (self.clients[id].dialect, self.voice(id));
        self.say(id, |out| dialect.say_finished(out, "", false, &mut voice));
        self.clients[id].begin_answer();
    }

    /// A command of a client without a server that needs none. None: it needs one.
    pub(crate) fn begin_command(
        &mut self,
        id: ClientId,
        message: ClientMessage,
        here: &[u8],
    ) -> Option<Result<Step, Fault>> {
        if self.clients[id].is_sending_in_vain() {
            return Some(Ok(self.end_in_vain(id, message, here)));
        }
        self.clients[id].begin_answer();
        match message.intent {
            Intent::Query => {
                let step = self.kill_by_text(id, message, here);
                step.or_else(|| self.show_left(id, None, message, here)).map(Ok)
            }
            Intent::Ping | Intent::Relogin | Intent::Renew | Intent::Agree => {
                Some(self.answer_command(id, message, here))
            }
            Intent::Kill if here.len() == message.total => {
                let number = self.clients[id].dialect.victim_of(here).ok()?;
                self.worker_of_number(number)?;
                Some(self.answer_command(id, message, here))
            }
            Intent::Run | Intent::Fetch | Intent::Append | Intent::Rewind | Intent::Close(_) => {
                let dialect = self.clients[id].dialect;
                let number = match dialect.statement_number(here) {
                    Ok(number) => number,
                    Err(fault) => return Some(Err(fault)),
                };
                let is_known = self.statement_numbered(id, number).is_some();
                match message.intent {
                    Intent::Run if !is_known => {
                        let complaint = dialect.unknown_statement(number, "EXECUTE");
                        Some(Ok(self.fail_command(id, &complaint, message, here)))
                    }
                    Intent::Run | Intent::Append if is_known => None,
                    Intent::Fetch if is_known => {
                        Some(Ok(self.fail_command(id, &dialect.no_cursor(number), message, here)))
                    }
                    Intent::Rewind if is_known => {
                        self.say_done(id);
                        Some(Ok(Step::Used(here.len())))
                    }
                    Intent::Close(_) => {
                        self.forget_numbered(id, number);
                        Some(Ok(Step::Used(self.drop_message(id, message, here))))
                    }
                    _ => Some(Ok(self.refuse_numbered(id, number, message, here))),
                }
            }
            _ => None,
        }
    }

    /// The client sends what nobody takes: it hears of that behind the end.
    fn end_in_vain(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Step {
        if let Some(agreed) = self.clients[id].agreed.as_mut().filter(|_| !message.goes_on()) {
            if let Some(complaint) = agreed.after_command.take() {
                agreed.sequence = here[3].wrapping_add(1);
                self.say_failure(id, &complaint, message);
            }
        }
        if message.intent == Intent::CopyDone {
            if let Some(agreed) = &mut self.clients[id].agreed {
                agreed.sequence = here[3].wrapping_add(1);
                if let Some(complaint) = agreed.after_file.take() {
                    return self.fail_command(id, &complaint, message, here);
                }
            }
        }
        Step::Used(self.drop_message(id, message, here))
    }

    /// Commands that we answer ourselves.
    fn answer_command(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Result<Step, Fault> {
        match message.intent {
            Intent::Ping => {
                self.say_done(id);
                Ok(Step::Used(self.drop_message(id, message, here)))
            }
            Intent::Renew => {
                self.renew(id);
                self.say_done(id);
                Ok(Step::Used(self.drop_message(id, message, here)))
            }
            Intent::Agree => {
                if here.len() < message.total {
                    return Ok(Step::Wait);
                }
                let dialect = self.clients[id].dialect;
                let Some(agreed) = &mut self.clients[id].agreed else {
                    return Err(Fault("nothing was agreed"));
                };
                match dialect.agree(agreed.capabilities, here) {
                    Ok(capabilities) => agreed.capabilities = capabilities,
                    Err(complaint) => return Ok(self.fail_command(id, &complaint, message, here)),
                }
                if let State::Leased(to) = self.clients[id].state {
                    // Why: what it says next runs there, and what a server agreed to it can change itself.
                    let (flags, now) = (self.clients[id].flags(), self.now);
                    let server = &mut self.servers[to];
                    server.flags = flags;
                    server.output.extend_from_slice(here);
                    server.owe(Answer::Ready(Unit::Reply(Reply::Fields)), false, now);
                    self.flush_server(to);
                }
                let mut voice = self.voice(id);
                self.say(id, |out| dialect.say_finished(out, "", true, &mut voice));
                Ok(Step::Used(here.len()))
            }
            Intent::Relogin => {
                if here.len() < message.total {
                    self.clients[id].needs_bytes = message.total;
                    return Ok(Step::Wait);
                }
                self.log_in_anew(id, here);
                Ok(Step::Used(here.len()))
            }
            Intent::Kill => {
                if here.len() < message.total {
                    return Ok(Step::Wait);
                }
                let number = self.clients[id].dialect.victim_of(here)?;
                self.forward_kill(id, number, true, message, here)
            }
            _ => {
                let complaint = Complaint::error(Code::Unsupported, "this command is not supported here");
                Ok(self.fail_command(id, &complaint, message, here))
            }
        }
    }

    /// A client names another, whose number is one of ours or, as a list of the server's sessions shows it, the
    /// server's.
    fn forward_kill(
        &mut self,
        id: ClientId,
        number: u32,
        is_end: bool,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let kill = self.wish_to_kill(id, number, is_end);
        if self.ask_to_kill(id, kill) {
            return Ok(Step::Used(self.drop_message(id, message, here)));
        }
        match self.clients[id].state {
            State::Leased(to) => {
                let now = self.now;
                self.servers[to].owe(Answer::Ready(Unit::Query), true, now);
                Ok(self.pass_command(id, to, message, here))
            }
            _ => Ok(Step::Wait),
        }
    }

    /// The client begins anew: nothing of its session is left, on whatever server it was.
    pub(crate) fn renew(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        client.statements = None;
        let mut own = (*client.own_settings).clone();
        for name in client.dialect.lasting_settings() {
            let _ = match client.settings.value(name) {
                Some(value) => own.set(name, value),
                None => own.remove(name),
            };
        }
        client.settings = self.settings.intern(own);
        client.lost = None;
        if let Some(agreed) = &mut client.agreed {
            agreed.types.clear();
            agreed.left = Default::default();
            agreed.tracking = Default::default();
        }
        if let State::Leased(server) = client.state {
            client.state = State::Idle;
            client.idle_since = self.now;
            self.abandon(server, false);
        }
    }

    /// An error ends the answer to a command; nobody knows the state of the transaction until it is asked.
    pub(crate) fn note_command_failure(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        here: &[u8],
    ) -> (bool, Aftermath) {
        let now = self.now;
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let dialect = server.dialect;
        let error = dialect.error_of(here);
        // Why not passed on: until it closes, which comes next, it might be lent to somebody.
        let Some(owed) = server.owed.front().copied().filter(|_| !error.is_fatal) else {
            server.farewell = Some(error.message);
            server.farewell_state = Some(error.sqlstate);
            return (false, Aftermath::Ended(crate::action::ServerEnd::ClosedByPeer));
        };
        if owed.adjusts {
            return (false, self.adjusting_failed(id, client, error));
        }
        if !owed.shown && server.is_questioned() {
            if error.is_cancelled {
                server.note_cancelled_question();
                server.pop_answer();
                return (false, Aftermath::Ready(owed.shown));
            }
            self.lose_with_state(id, client, &error.message);
            return (false, Aftermath::None);
        }
        let is_preparation = owed.answer == Answer::Ready(Unit::Reply(Reply::Prepared));
        server.copy = None;
        server.pop_answer();
        if is_preparation && error.is_full && self.close_unused(id) {
            self.prepare_again(id, client, owed.shown);
            return (false, Aftermath::None);
        }
        let server = self.servers.get_mut(id).expect("held above");
        if !owed.shown {
            if !is_preparation {
                server.farewell = Some(error.message);
                return (false, Aftermath::Ended(crate::action::ServerEnd::NotCleaned));
            }
            // The client asked to run it, and hears why that cannot be.
            let complaint = Complaint {
                sqlstate: Some(error.sqlstate),
                number: error.number,
                ..Complaint::error(Code::UnknownStatement, error.message)
            };
            if let Some(client) = client.and_then(|client| self.clients.get_mut(client)) {
                client.lost = Some(Box::new(complaint));
            }
            self.note_preparation_over(id, client);
            return (false, Aftermath::None);
        }
        // Why not others: what is named besides was named by a statement before.
        let is_statement = matches!(owed.answer, Answer::Ready(Unit::Query | Unit::Reply(Reply::Rows)));
        server.note_failed_text(is_statement && !owed.goes_on);
        if !is_preparation {
            self.note_untold_by_failure(id);
        }
        if let Some(client) = client {
            self.note_failure_left(client, id, error.sqlstate);
        }
        let server = self.servers.get_mut(id).expect("held above");
        let time_out = if error.is_cancelled { server.time_out.take() } else { None };
        server.preparing = None;
        if let Some(key) = server.running.take() {
            server.let_go(key);
        }
        if server.owed.is_empty() {
            dialect.write_sync(&mut server.output);
            server.owe(Answer::Ready(Unit::Sync), false, now);
            self.flush_server(id);
        }
        if let (Some(client), Some(complaint)) = (client, time_out) {
            let voice = self.voice(client);
            self.say(client, |out| dialect.say_error(out, &complaint, voice));
            return (false, Aftermath::Ready(owed.shown));
        }
        (true, Aftermath::Ready(true))
    }

    /// What the end of a statement's results says of the session. Returns whether the client sees it as it is.
    ///
    /// # Errors
    /// It is not well formed.
    pub(crate) fn note_outcome(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        shown: bool,
        here: &[u8],
    ) -> Result<bool, Fault> {
        let dialect = self.servers[id].dialect;
        let Some(outcome) = dialect.outcome_of(here)? else { return Ok(shown) };
        let server = &mut self.servers[id];
        if let Some(owed) = server.owed.front_mut().filter(|_| outcome.goes_on()) {
            server.settled = Some(*owed);
            owed.explained.next();
            owed.goes_on = true;
        }
        if !outcome.changed.is_empty() && server.settled.is_some_and(|owed| !owed.adjusts) {
            self.note_changes(id, client, outcome.changed)?;
        }
        let server = &mut self.servers[id];
        server.modes.note(outcome.modes());
        if !outcome.goes_on() && shown {
            if let Some(key) = server.running.take().filter(|_| !outcome.leaves_cursor()) {
                server.let_go(key);
            }
        }
        let Some(client) = client.filter(|_| shown) else { return Ok(shown) };
        self.note_left(client, id, &outcome);
        let tracking = self.clients.get(client).and_then(|client| client.tracking()).cloned();
        // Why the flag too: the end of rows has it without saying what changed.
        let is_untold = tracking.is_none() && outcome.has_changed();
        if dialect.is_silent_end(here) {
            self.note_silent_end(id, &outcome);
            if is_untold {
                self.say(client, |out| dialect.say_silent_end(out, here));
                return Ok(false);
            }
        }
        if outcome.changed.is_empty() && !is_untold {
            return Ok(true);
        }
        self.say(client, |out| dialect.say_outcome(out, here, &outcome, tracking.as_ref()));
        Ok(false)
    }
}
