//! `SET` in all its forms: what it leaves that a server's session tracker does not tell.
//!
//! Knows names of variables, no values. Called by `judge`.
//!
//! Source: MySQL manual, "SET Syntax for Variable Assignment", "SET TRANSACTION"; MariaDB manual, "SET STATEMENT".
//! Measured with MariaDB 10.11 and MySQL 9.7: what SET NAMES does to the collation, SET STATEMENT to its variables
//! and DEFAULT to `timestamp` the tracker does not say, or not right.

use super::judge::{Judge, Until};
use super::tracking;
use super::words::{is, is_any, name, Token};
use crate::effects::{Thing, Traces};

/// Variables that a session does not keep from one statement to the next, that stand for another, or that no session
/// may set: what the tracker says of them is nobody's setting.
pub const PASSING: [&str; 28] = [
    "statement_id",
    "timestamp",
    "insert_id",
    "last_insert_id",
    "identity",
    "rand_seed1",
    "rand_seed2",
    "pseudo_thread_id",
    "gtid_seq_no",
    "gtid_next",
    "original_commit_timestamp",
    "session_track_system_variables",
    "session_track_schema",
    "session_track_state_change",
    "session_track_transaction_info",
    "character_set_database",
    "collation_database",
    "skip_replication",
    "last_gtid",
    "in_transaction",
    "warning_count",
    "error_count",
    "proxy_user",
    "external_user",
    "max_allowed_packet",
    "max_user_connections",
    "net_buffer_length",
    "wsrep_gtid_seq_no",
];

const OF_TRANSACTIONS: [&str; 4] =
    ["transaction_isolation", "tx_isolation", "transaction_read_only", "tx_read_only"];

/// Of a variable that has two names, the older; any other name as it is.
///
/// Source: MariaDB manual, "Server System Variables": each is said there to be an alias.
pub fn usual_name(name: &str) -> &str {
    const ALIASES: [(&str, &str); 5] = [
        ("log_slow_query", "slow_query_log"),
        ("log_slow_query_time", "long_query_time"),
        ("log_slow_min_examined_row_limit", "min_examined_row_limit"),
        ("tmp_memory_table_size", "tmp_table_size"),
        ("storage_engine", "default_storage_engine"),
    ];
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    alias.map_or(name, |(_, usual)| usual)
}

/// Is it a system variable (or the schema) whose value a server tells whenever it changes, and that is carried?
pub fn is_tracked(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !is_passing(name)
}

