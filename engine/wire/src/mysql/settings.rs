//! Bring a session's settings from one state to another.
//!
//! Only writes requests: what is to be changed, and in which order as far as one setting does not decide about
//! another, its caller says. Called by `relay` through `Dialect`.
//!
//! Source: MySQL manual, "SET Syntax for Variable Assignment", "Hexadecimal Literals", "COM_INIT_DB".

use std::fmt::Write as _;

use super::frame;
use super::spec::command;
use crate::dialect::SettingChange;

/// The current schema stands among the settings by this name, which no variable has.
pub const SCHEMA: &str = "schema";

/// What the name of a statement begins with where it stands among settings; no setting's does, and it comes
/// behind all of them: statements are prepared under the settings that their client has.
const STATEMENT_MARK: char = '\u{7f}';

/// The setting that says how the values that the tracker reports must be written: not as strings.
const TEXTS: [&str; 6] = [
    "default_master_connection",
    "innodb_tmpdir",
    "innodb_ft_user_stopword_table",
    "debug",
    "debug_dbug",
    "wsrep_osu_method",
];

/// Those that may be NULL, which servers tell as an empty text and do not take back as one.
const NULLS: [&str; 5] = [
    "character_set_results",
    "enforce_storage_engine",
    "default_tmp_storage_engine",
    "innodb_tmpdir",
    "innodb_ft_user_stopword_table",
];

/// The name under which SQL's prepared statement `name` stands among a session's settings, what prepared it
/// being the value. Why in digits: a name may hold anything.
pub fn name_among_settings(name: &str) -> String {
    let mut whole = String::from(STATEMENT_MARK);
    for byte in name.to_lowercase().bytes() {
        let _ = write!(whole, "{byte:02x}");
    }
    whole
}

/// Is it such a name?
pub fn is_statement(name: &str) -> bool {
    name.starts_with(STATEMENT_MARK)
}

/// Is it set by a `SET`?
pub fn is_plain(name: &str) -> bool {
    !is_statement(name) && !name.eq_ignore_ascii_case(SCHEMA)
}

fn statement_name(name: &str) -> Option<String> {
    let digits = name.strip_prefix(STATEMENT_MARK)?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(digits.chunks(2).map(byte).collect::<Option<Vec<_>>>()?).ok()
}

