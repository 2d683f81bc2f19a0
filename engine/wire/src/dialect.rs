//! The one place where a neutral question is put to a dialect.
//!
//! Only dispatch: each method is a `match` that names the same function of each dialect.
//! Called by `relay`, which therefore never says which database it serves.

mod login;
mod turns;

use crate::effects::{Effects, Finding, Question, Stateful, Traces};
use crate::mysql;
use crate::postgres::{self, reply};
use crate::{
    digest, CancelKey, ClientMessage, Complaint, Dialect, Fault, Notification, Reply, ServerMessage,
    Transaction,
};

pub use self::login::{ClientHandshake, Greeting, ServerHandshake};
pub use crate::mysql::compress::Compression;
pub use crate::mysql::diagnostics::Diagnosed;
pub use crate::mysql::explained::Explained;
pub use crate::mysql::kill::{Kill, Killing};
pub use crate::mysql::leftovers::{Asks, Known, Message, Show};
pub use crate::mysql::progress::{Change, Outcome, Reading};
pub use crate::mysql::reply::Voice;
pub use crate::mysql::statement::{Prepared, Run};
pub use crate::mysql::tracking::Tracking;
pub use crate::postgres::progress::Tag;
pub use crate::postgres::reply::ColumnType;
pub use crate::postgres::statement::{BindHead, Prepare};

/// One setting to change on a server; `None` returns it to its default.
pub type SettingChange<'a> = (&'a str, Option<&'a str>);

macro_rules! ask {
    ($dialect:expr, $($call:tt)+) => {
        match $dialect {
            Dialect::Postgres => postgres::$($call)+,
            Dialect::Mysql => mysql::$($call)+,
        }
    };
}

/// As `ask`, for what only PostgreSQL has; the other dialect answers with `$other`.
macro_rules! ask_postgres {
    ($dialect:expr, $other:expr, $($call:tt)+) => {
        match $dialect {
            Dialect::Postgres => postgres::$($call)+,
            Dialect::Mysql => $other,
        }
    };
}

/// The answer to a question that no message of this dialect leads to.
const ELSEWHERE: Fault = Fault("a message that this protocol does not have");

impl Dialect {
    /// Cut the first message of a client's bytes.
    ///
    /// # Errors
    /// Bytes that no logged-in client may send.
    #[inline]
    /// `is_data`: its server has asked it for a file.
    pub fn next_intent(
        self,
        input: &[u8],
        limit_bytes: usize,
        is_data: bool,
    ) -> Result<Option<ClientMessage>, Fault> {
        match self {
            Dialect::Postgres => postgres::intent::next(input, limit_bytes),
            Dialect::Mysql => mysql::intent::next(input, is_data),
        }
    }

    /// Cut the first message of a server's bytes.
    ///
    /// # Errors
    /// Bytes that no server sends after login.
    #[inline]
    /// `asked`: what it answers, at the place `reading` in the answer; `advance` notes that it was read.
    pub fn next_progress(
        self,
        reading: &Reading,
        asked: Reply,
        input: &[u8],
        limit_bytes: usize,
    ) -> Result<Option<ServerMessage>, Fault> {
        match self {
            Dialect::Postgres => postgres::progress::next(input, limit_bytes),
            Dialect::Mysql => mysql::progress::next(reading, asked, input, limit_bytes),
        }
    }

    /// A message was read, of which `here` has arrived.
    #[inline]
    pub fn advance(self, reading: &mut Reading, asked: Reply, message: ServerMessage, here: &[u8]) {
        if self == Dialect::Mysql {
            mysql::progress::advance(reading, asked, message, here);
        }
    }

