//! The one place where a neutral question is put to a dialect.
//!
//! Only dispatch: each method is a `match` that names the same function of each dialect.
//! Called by `relay`, which therefore never says which database it serves.

use crate::effects::{Effects, Finding, Question, StatefulFunction};
use crate::handshake::{ClientStep, Credentials, LoginTo, Method, ServerStep};
use crate::postgres::{self, handshake_in, handshake_out, reply};
use crate::{
    digest, CancelKey, ClientMessage, Complaint, Dialect, Fault, Notification, ServerMessage, Transaction,
};

pub use crate::postgres::progress::Tag;
pub use crate::postgres::reply::ColumnType;
pub use crate::postgres::statement::{BindHead, Prepare};

/// One setting to change on a server; `None` returns it to its default.
pub type SettingChange<'a> = (&'a str, Option<&'a str>);

macro_rules! ask {
    ($dialect:expr, $($call:tt)+) => {
        match $dialect {
            Dialect::Postgres => postgres::$($call)+,
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    };
}

impl Dialect {
    /// Cut the first message of a client's bytes.
    ///
    /// # Errors
    /// Bytes that no logged-in client may send.
    #[inline]
    pub fn next_intent(self, input: &[u8], limit_bytes: usize) -> Result<Option<ClientMessage>, Fault> {
        ask!(self, intent::next(input, limit_bytes))
    }

    /// Cut the first message of a server's bytes.
    ///
    /// # Errors
    /// Bytes that no server sends after login.
    #[inline]
    pub fn next_progress(self, input: &[u8], limit_bytes: usize) -> Result<Option<ServerMessage>, Fault> {
        ask!(self, progress::next(input, limit_bytes))
    }

    /// What a finished statement did to the session.
    #[inline]
    pub fn tag_of(self, message: &[u8]) -> Tag {
        ask!(self, progress::tag_of(message))
    }

    /// # Errors
    /// A message that is not well formed.
    pub fn setting_of(self, message: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
        ask!(self, progress::setting_of(message))
    }

    /// SQLSTATE and text of a whole error message from a server, and the routine that raised it.
    pub fn error_of(self, message: &[u8]) -> ServerError {
        match self {
            Dialect::Postgres => {
                let fields = reply::error_fields(&message[postgres::frame::HEADER..]);
                let is_fatal = matches!(fields.severity, b"FATAL" | b"PANIC");
                // Why the routine: the text is translated, and the code 0A000 alone means many things.
                let is_changed = fields.sqlstate == b"0A000" && fields.routine == b"RevalidateCachedQuery";
                ServerError { sqlstate: fields.state(), message: fields.text(), is_fatal, is_changed }
            }
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    }

    /// # Errors
    /// A message that is not well formed.
    pub fn prepare_of(self, message: &[u8]) -> Result<Prepare<'_>, Fault> {
        ask!(self, statement::prepare_of(message))
    }

    /// # Errors
    /// Names that do not end.
    pub fn bind_head(self, message: &[u8], total: usize) -> Result<Option<BindHead<'_>>, Fault> {
        ask!(self, statement::bind_head(message, total))
    }

    /// Values behind the names of a `Bind` that may name settings which no server lists.
    pub fn made_up_names(self, rest: &[u8]) -> Vec<Box<str>> {
        ask!(self, statement::made_up_names(rest))
    }

    /// # Errors
    /// A name that does not end.
    pub fn target_name(self, message: &[u8]) -> Result<&[u8], Fault> {
        ask!(self, statement::target_name(message))
    }

    /// Statement text of a `Query`, as much as has arrived.
    pub fn query_text(self, message: &[u8]) -> &[u8] {
        ask!(self, statement::query_text(message))
    }

    /// Statement text in the definition of a prepared statement.
    pub fn definition_text(self, definition: &[u8]) -> &[u8] {
        ask!(self, statement::definition_text(definition))
    }

    /// Statement text with its literals folded, at most `limit` bytes of it.
    pub fn shape(self, text: &[u8], out: &mut String, limit: usize) {
        let lexis = match self {
            Dialect::Postgres => digest::Lexis::Postgres,
            Dialect::Mysql => unreachable!("not merged yet"),
        };
        digest::shape(lexis, text, out, limit);
    }

    pub fn write_prepare(self, out: &mut Vec<u8>, name: &[u8], definition: &[u8]) {
        ask!(self, statement::write_prepare(out, name, definition))
    }

    pub fn write_bind_head(self, out: &mut Vec<u8>, portal: &[u8], name: &[u8], rest_len: usize) {
        ask!(self, statement::write_bind_head(out, portal, name, rest_len))
    }

    pub fn write_describe(self, out: &mut Vec<u8>, name: &[u8]) {
        ask!(self, statement::write_describe(out, name))
    }

    pub fn write_close(self, out: &mut Vec<u8>, name: &[u8]) {
        ask!(self, statement::write_close(out, name))
    }

    pub fn write_copy_fail(self, out: &mut Vec<u8>, reason: &str) {
        ask!(self, statement::write_copy_fail(out, reason))
    }

    /// Ask a server to change settings: one request with one `Ready`.
    pub fn write_settings(self, out: &mut Vec<u8>, changes: &[SettingChange<'_>]) {
        ask!(self, statement::write_settings(out, changes))
    }

    /// What `text` shows of its effects on the session; None: none that outlast a transaction.
    #[inline]
    pub fn effects_of(self, text: &[u8]) -> Option<Box<Effects>> {
        ask!(self, judge::effects(text))
    }

    /// Ask a server what has become of its session: one request with one `Ready`.
    pub fn write_probe(self, out: &mut Vec<u8>, question: &Question) {
        ask!(self, probe::write(out, question))
    }

    /// Settings that could keep a server from answering what it is asked about its session.
    pub fn limits_to_lift(self) -> &'static [&'static str] {
        ask!(self, probe::LIMITS)
    }

    /// Is it one of `limits_to_lift`?
    pub fn is_limit(self, name: &str) -> bool {
        self.limits_to_lift().iter().any(|limit| limit.eq_ignore_ascii_case(name))
    }

    /// Read one whole row of the answer to `write_probe`.
    pub fn finding_of(self, message: &[u8]) -> Option<Finding> {
        ask!(self, probe::finding(message))
    }

    /// The name under which SQL's prepared statement `name` stands among a session's settings.
    pub fn name_among_settings(self, name: &str) -> String {
        ask!(self, statement::name_among_settings(name))
    }

    /// Does it stand there for a statement?
    pub fn is_statement_among_settings(self, name: &str) -> bool {
        ask!(self, statement::is_among_settings(name))
    }

    /// The prepared statement that `text` forgets, if that is all it does.
    #[inline]
    pub fn forgotten(self, text: &[u8]) -> Option<String> {
        ask!(self, prepare::forgotten(text))
    }

    /// The prepared statement that `text` runs by name, and where the name stands in it.
    #[inline]
    pub fn executed(self, text: &[u8]) -> Option<(String, std::ops::Range<usize>)> {
        ask!(self, prepare::executed(text))
    }

    /// `text` with the name of a prepared statement in the place of another.
    pub fn renamed(self, text: &[u8], place: std::ops::Range<usize>, name: &[u8]) -> Vec<u8> {
        ask!(self, statement::renamed(text, place, name))
    }

    /// `text`, which asks which statements are prepared, so that it is told those in `names` (as the server
    /// has them, as the client knows them) and what SQL prepared. None: it stays as it is.
    pub fn own_listing(self, text: &[u8], names: &[(&[u8], &[u8])], version: &str) -> Option<Vec<u8>> {
        ask!(self, listing::own(text, names, version))
    }

    /// A pair of queries of which the first makes a statement and the second forgets it, in the same
    /// words to the client as if it had forgotten another.
    pub fn write_forgetting(self, out: &mut Vec<u8>) {
        ask!(self, statement::write_forgetting(out))
    }

    /// Is `text` one `PREPARE` that can be said again on another server?
    pub fn is_one_prepare(self, text: &str) -> bool {
        ask!(self, prepare::is_one_prepare(text.as_bytes()))
    }

    /// Read a whole `Progress::Notification`.
    pub fn notification_of(self, message: &[u8]) -> Option<Notification<'_>> {
        ask!(self, notify::read(message))
    }

    pub fn say_notification(self, out: &mut Vec<u8>, notification: &Notification<'_>) {
        ask!(self, notify::write(out, notification))
    }

    /// Have a server begin (`true`) or stop to listen to channels: one request with one `Ready`, with
    /// no channels as well.
    pub fn write_listens<'a>(self, out: &mut Vec<u8>, changes: impl Iterator<Item = (&'a str, bool)>) {
        ask!(self, notify::write_listens(out, changes))
    }

    /// The statement after which a session listens to nothing.
    pub fn stop_listening_text(self) -> &'static str {
        ask!(self, notify::STOP)
    }

    /// Settings that say what names in statements stand for.
    pub fn naming_settings(self) -> &'static [&'static str] {
        match self {
            Dialect::Postgres => &["search_path", "role", "session_authorization"],
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    }

    /// The setting that says in which encoding a client is spoken to.
    pub fn encoding_setting(self) -> &'static str {
        match self {
            Dialect::Postgres => "client_encoding",
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    }

    /// Does `text` only read, as far as its first word says?
    pub fn only_reads(self, text: &[u8]) -> bool {
        ask!(self, notify::only_reads(text))
    }

    /// The statement after which nothing of a session is left that can be undone.
    pub fn reset_text(self) -> &'static str {
        match self {
            Dialect::Postgres => "DISCARD ALL",
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    }

    /// The statement after which nobody is told what a sequence gave before.
    pub fn sequences_reset_text(self) -> &'static str {
        match self {
            Dialect::Postgres => "DISCARD SEQUENCES",
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    }

    /// May `text` advance a sequence?
    pub fn advances_sequences(self, text: &[u8]) -> bool {
        ask!(self, calls::advances(text))
    }

    /// The effects of those calls in `text` that its words do not show.
    pub fn effects_of_calls(self, text: &[u8], functions: &[StatefulFunction]) -> Option<Effects> {
        ask!(self, calls::effects_of_calls(text, functions))
    }

    /// Run statement text: one request with one `Ready`.
    pub fn write_query(self, out: &mut Vec<u8>, sql: &str) {
        ask!(self, reply::query(out, sql))
    }

    /// As `write_query`, for a client's text in whatever encoding.
    pub fn write_query_text(self, out: &mut Vec<u8>, text: &[u8]) {
        ask!(self, statement::write_query_text(out, text))
    }

    pub fn write_sync(self, out: &mut Vec<u8>) {
        ask!(self, reply::sync(out))
    }

    /// Say goodbye to a server.
    pub fn write_quit(self, out: &mut Vec<u8>) {
        ask!(self, reply::terminate(out))
    }

    pub fn write_cancel(self, out: &mut Vec<u8>, key: &CancelKey) {
        ask!(self, reply::cancel_request(out, key))
    }

    /// Ask a server for TLS; it answers with one byte.
    pub fn write_tls_request(self, out: &mut Vec<u8>) {
        ask!(self, reply::ssl_request(out))
    }

    pub fn say_error(self, out: &mut Vec<u8>, complaint: &Complaint) {
        ask!(self, reply::error(out, complaint))
    }

    pub fn say_ready(self, out: &mut Vec<u8>, state: Transaction) {
        ask!(self, reply::ready(out, state))
    }

    pub fn say_prepared(self, out: &mut Vec<u8>) {
        ask!(self, reply::prepared(out))
    }

    pub fn say_closed(self, out: &mut Vec<u8>) {
        ask!(self, reply::closed(out))
    }

    pub fn say_setting(self, out: &mut Vec<u8>, name: &str, value: &str) {
        ask!(self, reply::setting(out, name, value))
    }

    pub fn say_key(self, out: &mut Vec<u8>, key: &CancelKey) {
        ask!(self, reply::key(out, key))
    }

    pub fn say_columns(self, out: &mut Vec<u8>, columns: &[(&str, ColumnType)]) {
        ask!(self, reply::row_description(out, columns))
    }

    pub fn say_row(self, out: &mut Vec<u8>, values: &[Option<&str>]) {
        ask!(self, reply::data_row(out, values))
    }

    pub fn say_finished(self, out: &mut Vec<u8>, tag: &str) {
        ask!(self, reply::command_complete(out, tag))
    }

    pub fn say_empty(self, out: &mut Vec<u8>) {
        ask!(self, reply::empty_query(out))
    }

    /// Start answering a client's login.
    pub fn client_handshake(self) -> ClientHandshake {
        match self {
            Dialect::Postgres => ClientHandshake::Postgres(handshake_in::HandshakeIn::new()),
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    }

    /// Start logging in to a server.
    pub fn server_handshake(self, login: LoginTo) -> ServerHandshake {
        match self {
            Dialect::Postgres => ServerHandshake::Postgres(handshake_out::HandshakeOut::new(login)),
            Dialect::Mysql => unreachable!("not merged yet"),
        }
    }

    /// Settings that name the session's identity, not its state: never carried.
    pub fn is_identity(self, parameter: &str) -> bool {
        ask!(self, spec::is_identity(parameter))
    }

    /// Settings that the server does not list among those a session has set.
    pub fn is_unlisted(self, name: &str) -> bool {
        ask!(self, spec::is_unlisted(name))
    }

    /// Does `value` say that a setting, found by asking, has not been set? `user` logged in.
    pub fn is_unset(self, name: &str, value: &str, user: &str) -> bool {
        ask!(self, spec::is_unset(name, value, user))
    }

    /// `value` of a setting in the words in which the server will report it, where these are known.
    pub fn reported_as(self, name: &str, value: &str) -> Option<String> {
        ask!(self, spelling::reported(name, value))
    }

    /// Settings of a session that talks to our console.
    pub fn console_settings(self) -> &'static [(&'static str, &'static str)] {
        ask!(self, spec::CONSOLE_SETTINGS)
    }
}

