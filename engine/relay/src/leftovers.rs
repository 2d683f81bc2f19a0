//! What a statement leaves to be asked for by the next, though that may run on another server (MySQL).
//!
//! Kept from what servers say at the end of each statement; where a later text asks, the answer is put into it,
//! or said by us. Rows of warnings are asked for before a lease ends. Called by `commands`, by `trace` for the
//! asking.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use maitred_wire::dialect::{Asks, Diagnosed, Known, Message, Outcome, Show};
use maitred_wire::effects::Effects;
use maitred_wire::{ClientMessage, Code, Complaint, Dialect};

use crate::client::Step;
use crate::ids::{ClientId, ServerId};
use crate::last_number::{LastNumber, Lease};
use crate::snapshot::PoolMode;
use crate::statements::Statement;
use crate::Relay;

/// How many bytes of warnings are kept for a client between two statements.
const MOST_BYTES: usize = 64 * 1024;

/// Of the last statement of one client.
#[derive(Debug, Default)]
pub struct Left {
    row_count: i64,
    found_rows: u64,
    warnings: u64,
    errors: u64,
    /// The SQLSTATE of the error that ended it.
    sqlstate: [u8; 5],
    /// What the server told of them; None: it was not asked.
    messages: Option<Vec<Message>>,
    /// The lease in which the server can say all this itself, since nothing else was asked of it.
    at: Option<Lease>,
    /// The lease in which it can say the messages, which it has not told us yet.
    untold_at: Option<Lease>,
    /// The lease in which it can still say how many rows there were, though it has told the messages.
    found_rows_at: Option<Lease>,
    pub last_number: LastNumber,
    /// The statement under way asks for warnings: it leaves them as they are.
    is_asking: bool,
    /// It leaves them so unless it gives some itself.
    keeps_messages: bool,
}

impl Left {
    /// A statement has ended; `rows`: how many it gave, if it gave any.
    fn note(&mut self, outcome: &Outcome<'_>, rows: u64, lease: Lease, is_doubted: bool) {
        match outcome.affected {
            Some(affected) => self.row_count = i64::try_from(affected).unwrap_or(i64::MAX),
            None => (self.row_count, self.found_rows) = (-1, rows),
        }
        if outcome.insert_id != 0 {
            self.last_number.note(outcome.insert_id, lease, is_doubted);
        }
        (self.at, self.untold_at) = (Some(lease), Some(lease));
        if !self.is_asking && (outcome.warnings > 0 || !self.keeps_messages) {
            (self.warnings, self.errors, self.messages) = (u64::from(outcome.warnings), 0, None);
        }
    }

    /// A statement failed.
    fn note_failure(&mut self, sqlstate: [u8; 5], lease: Lease) {
        self.sqlstate = sqlstate;
        (self.row_count, self.warnings, self.errors, self.messages) = (-1, 1, 1, None);
        (self.at, self.untold_at) = (Some(lease), Some(lease));
    }

    /// Does only the server know the messages, or nobody, if it has ended?
    fn has_untold_messages(&self) -> bool {
        self.warnings > 0 && self.messages.is_none()
    }

    /// What went wrong in the statement before; None: the server that its client has can say it, in this lease.
    ///
    /// # Errors
    /// Only a server could have said it, which the client has no more.
    fn told(&self, lease: Option<Lease>) -> Result<Option<&[Message]>, Complaint> {
        if lease.is_some_and(|lease| self.is_untold_at(lease)) {
            return Ok(None);
        }
        if self.has_untold_messages() {
            let lost = "what the last statement warned of was lost with its server";
            return Err(Complaint::error(Code::ServerLost, lost));
        }
        Ok(Some(self.messages.as_deref().unwrap_or_default()))
    }

    /// Can the server say them in this lease? Why not where there are none: some statements leave what others had.
    fn is_untold_at(&self, lease: Lease) -> bool {
        self.untold_at == Some(lease) && self.has_untold_messages()
    }
}

impl Relay {
    fn left(&mut self, client: ClientId) -> Option<&mut Left> {
        self.clients.get_mut(client)?.agreed.as_mut().map(|agreed| &mut agreed.left)
    }

    fn lease_of(&self, id: ServerId) -> Lease {
        (id, self.servers.get(id).map_or(0, |server| server.leases))
    }

    /// The client's statement has ended on its server.
    pub(crate) fn note_left(&mut self, client: ClientId, id: ServerId, outcome: &Outcome<'_>) {
        let (lease, rows, now) = (self.lease_of(id), self.servers[id].reading.rows, self.now);
        let server = &mut self.servers[id];
        let is_doubted = outcome.insert_id != 0 && server.shared.reads_insert_id.load(Ordering::Relaxed);
        if is_doubted {
            server.trace_mut(now).pending.settings.asked.push("last_insert_id".into());
        }
        if let Some(left) = self.left(client) {
            left.note(outcome, rows, lease, is_doubted);
        }
    }

