//! What every server is asked right behind its login: to tell what changes in its session, and what it has.
//!
//! Reads the two answers and nothing else; sends nothing by itself. Called by `handshake_out`; `relay` sends
//! `SETUP` again when a session has been reset.
//!
//! Spec: MySQL manual, "Server Tracking of Client Session State"; MariaDB "Session tracking" of the same names.

use super::spec::{answer, capability};
use super::{errors, frame};
use crate::Fault;

/// Has a session tell each change of a variable, of the schema, of a transaction's characteristics, and that
/// something else has changed.
pub const SETUP: &str = "SET SESSION session_track_system_variables='*', session_track_schema=1, \
    session_track_state_change=1, session_track_transaction_info='CHARACTERISTICS'";

/// The variables of a session that drivers set or read; a server tells those of them that it knows.
pub const WELCOME: [&str; 53] = [
    "auto_increment_increment",
    "auto_increment_offset",
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
    "completion_type",
    "cte_max_recursion_depth",
    "default_collation_for_utf8mb4",
    "default_storage_engine",
    "default_week_format",
    "div_precision_increment",
    "explicit_defaults_for_timestamp",
    "foreign_key_checks",
    "group_concat_max_len",
    "innodb_lock_wait_timeout",
    "innodb_strict_mode",
    "interactive_timeout",
    "join_buffer_size",
    "lc_messages",
    "lc_time_names",
    "lock_wait_timeout",
    "long_query_time",
    "low_priority_updates",
    "max_error_count",
    "max_execution_time",
    "max_heap_table_size",
    "max_join_size",
    "max_recursive_iterations",
    "max_sort_length",
    "max_statement_time",
    "net_read_timeout",
    "net_write_timeout",
    "optimizer_switch",
    "sort_buffer_size",
    "sql_auto_is_null",
    "sql_big_selects",
    "sql_mode",
    "sql_notes",
    "sql_quote_show_create",
    "sql_safe_updates",
    "sql_select_limit",
    "sql_warnings",
    "time_zone",
    "tmp_table_size",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
    "unique_checks",
    "updatable_views_with_limit",
    "wait_timeout",
];

/// The statement that sets a session up, with an operator's own `parameters` behind ours.
pub fn text(parameters: &[(String, String)]) -> String {
    let mut text = SETUP.to_owned();
    for (name, value) in parameters {
        text.push_str(", ");
        // Why no quotes: a name in them is not taken; one that is no name fails there, and says so.
        text.extend(name.chars().filter(|c| c.is_ascii_alphanumeric() || "_.$@".contains(*c)));
        text.push('=');
        push_value(&mut text, value);
    }
    text
}

/// Spec: variables that are numbers take no text, the others no bare words (but for these).
fn push_value(text: &mut String, value: &str) {
    let is_word =
        ["ON", "OFF", "TRUE", "FALSE", "DEFAULT", "NULL"].iter().any(|w| w.eq_ignore_ascii_case(value));
    let digits = value.strip_prefix('-').unwrap_or(value);
    let is_number = !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits.parse::<f64>().is_ok();
    if is_word || is_number {
        return text.push_str(value);
    }
    // Why hex: it needs no escape, which would depend on the server's sql_mode.
    text.push_str("_utf8mb4 X'");
    value.bytes().for_each(|byte| text.push_str(&format!("{byte:02X}")));
    text.push('\'');
}

/// What is to be asked behind it. Why the parameters, too: what a client makes of them goes back to what they say.
fn question(parameters: &[(String, String)]) -> String {
    let mut text = String::from("SHOW SESSION VARIABLES WHERE Variable_name IN ('");
    text.push_str(&WELCOME.join("','"));
    for (name, _) in parameters {
        let name = name.rsplit(['.', '@', ' ']).next().unwrap_or_default();
        if !WELCOME.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            text.push_str("','");
            text.extend(name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_'));
        }
    }
    text.push_str("')");
    text
}

/// Append both requests.
pub fn write(out: &mut Vec<u8>, parameters: &[(String, String)]) {
    for text in [text(parameters), question(parameters)] {
        frame::packet(out, 0, |out| {
            out.push(super::spec::command::QUERY);
            out.extend_from_slice(text.as_bytes());
        });
    }
}

/// Where the two answers have been read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    ExpectOk,
    ExpectCount,
    ExpectColumns(u64),
    ExpectEof,
    ExpectRows,
    Done,
}

/// What one packet of the answers says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    /// The first answer is over: the sequence numbers of the second begin anew.
    IsSetUp,
    Variable(String, String),
    /// The second answer is over; the server's status flags.
    Over(u16),
    /// The server refuses the first; its own words.
    Refused(String),
}

