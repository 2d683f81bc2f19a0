//! A client's message on its way to its server: what it makes owed, and what must go before it.
//!
//! Takes no lease and gives none back. Statement names are exchanged here, and statements that the
//! server lacks are prepared first. Called by `client` once a server has been lent.

use std::sync::Arc;

use maitred_wire::effects::Effects;
use maitred_wire::{ClientMessage, Code, Complaint, Fault, Intent, Target, Transaction};

use crate::answers::{Answer, Unit};
use crate::client::{State, Step};
use crate::ids::{ClientId, ServerId};
use crate::snapshot::PoolMode;
use crate::statements::{Statement, Understood};
use crate::Relay;

impl Relay {
    /// Send a message to the client's server and note what that makes it owe.
    pub(crate) fn forward(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        if self.servers[to].dialect.takes_turns() {
            return self.forward_command(id, to, message, here);
        }
        let begins = !matches!(
            message.intent,
            Intent::Sync | Intent::Flush | Intent::CopyData | Intent::CopyDone | Intent::CopyFail
        );
        if self.is_choked(id) || begins && self.servers[to].may_reset(&self.clients[id].own_settings) {
            return Ok(Step::Wait);
        }
        let now = self.now;
        self.ensure_buffer(to);
        let server = &mut self.servers[to];
        server.quiet_since = now;
        if server.skipping && !matches!(message.intent, Intent::Sync) {
            return Ok(Step::Used(self.drop_message(id, message, here)));
        }
        let is_copy = matches!(
            message.intent,
            Intent::CopyData | Intent::CopyDone | Intent::CopyFail | Intent::Sync | Intent::Flush
        );
        if server.is_copying_in() && !is_copy {
            return Err(Fault("a request in the middle of COPY data"));
        }
        if let Some(renamed) = self.in_server_words(id, message, here) {
            return self.forward_in_server_words(id, to, message, renamed);
        }
        let server = &mut self.servers[to];
        match message.intent {
            Intent::Query | Intent::Call => {
                let unit = if message.intent == Intent::Query { Unit::Query } else { Unit::Call };
                if unit == Unit::Query {
                    if self.forget_named(id, to, message, here) {
                        return Ok(Step::Used(here.len()));
                    }
                    match self.judge_query(id, to, message, here) {
                        Err(complaint) => {
                            return Ok(self.fail_on_server(id, to, &complaint, message, here));
                        }
                        Ok(lists) if lists => {
                            if let Some(own) = self.own_listing(id, to, message, here) {
                                return self.forward_in_server_words(id, to, message, own);
                            }
                        }
                        Ok(_) => {}
                    }
                }
                let server = &mut self.servers[to];
                // Spec: a simple query destroys the unnamed statement.
                server.statements.unnamed = None;
                // Spec: a query or call ends what was begun before it, as a Sync would.
                server.unsynced = 0;
                server.owe(Answer::Ready(unit), true, now);
                if unit == Unit::Query {
                    if let Some(statements) = &mut self.clients[id].statements {
                        statements.unnamed = None;
                    }
                    self.note_text(to, here);
                }
            }
            Intent::Sync => {
                server.unsynced = 0;
                server.skipping = false;
                // Spec: a server that takes COPY data ignores Sync.
                if server.is_copying_in() {
                    server.unsynced = u32::from(server.is_copy_in_batch());
                } else {
                    server.owe(Answer::Ready(Unit::Sync), true, now);
                }
                server.record(here, Some(Answer::Ready(Unit::Sync)));
            }
            Intent::Flush => server.record(here, None),
            Intent::Execute => {
                server.unsynced += 1;
                server.owe(Answer::Executed, true, now);
                server.record(here, Some(Answer::Executed));
            }
            Intent::Describe(Target::Portal) => {
                server.unsynced += 1;
                if let (Some(key), Some(statements)) = (server.last_bound(), &mut self.clients[id].statements)
                {
                    statements.described.insert(key);
                }
                server.owe(Answer::Described(Target::Portal, None), true, now);
                server.record(here, Some(Answer::Described(Target::Portal, None)));
            }
            Intent::Close(Target::Portal) => {
                server.unsynced += 1;
                server.owe(Answer::Closed(None), true, now);
                server.record(here, Some(Answer::Closed(None)));
            }
            Intent::Prepare => return self.forward_prepare(id, to, message, here),
            Intent::Bind => return self.forward_bind(id, to, message, here),
            Intent::Describe(Target::Statement) | Intent::Close(Target::Statement) => {
                return self.forward_named(id, to, message, here);
            }
            Intent::CopyData | Intent::CopyDone | Intent::CopyFail => {
                // Why "nothing owed": a client may send its data before it has seen the COPY begin.
                if server.owed.is_empty() {
                    return Ok(Step::Used(self.drop_message(id, message, here)));
                }
                if message.intent != Intent::CopyData {
                    server.end_copy();
                }
            }
            // What only another dialect has.
            _ => return Ok(Step::Used(self.drop_message(id, message, here))),
        }
        self.servers[to].output.extend_from_slice(here);
        self.clients[id].passing = message.total - here.len();
        Ok(Step::Used(here.len()))
    }