    /// It failed there.
    pub(crate) fn note_failure_left(&mut self, client: ClientId, id: ServerId, sqlstate: [u8; 5]) {
        let lease = self.lease_of(id);
        if let Some(left) = self.left(client) {
            left.note_failure(sqlstate, lease);
        }
    }

    /// Something hidden is asked of a client's server: what it says of the last statement is not the client's.
    pub(crate) fn disturb(&mut self, client: Option<ClientId>) {
        if let Some(left) = client.and_then(|client| self.left(client)) {
            (left.at, left.untold_at, left.found_rows_at) = (None, None, None);
        }
    }

    /// Must the server tell what went wrong, before it is asked anything else or lent to others?
    pub(crate) fn must_tell(&self, id: ServerId) -> bool {
        let server = &self.servers[id];
        let client = server.client().and_then(|client| self.clients.get(client));
        let Some(left) = client.and_then(|client| Some(&client.agreed.as_ref()?.left)) else { return false };
        left.is_untold_at((id, server.leases))
            && self.pools[server.pool.0 as usize].mode() != PoolMode::Session
    }

    /// The server has told.
    pub(crate) fn keep_messages(&mut self, client: Option<ClientId>, dialect: Dialect, rows: Vec<Box<[u8]>>) {
        let Some(left) = client.and_then(|client| self.left(client)) else { return };
        let mut bytes = 0;
        let rows: Vec<_> = rows
            .into_iter()
            .take_while(|row| {
                bytes += row.len();
                bytes <= MOST_BYTES
            })
            .collect();
        left.warnings = rows.len() as u64;
        left.errors = rows.iter().filter(|row| dialect.is_error(row)).count() as u64;
        left.messages = Some(rows);
    }

    /// The server is being asked what went wrong: what else it says of the last statement is not so any more.
    ///
    /// Why not all: with SQL_CALC_FOUND_ROWS only it knows how many rows there were. Measured: both let that stand.
    pub(crate) fn disturb_by_show(&mut self, client: Option<ClientId>) {
        if let Some(left) = client.and_then(|client| self.left(client)) {
            left.found_rows_at = left.at.take().or(left.found_rows_at);
        }
    }

    /// Answer a text that shows what went wrong, if no server can say it; `to`: the client's, if it has one.
    pub(crate) fn show_left(
        &mut self,
        id: ClientId,
        to: Option<ServerId>,
        message: ClientMessage,
        here: &[u8],
    ) -> Option<Step> {
        let dialect = self.clients[id].dialect;
        if here.len() < message.total {
            return None;
        }
        let show = dialect.shows(dialect.query_text(here))?;
        let lease = to.map(|to| self.lease_of(to));
        let mut voice = self.voice(id);
        let left = self.left(id)?;
        match left.told(lease) {
            Ok(None) => return None,
            Ok(Some(_)) => {}
            Err(lost) => return Some(self.fail_command(id, &lost, message, here)),
        }
        let messages = left.messages.take().unwrap_or_default();
        self.say(id, |out| dialect.say_messages(out, &mut voice, show, &messages));
        let left = self.left(id)?;
        left.messages = Some(messages);
        Some(Step::Used(here.len()))
    }

    /// What is to be put into a text that `asks`, for this server.
    fn known_for(&mut self, id: ClientId, to: ServerId, asks: &Asks) -> Known {
        let (lease, number) = (self.lease_of(to), self.cancel_key(id, 0).pid);
        let mut known =
            Known { connection_id: asks.connection_id.then_some(u64::from(number)), ..Known::default() };
        if asks.tracking {
            known.tracking = self.clients[id].agreed.as_ref().map(|agreed| agreed.tracking.clone());
        }
        let Some(left) = self.left(id) else { return known };
        left.is_asking =
            asks.warning_count || asks.error_count || asks.get_diagnostics || asks.shows.is_some();
        if left.at != Some(lease) {
            known.row_count = Some(left.row_count);
            known.found_rows = (left.found_rows_at != Some(lease)).then_some(left.found_rows);
        }
        if !left.is_untold_at(lease) {
            known.warnings = Some(left.warnings);
            known.errors = Some(left.errors);
        }
        known
    }

    /// A text is about to go to a server: what it asks of the statement before is put there, or into it. None: it
    /// goes as it is.
    ///
    /// # Errors
    /// It asks for what was lost.
    pub(crate) fn answer_in_text(
        &mut self,
        id: ClientId,
        to: ServerId,
        text: &[u8],
    ) -> Result<Option<Vec<u8>>, Complaint> {
        let dialect = self.clients[id].dialect;
        let asks = dialect.asks(text);
        if asks.is_some_and(|asks| asks.get_diagnostics) {
            return self.answer_diagnosis(id, to, text);
        }
        self.note_kept(id, to, text);
        let known = self.prepare_answers(id, to, asks.as_ref());
        Ok(known.and_then(|known| dialect.substituted(text, &known)))
    }

