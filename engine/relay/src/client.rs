//! A client connection: what it may do next, and whom its messages go to.
//!
//! ```text
//!   Login ──► Welcome ──► Idle ◄───────────────── lease over
//!                │         │ asks                     ▲
//!                └─► Console    ▼        lent         │
//!                       Waiting ────────────────► Leased
//!                          │ refused, cancelled, timed out
//!                          ▼
//!                      Skipping ── Sync ──► Idle
//!   any ──► gone, always with a ClientEnd. Raw is a replication client beside its own server.
//! ```
//!
//! Does no I/O and chooses no server: `pool` lends. A message goes to a server only whole or as a
//! stream whose end is counted. Called by `lib` when bytes of a client arrive.

use std::sync::Arc;

use maitred_wire::{ClientMessage, Code, Complaint, Fault, Intent, Target, Transaction};

use crate::action::{Action, ClientEnd};
use crate::budget::Permit;
use crate::ids::{ClientId, PoolId, ServerId, Time};
use crate::login::Login;
use crate::pool::Lent;
use crate::server::{self, Answer, Unit};
use crate::session_state::Settings;
use crate::snapshot::{PoolMode, PoolSettings};
use crate::statements::{ClientStatements, Statement};
use crate::Relay;

#[derive(Debug)]
pub enum State {
    Login(Box<Login>),
    /// Proven, but no server has told yet what a fresh session says.
    Welcome(Box<Login>),
    Idle,
    Waiting {
        since: Time,
    },
    Leased(ServerId),
    /// A batch failed before any server saw it: everything up to its Sync is dropped.
    Skipping,
    /// Replication: bytes pass unread.
    Raw(ServerId),
    Console {
        is_busy: bool,
    },
}

/// Who a client is; shared by all clients of one user on one database.
#[derive(Debug)]
pub struct Identity {
    pub user: String,
    pub database: String,
    /// Its time limits and its mode, a user's own wishes included.
    pub settings: PoolSettings,
}

#[derive(Debug)]
pub struct Client {
    pub state: State,
    pub identity: Arc<Identity>,
    pub pool: PoolId,
    pub settings: Arc<Settings>,
    pub statements: Option<Box<ClientStatements>>,
    pub address: Box<str>,
    pub local_address: Arc<str>,
    /// What arrived and could not be acted upon yet.
    input: Vec<u8>,
    output: Vec<u8>,
    in_flight: usize,
    /// Bytes still to come of the message under way.
    pub passing: usize,
    /// They go nowhere.
    is_dropping: bool,
    /// A message this long must be whole before it can be acted upon.
    needs_bytes: usize,
    is_dirty: bool,
    /// Not read, because its server takes no more for now.
    pub is_blocked: bool,
    pub is_tls: bool,
    pub is_leaving: bool,
    pub minor: u16,
    pub opened_at: Time,
    pub idle_since: Time,
    pub asked_at: Time,
    /// Its transaction or its place was lost; the next request is told.
    pub lost: Option<Box<Complaint>>,
    pub permit: Permit,
}

/// What became of a message.
enum Step {
    /// This many bytes were used.
    Used(usize),
    /// Nothing yet: try again when something changed.
    Wait,
}

impl Client {
    pub fn backlog(&self) -> usize {
        self.output.len() + self.in_flight
    }

