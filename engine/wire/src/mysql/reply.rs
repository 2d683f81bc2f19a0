//! Packets that we author, for clients and for servers, and the reading of errors.
//!
//! Only appends to the buffer it is given; never decides when something is said.
//! Called by the handshakes and by `relay` whenever maitred itself speaks.

use super::frame;
use super::progress::Outcome;
use super::spec::{answer, capability, command, status};
use super::statement;
use super::tracking::Tracking;
use crate::dialect::{ColumnType, ServerError};

/// Where in an answer we speak, and to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    /// Number of the next packet.
    pub sequence: u8,
    /// What the client can do.
    pub capabilities: u64,
    /// Said in each end of an answer.
    pub status: u16,
}

impl Voice {
    fn is_eof_deprecated(&self) -> bool {
        self.capabilities & capability::DEPRECATE_EOF != 0
    }

    fn packet(&mut self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        self.sequence = frame::packet(out, self.sequence, body);
    }
}

/// Done; `insert_id` as the statement would have told it.
pub fn ok(out: &mut Vec<u8>, voice: &mut Voice, affected: u64, insert_id: u64) {
    let says = voice.status;
    voice.packet(out, |out| {
        out.push(answer::OK);
        frame::put_number(out, affected);
        frame::put_number(out, insert_id);
        out.extend_from_slice(&says.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
    });
}

/// The end of descriptions or of rows, as the client takes it.
fn end(out: &mut Vec<u8>, voice: &mut Voice) {
    let says = voice.status;
    let is_deprecated = voice.is_eof_deprecated();
    voice.packet(out, |out| {
        out.push(answer::EOF);
        if is_deprecated {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&says.to_le_bytes());
            out.extend_from_slice(&[0, 0]);
        } else {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&says.to_le_bytes());
        }
    });
}

/// An EOF packet as the whole answer, whatever the client takes otherwise.
pub fn eof(out: &mut Vec<u8>, voice: &mut Voice) {
    let says = voice.status;
    voice.packet(out, |out| {
        out.extend_from_slice(&[answer::EOF, 0, 0]);
        out.extend_from_slice(&says.to_le_bytes());
    });
}

/// Spec: "Column Definition", type codes and flags.
const TYPE_LONG: u8 = 3;
const TYPE_LONGLONG: u8 = 8;
const TYPE_NEWDECIMAL: u8 = 246;
const TYPE_VAR_STRING: u8 = 253;
/// utf8mb4_general_ci and binary.
const UTF8MB4: u16 = 45;
const BINARY: u16 = 63;

/// How many columns, and each of them; they belong to no table.
pub fn columns(out: &mut Vec<u8>, voice: &mut Voice, columns: &[(&str, ColumnType)]) {
    let described = columns.iter().map(|(name, kind)| match kind {
        ColumnType::Text => (*name, (TYPE_VAR_STRING, UTF8MB4, 0xffff, 0)),
        ColumnType::Int4 => (*name, (TYPE_LONG, BINARY, 11, 0)),
        ColumnType::Int8 => (*name, (TYPE_LONGLONG, BINARY, 20, 0)),
        ColumnType::Numeric => (*name, (TYPE_NEWDECIMAL, BINARY, 65, 0)),
    });
    described_columns(out, voice, described);
}

/// Type, character set, length and flags of a column.
pub type Description = (u8, u16, u32, u16);

/// The columns of a server's own answers about what went wrong. Measured: MariaDB 10.11 and MySQL 9.7.
pub mod told {
    use super::{Description, BINARY, TYPE_LONG, TYPE_LONGLONG, TYPE_VAR_STRING, UTF8MB4};

    pub const LEVEL: Description = (TYPE_VAR_STRING, UTF8MB4, 28, 1);
    pub const CODE: Description = (TYPE_LONG, BINARY, 4, 161);
    pub const MESSAGE: Description = (TYPE_VAR_STRING, UTF8MB4, 2048, 1);
    pub const COUNT: Description = (TYPE_LONGLONG, BINARY, 21, 160);
}

