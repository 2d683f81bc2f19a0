//! A server connection: what it owes, whose it is, and when it is free.
//!
//! ```text
//!            logged in            lend                  ready, nothing owed, no transaction
//!   Opening ───────────► Idle ──────────► Leased ──────────────────────────────► Idle
//!                         ▲ │               │ client left, cancel in flight, reset due
//!                         │ │ other worker  ▼
//!                         │ └──► Moving   Cleaning ──► Idle
//!                         └───────────────────┘
//!   any ──► gone, always with a ServerEnd. Raw is a lease that lasts until either side ends.
//! ```
//!
//! Does no I/O and lends nothing: `pool` lends, this file counts. Rules: a server with answers owed
//! is never idle; bytes that answer nothing mean doubt, and a server in doubt is closed.
//! Called by `lib` when bytes of a server arrive, by `client` when it forwards a message.

use std::collections::VecDeque;
use std::sync::Arc;

use maitred_wire::dialect::Tag;
use maitred_wire::{
    CancelKey, Code, Complaint, CopyDirection, Dialect, Fault, Progress, ServerMessage, Target, Transaction,
};

use crate::action::{Action, ClientEnd, ServerEnd};
use crate::budget::{Permit, PoolShared};
use crate::heal::Replay;
use crate::ids::{ClientId, PoolId, ServerId, Time, WorkerId};
use crate::open::Opening;
use crate::session_state::Settings;
use crate::snapshot::{Endpoint, PoolMode};
use crate::statements::{ServerStatements, Statement, StatementKey};
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
}

/// What ended in a `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Query,
    Call,
    Sync,
}

/// An answer that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ready(Unit),
    /// `named`: the client gave it a name, noted in `pending_names`.
    Prepared {
        key: Option<StatementKey>,
        named: bool,
    },
    PreparedUnnamed,
    Bound(Option<StatementKey>),
    Closed(Option<StatementKey>),
    Described(Target, Option<StatementKey>),
    Executed,
    /// Not the server's: we say it when everything before it has been answered.
    SayPrepared,
    SayClosed,
    /// Not an answer: the client sent the end of COPY data here.
    CopyEnded,
    /// The server will fail here, made to by us; the client is shown one of our `refusals` instead.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    pub answer: Answer,
    /// The client is waiting for it. False: it answers something that we asked.
    pub shown: bool,
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

    /// The beginning of a message that must be whole.
    pub input: Vec<u8>,
    /// Bytes still to come of a message too large to hold, and whether the client sees them.
    pub passing: usize,
    pub passing_shown: bool,
    pub output: Vec<u8>,
    pub in_flight: usize,
    pub is_dirty: bool,
    pub is_paused: bool,

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
    /// Settings of the next client are being applied, hidden.
    pub is_adjusting: bool,
    /// The database's last words (a FATAL error), kept for whoever is told of the loss.
    pub farewell: Option<String>,
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
    /// Beginning of the statement that runs, for the slow-query report.
    pub text: Vec<u8>,
}

impl Server {
    pub fn owe(&mut self, answer: Answer, shown: bool, now: Time) {
        if self.asked_at == Time::NEVER {
            self.asked_at = now;
            self.unit_at = now;
        }
        self.owed.push_back(Owed { answer, shown });
    }

    /// Nothing is owed and nothing half done: the next client may have it, once clean.
    pub fn is_free(&self) -> bool {
        self.owed.is_empty()
            && self.unsynced == 0
            && !self.skipping
            && self.transaction == Transaction::None
            && self.copy.is_none()
            && self.passing == 0
            && self.input.is_empty()
    }

    /// Is a query of its client running (or about to)?
    pub fn is_working(&self) -> bool {
        !self.owed.is_empty()
    }

    pub fn backlog(&self) -> usize {
        self.output.len() + self.in_flight
    }

