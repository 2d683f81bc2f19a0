//! A server connection: what it owes, whose it is, and when it is free.
//!
//! ```text
//!            logged in            lend                  ready, nothing owed, no transaction
//!   Opening ───────────► Idle ──────────► Leased ──────────────────────────────► Idle
//!                         ▲ │               │ client left, cancel in flight, reset due
//!                         │ │ other worker  ▼
//!                         │ └──► Moving   Cleaning ──► Idle
//!                         └───────────────────┘
//!   any ──► gone, always with a ServerEnd. Raw is a lease that lasts until either side ends;
//!   Listening is a server that `hub` keeps.
//! ```
//!
//! Does no I/O and lends nothing: `pool` lends, this file counts. Rules: a server with answers owed
//! is never idle; bytes that answer nothing mean doubt, and a server in doubt is closed.
//! Called by `lib` when bytes of a server arrive, by `client` when it forwards a message.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use maitred_wire::dialect::{Explained, Reading, Tag};
use maitred_wire::{
    CancelKey, Complaint, CopyDirection, Dialect, Fault, Progress, Reply, ServerMessage, Transaction,
};

use crate::action::{Action, ServerEnd};
use crate::aftermath::Aftermath;
use crate::answers::{Answer, Owed};
use crate::budget::{Permit, PoolShared};
use crate::heal::Replay;
use crate::hub::HubKey;
use crate::ids::{ClientId, PoolId, ServerId, Time, WorkerId};
use crate::made::Made;
use crate::modes::Modes;
use crate::open::Opening;
use crate::session_state::Settings;
use crate::snapshot::Endpoint;
use crate::statements::{ServerStatements, Statement, StatementKey};
use crate::things::Unexplained;
use crate::trace::Trace;
use crate::Relay;

/// Whose turn it is.
#[derive(Debug)]
pub enum State {
    Opening(Box<Opening>),
    Idle,
    Leased(ClientId),
    /// Bytes pass unread: a replication client and its own server.
    Raw(ClientId),
    /// Being made clean for the next client; closed if that takes longer.
    Cleaning {
        until: Time,
    },
    /// On its way to another worker.
    Moving(WorkerId),
    /// Hears for every client that listens; never lent.
    Listening(Arc<HubKey>),
}

#[derive(Debug)]
pub struct Server {
    pub pool: PoolId,
    pub shared: Arc<PoolShared>,
    pub endpoint: Arc<Endpoint>,
    pub dialect: Dialect,
    pub state: State,
    /// Its places in every budget it counts in. None once given back.
    pub permit: Permit,
    pub key: CancelKey,
    /// Address as connected to, for reports.
    pub address: String,
    pub local_address: String,
    pub tls: bool,

    /// Answers to come, oldest first. Enter: whoever forwards or injects a request. Leave: `settle_answer`.
    pub owed: VecDeque<Owed>,
    /// What it has answered last.
    pub settled: Option<Owed>,
    /// Names of statements whose `Prepared { named }` or `SayPrepared` is in `owed`, in the same order.
    pub pending_names: VecDeque<Box<[u8]>>,
    /// What each `SayClosed` in `owed` closes, in the same order.
    pub pending_closes: VecDeque<(Box<[u8]>, Arc<Statement>)>,
    /// Requests sent since the last `Sync`, which only a `Sync` ends.
    pub unsynced: u32,
    /// An error came and no `Sync` has been sent since: the server ignores everything else.
    pub skipping: bool,
    pub transaction: Transaction,
    pub copy: Option<CopyDirection>,
    pub statements: ServerStatements,
    /// Settings beyond a fresh server's.
    pub settings: Arc<Settings>,
    /// Stands for those of them that say what names in statements mean; None: its client may have changed them.
    pub names: Option<u64>,
    /// Its client's transaction may have changed what names stand for, for everybody.
    pub has_defined: bool,

    /// The beginning of a message that must be whole.
    pub input: Vec<u8>,
    /// Bytes still to come of a message too large to hold, and whether the client sees them.
    pub passing: usize,
    pub passing_shown: bool,
    pub output: Vec<u8>,
    pub in_flight: usize,
    pub is_dirty: bool,
    pub is_paused: bool,