    fn answer_diagnosis(
        &mut self,
        id: ClientId,
        to: ServerId,
        text: &[u8],
    ) -> Result<Option<Vec<u8>>, Complaint> {
        let (dialect, lease) = (self.clients[id].dialect, self.lease_of(to));
        let Some(left) = self.left(id) else { return Ok(None) };
        let Some(messages) = left.told(Some(lease))? else {
            left.is_asking = true;
            return Ok(None);
        };
        let known = Diagnosed { messages, row_count: left.row_count, sqlstate: left.sqlstate };
        let assigned = dialect.diagnosed(text, &known);
        left.is_asking |= assigned.is_some();
        Ok(assigned)
    }

    /// As `answer_in_text`, for a prepared statement: the one to be run in its place.
    ///
    /// # Errors
    /// It asks for what was lost.
    pub(crate) fn answer_in_statement(
        &mut self,
        id: ClientId,
        to: ServerId,
        statement: &Arc<Statement>,
    ) -> Result<Option<Arc<Statement>>, Complaint> {
        let dialect = self.clients[id].dialect;
        let asks = *statement.asks.get_or_init(|| dialect.asks(&statement.definition));
        self.note_kept(id, to, &statement.definition);
        let Some(known) = self.prepare_answers(id, to, asks.as_ref()) else { return Ok(None) };
        let text = match asks.and_then(|asks| asks.shows) {
            Some(show) => self.show_in_query(id, to, show)?,
            None => dialect.substituted(&statement.definition, &known),
        };
        let Some(text) = text else { return Ok(None) };
        let under = statement.under.clone();
        let meaning = under.as_ref().map_or(0, |under| under.meaning(dialect.naming_settings()));
        let key = self.hasher.key_in(&text, meaning, 0);
        let effects = statement.effects.clone();
        Ok(Some(self.statement_table.intern_in(key, &text, under, || (effects, None))))
    }

    fn show_in_query(
        &mut self,
        id: ClientId,
        to: ServerId,
        show: Show,
    ) -> Result<Option<Vec<u8>>, Complaint> {
        let (dialect, lease) = (self.clients[id].dialect, self.lease_of(to));
        let Some(left) = self.left(id) else { return Ok(None) };
        let messages = left.told(Some(lease))?;
        Ok(messages.and_then(|messages| dialect.messages_as_query(show, messages)))
    }

    /// Does what the client says next leave the messages of the statement before?
    fn note_kept(&mut self, id: ClientId, to: ServerId, text: &[u8]) {
        let Some(left) = self.left(id) else { return };
        left.keeps_messages = false;
        // Why not always: most statements have none.
        if left.warnings > 0 {
            let (dialect, fresh) = (self.servers[to].dialect, self.servers[to].shared.welcome());
            let version = fresh.as_deref().and_then(|fresh| fresh.settings.value("version"));
            let keeps_messages = dialect.keeps_messages(text, version.unwrap_or_default());
            if let Some(left) = self.left(id) {
                left.keeps_messages = keeps_messages;
            }
        }
    }

    fn prepare_answers(&mut self, id: ClientId, to: ServerId, asks: Option<&Asks>) -> Option<Known> {
        let client = &self.clients[id];
        let (name, value) = client.dialect.seeks_last_row();
        // Why first: most have no settings.
        let seeks_last_row = !client.settings.is_empty() && client.settings.value(name) == Some(value);
        if seeks_last_row || asks.is_some_and(|asks| asks.insert_id) {
            self.servers[to].shared.reads_insert_id.store(true, Ordering::Relaxed);
            self.give_insert_id(id, to);
        }
        let Some(asks) = asks else {
            self.left(id)?.is_asking = false;
            return None;
        };
        Some(self.known_for(id, to, asks))
    }

    /// A statement with `effects` is about to go to a server, which will be asked for the last number behind it: where
    /// the statement makes none, what is told then must not be a stranger's.
    #[inline]
    pub(crate) fn prepare_insert_id(&mut self, id: ClientId, to: ServerId, effects: Option<&Effects>) {
        if effects
            .is_some_and(|effects| effects.settings.asked.iter().any(|name| **name == *"last_insert_id"))
        {
            self.give_insert_id(id, to);
        }
    }

    /// That number was asked for.
    pub(crate) fn keep_insert_id(&mut self, client: ClientId, server: ServerId, insert_id: Option<u64>) {
        let lease = self.lease_of(server);
        if let (Some(insert_id), Some(left)) = (insert_id, self.left(client)) {
            left.last_number.prove(insert_id, lease);
        }
    }

    /// The server knows the number that the client's last row got, from here to the end of the lease.
    fn give_insert_id(&mut self, id: ClientId, to: ServerId) {
        let lease = self.lease_of(to);
        if !self.is_shared(to) {
            return;
        }
        let Some(number) = self.left(id).and_then(|left| left.last_number.due_at(lease)) else { return };
        self.disturb(Some(id));
        let now = self.now;
        let server = &mut self.servers[to];
        server.dialect.write_insert_id(&mut server.output, number);
        server.made.note_set();
        server.owe_adjustment(now);
    }
}
