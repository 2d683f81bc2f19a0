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

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use maitred_wire::{ClientMessage, Code, Complaint, Dialect, Fault, Intent, Target, Transaction};

use crate::action::{Action, ClientEnd};
use crate::agreed::Agreed;
use crate::answers::Skipped;
use crate::budget::Permit;
use crate::ids::{ClientId, PoolId, ServerId, Time};
use crate::listeners::Subscription;
use crate::login::Login;
use crate::pool::Lent;
use crate::session_state::Settings;
use crate::snapshot::PoolSettings;
use crate::statements::ClientStatements;
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
    pub dialect: Dialect,
    pub identity: Arc<Identity>,
    pub pool: PoolId,
    pub settings: Arc<Settings>,
    pub statements: Option<Box<ClientStatements>>,
    pub address: Box<str>,
    pub local_address: Arc<str>,
    /// What arrived and could not be acted upon yet.
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    pub(crate) in_flight: usize,
    /// Bytes still to come of the message under way.
    pub passing: usize,
    /// They go nowhere.
    is_dropping: bool,
    /// A message this long must be whole before it can be acted upon.
    pub(crate) needs_bytes: usize,
    pub(crate) is_dirty: bool,
    /// Not read, because its server takes no more for now.
    pub is_blocked: bool,
    pub is_tls: bool,
    pub is_leaving: bool,
    /// A new snapshot serves it from another pool; it goes there with its next request.
    pub is_misplaced: bool,
    /// What it began with, and what a reset of its session brings back.
    pub own_settings: Arc<Settings>,
    pub minor: u16,
    /// What was agreed at login, and what its last statement left to be asked for (MySQL).
    pub agreed: Option<Box<Agreed>>,
    pub opened_at: Time,
    pub idle_since: Time,
    /// The server it used last, and how often that had been lent by then.
    pub last_lease: Option<(ServerId, u64)>,
    pub asked_at: Time,
    /// Its transaction or its place was lost; the next request is told.
    pub lost: Option<Box<Complaint>>,
    /// What it listens to. Enter: `note_channels`. Leave: `tell_held`, DISCARD ALL, its end.
    pub subscription: Option<Box<Subscription>>,
    pub permit: Permit,
}

/// What became of a message.
pub(crate) enum Step {
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

    /// Where the peer is; None: on a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse::<SocketAddr>().map(|address| address.ip()).ok()
    }

    /// Put bytes that came before all that is kept.
    pub fn put_input(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.input);
        self.input = bytes;
    }

    /// What has been kept, for somebody who reads no messages.
    pub fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// What is still to come of the message under way goes nowhere.
    pub fn drop_rest(&mut self) {
        self.is_dropping = self.passing > 0;
    }

    /// A batch failed: what it was to do to the client's statements has not been done.
    pub fn undo(&mut self, skipped: Skipped) {
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
            dialect: opened.dialect,
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
            is_misplaced: false,
            own_settings: Arc::clone(none),
            minor: 0,
            agreed: None,
            opened_at: now,
            idle_since: now,
            last_lease: None,
            asked_at: Time::NEVER,
            lost: None,
            subscription: None,
            permit: Permit::default(),
        }
    }
}