/// Is it one whose value means nothing to the next statement?
pub fn is_passing(name: &str) -> bool {
    PASSING.iter().any(|passing| passing.eq_ignore_ascii_case(name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Session,
    /// `@@name`.
    Unsaid,
    Everybody,
}

/// `SET …`, the first word taken, up to its semicolon.
pub(super) fn set(judge: &mut Judge<'_>) {
    let mut names: Vec<String> = Vec::new();
    loop {
        if !assignment(judge, &mut names) || !judge.words.skip_symbol(b',') {
            break;
        }
    }
    if !judge.found.blinds.is_empty() {
        let asked = names.into_iter().filter(|name| is_tracked(name)).map(Box::from);
        judge.found.settings.asked.extend(asked);
    }
    judge.body(b"", Until::Semicolon);
}

/// One of the assignments of a `SET`; false: what follows is none.
fn assignment(judge: &mut Judge<'_>, names: &mut Vec<String>) -> bool {
    let mut scope = Scope::Session;
    let mut token = judge.words.next();
    if let Some(Token::Word(word)) = token {
        let is_scope = is_any(word, &[b"session", b"local", b"global", b"persist", b"persist_only"]);
        if is_scope && !matches!(judge.words.peek(), Some(Token::Symbol(b'=' | b':'))) {
            scope = said(word);
            token = judge.words.next();
            if matches!(token, Some(Token::Word(word)) if is(word, b"transaction")) {
                return false;
            }
        }
    }
    match token {
        Some(Token::Variable(variable)) => {
            judge.variable(variable);
        }
        Some(Token::System) => {
            scope = Scope::Unsaid;
            let Some(Token::Word(mut word)) = judge.words.next() else { return false };
            let is_scope = is_any(word, &[b"session", b"local", b"global", b"persist", b"persist_only"]);
            if is_scope && judge.words.skip_symbol(b'.') {
                scope = said(word);
                let Some(Token::Word(own)) = judge.words.next() else { return false };
                word = own;
            }
            one(judge, word, scope, names);
        }
        Some(Token::Word(word)) => return keyword(judge, word, scope, names),
        _ => return false,
    }
    judge.body(b"", Until::Comma);
    true
}

fn said(word: &[u8]) -> Scope {
    if is_any(word, &[b"session", b"local"]) {
        Scope::Session
    } else {
        Scope::Everybody
    }
}

/// An assignment that begins with a word.
fn keyword<'a>(judge: &mut Judge<'a>, word: &'a [u8], scope: Scope, names: &mut Vec<String>) -> bool {
    let is_assigned = matches!(judge.words.peek(), Some(Token::Symbol(b'=' | b':' | b'.')));
    if is_assigned {
        one(judge, word, scope, names);
    } else if is_any(word, &[b"names", b"charset", b"character", b"char"]) {
        ask(judge, "collation_connection");
    } else if is(word, b"statement") {
        return statement(judge, names);
    } else if is(word, b"transaction") {
        judge.found.begins.add(Traces::NEXT_TRANSACTION);
        return false;
    } else if is(word, b"role") {
        judge.begin(Traces::ROLE, "role");
        return false;
    } else if is_any(word, &[b"password", b"default"]) {
        return false;
    } else {
        // `SET RESOURCE GROUP`, and what no release known to us has.
        judge.found.begins.add(Traces::UNKNOWN);
        return false;
    }
    judge.body(b"", Until::Comma);
    true
}

/// `SET STATEMENT a = 1, b = 2 FOR …`: the tracker tells the passing values, and the lasting ones much later.
fn statement(judge: &mut Judge<'_>, names: &mut Vec<String>) -> bool {
    let from = names.len();
    loop {
        if !assignment(judge, names) || !judge.words.skip_symbol(b',') {
            break;
        }
    }
    for name in &names[from..] {
        ask(judge, name);
    }
    if judge.words.skip(b"for") {
        if let Some(Token::Word(word)) = judge.words.next() {
            judge.statement(word);
        }
    }
    false
}

fn ask(judge: &mut Judge<'_>, name: &str) {
    let asked = &mut judge.found.settings.asked;
    if !asked.iter().any(|have| **have == *name) {
        asked.push(name.into());
    }
}

/// A system variable is set by its name, of which `word` is the beginning.
fn one<'a>(judge: &mut Judge<'a>, word: &'a [u8], scope: Scope, names: &mut Vec<String>) {
    let mut whole = name(word).unwrap_or_default();
    while judge.words.skip_symbol(b'.') {
        let Some(Token::Word(part)) = judge.words.next() else { break };
        whole.push('.');
        whole.push_str(&name(part).unwrap_or_default());
    }
    if scope == Scope::Everybody {
        return;
    }
    whole = usual_name(&whole).to_owned();
    let mut ahead = judge.words;
    ahead.skip_symbol(b':');
    ahead.skip_symbol(b'=');
    let is_default = ahead.skip(b"default");
    if scope == Scope::Unsaid && OF_TRANSACTIONS.contains(&&*whole) {
        // Spec: MySQL, "SET TRANSACTION": without a scope, it is for the next one.
        judge.found.begins.add(Traces::NEXT_TRANSACTION);
    } else if scope == Scope::Unsaid && is_tracked(&whole) {
        // Measured: MariaDB 10.11's tracker tells of `SET @@session.a` and of `SET a`, but not of `SET @@a`.
        ask(judge, &whole);
    }
    touch(judge, &whole, is_default);
    names.push(whole);
}

/// A variable of this session is set.
fn touch(judge: &mut Judge<'_>, name: &str, is_default: bool) {
    match name {
        "collation_connection" | "character_set_connection" => ask(judge, "collation_connection"),
        "collation_server" | "character_set_server" => ask(judge, "collation_server"),
        "last_insert_id" | "identity" => ask(judge, "last_insert_id"),
        "timestamp" if is_default => {
            judge.found.things.push(Thing::Gone(Traces::CLOCK, name.into()));
        }
        "timestamp" => judge.begin(Traces::CLOCK, name),
        "insert_id" => judge.found.begins.add(Traces::INSERT_ID),
        "rand_seed1" | "rand_seed2" => judge.found.begins.add(Traces::SEED),
        _ if tracking::NAMES.contains(&name) => judge.found.blinds.push(name.into()),
        _ if is_passing(name) => judge.found.begins.add(Traces::UNKNOWN),
        _ => {}
    }
}

/// `SET` stands in a block, and `word` behind it.
pub(super) fn name_set(judge: &mut Judge<'_>, word: &[u8]) {
    if let Some(name) = name(word) {
        touch(judge, usual_name(&name), false);
    }
}