    /// Everything that is held for it.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn held_bytes(&self) -> usize {
        self.input.len() + self.backlog()
    }

    /// Has half a message of it been sent to its server?
    pub fn is_mid_message(&self) -> bool {
        self.passing > 0 && !self.is_dropping
    }

    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub fn is_waiting_since(&self, moment: Time) -> bool {
        matches!(self.state, State::Waiting { since } if since == moment)
    }

    /// Has it nothing under way, as far as it and we know?
    pub fn is_quiet(&self) -> bool {
        matches!(self.state, State::Idle) && self.input.is_empty() && self.passing == 0
    }

    /// Is the peer on this machine by a Unix socket?
    pub fn is_local(&self) -> bool {
        self.local_address.starts_with('/')
    }

    /// Put bytes before which nothing has been kept.
    pub fn put_input(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.input.is_empty());
        self.input = bytes;
    }

    /// What is still to come of the message under way goes nowhere.
    pub fn drop_rest(&mut self) {
        self.is_dropping = self.passing > 0;
    }

    /// A batch failed: what it was to do to the client's statements has not been done.
    pub fn undo(&mut self, skipped: server::Skipped) {
        let Some(statements) = &mut self.statements else { return };
        for name in skipped.unprepared {
            statements.remove(&name);
        }
        if skipped.lost_unnamed {
            statements.unnamed = None;
        }
        for (name, statement) in skipped.unclosed {
            if name.is_empty() {
                statements.unnamed.get_or_insert(statement);
            } else if statements.named(&name).is_none() {
                statements.insert(&name, statement);
            }
        }
    }

    pub(crate) fn new(
        login: Login,
        opened: &crate::ClientOpened,
        now: Time,
        unknown: &Arc<Identity>,
        none: &Arc<Settings>,
    ) -> Self {
        Self {
            state: State::Login(Box::new(login)),
            identity: Arc::clone(unknown),
            pool: PoolId(u32::MAX),
            settings: Arc::clone(none),
            statements: None,
            address: opened.address.as_str().into(),
            local_address: Arc::clone(&opened.local_address),
            input: Vec::new(),
            output: Vec::new(),
            in_flight: 0,
            passing: 0,
            is_dropping: false,
            needs_bytes: 0,
            is_dirty: false,
            is_blocked: false,
            is_tls: opened.is_tls,
            is_leaving: false,
            minor: 0,
            opened_at: now,
            idle_since: now,
            asked_at: Time::NEVER,
            lost: None,
            permit: Permit::default(),
        }
    }
}

impl Relay {
    /// Bytes arrived from a client.
    pub fn client_bytes(&mut self, now: Time, id: ClientId, bytes: &[u8]) {
        self.now = now;
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Some(pool) = self.pools.get_mut(client.pool.0 as usize) {
            pool.counters.received_bytes += bytes.len() as u64;
        }
        match client.state {
            State::Login(_) => self.login_fed(id, bytes),
            State::Raw(server) => self.pass_to_server(server, id, bytes),
            _ if client.input.is_empty() => {
                let used = self.consume(id, bytes);
                self.keep_input(id, &bytes[used..]);
            }
            _ => {
                client.input.extend_from_slice(bytes);
                self.proceed(id);
            }
        }
        self.settle();
    }

    /// Go on with what a client sent earlier.
    pub(crate) fn proceed(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let mut input = std::mem::take(&mut client.input);
        let used = self.consume(id, &input);
        if let Some(client) = self.clients.get_mut(id) {
            debug_assert!(client.input.is_empty());
            input.drain(..used);
            if input.is_empty() {
                self.keep_spare(input);
            } else {
                client.input = input;
            }
            self.keep_input(id, &[]);
        }
    }

    /// Put aside what cannot be acted upon yet, and stop reading when that is much.
    fn keep_input(&mut self, id: ClientId, rest: &[u8]) {
        let limit = self.routes.snapshot.limits.buffer_bytes;
        let Some(client) = self.clients.get_mut(id) else { return };
        if !rest.is_empty() {
            if client.input.capacity() == 0 {
                client.input = self.spare.pop().unwrap_or_default();
            }
            client.input.extend_from_slice(rest);
        }
        let most = limit.max(client.needs_bytes);
        let must_wait = !client.input.is_empty() && (client.input.len() > most || self.is_choked(id));
        let Some(client) = self.clients.get_mut(id) else { return };
        if must_wait && !client.is_blocked {
            client.is_blocked = true;
            self.actions.push(Action::PauseClient(id));
        } else if !must_wait && client.is_blocked {
            client.is_blocked = false;
            self.actions.push(Action::ResumeClient(id));
        }
    }