    /// Count one message off against what is owed. Returns whether the client sees it.
    ///
    /// # Errors
    /// The message answers nothing that was asked.
    #[inline]
    fn settle_answer(&mut self, progress: Progress) -> Result<bool, Fault> {
        let front = self.owed.front().copied();
        let (answer, shown) = match front {
            Some(owed) => (owed.answer, owed.shown),
            None => return Err(Fault("an answer to nothing")),
        };
        let is_running = matches!(answer, Answer::Executed | Answer::Ready(Unit::Query));
        let fits = match progress {
            Progress::Data => is_running,
            Progress::CopyData | Progress::CopyDone => is_running && self.copy.is_some(),
            Progress::Parameters => matches!(answer, Answer::Described(Target::Statement, _)),
            Progress::Columns => match answer {
                Answer::Described(..) => self.pop_answer(),
                Answer::Ready(Unit::Query) => true,
                _ => false,
            },
            Progress::Finished => {
                self.copy = None;
                match answer {
                    Answer::Executed => self.pop_answer(),
                    Answer::Ready(Unit::Query) => true,
                    _ => false,
                }
            }
            Progress::Prepared => {
                matches!(answer, Answer::Prepared { .. } | Answer::PreparedUnnamed) && self.pop_answer()
            }
            Progress::Bound => matches!(answer, Answer::Bound(_)) && self.pop_answer(),
            Progress::Closed => matches!(answer, Answer::Closed(_)) && self.pop_answer(),
            Progress::Called => answer == Answer::Ready(Unit::Call),
            Progress::Copy(direction) => {
                self.begin_copy(direction, answer)?;
                is_running
            }
            Progress::Ready(transaction) => {
                self.copy = None;
                self.transaction = transaction;
                matches!(answer, Answer::Ready(_)) && self.pop_answer()
            }
            Progress::Failed | Progress::Setting | Progress::Aside | Progress::Key => false,
        };
        if fits {
            Ok(shown)
        } else {
            Err(Fault("an answer of the wrong kind"))
        }
    }

    fn pop_answer(&mut self) -> bool {
        self.owed.pop_front();
        // A COPY ending that no COPY consumed was a stray, which the server has ignored.
        while matches!(self.owed.front(), Some(Owed { answer: Answer::CopyEnded, .. })) {
            self.owed.pop_front();
        }
        if self.owed.is_empty() {
            self.asked_at = Time::NEVER;
        }
        true
    }