impl Relay {
    /// Has its server asked it for a file?
    #[inline]
    fn is_asked_for_file(&self, id: ClientId) -> bool {
        match self.clients[id].state {
            State::Leased(server) => {
                self.clients[id].dialect.takes_turns() && self.servers[server].is_copying_in()
            }
            _ => self.clients[id].is_sending_in_vain(),
        }
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
            self.tell_held(id);
        }
    }

    /// Put aside what cannot be acted upon yet, and stop reading when that is much.
    pub(crate) fn keep_input(&mut self, id: ClientId, rest: &[u8]) {
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

    /// Does the client's server, or a client between two leases, have as much to read as we are ready
    /// to hold?
    pub(crate) fn is_choked(&self, id: ClientId) -> bool {
        match self.clients[id].state {
            State::Leased(server) | State::Raw(server) => self
                .servers
                .get(server)
                .is_some_and(|server| server.backlog() > self.routes.snapshot.limits.buffer_bytes),
            State::Idle => self.clients[id].backlog() > self.routes.snapshot.limits.buffer_bytes,
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
    pub(crate) fn consume(&mut self, id: ClientId, input: &[u8]) -> usize {
        let limit = self.routes.snapshot.limits.message_bytes;
        let mut at = 0;
        let most_backlog = self.routes.snapshot.limits.buffer_bytes;
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
            if client.agreed.as_ref().is_some_and(|agreed| agreed.is_asking) {
                break;
            }
            match client.state {
                State::Raw(server) => {
                    self.pass_to_server(server, id, &input[at..]);
                    return input.len();
                }
                // Why: the answers to what it asks would be held for it, and it does not read.
                State::Idle if client.backlog() > most_backlog => break,
                State::Idle | State::Leased(_) | State::Skipping | State::Console { is_busy: false } => {}
                _ => break,
            }
            let (dialect, is_data) = (client.dialect, self.is_asked_for_file(id));
            let message = match dialect.next_intent(&input[at..], usize::MAX, is_data) {
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
        let dialect = self.clients[id].dialect;
        let client = &mut self.clients[id];
        if client.lost.is_some()
            && !matches!(message.intent, Intent::CopyData | Intent::CopyDone | Intent::CopyFail)
        {
            if dialect.takes_turns() && crate::commands::is_unanswered(message.intent) {
                // What waits for an answer comes behind it, and hears of it.
                return Ok(self.pass_over(id, message, here));
            }
            let complaint = *client.lost.take().expect("checked");
            return Ok(self.fail_unit(id, &complaint, message, here));
        }
        if dialect.takes_turns() {
            if let Some(answered) = self.begin_command(id, message, here) {
                return answered;
            }
        }
        let client = &mut self.clients[id];
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
        match self.lend(id, message, here) {
            Lent::Now(server) => self.forward(id, server, message, here),
            Lent::Queued => Ok(Step::Wait),
            Lent::Refused(complaint) => Ok(self.fail_unit(id, &complaint, message, here)),
        }
    }

    /// Drop a message, however much of it is still to come.
    pub(crate) fn drop_message(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> usize {
        let client = &mut self.clients[id];
        client.passing = message.total - here.len();
        client.is_dropping = client.passing > 0;
        if let Some(agreed) = &mut client.agreed {
            agreed.kills.clear();
        }
        here.len()
    }

    /// Answer a unit of work with an error of ours, before any server has seen it.
    pub(crate) fn fail_unit(
        &mut self,
        id: ClientId,
        complaint: &Complaint,
        message: ClientMessage,
        here: &[u8],
    ) -> Step {
        let dialect = self.clients[id].dialect;
        self.count_error(id);
        let voice = self.voice(id);
        self.say(id, |out| dialect.say_error(out, complaint, voice));
        if complaint.fatal {
            let reason = if self.is_draining() { ClientEnd::Drained } else { ClientEnd::LimitReached };
            self.end_client(id, reason, None);
            return Step::Used(here.len());
        }
        self.clients[id].asked_at = Time::NEVER;
        self.clients[id].idle_since = self.now;
        match message.intent {
            Intent::Query | Intent::Call | Intent::Sync => {
                self.say(id, |out| dialect.say_ready(out, Transaction::None));
            }
            Intent::Run => self.note_types_in_vain(id, message, here),
            _ if dialect.takes_turns() => {}
            _ => self.clients[id].state = State::Skipping,
        }
        Step::Used(self.drop_message(id, message, here))
    }

    /// Drop what belongs to a failed batch, up to its Sync.
    fn skip(&mut self, id: ClientId, message: ClientMessage, here: &[u8]) -> Step {
        if message.intent == Intent::Sync {
            let dialect = self.clients[id].dialect;
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

    /// What was taken has been written.
    pub fn client_written(&mut self, now: Time, id: ClientId) {
        self.now = now;
        let low = self.routes.snapshot.limits.buffer_bytes / 4;
        let Some(client) = self.clients.get_mut(id) else { return };
        client.in_flight = 0;
        if !client.output.is_empty() {
            self.actions.push(Action::FlushClient(id));
        }
        if client.is_blocked && client.backlog() <= low && matches!(client.state, State::Idle) {
            self.ready.push_back(id);
            self.settle();
            return;
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
}