    /// When the connection was begun: what it was begun with may be out of date since.
    pub opened_at: Time,
    pub retire_at: Time,
    pub idle_since: Time,
    pub leased_at: Time,
    /// The oldest owed unit was sent then; NEVER when nothing is owed.
    pub asked_at: Time,
    /// The oldest unit that has not ended began then, for its duration.
    pub unit_at: Time,
    pub transaction_at: Time,
    /// Nothing came from the client since, in an open transaction.
    pub quiet_since: Time,
    pub waited_us: u64,
    pub leases: u64,
    /// Query time limits passed in this lease.
    pub timeouts: u32,

    /// A cancel connection for it is open.
    pub is_cancelling: bool,
    /// When the last one was opened.
    pub cancelled_at: Time,
    /// Cancel requests to be let go when it has ended, and their workers.
    pub cancel_waiters: Vec<(WorkerId, ClientId)>,
    /// A stray cancel may still hit it: one round trip before the next client.
    pub must_probe: bool,
    /// Session mode: run the reset query before the next client.
    pub must_reset: bool,
    /// What its sequences last gave was given to its client, or to nobody.
    pub has_own_sequences: bool,
    /// Statements of its client that ended in this lease.
    pub finished: u32,
    /// Its session was discarded: what it reports until it is ready is said already.
    pub is_discarded: bool,
    /// The database's last words (a FATAL error), kept for whoever is told of the loss.
    pub farewell: Option<String>,
    /// The SQLSTATE in them.
    pub farewell_state: Option<[u8; 5]>,
    /// Statements whose name is taken on the server by something that must not be used any more.
    pub stale: Vec<StatementKey>,
    /// What is to be said at each `Refused` in `owed`, in the same order.
    pub refusals: VecDeque<Box<Complaint>>,
    /// What the client is told when the database obeys the cancel that a time limit sent.
    pub time_out: Option<Box<Complaint>>,
    /// What its client is told if it is lost now; None: that it was lost.
    pub loss: Option<Box<Complaint>>,
    /// A CopyFail of ours is on its way.
    pub copy_failed: bool,
    /// The batch under way, in case its statement turns out to be stale.
    pub replay: Replay,
    /// What its client may have left in its session. Enter: `suspect`. Leave: `standing`, `forget_trace`.
    pub trace: Option<Box<Trace>>,
    /// Beginning of the statement that runs, for the slow-query report.
    pub text: Vec<u8>,

    /// What was agreed at its login that its client must have agreed on, too.
    pub flags: u64,
    /// Where in an answer it is.
    pub reading: Reading,
    /// Its numbers for the statements that it has prepared.
    pub numbers: HashMap<StatementKey, u32>,
    /// The statement that it is preparing, of which nothing else may be asked meanwhile.
    pub preparing: Option<Preparing>,
    /// It has been, and the client that waits to run it is next.
    pub is_promised: bool,
    /// What a statement of its client's keeps on it. Enter: `forward_run`, `forward_numbered`. Leave: `let_go`.
    pub held: Vec<(StatementKey, Held)>,
    /// The statement under way that has a cursor.
    pub running: Option<StatementKey>,
    /// How many of each kind texts have made in this session, so that more must have been made unseen.
    pub made: Made,
    /// What of that which is asked of it next shows by itself why it would say that its session's state changed.
    pub explaining: Explained,
    /// What it said that something has changed of, without saying what.
    pub unexplained: Unexplained,
    /// What its status says of a setting.
    pub modes: Modes,
    /// It was opened to stop what this one runs.
    pub kills: Option<ServerId>,
}

/// A statement on its way to be prepared.
#[derive(Debug)]
pub struct Preparing {
    pub statement: Arc<Statement>,
    /// What its client will call it; None: the client has it already.
    pub number: Option<u32>,
}

/// What a statement keeps between two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Cursor,
    /// Values that were sent ahead.
    Values,
}

impl Server {
    /// Whose it is now.
    pub fn client(&self) -> Option<ClientId> {
        match self.state {
            State::Leased(client) => Some(client),
            _ => None,
        }
    }
}

