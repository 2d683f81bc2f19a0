//! Prepared statements that have numbers: the client's are ours, the server's are exchanged here (MySQL).
//!
//! Takes no lease and gives none back. What a server lacks is prepared first, under the settings that the statement was
//! prepared under, while its client waits. Called by `commands`, and by `server` for what a server answers.

use std::sync::Arc;

use maitred_wire::dialect::Run;
use maitred_wire::{ClientMessage, Code, Complaint, Fault, Intent, Reply};

use crate::adjust;
use crate::answers::{Answer, Unit};
use crate::client::Step;
use crate::ids::{ClientId, ServerId};
use crate::server::{Held, Preparing, Server};
use crate::statements::{Statement, StatementKey, Understood};
use crate::things::schema_under;
use crate::Relay;

impl Relay {
    pub(crate) fn forward_preparation(
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
    pub(crate) fn statement_numbered(&self, id: ClientId, number: u32) -> Option<Arc<Statement>> {
        self.clients[id].statements.as_ref()?.named(&number.to_le_bytes()).cloned()
    }

    pub(crate) fn forward_run(
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
        if let Some(mut effects) = self.judged_here(to, statement.effects.as_deref(), &statement.definition) {
            if !effects.things.is_empty() {
                // Spec: names in it stand for what they stood for when it was prepared.
                let fresh = self.servers[to].shared.welcome();
                let under = statement.under.as_ref();
                let schema = under.and_then(|under| schema_under(under, fresh.as_deref()));
                effects.to_mut().qualify(schema);
            }
            if let Err(complaint) = self.suspect(to, &effects, &statement.definition) {
                return Ok(self.fail_command(id, &complaint, message, here));
            }
        }
        self.prepare_insert_id(id, to, statement.effects.as_deref());
        let statement = match self.answer_in_statement(id, to, &statement) {
            Ok(instead) => instead.unwrap_or(statement),
            Err(complaint) => return Ok(self.fail_command(id, &complaint, message, here)),
        };
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
        self.note_types(id, here, run);
        let Some(agreed) = &self.clients[id].agreed else { return Err(Fault("nothing was agreed")) };
        let types = agreed.types.get(&run.statement).map(|types| &**types).unwrap_or_default();
        let server = &mut self.servers[to];
        server.dialect.write_run(&mut server.output, here, message.total, run, of_server, types)
    }

    fn note_types(&mut self, id: ClientId, here: &[u8], run: &Run) {
        let (Some(agreed), Some(types)) = (&mut self.clients[id].agreed, &run.types) else { return };
        let told = &here[types.clone()];
        let known = agreed.types.get(&run.statement);
        if known.is_none_or(|known| **known != *told) {
            agreed.types.insert(run.statement, told.into());
        }
    }

    /// A run fails before any server has seen it: what it tells of its parameters is not told again.
    pub(crate) fn note_types_in_vain(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) {
        let dialect = self.clients[id].dialect;
        let Ok(number) = dialect.statement_number(here) else { return };
        let Some(statement) = self.statement_numbered(id, number) else { return };
        let parameters = statement.parameters.get().copied().unwrap_or_default();
        if let Ok(Some(run)) = dialect.run_of(here, message.total, parameters) {
            self.note_types(id, here, &run);
        }
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
        let (there, under) = (Arc::clone(&server.settings), statement.under.as_deref());
        let naming = dialect.naming_settings();
        let is_known = !server.may_ask_for(naming);
        let wanted = under
            .filter(|under| is_known && under.meaning(naming) != there.meaning(naming))
            .map(|under| there.with_those_of(under, naming));
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
        // Why: of what these change, nothing is noted.
        self.ask_what_changed(to);
        let server = &mut self.servers[to];
        let fresh = server.shared.welcome();
        let mut changes = adjust::plan(server.dialect, from, wanted);
        adjust::name_defaults(server.dialect, &mut changes, fresh.as_deref().map(|fresh| &fresh.settings));
        server.change_settings(&changes, now);
    }

    /// A command that names a statement: read on, append, rewind, close.
    pub(crate) fn forward_numbered(
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
                    server.owe_hidden(now);
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
    pub(crate) fn refuse_numbered(
        &mut self,
        id: ClientId,
        number: u32,
        message: ClientMessage,
        here: &[u8],
    ) -> Step {
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

    pub(crate) fn forget_numbered(&mut self, id: ClientId, number: u32) {
        let client = &mut self.clients[id];
        if let Some(statements) = &mut client.statements {
            statements.remove(&number.to_le_bytes());
        }
        if let Some(agreed) = &mut client.agreed {
            agreed.types.remove(&number);
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
        self.make_room_for_numbers(id);
        let (Some(client), Some(number)) = (client, number) else { return false };
        if let Some(client) = self.clients.get_mut(client) {
            let statements = client.statements.get_or_insert_with(Default::default);
            statements.insert(&number.to_le_bytes(), statement);
        }
        let dialect = self.servers[id].dialect;
        self.say(client, |out| dialect.write_renumbered(out, here, number));
        false
    }

    /// Close statements that are over the server's bound, least recently used first.
    ///
    /// Why none of which it holds something: a cursor ends with its statement.
    fn make_room_for_numbers(&mut self, to: ServerId) {
        let server = &mut self.servers[to];
        let limit = self.pools[server.pool.0 as usize].route.settings.server_statements_bytes;
        let held = &server.held;
        let is_held = |key| held.iter().any(|(held, _)| *held == key);
        while let Some(key) = (limit > 0).then(|| server.statements.pop_over_but(limit, is_held)).flatten() {
            if let Some(number) = server.numbers.remove(&key) {
                server.dialect.write_close_number(&mut server.output, number);
            }
        }
        self.flush_server(to);
    }

    /// The database takes no more statements: have this server forget some that nobody uses now, or if it has none, those
    /// that are idle here. False: there are none.
    pub(crate) fn close_unused(&mut self, id: ServerId) -> bool {
        if self.close_half(id) {
            return true;
        }
        let pool = &self.pools[self.servers[id].pool.0 as usize];
        let mut closed = false;
        for idle in pool.idle.clone() {
            closed |= self.close_half(idle);
        }
        closed
    }

    /// Why half: the least recently used are the least missed, and one at a time would be too many errors.
    fn close_half(&mut self, id: ServerId) -> bool {
        let server = &mut self.servers[id];
        let held = &server.held;
        let unused = server.statements.oldest_first(|key| !held.iter().any(|(held, _)| *held == key));
        let half = unused.len().div_ceil(2);
        for key in &unused[..half] {
            server.statements.remove(*key);
            if let Some(number) = server.numbers.remove(key) {
                server.dialect.write_close_number(&mut server.output, number);
            }
        }
        self.flush_server(id);
        half > 0
    }

    /// A preparation failed for what is no reason any more.
    pub(crate) fn prepare_again(&mut self, id: ServerId, client: Option<ClientId>, is_shown: bool) {
        let now = self.now;
        let server = self.servers.get_mut(id).expect("the caller holds it");
        match &server.preparing {
            Some(preparing) if is_shown => {
                let definition = Arc::clone(&preparing.statement);
                server.dialect.write_prepare(&mut server.output, b"", &definition.definition);
                server.owe(Answer::Ready(Unit::Reply(Reply::Prepared)), true, now);
                self.flush_server(id);
            }
            // Its client asks to run it once more.
            _ => self.note_preparation_over(id, client),
        }
    }

    /// The answer to a preparation is over.
    pub(crate) fn note_preparation_over(&mut self, id: ServerId, client: Option<ClientId>) {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let was = server.preparing.take();
        if was.is_some_and(|was| was.number.is_none()) {
            // The client waits to have it run: here, lest it is prepared elsewhere again and again.
            server.is_promised = client.is_some();
            self.ready.extend(client);
        }
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
    pub(crate) fn let_go(&mut self, key: StatementKey) -> bool {
        let before = self.held.len();
        self.held.retain(|(held, _)| *held != key);
        self.held.len() < before
    }
}
