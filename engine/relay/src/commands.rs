//! Commands that take turns: each is answered before the next is acted upon (MySQL).
//!
//! Takes no lease and gives none back. Statements have numbers: the client's are ours, the server's are
//! exchanged here, and what the server lacks is prepared first. Called by `client` and `forward`; for what a
//! server answers, by `server`.

use std::sync::Arc;

use maitred_wire::dialect::Run;
use maitred_wire::{ClientMessage, Code, Complaint, Fault, Intent, Reply, Target};

use crate::adjust;
use crate::aftermath::Aftermath;
use crate::answers::{Answer, Unit};
use crate::client::{State, Step};
use crate::ids::{ClientId, ServerId};
use crate::server::{Held, Preparing, Server};
use crate::statements::{Statement, Understood};
use crate::Relay;

/// Spec: MySQL "Status Flags".
const MORE_RESULTS: u16 = 1 << 3;
const CURSOR_EXISTS: u16 = 1 << 6;
const LAST_ROW_SENT: u16 = 1 << 7;

impl Relay {
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
            if server.owed.is_empty() && server.held.is_empty() {
                return Ok(Step::Used(self.drop_message(id, message, here)));
            }
            if message.intent == Intent::CopyDone {
                server.copy = None;
            }
            return Ok(self.pass_command(id, to, message, here));
        }
        if server.is_awaited() || server.preparing.is_some() || self.is_choked(id) {
            return Ok(Step::Wait);
        }
        if self.servers[to].may_reset(&self.clients[id].own_settings) {
            return Ok(Step::Wait);
        }
        let now = self.now;
        self.ensure_buffer(to);
        self.servers[to].quiet_since = now;
        self.clients[id].begin_answer();
        if message.intent == Intent::Replicate {
            return Ok(self.begin_replication(id, to, here));
        }
        if let Some(complaint) = self.clients[id].lost.take() {
            return Ok(self.fail_command(id, &complaint, message, here));
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
                self.servers[to].explains_change = true;
                self.servers[to].owe(Answer::Ready(Unit::Reply(reply)), true, now);
                Ok(self.pass_command(id, to, message, here))
            }
            _ => self.answer_command(id, message, here),
        }
    }

    /// Pass a command on as it came.
    fn pass_command(&mut self, id: ClientId, to: ServerId, message: ClientMessage, here: &[u8]) -> Step {
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
        let (dialect, voice) = (self.clients[id].dialect, self.voice(id));
        self.say(id, |out| dialect.say_error(out, complaint, voice));
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
    fn is_whole(message: ClientMessage, here: &[u8]) -> bool {
        here.len() == message.total && !message.goes_on()
    }

    fn forward_text(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let now = self.now;
        let dialect = self.clients[id].dialect;
        let text = dialect.query_text(here);
        let mut judged = dialect.effects_of(text);
        if judged.as_ref().is_some_and(|effects| effects.settings.unnamed) {
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
        let answered = if Self::is_whole(message, here) { self.answer_in_text(id, to, text) } else { None };
        self.servers[to].owe(Answer::Ready(Unit::Query), true, now);
        self.note_text(to, here);
        if let Some(answered) = answered {
            dialect.write_query_text(&mut self.servers[to].output, &answered);
            return Ok(Step::Used(self.drop_message(id, message, here)));
        }
        Ok(self.pass_command(id, to, message, here))
    }

    fn forward_preparation(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let limit = self.clients[id].identity.settings.client_statements_bytes;
        let total = message.total as u64;
        if limit > 0 && total > limit || message.goes_on() {
            let complaint = Complaint::error(
                Code::TooLarge,
                format!("a prepared statement of {total} bytes is larger than what one client may hold"),
            )
            .hint(format!("raise pool.client_statements (now {limit}); at most 16 MiB"));
            return Ok(self.fail_command(id, &complaint, message, here));
        }
        if here.len() < message.total {
            self.clients[id].needs_bytes = message.total;
            return Ok(Step::Wait);
        }
        let (now, client) = (self.now, &mut self.clients[id]);
        let dialect = client.dialect;
        let definition = dialect.prepare_of(here)?.definition;
        let statements = client.statements.get_or_insert_with(Default::default);
        if limit > 0 && statements.bytes() + total > limit {
            let complaint = Complaint::error(
                Code::LimitExceeded,
                format!(
                    "this client holds {} prepared statements of {} bytes",
                    statements.len(),
                    statements.bytes()
                ),
            )
            .hint(format!(
                "close statements that are not used, or raise pool.client_statements (now {limit})"
            ));
            return Ok(self.fail_command(id, &complaint, message, here));
        }
        // Why apart: two statements of one client have a cursor and values each, though their text be the same.
        let meaning = client.settings.meaning(dialect.naming_settings());
        let mut turn = 0;
        let key = loop {
            let key = self.hasher.key_in(definition, meaning, turn);
            if !statements.holds(key) {
                break key;
            }
            turn += 1;
        };
        let under = Arc::clone(&client.settings);
        let Some(agreed) = &mut client.agreed else { return Err(Fault("nothing was agreed")) };
        agreed.newest_statement = agreed.newest_statement.wrapping_add(1).max(1);
        let number = agreed.newest_statement;
        let pool = client.pool;
        let judge = || (dialect.effects_of(definition), None);
        let statement = self.statement_table.intern_in(key, definition, Some(under), judge);
        self.pools[pool.0 as usize].counters.client_parses += 1;
        self.pools[pool.0 as usize].counters.server_parses += 1;
        self.note_text(to, here);
        let server = &mut self.servers[to];
        server.preparing = Some(Preparing { statement, number: Some(number) });
        server.owe(Answer::Ready(Unit::Reply(Reply::Prepared)), true, now);
        Ok(self.pass_command(id, to, message, here))
    }

    /// The client's statement of this number.
    fn statement_numbered(&self, id: ClientId, number: u32) -> Option<Arc<Statement>> {
        self.clients[id].statements.as_ref()?.named(&number.to_le_bytes()).cloned()
    }

    fn forward_run(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let now = self.now;
        let dialect = self.clients[id].dialect;
        let number = dialect.statement_number(here)?;
        let Some(statement) = self.statement_numbered(id, number) else {
            return Ok(self.fail_command(id, &dialect.unknown_statement(number, "EXECUTE"), message, here));
        };
        let parameters = statement.parameters.get().copied().unwrap_or_default();
        let Some(run) = dialect.run_of(here, message.total, parameters)? else {
            self.clients[id].needs_bytes = message.total;
            return Ok(Step::Wait);
        };
        self.begin_statement(to, &statement.definition, statement.effects.as_deref());
        if let Some(effects) = self.judged_here(to, statement.effects.as_deref(), &statement.definition) {
            if let Err(complaint) = self.suspect(to, &effects, &statement.definition) {
                return Ok(self.fail_command(id, &complaint, message, here));
            }
        }
        let statement = self.answer_in_statement(id, to, &statement).unwrap_or(statement);
        let Some(of_server) = self.number_there(id, to, &statement) else { return Ok(Step::Wait) };
        let counters = &mut self.pools[self.clients[id].pool.0 as usize].counters;
        counters.binds += 1;
        self.note_definition(to, &statement);
        self.write_run(id, to, message, here, &run, of_server)?;
        let server = &mut self.servers[to];
        server.let_go(statement.key);
        server.running = run.opens_cursor.then_some(statement.key);
        if run.opens_cursor {
            server.held.push((statement.key, Held::Cursor));
        }
        server.owe(Answer::Ready(Unit::Reply(Reply::Rows)), true, now);
        self.clients[id].passing = message.total - here.len();
        Ok(Step::Used(here.len()))
    }

    /// Write a run with the types of its parameters, which the client tells once.
    fn write_run(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
        run: &Run,
        of_server: u32,
    ) -> Result<(), Fault> {
        let Some(agreed) = &mut self.clients[id].agreed else { return Err(Fault("nothing was agreed")) };
        if let Some(types) = &run.types {
            let told = &here[types.clone()];
            let known = agreed.types.get(&run.statement);
            if known.is_none_or(|known| **known != *told) {
                agreed.types.insert(run.statement, told.into());
            }
        }
        let types = agreed.types.get(&run.statement).map(|types| &**types).unwrap_or_default();
        let server = &mut self.servers[to];
        server.dialect.write_run(&mut server.output, here, message.total, run, of_server, types)
    }

    /// The number that the server has for a statement; None: it is being prepared there, the client waits.
    fn number_there(&mut self, id: ClientId, to: ServerId, statement: &Arc<Statement>) -> Option<u32> {
        let server = &mut self.servers[to];
        if server.statements.has(statement.key) {
            if let Some(number) = server.numbers.get(&statement.key) {
                return Some(*number);
            }
        }
        let now = self.now;
        let dialect = server.dialect;
        // Why: names in it stand for what they stood for when the client prepared it.
        let (there, wanted) = (Arc::clone(&server.settings), statement.under.clone());
        let naming = dialect.naming_settings();
        let wanted = wanted.filter(|wanted| wanted.meaning(naming) != there.meaning(naming));
        if let Some(wanted) = &wanted {
            self.write_change(to, &there, wanted);
        }
        let server = &mut self.servers[to];
        server.preparing = Some(Preparing { statement: Arc::clone(statement), number: None });
        server.owe(Answer::Ready(Unit::Reply(Reply::Prepared)), false, now);
        dialect.write_prepare(&mut server.output, b"", &statement.definition);
        if let Some(wanted) = &wanted {
            self.write_change(to, wanted, &there);
        }
        self.pools[self.clients[id].pool.0 as usize].counters.server_parses += 1;
        self.flush_server(to);
        None
    }

    /// Write, unseen, what leads from settings to others.
    pub(crate) fn write_change(
        &mut self,
        to: ServerId,
        from: &crate::session_state::Settings,
        wanted: &crate::session_state::Settings,
    ) {
        let now = self.now;
        let server = &mut self.servers[to];
        let fresh = server.shared.welcome();
        let mut changes = adjust::plan(server.dialect, from, wanted);
        adjust::name_defaults(server.dialect, &mut changes, fresh.as_deref().map(|fresh| &fresh.settings));
        server.made.note_changes(server.dialect, &changes);
        let requests = server.dialect.write_settings(&mut server.output, &changes);
        server.adjusting += requests;
        for _ in 0..requests {
            server.owe(Answer::Ready(Unit::Query), false, now);
        }
    }

    /// A command that names a statement: read on, append, rewind, close.
    fn forward_numbered(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let now = self.now;
        let dialect = self.clients[id].dialect;
        let number = dialect.statement_number(here)?;
        let Some(statement) = self.statement_numbered(id, number) else {
            return Ok(self.refuse_numbered(id, number, message, here));
        };
        let key = statement.key;
        let of_server = match message.intent {
            Intent::Append => match self.number_there(id, to, &statement) {
                Some(of_server) => Some(of_server),
                None => return Ok(Step::Wait),
            },
            _ => self.servers[to].numbers.get(&key).copied(),
        };
        let server = &mut self.servers[to];
        let has_cursor = server.held.contains(&(key, Held::Cursor));
        match (message.intent, of_server) {
            (Intent::Close(_), of_server) => {
                let was_held = server.let_go(key);
                if let (true, Some(of_server)) = (was_held, of_server) {
                    // It stays prepared there, for the next who asks for the same text.
                    dialect.write_rewind(&mut server.output, of_server);
                    server.owe(Answer::Ready(Unit::Query), false, now);
                }
                self.forget_numbered(id, number);
                Ok(Step::Used(self.drop_message(id, message, here)))
            }
            (Intent::Fetch, Some(of_server)) if has_cursor => {
                server.running = Some(key);
                server.owe(Answer::Ready(Unit::Reply(Reply::Fetched)), true, now);
                dialect.write_renumbered(&mut server.output, here, of_server);
                self.clients[id].passing = message.total - here.len();
                Ok(Step::Used(here.len()))
            }
            (Intent::Fetch, _) => Ok(self.fail_command(id, &dialect.no_cursor(number), message, here)),
            (Intent::Append, Some(of_server)) => {
                if !server.held.contains(&(key, Held::Values)) {
                    server.held.push((key, Held::Values));
                }
                dialect.write_renumbered(&mut server.output, here, of_server);
                self.clients[id].passing = message.total - here.len();
                Ok(Step::Used(here.len()))
            }
            (_, Some(of_server)) => {
                server.let_go(key);
                server.owe(Answer::Ready(Unit::Query), true, now);
                dialect.write_renumbered(&mut server.output, here, of_server);
                Ok(Step::Used(here.len()))
            }
            (_, None) => {
                self.say_done(id);
                Ok(Step::Used(self.drop_message(id, message, here)))
            }
        }
    }

    /// A command names a statement that the client does not have.
    fn refuse_numbered(&mut self, id: ClientId, number: u32, message: ClientMessage, here: &[u8]) -> Step {
        let dialect = self.clients[id].dialect;
        match message.intent {
            // Spec: these have no answer, whatever they name.
            Intent::Append | Intent::Close(_) => Step::Used(self.drop_message(id, message, here)),
            Intent::Fetch => {
                self.fail_command(id, &dialect.unknown_statement(number, "FETCH"), message, here)
            }
            _ => self.fail_command(id, &dialect.unknown_statement(number, "RESET"), message, here),
        }
    }

    fn forget_numbered(&mut self, id: ClientId, number: u32) {
        let client = &mut self.clients[id];
        if let Some(statements) = &mut client.statements {
            statements.remove(&number.to_le_bytes());
        }
        if let Some(agreed) = &mut client.agreed {
            agreed.types.remove(&number);
        }
    }

    /// Tell a client that its command was carried out.
    pub(crate) fn say_done(&mut self, id: ClientId) {
        let (dialect, mut voice) = (self.clients[id].dialect, self.voice(id));
        self.say(id, |out| dialect.say_finished(out, "", false, &mut voice));
    }

    /// A command of a client without a server that needs none. None: it needs one.
    pub(crate) fn begin_command(
        &mut self,
        id: ClientId,
        message: ClientMessage,
        here: &[u8],
    ) -> Option<Result<Step, Fault>> {
        self.clients[id].begin_answer();
        match message.intent {
            Intent::Query => self.show_left(id, None, message, here).map(Ok),
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
        client.settings = Arc::clone(&client.own_settings);
        client.lost = None;
        if let Some(agreed) = &mut client.agreed {
            agreed.types.clear();
            agreed.left = Default::default();
        }
        if let State::Leased(server) = client.state {
            client.state = State::Idle;
            client.idle_since = self.now;
            self.abandon(server, false);
        }
    }

    /// A statement was prepared: `here` says under which number.
    pub(crate) fn note_prepared(&mut self, id: ServerId, client: Option<ClientId>, here: &[u8]) -> bool {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let Some(preparing) = &server.preparing else { return false };
        let prepared = server.dialect.prepared_of(here);
        let statement = Arc::clone(&preparing.statement);
        let number = preparing.number;
        let _ = statement.parameters.set(prepared.parameters);
        if let Some(old) = server.numbers.insert(statement.key, prepared.number) {
            server.dialect.write_close_number(&mut server.output, old);
        }
        server.statements.insert(statement.key, statement.definition.len(), Understood::default());
        let (Some(client), Some(number)) = (client, number) else { return false };
        if let Some(client) = self.clients.get_mut(client) {
            let statements = client.statements.get_or_insert_with(Default::default);
            statements.insert(&number.to_le_bytes(), statement);
        }
        let dialect = self.servers[id].dialect;
        self.say(client, |out| dialect.write_renumbered(out, here, number));
        self.make_room_for_numbers(id);
        false
    }

    /// Close statements that are over the server's bound, least recently used first.
    fn make_room_for_numbers(&mut self, to: ServerId) {
        let server = &mut self.servers[to];
        let limit = self.pools[server.pool.0 as usize].route.settings.server_statements_bytes;
        while let Some(key) = (limit > 0).then(|| server.statements.pop_over(limit)).flatten() {
            if let Some(number) = server.numbers.remove(&key) {
                server.dialect.write_close_number(&mut server.output, number);
            }
        }
        self.flush_server(to);
    }

    /// The answer to a preparation is over.
    pub(crate) fn note_preparation_over(&mut self, id: ServerId, client: Option<ClientId>) {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let was = server.preparing.take();
        if was.is_some_and(|was| was.number.is_none()) {
            // The client waits to have it run.
            self.ready.extend(client);
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
        let Some(owed) = server.owed.front().copied() else {
            server.farewell = Some(error.message);
            server.farewell_state = Some(error.sqlstate);
            return (false, Aftermath::Ended(crate::action::ServerEnd::ClosedByPeer));
        };
        if server.adjusting > 0 && owed.answer == Answer::Ready(Unit::Query) && !owed.shown {
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
        server.note_failed_text();
        if let Some(client) = client {
            self.note_failure_left(client, id);
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
        if !outcome.changed.is_empty() && self.servers[id].adjusting == 0 {
            self.note_changes(id, client, outcome.changed)?;
        }
        let server = &mut self.servers[id];
        if shown && outcome.status & MORE_RESULTS == 0 {
            if let Some(key) = server.running.take() {
                if outcome.status & LAST_ROW_SENT != 0 || outcome.status & CURSOR_EXISTS == 0 {
                    server.let_go(key);
                }
            }
        }
        let Some(client) = client.filter(|_| shown) else { return Ok(shown) };
        self.note_left(client, id, &outcome);
        let is_told = self.clients.get(client).is_some_and(|client| client.is_told_of_its_state());
        if is_told || outcome.changed.is_empty() {
            return Ok(true);
        }
        self.say(client, |out| dialect.say_outcome(out, here, &outcome));
        Ok(false)
    }
}

impl Server {
    /// Its session is new: no statement is prepared, none keeps anything.
    pub(crate) fn forget_numbers(&mut self) {
        self.numbers.clear();
        self.made = Default::default();
        self.statements = Default::default();
        self.held.clear();
        self.running = None;
    }

    /// Nothing of a statement is held any more. True: something was.
    fn let_go(&mut self, key: crate::statements::StatementKey) -> bool {
        let before = self.held.len();
        self.held.retain(|(held, _)| *held != key);
        self.held.len() < before
    }
}