    /// Spec: "COPY Operations": a server in copy-in mode ignores Flush and Sync. Those that were
    /// sent after an Execute and before the end of the data have been, so their `Ready` will not come.
    ///
    /// # Errors
    /// The client sent a request behind its COPY and before the end of the data: the server takes it
    /// for data of a wrong kind, and what it answers to the rest is not worth guessing.
    fn begin_copy(&mut self, direction: CopyDirection, answer: Answer) -> Result<(), Fault> {
        self.copy = Some(direction);
        self.copy_failed = false;
        if direction != CopyDirection::In {
            return Ok(());
        }
        while let Some(Owed { answer: next, .. }) = self.owed.get(1) {
            match next {
                Answer::Ready(Unit::Sync) => self.unsynced += u32::from(answer == Answer::Executed),
                // The client sent its data without waiting to be asked, up to the end.
                Answer::CopyEnded => self.copy = None,
                // After the error everything up to the Sync is skipped, this with the rest.
                _ if answer == Answer::Executed => return Ok(()),
                _ => return Err(Fault("a request came behind COPY FROM STDIN, before its data")),
            }
            self.owed.remove(1);
            if self.copy.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Does it take COPY data of its client now?
    pub fn is_copying_in(&self) -> bool {
        self.copy == Some(CopyDirection::In)
    }

    /// Is the COPY part of a batch, which a `Sync` must end?
    pub fn is_copy_in_batch(&self) -> bool {
        self.owed.front().is_some_and(|owed| owed.answer == Answer::Executed)
    }

    /// The client ends its COPY data, or some COPY that may yet begin.
    pub fn end_copy(&mut self) {
        if self.copy == Some(CopyDirection::In) {
            self.copy = None;
        } else {
            self.owed.push_back(Owed { answer: Answer::CopyEnded, shown: false });
        }
    }

    /// Is something ours to say next?
    fn is_speech_due(&self) -> bool {
        matches!(self.owed.front(), Some(Owed { answer: Answer::SayPrepared | Answer::SayClosed, .. }))
    }

    /// Count an error off, and what is skipped because of it.
    fn settle_failure(&mut self) -> Skipped {
        self.copy = None;
        let mut skipped = Skipped::default();
        if let Some(Owed { answer: Answer::Ready(_), shown }) = self.owed.front() {
            // The error belongs to a query, a call, or to the commit in a Sync: its Ready follows.
            skipped.shown = *shown;
            return skipped;
        }
        // A step failed: the server skips everything, queries and calls too, up to the Sync.
        while let Some(owed) = self.owed.front().copied() {
            skipped.shown |= owed.shown;
            match owed.answer {
                Answer::Ready(Unit::Sync) => break,
                Answer::Prepared { key, named } => {
                    if let Some(key) = key {
                        self.statements.remove(key);
                    }
                    if named {
                        skipped.unprepared.extend(self.pending_names.pop_front());
                    }
                }
                Answer::PreparedUnnamed => {
                    // Whatever it has now, it is not what was noted.
                    self.statements.unnamed = None;
                    skipped.lost_unnamed |= owed.shown;
                }
                Answer::SayPrepared => skipped.unprepared.extend(self.pending_names.pop_front()),
                Answer::SayClosed => skipped.unclosed.extend(self.pending_closes.pop_front()),
                Answer::Refused => drop(self.refusals.pop_front()),
                // What was to close it was skipped; it is there, and wants to be closed again.
                Answer::Closed(Some(key)) => self.stale.push(key),
                _ => {}
            }
            self.pop_answer();
        }
        self.skipping = self.owed.is_empty();
        let is_unnamed_to_come = |owed: &Owed| owed.shown && owed.answer == Answer::PreparedUnnamed;
        skipped.lost_unnamed &= !self.owed.iter().any(is_unnamed_to_come);
        skipped
    }
}

/// What an error made void.
#[derive(Debug, Default)]
pub struct Skipped {
    /// The client sees the error.
    shown: bool,
    /// Names of the client's statements that were not prepared.
    pub unprepared: Vec<Box<[u8]>>,
    /// Those that were not closed.
    pub unclosed: Vec<(Box<[u8]>, Arc<Statement>)>,
    pub lost_unnamed: bool,
}

/// What one server message did beyond being passed on.
pub(crate) enum Aftermath {
    None,
    Ready,
    Lost(Fault),
    Ended(ServerEnd),
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
    fn read_server(&mut self, id: ServerId, input: &[u8]) -> usize {
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
            let message = match dialect.next_progress(&input[at..], limit) {
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
            let shown = match message.progress {
                // The hot path: rows need no look inside.
                Progress::Data | Progress::Columns | Progress::Parameters | Progress::CopyData => {
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
                        Ok(shown) => shown,
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
                        Aftermath::Ready => self.note_ready(id, client),
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
            Progress::Setting => return (self.note_setting(id, client, here), Aftermath::None),
            Progress::Aside => return (client.is_some() && !server.is_adjusting, Aftermath::None),
            Progress::Key => return (false, Aftermath::None),
            Progress::Failed => return self.note_failure(id, client, here),
            Progress::Finished => {
                let settled = server.settle_answer(Progress::Finished);
                if settled.is_ok() {
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
            Ok(shown) if matches!(message.progress, Progress::Ready(_)) => {
                (shown && !self.is_forbidden_block(id), Aftermath::Ready)
            }
            Ok(shown) => (shown, Aftermath::None),
            Err(fault) => (false, Aftermath::Lost(fault)),
        }
    }

    /// An error: whose it is, and what it makes void.
    fn note_failure(&mut self, id: ServerId, client: Option<ClientId>, here: &[u8]) -> (bool, Aftermath) {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let error = server.dialect.error_of(here);
        if error.is_fatal {
            // Why not at its close, which comes next: until then it might be lent.
            server.farewell = Some(error.message);
            return (false, Aftermath::Ended(ServerEnd::ClosedByPeer));
        }
        if server.owed.is_empty() {
            return (false, Aftermath::Lost(Fault("an error that answers nothing")));
        }
        if server.is_adjusting {
            return (false, self.adjusting_failed(id, client, error));
        }
        let at_fault = server.owed.front().map(|owed| owed.answer);
        let is_own = server.owed.front().is_some_and(|owed| !owed.shown);
        if is_own && at_fault == Some(Answer::Ready(Unit::Query)) {
            // A statement that was to make it clean.
            server.farewell = Some(error.message);
            return (false, Aftermath::Ended(ServerEnd::NotCleaned));
        }
        if let (Some(Answer::Bound(Some(key)) | Answer::Described(_, Some(key))), true) =
            (at_fault, error.is_stale())
        {
            server.statements.remove(key);
            server.stale.push(key);
            let knows_columns = client
                .and_then(|client| self.clients.get(client)?.statements.as_ref())
                .is_some_and(|statements| statements.described.contains(&key));
            if self.heal(id, key, error.is_missing() || !knows_columns) {
                return (false, Aftermath::None);
            }
        }
        let server = self.servers.get_mut(id).expect("the caller holds it");
        server.stop_recording();
        let refusal = server.refusals.front().cloned();
        let skipped = server.settle_failure();
        let mut shown = skipped.shown;
        let own_words = match at_fault {
            Some(Answer::Refused) => refusal,
            _ if error.is_cancelled() => server.time_out.take(),
            _ => None,
        };
        if own_words.is_some() {
            shown = false;
            let complaint = own_words;
            let dialect = server.dialect;
            if let (Some(client), Some(complaint)) = (client, complaint) {
                self.say(client, |out| dialect.say_error(out, &complaint));
            }
        }
        if let Some(client) = client.and_then(|client| self.clients.get_mut(client)) {
            client.undo(skipped);
        }
        (shown, Aftermath::None)
    }

    /// A setting changed: it is the client's from now on, and the server's.
    fn note_setting(&mut self, id: ServerId, client: Option<ClientId>, here: &[u8]) -> bool {
        let server = self.servers.get_mut(id).expect("the caller holds it");
        let Ok((name, value)) = server.dialect.setting_of(here) else { return false };
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return false;
        };
        let fresh = server.shared.welcome();
        let is_default = fresh.is_some_and(|fresh| fresh.settings.value(name) == Some(value));
        let mut settings = (*server.settings).clone();
        let changed = if is_default { settings.remove(name) } else { settings.set(name, value) };
        if changed {
            server.settings = self.settings.intern(settings);
        }
        let is_adjusting = server.is_adjusting;
        let Some(client) = client.and_then(|client| self.clients.get_mut(client)) else { return false };
        if is_adjusting && client.settings.value(name) == Some(value) {
            return false;
        }
        let mut settings = (*client.settings).clone();
        let changed = if is_default { settings.remove(name) } else { settings.set(name, value) };
        if changed {
            client.settings = self.settings.intern(settings);
        }
        changed || !is_adjusting
    }

    /// A unit of work ended.
    fn note_ready(&mut self, id: ServerId, client: Option<ClientId>) {
        let now = self.now;
        let server = self.servers.get_mut(id).expect("the caller holds it");
        if !server.owed.is_empty() {
            // Why: in a pipeline the next unit begins when the one before it has ended.
            server.asked_at = now;
        }
        if server.is_adjusting {
            server.is_adjusting = false;
            return;
        }
        server.quiet_since = now;
        server.timeouts = 0;
        server.time_out = None;
        if let Some(client) = client {
            self.count_unit(id, client);
        }
        let server = self.servers.get_mut(id).expect("the caller holds it");
        match server.transaction {
            Transaction::None => server.transaction_at = Time::NEVER,
            _ if server.transaction_at == Time::NEVER => server.transaction_at = now,
            _ => {}
        }
        if let (Some(client), true) = (client, self.is_forbidden_block(id)) {
            let complaint =
                Complaint::fatal(Code::Unsupported, "transaction blocks are not allowed in statement mode")
                    .hint("use pool.mode = \"transaction\" for this database or user");
            self.end_client(client, ClientEnd::TransactionInStatementMode, Some(complaint));
        }
    }

    /// Has the client opened a transaction block where statements alone are served?
    fn is_forbidden_block(&self, id: ServerId) -> bool {
        let server = &self.servers[id];
        server.transaction != Transaction::None
            && self.pools[server.pool.0 as usize].mode() == PoolMode::Statement
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