    /// `DEALLOCATE` of a statement that the protocol made: on servers it has another name and stays, for
    /// whoever asks for the same text. False: it is no such query.
    #[inline]
    fn forget_named(&mut self, id: ClientId, to: ServerId, message: ClientMessage, here: &[u8]) -> bool {
        if here.len() < message.total {
            return false;
        }
        // Why not then: the server has its own answer to whatever is asked in a failed transaction.
        if self.servers[to].transaction == Transaction::Failed {
            return false;
        }
        let dialect = self.clients[id].dialect;
        let Some(name) = dialect.forgotten(dialect.query_text(here)) else { return false };
        let statements = self.clients[id].statements.as_mut();
        if statements.and_then(|statements| statements.remove(name.as_bytes())).is_none() {
            return false;
        }
        let now = self.now;
        let server = &mut self.servers[to];
        server.statements.unnamed = None;
        server.unsynced = 0;
        server.owe_hidden(now);
        server.owe(Answer::Ready(Unit::Query), true, now);
        server.dialect.write_forgetting(&mut server.output);
        true
    }

    /// Note what a query's text shows of its effects. True: it asks which statements are prepared.
    ///
    /// # Errors
    /// That is refused.
    #[inline]
    fn judge_query(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<bool, Complaint> {
        let dialect = self.clients[id].dialect;
        let text = dialect.query_text(here);
        let mut judged = dialect.effects_of(text);
        if judged.as_ref().is_some_and(|effects| effects.settings.unnamed) {
            if let Some(known) = self.effects_of_executed(id, to, text) {
                judged = known;
            }
        }
        if self.clients[id].subscription.is_some() {
            self.listen_along(id, to, text, judged.as_deref());
        }
        if let Some(effects) = self.judged_here(to, judged.as_deref(), text) {
            self.suspect(to, &effects, text)?;
        }
        if here.len() < message.total {
            // Whatever stands in the part that is not here yet.
            self.suspect(to, &Effects::anything(), text)?;
        }
        Ok(judged.is_some_and(|effects| effects.lists_statements))
    }

    pub(crate) fn forward_prepare(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let limit = self.clients[id].identity.settings.client_statements_bytes;
        if message.total as u64 > limit && limit > 0 {
            let complaint = Complaint::error(
                Code::TooLarge,
                format!(
                    "a prepared statement of {} bytes is larger than what one client may hold",
                    message.total
                ),
            )
            .hint(format!("raise pool.client_statements (now {limit})"));
            return Ok(self.fail_on_server(id, to, &complaint, message, here));
        }
        if here.len() < message.total {
            self.clients[id].needs_bytes = message.total;
            return Ok(Step::Wait);
        }
        let dialect = self.clients[id].dialect;
        let parts = dialect.prepare_of(here)?;
        let key = self.hasher.key(parts.definition);
        let now = self.now;
        if self.clients[id].subscription.is_some() {
            let text = dialect.definition_text(parts.definition);
            self.listen_along(id, to, text, dialect.effects_of(text).as_deref());
        }
        let runs = self.run_by(dialect, parts.definition);
        let client = &mut self.clients[id];
        let pool = client.pool;
        let statements = client.statements.get_or_insert_with(Default::default);
        self.pools[pool.0 as usize].counters.client_parses += 1;
        if parts.name.is_empty() {
            if statements.unnamed.as_ref().is_none_or(|held| held.key != key) {
                let effects = dialect.effects_of(dialect.definition_text(parts.definition));
                let definition = parts.definition.into();
                statements.unnamed = Some(Arc::new(Statement {
                    key,
                    definition,
                    effects,
                    runs,
                    under: None,
                    asks: std::sync::OnceLock::new(),
                    parameters: std::sync::OnceLock::new(),
                }));
            }
            let held = statements.unnamed.as_ref();
            let reads_sequences = held.is_some_and(|held| held.reads_sequences());
            if held.is_some_and(|held| held.lists_statements()) {
                if let Some(own) = self.own_listing(id, to, message, here) {
                    return self.forward_in_server_words(id, to, message, own);
                }
            }
            if reads_sequences {
                self.guard_sequences(to);
            }
            let server = &mut self.servers[to];
            server.statements.unnamed = Some(key);
            server.unsynced += 1;
            server.owe(Answer::PreparedUnnamed, true, now);
            server.stop_recording();
            server.output.extend_from_slice(here);
            self.pools[pool.0 as usize].counters.server_parses += 1;
            self.note_text(to, here);
            return Ok(Step::Used(here.len()));
        }
        if let Some(held) = statements.named(parts.name).cloned() {
            // The name is taken: the server says so itself, at the right place among its answers.
            self.ensure_prepared(to, &held);
            let server = &mut self.servers[to];
            server.unsynced += 1;
            server.owe(Answer::Prepared { key: None, named: false }, true, now);
            server.stop_recording();
            dialect.write_prepare(&mut server.output, &held.key.server_name(), parts.definition);
            return Ok(Step::Used(here.len()));
        }
        if limit > 0 && statements.bytes() + here.len() as u64 > limit {
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
            return Ok(self.fail_on_server(id, to, &complaint, message, here));
        }
        let judge = || (dialect.effects_of(dialect.definition_text(parts.definition)), runs);
        let statement = self.statement_table.intern(key, parts.definition, judge);
        if statement.lists_statements() {
            if let Some(own) = self.own_listing(id, to, message, here) {
                return self.forward_in_server_words(id, to, message, own);
            }
        }
        let statements = self.clients[id].statements.get_or_insert_with(Default::default);
        statements.insert(parts.name, Arc::clone(&statement));
        if statement.reads_sequences() {
            self.guard_sequences(to);
        }
        let server = &mut self.servers[to];
        server.pending_names.push_back(parts.name.into());
        server.unsynced += 1;
        server.stop_recording();
        // Why: whoever prepares anew means what the names stand for now.
        let is_known = server.names.is_some() && server.statements.has(key);
        if is_known && server.statements.understood(key) == Some(server.understands()) {
            server.owe(Answer::SayPrepared, true, now);
        } else {
            server.forget_statement(key);
            self.make_room(to);
            let server = &mut self.servers[to];
            server.close_stale(key, now);
            server.statements.insert(key, parts.definition.len(), server.understands());
            server.owe(Answer::Prepared { key: Some(key), named: true }, true, now);
            dialect.write_prepare(&mut server.output, &key.server_name(), parts.definition);
            self.pools[pool.0 as usize].counters.server_parses += 1;
        }
        Ok(Step::Used(here.len()))
    }

    pub(crate) fn forward_bind(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let dialect = self.clients[id].dialect;
        let Some(head) = dialect.bind_head(here, message.total)? else { return Ok(Step::Wait) };
        let now = self.now;
        let client = &self.clients[id];
        self.pools[client.pool.0 as usize].counters.binds += 1;
        let held = client.statements.as_ref().and_then(|statements| match head.statement {
            b"" => statements.unnamed.clone(),
            name => statements.named(name).cloned(),
        });
        let Some(statement) = held else {
            if head.statement.is_empty() {
                // Why: the server may have an unnamed statement, of somebody else.
                let complaint =
                    Complaint::error(Code::UnknownStatement, "unnamed prepared statement does not exist");
                return Ok(self.fail_on_server(id, to, &complaint, message, here));
            }
            // Perhaps one made by SQL PREPARE on this very server; else the server says no.
            let mut effects = Effects::anything();
            effects.settings.set = dialect.made_up_names(&here[head.rest_at..]);
            if let Err(complaint) = self.suspect(to, &effects, b"") {
                return Ok(self.fail_on_server(id, to, &complaint, message, here));
            }
            let server = &mut self.servers[to];
            server.unsynced += 1;
            server.stop_recording();
            server.owe(Answer::Bound(None), true, now);
            server.output.extend_from_slice(here);
            self.clients[id].passing = message.total - here.len();
            return Ok(Step::Used(here.len()));
        };
        let text = dialect.definition_text(&statement.definition);
        if self.clients[id].subscription.is_some() {
            self.listen_along(id, to, text, statement.effects.as_deref());
        }
        if let Some(mut effects) = self.judged_here(to, statement.effects.as_deref(), text) {
            if effects.settings.unnamed {
                // Why: which setting it is may be among the values.
                let names = dialect.made_up_names(&here[head.rest_at..]);
                effects.to_mut().settings.set.extend(names);
            }
            if let Err(complaint) = self.suspect(to, &effects, text) {
                return Ok(self.fail_on_server(id, to, &complaint, message, here));
            }
        }
        let name = statement.key.server_name();
        let name = if head.statement.is_empty() { &b""[..] } else { &name[..] };
        if name.is_empty() {
            self.ensure_unnamed(to, &statement);
        } else {
            self.begin_recording(to);
            self.ensure_prepared(to, &statement);
            self.note_definition(to, &statement);
        }
        let server = &mut self.servers[to];
        let start = server.output.len();
        server.unsynced += 1;
        let answer = Answer::Bound((!name.is_empty()).then_some(statement.key));
        server.owe(answer, true, now);
        dialect.write_bind_head(&mut server.output, head.portal, name, message.total - head.rest_at);
        server.output.extend_from_slice(&here[head.rest_at..]);
        if here.len() == message.total {
            server.record_written(start, answer);
        } else {
            server.stop_recording();
        }
        self.clients[id].passing = message.total - here.len();
        Ok(Step::Used(here.len()))
    }

    /// `Describe` or `Close` of a statement.
    pub(crate) fn forward_named(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        if here.len() < message.total {
            return Err(Fault("a statement name that is longer than any statement name"));
        }
        let dialect = self.clients[id].dialect;
        let name = dialect.target_name(here)?;
        let now = self.now;
        let client = &mut self.clients[id];
        let is_close = message.intent == Intent::Close(Target::Statement);
        if is_close {
            let statements = client.statements.as_mut();
            let held = statements.and_then(|statements| {
                if name.is_empty() {
                    statements.unnamed.take()
                } else {
                    statements.remove(name)
                }
            });
            if let Some(held) = held {
                // It stays prepared on the server, for the next who asks for the same text.
                let server = &mut self.servers[to];
                server.unsynced += 1;
                server.stop_recording();
                server.pending_closes.push_back((name.into(), held));
                server.owe(Answer::SayClosed, true, now);
                return Ok(Step::Used(here.len()));
            }
        }
        let held = client.statements.as_ref().and_then(|statements| match name {
            b"" => statements.unnamed.clone(),
            name => statements.named(name).cloned(),
        });
        match held {
            Some(statement) if name.is_empty() => {
                self.ensure_unnamed(to, &statement);
                let server = &mut self.servers[to];
                server.unsynced += 1;
                server.owe(Answer::Described(Target::Statement, None), true, now);
                server.output.extend_from_slice(here);
            }
            Some(statement) => {
                self.begin_recording(to);
                self.ensure_prepared(to, &statement);
                let server = &mut self.servers[to];
                let start = server.output.len();
                let answer = Answer::Described(Target::Statement, Some(statement.key));
                server.unsynced += 1;
                server.owe(answer, true, now);
                dialect.write_describe(&mut server.output, &statement.key.server_name());
                server.record_written(start, answer);
                if let Some(statements) = &mut self.clients[id].statements {
                    statements.described.insert(statement.key);
                }
            }
            None if name.is_empty() && !is_close => {
                let complaint =
                    Complaint::error(Code::UnknownStatement, "unnamed prepared statement does not exist");
                return Ok(self.fail_on_server(id, to, &complaint, message, here));
            }
            None => {
                let server = &mut self.servers[to];
                server.unsynced += 1;
                server.stop_recording();
                let answer =
                    if is_close { Answer::Closed(None) } else { Answer::Described(Target::Statement, None) };
                server.owe(answer, true, now);
                server.output.extend_from_slice(here);
            }
        }
        Ok(Step::Used(here.len()))
    }

    /// Have room to write into; an idle server holds none.
    #[inline]
    pub(crate) fn ensure_buffer(&mut self, to: ServerId) {
        let server = &mut self.servers[to];
        if server.output.capacity() == 0 {
            server.output = self.spare.pop().unwrap_or_default();
        }
    }

    /// Have `statement` under its name on the server before what comes next.
    pub(crate) fn ensure_prepared(&mut self, to: ServerId, statement: &Arc<Statement>) {
        if let Some(runs) = &statement.runs {
            self.ensure_prepared(to, runs);
        }
        let now = self.now;
        let server = &mut self.servers[to];
        if server.statements.has(statement.key) {
            let is_same = |was: Understood| was.names.is_some() && was.names == server.names;
            // Why not in its own lease: PostgreSQL itself sees to that.
            if server.names.is_none() || server.statements.understood(statement.key).is_some_and(is_same) {
                return;
            }
            server.forget_statement(statement.key);
        }
        self.make_room(to);
        let server = &mut self.servers[to];
        server.close_stale(statement.key, now);
        server.statements.insert(statement.key, statement.definition.len(), server.understands());
        server.unsynced += 1;
        server.owe(Answer::Prepared { key: Some(statement.key), named: false }, false, now);
        server.dialect.write_prepare(&mut server.output, &statement.key.server_name(), &statement.definition);
        self.pools[server.pool.0 as usize].counters.server_parses += 1;
    }

    /// Have `statement` as the unnamed statement of the server.
    pub(crate) fn ensure_unnamed(&mut self, to: ServerId, statement: &Arc<Statement>) {
        let now = self.now;
        if let Some(runs) = &statement.runs {
            self.ensure_prepared(to, runs);
        }
        let server = &mut self.servers[to];
        server.stop_recording();
        if server.statements.unnamed == Some(statement.key) {
            return;
        }
        server.statements.unnamed = Some(statement.key);
        server.unsynced += 1;
        server.owe(Answer::PreparedUnnamed, false, now);
        server.dialect.write_prepare(&mut server.output, b"", &statement.definition);
        self.pools[server.pool.0 as usize].counters.server_parses += 1;
    }

    /// Close statements that are over the server's bound, least recently used first.
    pub(crate) fn make_room(&mut self, to: ServerId) {
        let now = self.now;
        let server = &mut self.servers[to];
        let limit = self.pools[server.pool.0 as usize].route.settings.server_statements_bytes;
        while let Some(key) = (limit > 0).then(|| server.statements.pop_over(limit)).flatten() {
            server.unsynced += 1;
            server.owe(Answer::Closed(Some(key)), false, now);
            server.dialect.write_close(&mut server.output, &key.server_name());
        }
    }

    /// Answer with an error of ours in the middle of a batch that a server is working on.
    ///
    /// Why: our error must stand at its place among the server's answers, so the server is made to
    /// raise one at that place, and ours is shown instead.
    pub(crate) fn fail_on_server(
        &mut self,
        id: ClientId,
        to: ServerId,
        complaint: &Complaint,
        message: ClientMessage,
        here: &[u8],
    ) -> Step {
        let server = &self.servers[to];
        let is_kept = self.pools[server.pool.0 as usize].mode() == PoolMode::Session;
        if server.is_free() && !is_kept {
            self.end_lease_if_over(to);
            match self.clients.get(id).map(|client| &client.state) {
                // Pinned, or about to be asked: the client has its server still.
                Some(State::Leased(_)) => {}
                Some(_) => return self.fail_unit(id, complaint, message, here),
                None => return Step::Used(here.len()),
            }
        }
        let now = self.now;
        let server = &mut self.servers[to];
        server.stop_recording();
        server.unsynced += 1;
        server.refusals.push_back(Box::new(complaint.clone()));
        server.owe(Answer::Refused, true, now);
        server.dialect.write_describe(&mut server.output, b"mt_never_prepared");
        if message.intent == Intent::Query {
            // A query ends by itself, what stands for it does not.
            server.unsynced = 0;
            server.dialect.write_sync(&mut server.output);
            server.owe(Answer::Ready(Unit::Sync), true, now);
        }
        Step::Used(self.drop_message(id, message, here))
    }
}