/// As `columns`, with all that is said of each.
pub fn described_columns<'a>(
    out: &mut Vec<u8>,
    voice: &mut Voice,
    columns: impl ExactSizeIterator<Item = (&'a str, Description)>,
) {
    let has = |flag: u64| voice.capabilities & flag != 0;
    let is_extended = has(capability::MARIADB_EXTENDED_TYPE_INFO);
    let (is_optional, is_cached) =
        (has(capability::OPTIONAL_RESULTSET_METADATA), has(capability::MARIADB_CACHE_METADATA));
    voice.packet(out, |out| {
        // Spec: MySQL says before the count that columns follow, MariaDB behind it.
        if is_optional {
            out.push(1);
        }
        frame::put_number(out, columns.len() as u64);
        if is_cached {
            out.push(1);
        }
    });
    for (name, (kind, charset, length, flags)) in columns {
        voice.packet(out, |out| {
            frame::put_string(out, b"def");
            for _ in 0..3 {
                frame::put_string(out, b"");
            }
            frame::put_string(out, name.as_bytes());
            frame::put_string(out, b"");
            if is_extended {
                frame::put_string(out, b"");
            }
            out.push(0x0c);
            out.extend_from_slice(&charset.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
            out.push(kind);
            out.extend_from_slice(&flags.to_le_bytes());
            out.extend_from_slice(&[0, 0, 0]);
        });
    }
    if !voice.is_eof_deprecated() {
        end(out, voice);
    }
}

/// One row as text.
pub fn row(out: &mut Vec<u8>, voice: &mut Voice, values: &[Option<&str>]) {
    voice.packet(out, |out| {
        for value in values {
            match value {
                Some(value) => frame::put_string(out, value.as_bytes()),
                None => out.push(frame::NULL),
            }
        }
    });
}

/// No more rows.
pub fn rows_end(out: &mut Vec<u8>, voice: &mut Voice) {
    end(out, voice);
}

/// Ask a server to run `text`.
pub fn query(out: &mut Vec<u8>, text: &[u8]) {
    statement::write(out, command::QUERY, text);
}

/// Ask a server how it is.
pub fn ping(out: &mut Vec<u8>) {
    statement::write(out, command::PING, &[]);
}

/// Say goodbye to a server.
pub fn quit(out: &mut Vec<u8>) {
    statement::write(out, command::QUIT, &[]);
}

/// The end of a statement's results, with as much of what changed in the session as its client has chosen to be told;
/// None: nothing.
pub fn outcome(out: &mut Vec<u8>, message: &[u8], outcome: &Outcome<'_>, tracking: Option<&Tracking>) {
    let changed = tracking.map(|tracking| tracking.told(outcome.changed)).unwrap_or_default();
    let has_changed = if changed.is_empty() { 0 } else { status::SESSION_STATE_CHANGED };
    let first = message[frame::HEADER];
    let flags = outcome.status & !status::SESSION_STATE_CHANGED | has_changed;
    if first == answer::EOF && message.len() == frame::HEADER + 5 {
        frame::packet(out, message[3], |out| {
            out.push(first);
            out.extend_from_slice(&outcome.warnings.to_le_bytes());
            out.extend_from_slice(&flags.to_le_bytes());
        });
        return;
    }
    frame::packet(out, message[3], |out| {
        out.push(first);
        frame::put_number(out, outcome.affected.unwrap_or_default());
        frame::put_number(out, outcome.insert_id);
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&outcome.warnings.to_le_bytes());
        // Measured: servers say the length to clients that are not told, too (MariaDB 10.11, MySQL 9.7).
        if !outcome.info.is_empty() || !changed.is_empty() {
            frame::put_string(out, outcome.info);
        }
        if !changed.is_empty() {
            frame::put_string(out, &changed);
        }
    });
}

/// An end of rows of the old kind, to a client that is not told that its session's state changed.
pub fn silent_end(out: &mut Vec<u8>, message: &[u8]) {
    let at = out.len() + frame::HEADER + 3;
    out.extend_from_slice(message);
    let says = u16::from_le_bytes([out[at], out[at + 1]]) & !status::SESSION_STATE_CHANGED;
    out[at..at + 2].copy_from_slice(&says.to_le_bytes());
}

/// Errors behind which the server closes the connection.
///
/// Spec: MySQL and MariaDB "Error Reference": server shutdown, new connection aborted, forced close, connection
/// killed (MariaDB), idle too long.
const FATAL: [u16; 5] = [1053, 1080, 1184, 1927, 4031];
/// The server knows no such prepared statement.
const UNKNOWN_STATEMENT: u16 = 1243;
/// All its servers together have `max_prepared_stmt_count` of them.
const TOO_MANY_STATEMENTS: u16 = 1461;