    /// Does the client's server have as much to write as we are ready to hold?
    fn is_choked(&self, id: ClientId) -> bool {
        match self.clients[id].state {
            State::Leased(server) | State::Raw(server) => self
                .servers
                .get(server)
                .is_some_and(|server| server.backlog() > self.routes.snapshot.limits.buffer_bytes),
            _ => false,
        }
    }

    /// Its server has room again.
    pub(crate) fn unblock_client(&mut self, id: ClientId) {
        if !self.is_choked(id) {
            self.ready.push_back(id);
        }
    }

    /// Act on the messages in `input`; returns how many bytes were used.
    fn consume(&mut self, id: ClientId, input: &[u8]) -> usize {
        let limit = self.routes.snapshot.limits.message_bytes;
        let mut at = 0;
        let mut forwarded_to = None;
        while at < input.len() {
            let Some(client) = self.clients.get_mut(id) else { return input.len() };
            if client.passing > 0 {
                match self.pass_on(id, &input[at..]) {
                    0 => break,
                    used => at += used,
                }
                continue;
            }
            match client.state {
                State::Idle | State::Leased(_) | State::Skipping | State::Console { is_busy: false } => {}
                _ => break,
            }
            let message = match self.dialect.next_intent(&input[at..], usize::MAX) {
                Ok(Some(message)) if message.total > limit => {
                    let text = format!(
                        "a message of {} bytes is longer than limits.message ({limit} bytes)",
                        message.total
                    );
                    let complaint = Complaint::fatal(Code::TooLarge, text)
                        .hint("send less at once, or raise limits.message");
                    self.end_client(id, ClientEnd::LimitReached, Some(complaint));
                    return input.len();
                }
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(fault) => {
                    self.violate(id, fault);
                    return input.len();
                }
            };
            let here = &input[at..input.len().min(at + message.total)];
            // Why: a server is not taken for a message that may never be completed.
            if here.len() < message.total && message.total <= self.hold_bytes {
                break;
            }
            match self.act(id, message, here) {
                Ok(Step::Used(used)) => {
                    at += used;
                    if let Some(client) = self.clients.get_mut(id) {
                        client.needs_bytes = 0;
                    }
                }
                Ok(Step::Wait) => break,
                Err(fault) => {
                    self.violate(id, fault);
                    return input.len();
                }
            }
            if let Some(State::Leased(server)) = self.clients.get(id).map(|client| &client.state) {
                forwarded_to = Some(*server);
            }
        }
        if let Some(server) = forwarded_to {
            self.say_due_now(server);
            self.flush_server(server);
            // What we answered ourselves may have been all there was.
            self.end_lease_if_over(server);
        }
        at
    }

    /// Pass on, or drop, more of a message under way. 0: the server takes no more for now.
    fn pass_on(&mut self, id: ClientId, bytes: &[u8]) -> usize {
        let is_choked = self.is_choked(id);
        let client = &mut self.clients[id];
        let part = client.passing.min(bytes.len());
        let mut server = None;
        if !client.is_dropping {
            if is_choked {
                return 0;
            }
            if let State::Leased(to) = client.state {
                let spare = &mut self.spare;
                let output = &mut self.servers[to].output;
                if output.capacity() == 0 {
                    *output = spare.pop().unwrap_or_default();
                }
                self.servers[to].output.extend_from_slice(&bytes[..part]);
                server = Some(to);
            }
        }
        client.passing -= part;
        if client.passing == 0 {
            client.is_dropping = false;
        }
        if let Some(server) = server {
            self.flush_server(server);
            self.end_lease_if_over(server);
        }
        part
    }