impl Relay {
    /// Bytes arrived from a server.
    pub fn server_bytes(&mut self, now: Time, id: ServerId, bytes: &[u8]) {
        self.now = now;
        let Some(server) = self.servers.get_mut(id) else { return };
        match server.state {
            State::Opening(_) => self.login_bytes(id, bytes),
            State::Raw(client) => self.pass_to_client(client, id, bytes),
            _ if server.input.is_empty() => {
                let used = self.read_server(id, bytes);
                if let Some(server) = self.servers.get_mut(id) {
                    server.input.extend_from_slice(&bytes[used..]);
                    self.after_reading(id);
                }
            }
            _ => {
                let mut whole = std::mem::take(&mut server.input);
                whole.extend_from_slice(bytes);
                let used = self.read_server(id, &whole);
                if let Some(server) = self.servers.get_mut(id) {
                    whole.drain(..used);
                    server.input = whole;
                    self.after_reading(id);
                }
            }
        }
        self.settle();
    }

    /// Read messages; returns how many bytes were used. The server may be gone afterwards.
    pub(crate) fn read_server(&mut self, id: ServerId, input: &[u8]) -> usize {
        let limit = self.routes.snapshot.limits.message_bytes;
        let Some(server) = self.servers.get_mut(id) else { return input.len() };
        let dialect = server.dialect;
        let client = match server.state {
            State::Leased(client) => Some(client),
            _ => None,
        };
        let mut at = 0;
        // Messages that the client sees are passed on in runs, `run..at` being the open one.
        let mut run = 0;
        while at < input.len() {
            let Some(server) = self.servers.get_mut(id) else { return input.len() };
            if server.passing > 0 {
                let part = server.passing.min(input.len() - at);
                server.passing -= part;
                at += part;
                if !server.passing_shown {
                    run = at;
                }
                continue;
            }
            let asked = server.asked();
            let message = match dialect.next_progress(&server.reading, asked, &input[at..], limit) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(fault) => {
                    self.show(client, &input[run..at]);
                    self.doubt(id, fault);
                    return input.len();
                }
            };
            let end = at + message.total;
            let is_whole = end <= input.len();
            // Why: only whole messages are passed on, so that a server's death can be told to its
            // client between two messages. One too large to hold is streamed.
            if !is_whole && message.total <= self.hold_bytes {
                break;
            }
            let here = &input[at..end.min(input.len())];
            let server = self.servers.get_mut(id).expect("checked above");
            dialect.advance(&mut server.reading, asked, message, here);
            let shown = match message.progress {
                // The hot path: rows need no look inside.
                Progress::Data | Progress::Columns | Progress::Parameters | Progress::CopyData
                    if !message.is_last =>
                {
                    match server.settle_answer(message.progress) {
                        Ok(shown) if server.is_speech_due() => {
                            self.show(client, &input[run..at]);
                            if shown {
                                self.show(client, here);
                            }
                            run = at + here.len();
                            self.say_due(id, client);
                            shown
                        }
                        Ok(shown) => {
                            if !shown && message.progress == Progress::Data && server.is_questioned() {
                                server.note_finding(is_whole.then_some(here));
                            }
                            shown
                        }
                        Err(fault) => {
                            self.show(client, &input[run..at]);
                            self.doubt(id, fault);
                            return input.len();
                        }
                    }
                }
                _ => {
                    if run < at {
                        self.show(client, &input[run..at]);
                    }
                    let (shown, aftermath) = self.note_progress(id, client, message, here);
                    if shown {
                        self.show(client, here);
                    }
                    run = at + here.len();
                    match aftermath {
                        Aftermath::None => {}
                        Aftermath::Lost(fault) => {
                            self.doubt(id, fault);
                            return input.len();
                        }
                        Aftermath::Ended(reason) => {
                            self.lose_server(id, reason);
                            return input.len();
                        }
                        Aftermath::Ready(shown) => self.note_ready(id, client, shown),
                    }
                    self.say_due(id, client);
                    shown
                }
            };
            at += here.len();
            if !shown {
                if run < at - here.len() {
                    self.show(client, &input[run..at - here.len()]);
                }
                run = at;
            }
            if let Some(server) = self.servers.get_mut(id) {
                server.passing = message.total - here.len();
                server.passing_shown = shown;
            }
        }
        if run < at {
            self.show(client, &input[run..at]);
        }
        at
    }

    /// Everything but rows: what a message does to the server's account.
    fn note_progress(
        &mut self,
        id: ServerId,
        client: Option<ClientId>,
        message: ServerMessage,
        here: &[u8],
    ) -> (bool, Aftermath) {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let dialect = server.dialect;
        let settled = match message.progress {
            Progress::Setting => {
                let Ok((name, value)) = dialect.setting_of(here) else { return (false, Aftermath::None) };
                let is_adjusting = server.is_adjusting();
                return (self.note_setting(id, client, name, value, is_adjusting), Aftermath::None);
            }
            Progress::Aside => return (client.is_some() && !server.is_adjusting(), Aftermath::None),
            Progress::Notification => {
                self.note_notification(id, here);
                return (false, Aftermath::None);
            }
            Progress::Key => return (false, Aftermath::None),
            Progress::Failed if dialect.takes_turns() => return self.note_command_failure(id, client, here),
            Progress::Failed => return self.note_failure(id, client, here),
            Progress::Prepared if dialect.takes_turns() => {
                let settled = server.settle_answer(Progress::Prepared);
                self.note_prepared(id, client, here);
                settled.map(|_| false)
            }
            Progress::Finished => {
                let settled = server.settle_answer(Progress::Finished);
                if let Ok(shown) = settled {
                    server.finished = server.finished.saturating_add(u32::from(shown));
                    match dialect.tag_of(here) {
                        Tag::Other => {}
                        tag => self.note_tag(id, client, tag),
                    }
                }
                settled
            }
            Progress::Bound => {
                // Why: the plan was good; from here on an answer may have reached the client.
                server.stop_recording();
                server.settle_answer(Progress::Bound)
            }
            Progress::Prepared => {
                let named = matches!(
                    server.owed.front(),
                    Some(Owed { answer: Answer::Prepared { named: true, .. }, .. })
                );
                if named {
                    server.pending_names.pop_front();
                }
                server.settle_answer(Progress::Prepared)
            }
            Progress::Copy(CopyDirection::Both) => Err(Fault("COPY in both directions outside replication")),
            progress => server.settle_answer(progress),
        };
        match settled {
            Ok(shown) if matches!(message.progress, Progress::Ready(_) | Progress::Finished) => {
                let is_shown = match self.note_outcome(id, client, shown, here) {
                    Ok(is_shown) => is_shown,
                    Err(fault) => return (false, Aftermath::Lost(fault)),
                };
                if message.progress == Progress::Finished {
                    return (is_shown, Aftermath::None);
                }
                let was_shown = shown;
                let shown = is_shown && !self.is_forbidden_block(id);
                if let (Some(client), Progress::Ready(Transaction::None), true) =
                    (client, message.progress, shown)
                {
                    self.tell_before_ready(client);
                }
                (shown, Aftermath::Ready(was_shown))
            }
            Ok(shown) if message.is_last => {
                let server = self.servers.get_mut(id).expect("the caller holds it");
                let is_preparation = server.asked() == Reply::Prepared;
                server.pop_answer();
                if is_preparation {
                    self.note_preparation_over(id, client);
                }
                (shown, if is_preparation && !shown { Aftermath::None } else { Aftermath::Ready(shown) })
            }
            Ok(shown) => (shown, Aftermath::None),
            Err(fault) => (false, Aftermath::Lost(fault)),
        }
    }

    /// Say what is ours to say, now that everything before it has been answered.
    fn say_due(&mut self, id: ServerId, client: Option<ClientId>) {
        while let Some(server) = self.servers.get_mut(id) {
            let say: fn(Dialect, &mut Vec<u8>) = match server.owed.front().map(|owed| owed.answer) {
                Some(Answer::SayPrepared) => {
                    server.pending_names.pop_front();
                    Dialect::say_prepared
                }
                Some(Answer::SayClosed) => {
                    server.pending_closes.pop_front();
                    Dialect::say_closed
                }
                _ => return,
            };
            server.pop_answer();
            let dialect = server.dialect;
            if let Some(client) = client {
                self.say(client, |out| say(dialect, out));
            }
        }
    }

    /// As `say_due`, for what was just asked.
    pub(crate) fn say_due_now(&mut self, id: ServerId) {
        if let Some(State::Leased(client)) = self.servers.get(id).map(|server| &server.state) {
            self.say_due(id, Some(*client));
        }
    }

    /// Pass bytes on to the client, unless it has gone or sees nothing now.
    #[inline]
    fn show(&mut self, client: Option<ClientId>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(client) = client {
            self.say(client, |out| out.extend_from_slice(bytes));
        }
    }

    /// All bytes at hand have been read: is it free, or must it wait for its reader?
    fn after_reading(&mut self, id: ServerId) {
        let Some(server) = self.servers.get(id) else { return };
        match server.state {
            State::Leased(client) => {
                let backlog = self.clients.get(client).map_or(0, |client| client.backlog());
                let is_behind = backlog > self.routes.snapshot.limits.buffer_bytes;
                let now = self.now;
                let server = &mut self.servers[id];
                if !server.is_working() {
                    server.quiet_since = now;
                }
                if is_behind && !server.is_paused {
                    server.is_paused = true;
                    self.actions.push(Action::PauseServer(id));
                }
                let takes_turns = server.dialect.takes_turns();
                if server.owed.is_empty() && (server.trace.is_some() || takes_turns) {
                    // It may have waited for what a reset in its transaction brought back.
                    self.ready.push_back(client);
                }
                self.ask_for_choice(id);
                self.end_lease_if_over(id);
            }
            State::Cleaning { .. } => self.clean(id),
            State::Idle | State::Moving(_) if !server.is_free() => {
                self.doubt(id, Fault("bytes from an idle server"));
            }
            _ => {}
        }
    }

    /// Close a server about which there is doubt, and its client's unit of work with it.
    pub(crate) fn doubt(&mut self, id: ServerId, fault: Fault) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.farewell.get_or_insert_with(|| format!("the server broke the protocol: {}", fault.0));
        self.lose_server(id, ServerEnd::Doubt);
    }

    /// The socket to a server ended.
    pub fn server_closed(&mut self, now: Time, id: ServerId, error: Option<String>) {
        self.now = now;
        let Some(server) = self.servers.get_mut(id) else { return };
        match server.state {
            State::Opening(_) => {
                let cause =
                    error.unwrap_or_else(|| "the server closed the connection during login".to_owned());
                self.opening_failed(id, None, cause, false);
            }
            _ => {
                if server.farewell.is_none() {
                    server.farewell = error;
                }
                self.lose_server(id, ServerEnd::ClosedByPeer);
            }
        }
        self.settle();
    }

    /// A part of the server's output is on its way.
    pub fn take_server_output(&mut self, id: ServerId, into: &mut Vec<u8>) {
        if let Some(server) = self.servers.get_mut(id) {
            server.is_dirty = false;
            std::mem::swap(&mut server.output, into);
            server.in_flight = into.len();
        }
    }

    /// What was taken has been written.
    pub fn server_written(&mut self, now: Time, id: ServerId) {
        self.now = now;
        let Some(server) = self.servers.get_mut(id) else { return };
        server.in_flight = 0;
        if !server.output.is_empty() {
            server.is_dirty = true;
            self.actions.push(Action::FlushServer(id));
        }
        if let State::Leased(client) | State::Raw(client) = server.state {
            if self.clients.get(client).is_some_and(|client| client.is_blocked) {
                self.unblock_client(client);
            }
        }
        self.settle();
    }

    /// Mark output to a server as due.
    #[inline]
    pub(crate) fn flush_server(&mut self, id: ServerId) {
        if let Some(server) = self.servers.get_mut(id) {
            if !server.is_dirty && !server.output.is_empty() {
                server.is_dirty = true;
                if server.in_flight == 0 {
                    self.actions.push(Action::FlushServer(id));
                }
            }
        }
    }
}