/// Read a whole error packet.
pub fn error_of(message: &[u8]) -> ServerError {
    let body = message.get(frame::HEADER + 1..).unwrap_or_default();
    let (number, rest) = frame::int2(body).unwrap_or_default();
    // Spec: before the login the SQLSTATE is left out.
    let (sqlstate, text) = match rest.strip_prefix(b"#").and_then(|rest| rest.split_first_chunk::<5>()) {
        Some((state, text)) => (*state, text),
        None => (*b"HY000", rest),
    };
    ServerError {
        sqlstate,
        number: Some(number),
        message: String::from_utf8_lossy(text).into_owned(),
        // Spec: an answer counts on from its command's 0; what begins anew answers nothing.
        is_fatal: FATAL.contains(&number) || message.get(3) == Some(&0),
        is_changed: false,
        is_missing: number == UNKNOWN_STATEMENT,
        is_cancelled: number == 1317,
        is_full: number == TOO_MANY_STATEMENTS,
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::{self, changes, Change};
    use super::super::spec::track;
    use super::*;
    use crate::Reply;

    #[test]
    fn what_we_say_is_read_as_what_it_is() {
        for capabilities in [
            0,
            capability::DEPRECATE_EOF,
            capability::OPTIONAL_RESULTSET_METADATA,
            capability::MARIADB_CACHE_METADATA | capability::MARIADB_EXTENDED_TYPE_INFO,
        ] {
            let mut voice = Voice { sequence: 1, capabilities, status: status::AUTOCOMMIT };
            let mut out = Vec::new();
            columns(&mut out, &mut voice, &[("a", ColumnType::Text), ("b", ColumnType::Int8)]);
            row(&mut out, &mut voice, &[Some("x"), None]);
            rows_end(&mut out, &mut voice);
            let mut reading = progress::Reading::new(capabilities);
            let mut at = 0;
            while at < out.len() {
                let message =
                    progress::next(&reading, Reply::Rows, &out[at..], usize::MAX).unwrap().expect("whole");
                progress::advance(&mut reading, Reply::Rows, message, &out[at..at + message.total]);
                at += message.total;
            }
            assert!(!reading.is_within() && reading.rows == 1);
            assert_eq!(reading.sequence.wrapping_add(1), voice.sequence);
        }
    }

    #[test]
    fn state_is_left_out_for_those_who_did_not_ask() {
        let mut out = Vec::new();
        let body = b"\0\x01\0\x02\x40\x01\0\x05words\x06\x02\x04\x01\x01\x011";
        frame::packet(&mut out, 3, |out| out.extend_from_slice(body));
        let found = progress::outcome_of(&out).unwrap();
        let mut said = Vec::new();
        outcome(&mut said, &out, &found, None);
        assert_eq!(said, b"\x0d\0\0\x03\0\x01\0\x02\0\x01\0\x05words");
    }

    #[test]
    fn those_who_asked_are_told_what_they_would_be_told_by_default() {
        let mut changed = Vec::new();
        for (name, value) in [("sql_mode", "ANSI"), ("autocommit", "OFF"), ("statement_id", "7")] {
            let body =
                [&[name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat();
            changed.extend([&[track::SYSTEM_VARIABLES, body.len() as u8][..], &body].concat());
        }
        changed.extend([track::STATE_CHANGE, 2, 1, b'1', track::SCHEMA, 5, 4]);
        changed.extend(b"shop");
        let body = [&b"\0\0\0\x02\x40\0\0\0"[..], &[changed.len() as u8], &changed].concat();
        let mut out = Vec::new();
        frame::packet(&mut out, 1, |out| out.extend_from_slice(&body));
        let mut said = Vec::new();
        outcome(&mut said, &out, &progress::outcome_of(&out).unwrap(), Some(&Tracking::default()));
        let told = progress::outcome_of(&said).unwrap();
        let told: Vec<_> = changes(told.changed).map(Result::unwrap).collect();
        assert_eq!(told, [Change::Setting(b"autocommit", b"OFF"), Change::Schema(b"shop")]);
    }

    #[test]
    fn errors_are_read() {
        let mut out = Vec::new();
        frame::packet(&mut out, 1, |out| {
            out.extend_from_slice(b"\xff\x25\x05#70100Query execution was interrupted")
        });
        let error = error_of(&out);
        assert!(error.is_cancelled && !error.is_fatal && &error.sqlstate == b"70100");
    }
}