    fn act(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Result<Step, Fault> {
        if message.intent == Intent::Quit {
            self.end_client(id, ClientEnd::Quit, None);
            return Ok(Step::Used(here.len()));
        }
        match self.clients[id].state {
            State::Leased(server) => self.forward(id, server, message, here),
            State::Skipping => Ok(self.skip(id, message, here)),
            State::Console { .. } => self.console_message(id, message, here).map(|used| match used {
                Some(used) => Step::Used(used),
                None => Step::Wait,
            }),
            _ => self.begin(id, message, here),
        }
    }

    /// A message of a client that has no server: answer it here, or get a server.
    fn begin(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Result<Step, Fault> {
        let dialect = self.dialect;
        let client = &mut self.clients[id];
        if client.lost.is_some()
            && !matches!(message.intent, Intent::CopyData | Intent::CopyDone | Intent::CopyFail)
        {
            let complaint = *client.lost.take().expect("checked");
            return Ok(self.fail_unit(id, &complaint, message, here));
        }
        match message.intent {
            // Spec: outside COPY these are ignored, for clients that have not yet seen its failure.
            Intent::CopyData | Intent::CopyDone | Intent::CopyFail | Intent::Flush => {
                return Ok(Step::Used(self.drop_message(id, message, here)));
            }
            Intent::Sync => {
                self.say(id, |out| dialect.say_ready(out, Transaction::None));
                return Ok(Step::Used(here.len()));
            }
            Intent::Close(Target::Statement) if here.len() == message.total => {
                let name = dialect.target_name(here)?;
                if client.statements.as_mut().is_some_and(|statements| statements.remove(name).is_some()) {
                    self.say(id, |out| dialect.say_closed(out));
                    return Ok(Step::Used(here.len()));
                }
            }
            _ => {}
        }
        self.clients[id].asked_at = self.now;
        match self.lend(id) {
            Lent::Now(server) => self.forward(id, server, message, here),
            Lent::Queued => Ok(Step::Wait),
            Lent::Refused(complaint) => Ok(self.fail_unit(id, &complaint, message, here)),
        }
    }

    /// Send a message to the client's server and note what that makes it owe.
    fn forward(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        if self.is_choked(id) {
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
        match message.intent {
            Intent::Query | Intent::Call => {
                let unit = if message.intent == Intent::Query { Unit::Query } else { Unit::Call };
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
            Intent::Quit => {}
        }
        self.servers[to].output.extend_from_slice(here);
        self.clients[id].passing = message.total - here.len();
        Ok(Step::Used(here.len()))
    }

    fn forward_prepare(
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
            .hint(format!("raise pool.client_statements_bytes (now {limit})"));
            return Ok(self.fail_on_server(id, to, &complaint, message, here));
        }
        if here.len() < message.total {
            self.clients[id].needs_bytes = message.total;
            return Ok(Step::Wait);
        }
        let dialect = self.dialect;
        let parts = dialect.prepare_of(here)?;
        let key = self.hasher.key(parts.definition);
        let now = self.now;
        let client = &mut self.clients[id];
        let pool = client.pool;
        let statements = client.statements.get_or_insert_with(Default::default);
        self.pools[pool.0 as usize].counters.client_parses += 1;
        if parts.name.is_empty() {
            let server = &mut self.servers[to];
            if statements.unnamed.as_ref().is_none_or(|held| held.key != key) {
                statements.unnamed = Some(Arc::new(Statement { key, definition: parts.definition.into() }));
            }
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
                "close statements that are not used, or raise pool.client_statements_bytes (now {limit})"
            ));
            return Ok(self.fail_on_server(id, to, &complaint, message, here));
        }
        let statement = self.statement_table.intern(key, parts.definition);
        statements.insert(parts.name, Arc::clone(&statement));
        let server = &mut self.servers[to];
        server.pending_names.push_back(parts.name.into());
        server.unsynced += 1;
        server.stop_recording();
        if server.statements.has(key) {
            server.owe(Answer::SayPrepared, true, now);
        } else {
            self.make_room(to);
            let server = &mut self.servers[to];
            server.close_stale(key, now);
            server.statements.insert(key, parts.definition.len());
            server.owe(Answer::Prepared { key: Some(key), named: true }, true, now);
            dialect.write_prepare(&mut server.output, &key.server_name(), parts.definition);
            self.pools[pool.0 as usize].counters.server_parses += 1;
        }
        Ok(Step::Used(here.len()))
    }

    fn forward_bind(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        let dialect = self.dialect;
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
            let server = &mut self.servers[to];
            server.unsynced += 1;
            server.stop_recording();
            server.owe(Answer::Bound(None), true, now);
            server.output.extend_from_slice(here);
            self.clients[id].passing = message.total - here.len();
            return Ok(Step::Used(here.len()));
        };
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
    fn forward_named(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Step, Fault> {
        if here.len() < message.total {
            return Err(Fault("a statement name that is longer than any statement name"));
        }
        let dialect = self.dialect;
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
    fn ensure_prepared(&mut self, to: ServerId, statement: &Arc<Statement>) {
        let now = self.now;
        if self.servers[to].statements.has(statement.key) {
            return;
        }
        self.make_room(to);
        let server = &mut self.servers[to];
        server.close_stale(statement.key, now);
        server.statements.insert(statement.key, statement.definition.len());
        server.unsynced += 1;
        server.owe(Answer::Prepared { key: Some(statement.key), named: false }, false, now);
        server.dialect.write_prepare(&mut server.output, &statement.key.server_name(), &statement.definition);
        self.pools[server.pool.0 as usize].counters.server_parses += 1;
    }

    /// Have `statement` as the unnamed statement of the server.
    fn ensure_unnamed(&mut self, to: ServerId, statement: &Arc<Statement>) {
        let now = self.now;
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
    fn make_room(&mut self, to: ServerId) {
        let now = self.now;
        let server = &mut self.servers[to];
        let limit = self.pools[server.pool.0 as usize].route.settings.server_statements_bytes;
        while let Some(key) = (limit > 0).then(|| server.statements.pop_over(limit)).flatten() {
            server.unsynced += 1;
            server.owe(Answer::Closed(Some(key)), false, now);
            server.dialect.write_close(&mut server.output, &key.server_name());
        }
    }

    /// Drop a message, however much of it is still to come.
    fn drop_message(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> usize {
        let client = &mut self.clients[id];
        client.passing = message.total - here.len();
        client.is_dropping = client.passing > 0;
        here.len()
    }

    /// Answer a unit of work with an error of ours, before any server has seen it.
    fn fail_unit(
        &mut self,
        id: ClientId,
        complaint: &Complaint,
        message: ClientMessage,
        here: &[u8],
    ) -> Step {
        let dialect = self.dialect;
        self.count_error(id);
        self.say(id, |out| dialect.say_error(out, complaint));
        if complaint.fatal {
            self.end_client(id, ClientEnd::LimitReached, None);
            return Step::Used(here.len());
        }
        self.clients[id].asked_at = Time::NEVER;
        self.clients[id].idle_since = self.now;
        match message.intent {
            Intent::Query | Intent::Call | Intent::Sync => {
                self.say(id, |out| dialect.say_ready(out, Transaction::None));
            }
            _ => self.clients[id].state = State::Skipping,
        }
        Step::Used(self.drop_message(id, message, here))
    }

    /// Answer with an error of ours in the middle of a batch that a server is working on.
    ///
    /// Why: our error must stand at its place among the server's answers, so the server is made to
    /// raise one at that place, and ours is shown instead.
    fn fail_on_server(
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
            return self.fail_unit(id, complaint, message, here);
        }
        let now = self.now;
        let server = &mut self.servers[to];
        server.stop_recording();
        server.unsynced += 1;
        server.refusals.push_back(Box::new(complaint.clone()));
        server.owe(Answer::Refused, true, now);
        server.dialect.write_describe(&mut server.output, b"mt_never_prepared");
        Step::Used(self.drop_message(id, message, here))
    }

    /// Drop what belongs to a failed batch, up to its Sync.
    fn skip(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Step {
        if message.intent == Intent::Sync {
            let dialect = self.dialect;
            self.clients[id].state = State::Idle;
            self.say(id, |out| dialect.say_ready(out, Transaction::None));
        }
        Step::Used(self.drop_message(id, message, here))
    }

    /// The client broke the protocol: it is told and closed; nobody else is touched.
    pub(crate) fn violate(&mut self, id: ClientId, fault: Fault) {
        let complaint = Complaint::fatal(Code::ProtocolViolation, fault.0);
        self.end_client(id, ClientEnd::ProtocolViolation, Some(complaint));
    }

    /// The socket of a client ended.
    pub fn client_closed(&mut self, now: Time, id: ClientId) {
        self.now = now;
        self.end_client(id, ClientEnd::Vanished, None);
        self.settle();
    }

    /// Append to a client's output.
    #[inline]
    pub(crate) fn say(&mut self, id: ClientId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.output.capacity() == 0 {
            client.output = self.spare.pop().unwrap_or_default();
        }
        write(&mut client.output);
        if !client.is_dirty {
            client.is_dirty = true;
            if client.in_flight == 0 {
                self.actions.push(Action::FlushClient(id));
            }
        }
    }

    /// Take a client's output for writing.
    pub fn take_client_output(&mut self, id: ClientId, into: &mut Vec<u8>) {
        if let Some(client) = self.clients.get_mut(id) {
            client.is_dirty = false;
            std::mem::swap(&mut client.output, into);
            client.in_flight = into.len();
            if let Some(pool) = self.pools.get_mut(client.pool.0 as usize) {
                pool.counters.sent_bytes += into.len() as u64;
            }
        }
    }

    /// What was taken has been written.
    pub fn client_written(&mut self, now: Time, id: ClientId) {
        self.now = now;
        let low = self.routes.snapshot.limits.buffer_bytes / 4;
        let Some(client) = self.clients.get_mut(id) else { return };
        client.in_flight = 0;
        if !client.output.is_empty() {
            self.actions.push(Action::FlushClient(id));
        }
        let (State::Leased(server) | State::Raw(server)) = client.state else { return };
        if client.backlog() <= low {
            if let Some(server_entry) = self.servers.get_mut(server) {
                if server_entry.is_paused {
                    server_entry.is_paused = false;
                    self.actions.push(Action::ResumeServer(server));
                }
            }
        }
    }

    /// Close a client for `reason`, with a last word if there is one, and free what it held.
    pub(crate) fn end_client(&mut self, id: ClientId, reason: ClientEnd, complaint: Option<Complaint>) {
        let Some(mut client) = self.clients.remove(id) else { return };
        let mut last_words = std::mem::take(&mut client.output);
        if let Some(complaint) = complaint {
            self.dialect.say_error(&mut last_words, &complaint);
        }
        match client.state {
            State::Waiting { .. } => {
                self.pools[client.pool.0 as usize].waiting -= 1;
                self.publish_share(client.pool);
            }
            State::Leased(server) => self.abandon(server, client.is_mid_message()),
            State::Raw(server) => self.lose_server(server, crate::action::ServerEnd::ClientLeft),
            State::Welcome(_) => {
                self.pools[client.pool.0 as usize].welcome_waiters.retain(|waiter| *waiter != id);
            }
            _ => {}
        }
        self.note_client_end(id, &client, reason);
        drop(client.permit);
        self.actions.push(Action::CloseClient { client: id, last_words });
    }

    /// The client of a leased server is gone: stop what runs, then make the server clean.
    fn abandon(&mut self, id: ServerId, is_cut: bool) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        let mode = self.pools[server.pool.0 as usize].mode();
        server.must_reset |= mode == crate::snapshot::PoolMode::Session;
        server.stop_recording();
        if server.is_paused {
            server.is_paused = false;
            self.actions.push(Action::ResumeServer(id));
        }
        if is_cut {
            // Half a message has been sent: no request can follow it.
            server.state = server::State::Cleaning { until: now };
            self.lose_server(id, crate::action::ServerEnd::ClientLeft);
            return;
        }
        server.state = server::State::Cleaning { until: now.after_ms(crate::pool::CLEANING_MS) };
        // What was forwarded in the same breath as its client's last mistake is on its way, too.
        self.flush_server(id);
        let server = &self.servers[id];
        let is_running = server.is_working() && server.copy != Some(maitred_wire::CopyDirection::In);
        if is_running {
            self.cancel_server(id);
        }
        if self.servers[id].is_free() {
            self.release(id);
        } else {
            self.clean(id);
        }
    }
}