impl Answers {
    /// Read the payload of one packet.
    ///
    /// # Errors
    /// It is no answer to what was asked.
    pub fn read(&mut self, payload: &[u8], capabilities: u64) -> Result<Said, Fault> {
        let (first, rest) = frame::byte(payload)?;
        if first == answer::ERR {
            let fields = errors::read(payload);
            let message = String::from_utf8_lossy(fields.message);
            return Ok(Said::Refused(format!("{} ({})", message, fields.number)));
        }
        let has = |flag| capabilities & flag != 0;
        match *self {
            Answers::ExpectOk if first == answer::OK => {
                *self = Answers::ExpectCount;
                Ok(Said::IsSetUp)
            }
            Answers::ExpectCount => {
                // Spec: "Text Resultset", metadata_follows; MariaDB "Result Set Packets", the same behind.
                let (follows, count) = if has(capability::OPTIONAL_RESULTSET_METADATA) {
                    (first != 0, frame::number(rest)?.0)
                } else {
                    let (count, rest) = frame::number(payload)?;
                    let is_told = has(capability::MARIADB_CACHE_METADATA);
                    (!is_told || rest.first() != Some(&0), count)
                };
                if count != 2 {
                    return Err(Fault("answered SHOW VARIABLES with other than two columns"));
                }
                *self =
                    if follows { Answers::ExpectColumns(count) } else { self.behind_columns(capabilities) };
                Ok(Said::Nothing)
            }
            Answers::ExpectColumns(left) => {
                *self = if left > 1 {
                    Answers::ExpectColumns(left - 1)
                } else {
                    self.behind_columns(capabilities)
                };
                Ok(Said::Nothing)
            }
            Answers::ExpectEof if first == answer::EOF => {
                *self = Answers::ExpectRows;
                Ok(Said::Nothing)
            }
            Answers::ExpectRows if first == answer::EOF => {
                *self = Answers::Done;
                let rest = match has(capability::DEPRECATE_EOF) {
                    true => frame::number(frame::number(rest)?.1)?.1,
                    false => frame::int2(rest)?.1,
                };
                Ok(Said::Over(frame::int2(rest)?.0))
            }
            Answers::ExpectRows => {
                let (name, rest) = frame::string(payload)?;
                let (value, _) =
                    if rest.first() == Some(&frame::NULL) { (&[][..], rest) } else { frame::string(rest)? };
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                Ok(Said::Variable(text(name).to_ascii_lowercase(), text(value)))
            }
            _ => Err(Fault("did not answer what it was asked after its login")),
        }
    }

    fn behind_columns(self, capabilities: u64) -> Self {
        match capabilities & capability::DEPRECATE_EOF {
            0 => Answers::ExpectEof,
            _ => Answers::ExpectRows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_part_of_the_statement() {
        assert_eq!(text(&[]), SETUP);
        let own = |name: &str, value: &str| text(&[(name.into(), value.into())])[SETUP.len()..].to_owned();
        assert_eq!(own("wait_timeout", "30"), ", wait_timeout=30");
        assert_eq!(own("max_statement_time", "1.5"), ", max_statement_time=1.5");
        assert_eq!(own("autocommit", "off"), ", autocommit=off");
        assert_eq!(own("sql_mode", "a'b"), ", sql_mode=_utf8mb4 X'612762'");
        assert_eq!(own("time_zone", "+00:00"), ", time_zone=_utf8mb4 X'2B30303A3030'");
        assert_eq!(own("x=1; drop", "inf"), ", x1drop=_utf8mb4 X'696E66'");
        let parameters =
            ["sql_mode", "@@session.join_cache_level", "x';"].map(|name| (name.into(), "1".into()));
        assert!(question(&parameters).ends_with("'wait_timeout','join_cache_level','x')"));
    }

    #[test]
    fn answers_are_read_in_all_their_forms() {
        let metadata = capability::OPTIONAL_RESULTSET_METADATA;
        let cached = capability::MARIADB_CACHE_METADATA;
        let (old, new) = (&b"\xfe\0\0\x02\0"[..], &b"\xfe\0\0\x02\0\0\0"[..]);
        for (capabilities, head, columns, end) in [
            (0, &b"\x02"[..], 2, old),
            (capability::DEPRECATE_EOF, b"\x02", 2, new),
            (metadata, b"\x01\x02", 2, old),
            (metadata | capability::DEPRECATE_EOF, b"\0\x02", 0, new),
            (cached, b"\x02\x01", 2, old),
            (cached, b"\x02\0", 0, old),
        ] {
            let mut answers = Answers::ExpectOk;
            let mut read = |payload: &[u8]| answers.read(payload, capabilities);
            assert_eq!(read(b"\0\0\0\x02\0\0\0"), Ok(Said::IsSetUp));
            assert_eq!(read(head), Ok(Said::Nothing));
            for _ in 0..columns {
                assert_eq!(read(b"\x03def"), Ok(Said::Nothing));
            }
            if capabilities & capability::DEPRECATE_EOF == 0 {
                assert_eq!(read(old), Ok(Said::Nothing));
            }
            let row = Said::Variable("sql_mode".into(), "ANSI".into());
            assert_eq!(read(b"\x08SQL_mode\x04ANSI"), Ok(row));
            assert_eq!(read(b"\x01a\xfb"), Ok(Said::Variable("a".into(), String::new())));
            assert_eq!(read(end), Ok(Said::Over(2)));
            assert!(read(b"\x01a\x01b").is_err());
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_server() {
        let mut answers = Answers::ExpectOk;
        let said = answers.read(b"\xff\xa9\x04#HY000Unknown system variable 'x'", 0);
        assert_eq!(said, Ok(Said::Refused("Unknown system variable 'x' (1193)".into())));
        assert!(Answers::ExpectOk.read(b"\x02", 0).is_err());
        assert!(Answers::ExpectCount.read(b"\x03", 0).is_err());
        assert!(Answers::ExpectCount.read(b"", 0).is_err());
    }
}