    /// What the end of a statement's results says; None: nothing.
    ///
    /// # Errors
    /// A message that is not well formed.
    pub fn outcome_of(self, message: &[u8]) -> Result<Option<Outcome<'_>>, Fault> {
        match self {
            Dialect::Postgres => Ok(None),
            Dialect::Mysql => mysql::progress::outcome_of(message).map(Some),
        }
    }

    /// What a finished statement did to the session.
    #[inline]
    pub fn tag_of(self, message: &[u8]) -> Tag {
        ask_postgres!(self, Tag::Other, progress::tag_of(message))
    }

    /// # Errors
    /// A message that is not well formed.
    pub fn setting_of(self, message: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
        ask_postgres!(self, Err(ELSEWHERE), progress::setting_of(message))
    }

    /// SQLSTATE and text of a whole error message from a server, and the routine that raised it.
    pub fn error_of(self, message: &[u8]) -> ServerError {
        match self {
            Dialect::Postgres => {
                let fields = reply::error_fields(&message[postgres::frame::HEADER..]);
                let is_fatal = matches!(fields.severity, b"FATAL" | b"PANIC");
                // Why the routine: the text is translated, and the code 0A000 alone means many things.
                let is_changed = fields.sqlstate == b"0A000" && fields.routine == b"RevalidateCachedQuery";
                let sqlstate = fields.state();
                ServerError {
                    is_missing: &sqlstate == b"26000",
                    is_cancelled: &sqlstate == b"57014",
                    sqlstate,
                    number: None,
                    message: fields.text(),
                    is_fatal,
                    is_changed,
                    is_full: false,
                }
            }
            Dialect::Mysql => mysql::reply::error_of(message),
        }
    }

    /// # Errors
    /// A message that is not well formed.
    pub fn prepare_of(self, message: &[u8]) -> Result<Prepare<'_>, Fault> {
        match self {
            Dialect::Postgres => postgres::statement::prepare_of(message),
            Dialect::Mysql => Ok(Prepare { name: b"", definition: mysql::statement::text(message) }),
        }
    }

    /// # Errors
    /// Names that do not end.
    pub fn bind_head(self, message: &[u8], total: usize) -> Result<Option<BindHead<'_>>, Fault> {
        ask_postgres!(self, Err(ELSEWHERE), statement::bind_head(message, total))
    }

    /// Values behind the names of a `Bind` that may name settings which no server lists.
    pub fn made_up_names(self, rest: &[u8]) -> Vec<Box<str>> {
        ask_postgres!(self, Vec::new(), statement::made_up_names(rest))
    }

    /// # Errors
    /// A name that does not end.
    pub fn target_name(self, message: &[u8]) -> Result<&[u8], Fault> {
        ask_postgres!(self, Err(ELSEWHERE), statement::target_name(message))
    }

    /// Statement text of a `Query`, as much as has arrived.
    pub fn query_text(self, message: &[u8]) -> &[u8] {
        match self {
            Dialect::Postgres => postgres::statement::query_text(message),
            Dialect::Mysql => mysql::statement::text(message),
        }
    }

    /// Statement text in the definition of a prepared statement.
    pub fn definition_text(self, definition: &[u8]) -> &[u8] {
        match self {
            Dialect::Postgres => postgres::statement::definition_text(definition),
            Dialect::Mysql => definition,
        }
    }

    /// Statement text with its literals folded, at most `limit` bytes of it.
    pub fn shape(self, text: &[u8], out: &mut String, limit: usize) {
        let lexis = match self {
            Dialect::Postgres => digest::Lexis::Postgres,
            Dialect::Mysql => digest::Lexis::Mysql,
        };
        digest::shape(lexis, text, out, limit);
    }

    pub fn write_prepare(self, out: &mut Vec<u8>, name: &[u8], definition: &[u8]) {
        match self {
            Dialect::Postgres => postgres::statement::write_prepare(out, name, definition),
            Dialect::Mysql => mysql::statement::write_prepare(out, definition),
        }
    }

    pub fn write_bind_head(self, out: &mut Vec<u8>, portal: &[u8], name: &[u8], rest_len: usize) {
        ask_postgres!(self, (), statement::write_bind_head(out, portal, name, rest_len))
    }

    pub fn write_describe(self, out: &mut Vec<u8>, name: &[u8]) {
        ask_postgres!(self, (), statement::write_describe(out, name))
    }

    pub fn write_close(self, out: &mut Vec<u8>, name: &[u8]) {
        ask_postgres!(self, (), statement::write_close(out, name))
    }

    pub fn write_copy_fail(self, out: &mut Vec<u8>, reason: &str) {
        ask_postgres!(self, (), statement::write_copy_fail(out, reason))
    }

    /// Ask a server to change settings. Returns how many requests that makes, each with one `Ready`.
    pub fn write_settings(self, out: &mut Vec<u8>, changes: &[SettingChange<'_>]) -> u8 {
        match self {
            Dialect::Postgres => {
                postgres::statement::write_settings(out, changes);
                1
            }
            Dialect::Mysql => mysql::settings::write(out, changes),
        }
    }

    /// What `text` shows of its effects on the session; None: none that outlast a transaction.
    #[inline]
    pub fn effects_of(self, text: &[u8]) -> Option<Box<Effects>> {
        ask!(self, judge::effects(text))
    }

    /// What to suspect of the part of a text that has not arrived.
    pub fn effects_of_rest(self) -> Effects {
        match self {
            Dialect::Postgres => Effects::anything(),
            Dialect::Mysql => mysql::judge::effects_of_rest(),
        }
    }

    /// Kinds of which a server can be asked whether any is left.
    pub fn provable(self) -> Traces {
        match self {
            Dialect::Postgres => Traces::PROVABLE,
            Dialect::Mysql => mysql::judge::PROVABLE,
        }
    }

    /// Kinds that are told by name when they come and go, not by asking.
    pub fn kinds_by_name(self) -> Traces {
        match self {
            Dialect::Postgres => Traces::NONE,
            Dialect::Mysql => mysql::judge::BY_NAME,
        }
    }

    /// Kinds that are gone once all of a session is discarded.
    pub fn undone(self) -> Traces {
        match self {
            Dialect::Postgres => Traces::UNDONE,
            Dialect::Mysql => mysql::judge::UNDONE,
        }
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
        match self {
            Dialect::Postgres => postgres::statement::name_among_settings(name),
            Dialect::Mysql => mysql::settings::name_among_settings(name),
        }
    }

    /// Does it stand there for a statement?
    pub fn is_statement_among_settings(self, name: &str) -> bool {
        match self {
            Dialect::Postgres => postgres::statement::is_among_settings(name),
            Dialect::Mysql => mysql::settings::is_statement(name),
        }
    }

    /// The prepared statement that `text` forgets, if that is all it does.
    #[inline]
    pub fn forgotten(self, text: &[u8]) -> Option<String> {
        ask_postgres!(self, None, prepare::forgotten(text))
    }

    /// The prepared statement that `text` runs by name, and where the name stands in it.
    #[inline]
    pub fn executed(self, text: &[u8]) -> Option<(String, std::ops::Range<usize>)> {
        ask!(self, prepare::executed(text))
    }

    /// The effects of running what SQL prepared by `text`.
    pub fn effects_of_prepared(self, text: &[u8]) -> Effects {
        match self {
            Dialect::Postgres => {
                let mut effects = postgres::judge::effects(text).map(|made| *made).unwrap_or_default();
                effects.begins = effects.begins.without(Traces::PREPARED);
                effects
            }
            Dialect::Mysql => mysql::prepare::effects_of_prepared(text),
        }
    }

    /// `text` with the name of a prepared statement in the place of another.
    pub fn renamed(self, text: &[u8], place: std::ops::Range<usize>, name: &[u8]) -> Vec<u8> {
        ask_postgres!(self, text.to_vec(), statement::renamed(text, place, name))
    }

    /// `text`, which asks which statements are prepared, so that it is told those in `names` (as the server
    /// has them, as the client knows them) and what SQL prepared. None: it stays as it is.
    pub fn own_listing(self, text: &[u8], names: &[(&[u8], &[u8])], version: &str) -> Option<Vec<u8>> {
        ask_postgres!(self, None, listing::own(text, names, version))
    }

    /// A pair of queries of which the first makes a statement and the second forgets it, in the same
    /// words to the client as if it had forgotten another.
    pub fn write_forgetting(self, out: &mut Vec<u8>) {
        ask_postgres!(self, (), statement::write_forgetting(out))
    }

    /// Is `text` one `PREPARE` that can be said again on another server?
    pub fn is_one_prepare(self, text: &str) -> bool {
        ask_postgres!(self, false, prepare::is_one_prepare(text.as_bytes()))
    }

    /// Read a whole `Progress::Notification`.
    pub fn notification_of(self, message: &[u8]) -> Option<Notification<'_>> {
        ask_postgres!(self, None, notify::read(message))
    }

    pub fn say_notification(self, out: &mut Vec<u8>, notification: &Notification<'_>) {
        ask_postgres!(self, (), notify::write(out, notification))
    }

    /// Have a server begin (`true`) or stop to listen to channels: one request with one `Ready`, with
    /// no channels as well.
    pub fn write_listens<'a>(self, out: &mut Vec<u8>, changes: impl Iterator<Item = (&'a str, bool)>) {
        ask_postgres!(self, (), notify::write_listens(out, changes))
    }

    /// The statement after which a session listens to nothing.
    pub fn stop_listening_text(self) -> &'static str {
        ask_postgres!(self, "", notify::STOP)
    }

    /// Settings that say what names in statements stand for.
    pub fn naming_settings(self) -> &'static [&'static str] {
        match self {
            Dialect::Postgres => &["search_path", "role", "session_authorization"],
            Dialect::Mysql => &[
                "schema",
                "sql_mode",
                "character_set_client",
                "character_set_connection",
                "collation_connection",
            ],
        }
    }

    /// Where a session works whose client has named no database and is to have none; None: it must name one.
    ///
    /// Why not nowhere: a MySQL session that has chosen a schema cannot choose none again, so its server could never
    /// be lent to such a client afterwards. Everybody may read this one, nobody can write to it.
    pub fn neutral_database(self) -> Option<&'static str> {
        match self {
            Dialect::Postgres => None,
            Dialect::Mysql => Some("information_schema"),
        }
    }

    /// The setting that says in which encoding a client is spoken to.
    pub fn encoding_setting(self) -> &'static str {
        match self {
            Dialect::Postgres => "client_encoding",
            Dialect::Mysql => "character_set_client",
        }
    }

    /// Does `text` only read, as far as its first word says?
    pub fn only_reads(self, text: &[u8]) -> bool {
        ask_postgres!(self, true, notify::only_reads(text))
    }

    /// The statement after which nothing of a session is left that can be undone.
    pub fn reset_text(self) -> &'static str {
        match self {
            Dialect::Postgres => "DISCARD ALL",
            Dialect::Mysql => "",
        }
    }

    /// The statement after which nobody is told what a sequence gave before.
    pub fn sequences_reset_text(self) -> &'static str {
        match self {
            Dialect::Postgres => "DISCARD SEQUENCES",
            Dialect::Mysql => "",
        }
    }

    /// May `text` advance a sequence?
    pub fn advances_sequences(self, text: &[u8]) -> bool {
        ask!(self, calls::advances(text))
    }

    /// The effects of what `text` calls or names that its words do not show.
    pub fn effects_of_stateful(self, text: &[u8], stateful: &[Stateful]) -> Option<Effects> {
        ask!(self, calls::effects_of_stateful(text, stateful))
    }

    /// Run statement text: one request with one `Ready`.
    pub fn write_query(self, out: &mut Vec<u8>, sql: &str) {
        match self {
            Dialect::Postgres => postgres::reply::query(out, sql),
            Dialect::Mysql => mysql::reply::query(out, sql.as_bytes()),
        }
    }

    /// As `write_query`, for a client's text in whatever encoding.
    pub fn write_query_text(self, out: &mut Vec<u8>, text: &[u8]) {
        match self {
            Dialect::Postgres => postgres::statement::write_query_text(out, text),
            Dialect::Mysql => mysql::reply::query(out, text),
        }
    }

    /// Ask for a sign of life, which ends a batch where there are such; one `Ready`.
    pub fn write_sync(self, out: &mut Vec<u8>) {
        match self {
            Dialect::Postgres => postgres::reply::sync(out),
            Dialect::Mysql => mysql::reply::ping(out),
        }
    }

    /// Say goodbye to a server.
    pub fn write_quit(self, out: &mut Vec<u8>) {
        match self {
            Dialect::Postgres => postgres::reply::terminate(out),
            Dialect::Mysql => mysql::reply::quit(out),
        }
    }

    pub fn write_cancel(self, out: &mut Vec<u8>, key: &CancelKey) {
        ask_postgres!(self, (), reply::cancel_request(out, key))
    }

    /// Ask a server for TLS; it answers with one byte.
    pub fn write_tls_request(self, out: &mut Vec<u8>) {
        ask_postgres!(self, (), reply::ssl_request(out))
    }

    pub fn say_error(self, out: &mut Vec<u8>, complaint: &Complaint, voice: Voice) {
        match self {
            Dialect::Postgres => postgres::reply::error(out, complaint),
            Dialect::Mysql => {
                mysql::errors::write(out, voice.sequence, complaint, voice.capabilities);
            }
        }
    }

    pub fn say_ready(self, out: &mut Vec<u8>, state: Transaction) {
        ask_postgres!(self, (), reply::ready(out, state))
    }

    pub fn say_prepared(self, out: &mut Vec<u8>) {
        ask_postgres!(self, (), reply::prepared(out))
    }

    pub fn say_closed(self, out: &mut Vec<u8>) {
        ask_postgres!(self, (), reply::closed(out))
    }

    pub fn say_setting(self, out: &mut Vec<u8>, name: &str, value: &str) {
        ask_postgres!(self, (), reply::setting(out, name, value))
    }

    pub fn say_key(self, out: &mut Vec<u8>, key: &CancelKey) {
        ask_postgres!(self, (), reply::key(out, key))
    }

    pub fn say_columns(self, out: &mut Vec<u8>, columns: &[(&str, ColumnType)], voice: &mut Voice) {
        match self {
            Dialect::Postgres => postgres::reply::row_description(out, columns),
            Dialect::Mysql => mysql::reply::columns(out, voice, columns),
        }
    }

    pub fn say_row(self, out: &mut Vec<u8>, values: &[Option<&str>], voice: &mut Voice) {
        match self {
            Dialect::Postgres => postgres::reply::data_row(out, values),
            Dialect::Mysql => mysql::reply::row(out, voice, values),
        }
    }

    /// Say the end of rows (`has_rows`), or that a statement without rows is done.
    pub fn say_finished(self, out: &mut Vec<u8>, tag: &str, has_rows: bool, voice: &mut Voice) {
        match self {
            Dialect::Postgres => postgres::reply::command_complete(out, tag),
            Dialect::Mysql if has_rows => mysql::reply::rows_end(out, voice),
            Dialect::Mysql => mysql::reply::ok(out, voice, 0, 0),
        }
    }

    pub fn say_empty(self, out: &mut Vec<u8>, voice: Voice) {
        match self {
            Dialect::Postgres => postgres::reply::empty_query(out),
            Dialect::Mysql => {
                let complaint = Complaint {
                    number: Some(1065),
                    sqlstate: Some(*b"42000"),
                    ..Complaint::error(crate::Code::Syntax, "Query was empty")
                };
                self.say_error(out, &complaint, voice);
            }
        }
    }

    /// Settings that name the session's identity, not its state: never carried.
    pub fn is_identity(self, parameter: &str) -> bool {
        match self {
            Dialect::Postgres => postgres::spec::is_identity(parameter),
            Dialect::Mysql => mysql::agreement::is_identity(parameter),
        }
    }

    /// Settings that the server does not list among those a session has set.
    pub fn is_unlisted(self, name: &str) -> bool {
        ask_postgres!(self, false, spec::is_unlisted(name))
    }

    /// Does `value` say that a setting, found by asking, has not been set? `user` logged in.
    pub fn is_unset(self, name: &str, value: &str, user: &str) -> bool {
        ask_postgres!(self, false, spec::is_unset(name, value, user))
    }

    /// `value` of a setting in the words in which the server will report it, where these are known.
    pub fn reported_as(self, name: &str, value: &str) -> Option<String> {
        ask_postgres!(self, None, spelling::reported(name, value))
    }

    /// Settings of a session that talks to our console.
    pub fn console_settings(self) -> &'static [(&'static str, &'static str)] {
        ask_postgres!(self, &[], spec::CONSOLE_SETTINGS)
    }
}

/// An error in a server's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub sqlstate: [u8; 5],
    /// Where errors have numbers.
    pub number: Option<u16>,
    pub message: String,
    /// The server ends the session with it.
    pub is_fatal: bool,
    /// The columns of the prepared statement that was used have changed.
    pub is_changed: bool,
    /// The prepared statement that was used is not there.
    pub is_missing: bool,
    /// The database stopped the statement because it was asked to.
    pub is_cancelled: bool,
    /// It takes no more prepared statements.
    pub is_full: bool,
}

impl ServerError {
    /// The prepared statement that was used is not there, or its columns have changed.
    pub fn is_stale(&self) -> bool {
        self.is_missing || self.is_changed
    }
}