/// An error in a server's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub sqlstate: [u8; 5],
    pub message: String,
    /// The server ends the session with it.
    pub is_fatal: bool,
    /// The columns of the prepared statement that was used have changed.
    pub is_changed: bool,
}

impl ServerError {
    /// The prepared statement that was used is not there.
    pub fn is_missing(&self) -> bool {
        &self.sqlstate == b"26000"
    }

    /// The database stopped the statement because it was asked to.
    pub fn is_cancelled(&self) -> bool {
        &self.sqlstate == b"57014"
    }

    /// The prepared statement that was used is not there, or its columns have changed.
    pub fn is_stale(&self) -> bool {
        self.is_missing() || self.is_changed
    }
}

/// A client's login, whatever its dialect.
#[derive(Debug)]
pub enum ClientHandshake {
    Postgres(handshake_in::HandshakeIn),
}

macro_rules! either {
    ($self:expr, $machine:ident => $call:expr) => {
        match $self {
            Self::Postgres($machine) => $call,
        }
    };
}

impl ClientHandshake {
    pub fn feed(&mut self, bytes: &[u8]) {
        either!(self, machine => machine.feed(bytes));
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ClientStep {
        either!(self, machine => machine.next())
    }

    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        either!(self, machine => machine.take_output(out));
    }

