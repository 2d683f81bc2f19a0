//! What protocols whose requests take turns have, and no other: numbered statements, ends that tell what changed.
//!
//! Only dispatch, as in the module above. Called by `relay::commands`.

use super::{
    Asks, Change, Diagnosed, Explained, Killing, Known, Message, Outcome, Prepared, Run, SettingChange, Show,
    Tracking, Voice,
};
use crate::effects::{Effects, Finding, Traces};
use crate::{mysql, Code, Complaint, Dialect, Fault};

impl Dialect {
    /// Is each request answered before the next is read, and does each end by itself? Then there are numbers
    /// in the place of names, and no batches.
    pub fn takes_turns(self) -> bool {
        self == Dialect::Mysql
    }

    /// Of what a client can do, that which its servers must have agreed on, too.
    pub fn class_of(self, capabilities: u64) -> u64 {
        match self {
            Dialect::Postgres => 0,
            Dialect::Mysql => mysql::agreement::class_of(capabilities),
        }
    }

    /// What a server is asked to agree on for clients of these flags.
    pub fn asked_of_servers(self, flags: u64) -> u64 {
        match self {
            Dialect::Postgres => 0,
            Dialect::Mysql => mysql::agreement::asked_of_servers(flags),
        }
    }

    /// Settings that a new session in the same connection keeps.
    pub fn lasting_settings(self) -> &'static [&'static str] {
        match self {
            Dialect::Postgres => &[],
            Dialect::Mysql => &["schema"],
        }
    }

    /// Is a setting's default that of all sessions, and not what this one was opened with?
    pub fn is_default_of_all(self) -> bool {
        match self {
            Dialect::Postgres => false,
            Dialect::Mysql => true,
        }
    }

    /// The statement that a command names.
    ///
    /// # Errors
    /// It names none.
    pub fn statement_number(self, message: &[u8]) -> Result<u32, Fault> {
        mysql::statement::number_of(message)
    }

    /// # Errors
    /// A message that is not well formed.
    pub fn run_of(self, message: &[u8], total: usize, parameters: u16) -> Result<Option<Run>, Fault> {
        mysql::statement::run_of(message, total, parameters)
    }

    /// # Errors
    /// It would be too long.
    pub fn write_run(
        self,
        out: &mut Vec<u8>,
        message: &[u8],
        total: usize,
        run: &Run,
        number: u32,
        types: &[u8],
    ) -> Result<(), Fault> {
        mysql::statement::write_run(out, message, total, run, number, types)
    }

    /// Write a message that names a statement with another number for it.
    pub fn write_renumbered(self, out: &mut Vec<u8>, message: &[u8], number: u32) {
        mysql::statement::write_renumbered(out, message, number);
    }

    /// Read the answer to a preparation.
    pub fn prepared_of(self, message: &[u8]) -> Prepared {
        mysql::statement::prepared_of(message)
    }

    /// Have a server forget the statement of this number; no answer.
    pub fn write_close_number(self, out: &mut Vec<u8>, number: u32) {
        mysql::statement::write_close(out, number);
    }

    /// Have a server forget what was appended to a statement, and its cursor; one `Ready`.
    pub fn write_rewind(self, out: &mut Vec<u8>, number: u32) {
        mysql::statement::write_rewind(out, number);
    }

    /// The sessions that `text` wants killed before it says anything else.
    #[inline]
    pub fn kills_of(self, text: &[u8]) -> Vec<Killing> {
        mysql::kill::leading(text)
    }

    /// A statement whose answer is that of one that was carried out, or failed with this number and these words.
    pub fn statement_answering(self, failure: Option<(u16, &str)>) -> String {
        match failure {
            None => mysql::kill::DONE.to_owned(),
            Some((number, message)) => mysql::kill::failed(number, message),
        }
    }

    /// The session that a command wants killed, by its number.
    ///
    /// # Errors
    /// It names none.
    pub fn victim_of(self, message: &[u8]) -> Result<u32, Fault> {
        mysql::statement::victim_of(message)
    }

    /// The client has no statement of this number.
    pub fn unknown_statement(self, number: u32, command: &str) -> Complaint {
        Complaint {
            number: Some(1243),
            sqlstate: Some(*b"HY000"),
            ..Complaint::error(
                Code::UnknownStatement,
                format!("Unknown prepared statement handler ({number}) given to {command}"),
            )
        }
    }

    /// The client's statement has no cursor.
    pub fn no_cursor(self, number: u32) -> Complaint {
        Complaint {
            number: Some(1421),
            sqlstate: Some(*b"HY000"),
            ..Complaint::error(Code::WrongState, format!("The statement ({number}) has no open cursor"))
        }
    }

    /// What a client can do once it has said `message`.
    ///
    /// # Errors
    /// What it says is not known.
    pub fn agree(self, capabilities: u64, message: &[u8]) -> Result<u64, Complaint> {
        use mysql::spec::capability::MULTI_STATEMENTS;
        match mysql::statement::several_of(message) {
            Ok(true) => Ok(capabilities | MULTI_STATEMENTS),
            Ok(false) => Ok(capabilities & !MULTI_STATEMENTS),
            Err(fault) => Err(Complaint {
                number: Some(1047),
                sqlstate: Some(*b"08S01"),
                ..Complaint::error(Code::Unsupported, fault.0)
            }),
        }
    }

    /// Which statements of `text` show why a server would say that something unnamed changed in its session?
    #[inline]
    pub fn explained(self, text: &[u8], effects: Option<&Effects>) -> Explained {
        mysql::explained::explained(text, effects)
    }

    /// What to suspect when it says so and the text does not.
    pub fn effects_unseen(self) -> Effects {
        mysql::judge::after_unseen_change()
    }

    /// Is it a setting whose value the server tells whenever it changes?
    pub fn is_tracked(self, name: &str) -> bool {
        self == Dialect::Mysql && mysql::assign::is_tracked(name)
    }

    /// The value by which a limit that a client may have set is lifted while its server is asked something.
    pub fn unlimited(self, name: &str) -> Option<&'static str> {
        mysql::probe::unlimited(name).filter(|_| self == Dialect::Mysql)
    }

    /// Of a variable that has two names, the one by which it is carried.
    pub fn usual_name(self, name: &[u8]) -> &[u8] {
        std::str::from_utf8(name).map_or(name, |name| mysql::assign::usual_name(name).as_bytes())
    }

    /// Is it one of the server's own variables, which a session carries?
    pub fn is_variable(self, name: &str) -> bool {
        self.is_tracked(name) && !name.eq_ignore_ascii_case(mysql::settings::SCHEMA)
    }

    /// The setting from which flags of a server's status follow.
    pub fn modes_setting(self) -> &'static str {
        mysql::progress::MODES
    }

    /// The flags that follow from this value of it.
    pub fn modes_under(self, value: &str) -> u16 {
        mysql::progress::modes_under(value)
    }

    /// Is what `changes` are written as a statement that sets something, among others?
    pub fn is_any_set(self, changes: &[SettingChange<'_>]) -> bool {
        self == Dialect::Mysql && changes.iter().any(|(name, _)| mysql::settings::is_plain(name))
    }

    /// Were not all settings told that were asked for, so that those known before count still?
    pub fn keeps_known(self, findings: &[Finding]) -> bool {
        self == Dialect::Mysql && findings.contains(&Finding::Trace(Traces::VARIABLES))
    }

    /// Write a transaction in which nothing happens; returns how many requests that is.
    pub fn write_empty_transaction(self, out: &mut Vec<u8>) -> u8 {
        mysql::reply::query(out, b"BEGIN");
        // Why so many words: `completion_type` would begin another, or close the connection.
        mysql::reply::query(out, b"COMMIT AND NO CHAIN NO RELEASE");
        2
    }

    /// Have a server tell again what changes in its session: one request with one `Ready`.
    pub fn write_tracking(self, out: &mut Vec<u8>) {
        mysql::reply::query(out, mysql::setup::SETUP.as_bytes());
    }

    /// Ask a server what its client has just chosen to be told: one request with one `Ready`, and one row.
    pub fn write_choice_question(self, out: &mut Vec<u8>) {
        mysql::reply::query(out, mysql::tracking::QUESTION.as_bytes());
    }

    /// Is it an end of rows that cannot tell what changed in the session?
    pub fn is_silent_end(self, message: &[u8]) -> bool {
        mysql::progress::is_silent_end(message)
    }

    /// Say such an end to a client that is not told of its session's state.
    pub fn say_silent_end(self, out: &mut Vec<u8>, message: &[u8]) {
        mysql::reply::silent_end(out, message);
    }

    /// What `text` asks about the statement before it.
    #[inline]
    pub fn asks(self, text: &[u8]) -> Option<Asks> {
        mysql::leftovers::asks(text)
    }

    /// The `SHOW` of what went wrong that `text` is, if it is one.
    #[inline]
    pub fn shows(self, text: &[u8]) -> Option<Show> {
        if !mysql::leftovers::may_show(text) {
            return None;
        }
        mysql::leftovers::asks(text)?.shows
    }

    /// `text` with what is known in the place of what it asks; None: it stays as it is.
    pub fn substituted(self, text: &[u8], known: &Known) -> Option<Vec<u8>> {
        mysql::leftovers::substituted(text, known)
    }

    /// Does a server of this `version` leave the messages of the statement before, unless `text` gives some itself?
    pub fn keeps_messages(self, text: &[u8], version: &str) -> bool {
        self == Dialect::Mysql && mysql::diagnostics::keeps_messages(text, version)
    }

    /// An assignment in the place of a text that asks what went wrong; None: the server is to answer it.
    pub fn diagnosed(self, text: &[u8], known: &Diagnosed<'_>) -> Option<Vec<u8>> {
        mysql::diagnostics::assigned(text, known)
    }

    /// Have a server tell what went wrong: one request with one `Ready`, whose rows `message_of` reads.
    pub fn write_show(self, out: &mut Vec<u8>) {
        mysql::reply::query(out, mysql::leftovers::SHOW_ALL.as_bytes());
    }

    pub fn message_of(self, row: &[u8]) -> Message {
        mysql::leftovers::message_of(row)
    }

    pub fn is_error(self, message: &Message) -> bool {
        mysql::leftovers::is_error(message)
    }

    /// Answer a `SHOW` of what went wrong.
    pub fn say_messages(self, out: &mut Vec<u8>, voice: &mut Voice, show: Show, messages: &[Message]) {
        mysql::leftovers::say(out, voice, show, messages);
    }

    /// A query in the place of a prepared `SHOW` of what went wrong; None: the server is to answer it.
    pub fn messages_as_query(self, show: Show, messages: &[Message]) -> Option<Vec<u8>> {
        mysql::leftovers::as_query(show, messages)
    }

    /// The setting, and its value, under which `WHERE id IS NULL` finds the row that the last insert made.
    pub fn seeks_last_row(self) -> (&'static str, &'static str) {
        ("sql_auto_is_null", "ON")
    }

    /// Have a server believe that the last row got this number: one request with one `Ready`.
    pub fn write_insert_id(self, out: &mut Vec<u8>, number: u64) {
        mysql::reply::query(out, format!("SET last_insert_id={number}").as_bytes());
    }

    /// Take apart what a server says has changed in its session.
    pub fn changes_of(self, changed: &[u8]) -> impl Iterator<Item = Result<Change<'_>, Fault>> {
        mysql::progress::changes(changed)
    }

    /// Say the end of a statement's results, with as much of its session's state as its client has chosen to be told;
    /// None: nothing.
    pub fn say_outcome(
        self,
        out: &mut Vec<u8>,
        message: &[u8],
        outcome: &Outcome<'_>,
        tracking: Option<&Tracking>,
    ) {
        mysql::reply::outcome(out, message, outcome, tracking);
    }

    /// Have a server begin a new session in the same connection, with an operator's `parameters`; returns how many requests that makes, each
    /// with one `Ready`. None: not this dialect's way.
    pub fn write_renewal(self, out: &mut Vec<u8>, parameters: &[(String, String)]) -> Option<u8> {
        match self {
            Dialect::Postgres => None,
            Dialect::Mysql => Some(mysql::statement::write_renewal(out, parameters)),
        }
    }
}