/// Write the requests that make `changes`; returns how many they are, each of which is answered.
///
/// The schema comes first, statements come last. All else is one `SET`, whose text holds no byte that any
/// `sql_mode` or character set takes for another.
pub fn write(out: &mut Vec<u8>, changes: &[SettingChange<'_>]) -> u8 {
    let mut requests = 0;
    let mut request = |kind: u8, body: &[u8]| {
        requests += 1;
        frame::packet(out, 0, |out| {
            out.push(kind);
            out.extend_from_slice(body);
        });
    };
    for (_, value) in changes.iter().filter(|(name, _)| name.eq_ignore_ascii_case(SCHEMA)) {
        if let Some(schema) = value {
            request(command::INIT_DB, schema.as_bytes());
        }
    }
    let mut sql = String::new();
    let mut plain: Vec<&SettingChange<'_>> = changes.iter().filter(|(name, _)| is_plain(name)).collect();
    // Why: the character set takes its own collation with it.
    plain.sort_by_key(|(name, _)| starts(name, "collation_"));
    for (name, value) in plain {
        sql.push_str(if sql.is_empty() { "SET " } else { "," });
        push_assignment(&mut sql, name, *value);
    }
    if !sql.is_empty() {
        request(command::QUERY, sql.as_bytes());
    }
    for (name, value) in changes {
        let Some(statement) = statement_name(name) else { continue };
        match value {
            Some(text) => request(command::QUERY, text.as_bytes()),
            None => {
                let name = statement.replace('`', "``");
                request(command::QUERY, format!("DEALLOCATE PREPARE `{name}`").as_bytes());
            }
        }
    }
    requests
}

/// `name=value`, or what undoes it.
fn push_assignment(sql: &mut String, name: &str, value: Option<&str>) {
    if let Some(variable) = name.strip_prefix('@') {
        let _ = write!(sql, "@`{}`={}", variable.replace('`', "``"), value.unwrap_or("NULL"));
        return;
    }
    // Why each time: after GLOBAL or PERSIST in the same statement a bare name would mean another value.
    let _ = write!(sql, "@@session.{name}=");
    match value {
        None => sql.push_str("DEFAULT"),
        Some("") if NULLS.iter().any(|null| null.eq_ignore_ascii_case(name)) => sql.push_str("NULL"),
        Some(value) if is_number(value) && !TEXTS.iter().any(|text| text.eq_ignore_ascii_case(name)) => {
            sql.push_str(value);
        }
        Some(value) => push_known_text(sql, value),
    }
}

fn is_number(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    [whole, part].iter().all(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A string, also where literals are read as characters of two or four bytes, which few variables take.
fn push_known_text(sql: &mut String, text: &str) {
    if is_plain_text(text) {
        sql.push_str("_utf8mb4");
    }
    push_text(sql, text);
}

fn is_plain_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _-+/:.,=%@()$&*;<>".contains(&byte))
}

/// A string, as a literal that is the same in every `sql_mode` and character set.
pub(super) fn push_text(sql: &mut String, text: &str) {
    if is_plain_text(text) {
        let _ = write!(sql, "'{text}'");
        return;
    }
    sql.push_str("_utf8mb4 X'");
    for byte in text.bytes() {
        let _ = write!(sql, "{byte:02X}");
    }
    sql.push('\'');
}

fn starts(name: &str, lower: &str) -> bool {
    name.get(..lower.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests for these changes: kind and body.
    fn written(changes: &[SettingChange<'_>]) -> Vec<(u8, String)> {
        let mut out = Vec::new();
        let count = write(&mut out, changes);
        let (mut rest, mut requests) = (&out[..], Vec::new());
        while let Some(head) = frame::header(rest) {
            let body = String::from_utf8(rest[frame::HEADER + 1..head.total()].to_vec()).expect("text");
            assert_eq!(head.sequence, 0);
            requests.push((rest[frame::HEADER], body));
            rest = &rest[head.total()..];
        }
        assert_eq!(usize::from(count), requests.len());
        requests
    }

    fn said(changes: &[SettingChange<'_>]) -> String {
        written(changes).into_iter().map(|(_, body)| body).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn settings_are_one_statement_between_the_schema_and_the_statements() {
        let statement = name_among_settings("P");
        assert_eq!(statement, name_among_settings("p"));
        assert!(is_statement(&statement) && !is_statement("p"));
        let changes = [
            ("collation_connection", Some("utf8mb4_bin")),
            ("@a", Some("_utf8mb4 X'61'")),
            ("character_set_connection", Some("utf8mb4")),
            ("Schema", Some("shop")),
            ("sql_mode", None),
            (&*statement, Some("PREPARE p FROM 'select 1'")),
            (&*statement, None),
            ("@b`c", None),
        ];
        let requests = written(&changes);
        assert_eq!(requests.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [2, 3, 3, 3]);
        assert_eq!(requests[0].1, "shop");
        assert_eq!(
            requests[1].1,
            "SET @`a`=_utf8mb4 X'61',@@session.character_set_connection=_utf8mb4'utf8mb4',\
             @@session.sql_mode=DEFAULT,@`b``c`=NULL,@@session.collation_connection=_utf8mb4'utf8mb4_bin'"
        );
        assert_eq!(requests[2].1, "PREPARE p FROM 'select 1'");
        assert_eq!(requests[3].1, "DEALLOCATE PREPARE `p`");
        assert_eq!(written(&[]), []);
        assert_eq!(written(&[("schema", None)]), []);
    }

    #[test]
    fn values_are_written_as_variables_take_them() {
        for (name, value, written) in [
            ("wait_timeout", "100", "100"),
            ("max_statement_time", "5.000000", "5.000000"),
            ("a", "-1", "-1"),
            ("autocommit", "OFF", "_utf8mb4'OFF'"),
            ("time_zone", "+02:00", "_utf8mb4'+02:00'"),
            ("time_zone", "", "_utf8mb4''"),
            ("character_set_results", "", "NULL"),
            ("default_master_connection", "1", "_utf8mb4'1'"),
            ("a", "1.2.3", "_utf8mb4'1.2.3'"),
            ("a", "-", "_utf8mb4'-'"),
            ("a", "it's", "_utf8mb4 X'69742773'"),
            ("a", "\\", "_utf8mb4 X'5C'"),
            ("a", "ä", "_utf8mb4 X'C3A4'"),
        ] {
            assert_eq!(said(&[(name, Some(value))]), format!("SET @@session.{name}={written}"));
        }
    }
}