    pub fn answer_tls(&mut self, accepted: bool) {
        either!(self, machine => machine.answer_tls(accepted));
    }

    pub fn tls_started(&mut self) {
        either!(self, machine => machine.tls_started());
    }

    /// Ask for proof. `credentials` None: unknown user; go through the motions and refuse.
    pub fn demand(
        &mut self,
        method: Method,
        credentials: Option<&Credentials>,
        mock_secret: &[u8; 32],
        channel_binding: Option<Vec<u8>>,
    ) {
        either!(self, machine => machine.demand(method, credentials, mock_secret, channel_binding));
    }

    pub fn refuse(&mut self, complaint: Complaint) {
        either!(self, machine => machine.refuse(complaint));
    }

    pub fn errand_done(&mut self, salted: [u8; 32]) {
        either!(self, machine => machine.errand_done(salted));
    }

    /// Bytes that followed the login.
    pub fn take_rest(&mut self) -> Vec<u8> {
        either!(self, machine => machine.take_rest())
    }
}

/// Our login to a server, whatever its dialect.
#[derive(Debug)]
pub enum ServerHandshake {
    Postgres(handshake_out::HandshakeOut),
}

impl ServerHandshake {
    pub fn feed(&mut self, bytes: &[u8]) {
        either!(self, machine => machine.feed(bytes));
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> ServerStep {
        either!(self, machine => machine.next())
    }

    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        either!(self, machine => machine.take_output(out));
    }

    pub fn tls_started(&mut self) {
        either!(self, machine => machine.tls_started());
    }

    /// Tie the login to this TLS connection, whose server showed a certificate of this hash.
    pub fn bind_channel(&mut self, certificate_hash: Vec<u8>) {
        either!(self, machine => machine.bind_channel(certificate_hash));
    }

    pub fn errand_done(&mut self, salted: [u8; 32]) {
        either!(self, machine => machine.errand_done(salted));
    }

    /// Bytes that followed the login.
    pub fn take_rest(&mut self) -> Vec<u8> {
        either!(self, machine => machine.take_rest())
    }

    /// What PBKDF2 gave, for the next login of the same user.
    pub fn take_salted(&self) -> Option<(Vec<u8>, u32, [u8; 32])> {
        either!(self, machine => machine.take_salted())
    }
}
