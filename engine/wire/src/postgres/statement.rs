//! Prepared statement names inside messages, and messages with other names in them.
//!
//! Knows where names stand; which name a statement has on which server is `relay`'s matter.
//! Called by `relay` through `Dialect`.

use super::words::is_made_up_name;
use super::{frame, spec};
use crate::Fault;

/// A `Parse` taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepare<'a> {
    /// Empty for the unnamed statement.
    pub name: &'a [u8],
    /// Statement text and parameter types, as they stand in the message: its identity.
    pub definition: &'a [u8],
}

/// Take a whole `Parse` apart.
///
/// # Errors
/// Strings that do not end, or a parameter count that does not fit the length.
pub fn prepare_of(message: &[u8]) -> Result<Prepare<'_>, Fault> {
    let (name, definition) = frame::cstr(&message[frame::HEADER..])?;
    let (_, types) = frame::cstr(definition)?;
    if types.len() < 2 || types.len() != 2 + 4 * usize::from(u16::from_be_bytes([types[0], types[1]])) {
        return Err(Fault("Parse whose parameter types do not fit its length"));
    }
    Ok(Prepare { name, definition })
}

/// The head of a `Bind`: its names, and where what follows them begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindHead<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// Offset into the message.
    pub rest_at: usize,
}

/// Longest head of a `Bind` that we wait for; names are at most 63 bytes on a server.
pub const LONGEST_BIND_HEAD: usize = 4096;

/// Read the head of a `Bind` of which `message` is the beginning.
///
/// Returns `None` while both names have not arrived.
///
/// # Errors
/// Names that do not end within the message or within [`LONGEST_BIND_HEAD`].
pub fn bind_head(message: &[u8], total: usize) -> Result<Option<BindHead<'_>>, Fault> {
    let body = &message[frame::HEADER..message.len().min(total)];
    let mut ends = body.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    if let (Some(first), Some(second)) = (ends.next(), ends.next()) {
        return Ok(Some(BindHead {
            portal: &body[..first],
            statement: &body[first + 1..second],
            rest_at: frame::HEADER + second + 1,
        }));
    }
    if message.len() >= total || message.len() > LONGEST_BIND_HEAD {
        return Err(Fault("Bind whose names do not end"));
    }
    Ok(None)
}

/// Values of a `Bind` that read as names of an application's settings; `rest` is what follows its names, as much of
/// it as has arrived.
pub fn made_up_names(rest: &[u8]) -> Vec<Box<str>> {
    fn number(rest: &mut &[u8]) -> Option<usize> {
        let (count, after) = rest.split_first_chunk::<2>()?;
        *rest = after;
        Some(usize::from(u16::from_be_bytes(*count)))
    }
    let mut rest = rest;
    let mut found = Vec::new();
    let mut read = || {
        let formats = number(&mut rest)?;
        rest = rest.get(2 * formats..)?;
        for _ in 0..number(&mut rest)? {
            let (length, after) = rest.split_first_chunk::<4>()?;
            // Spec: -1 is NULL, and nothing follows it.
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let (value, after) = after.split_at_checked(length)?;
            rest = after;
            let text = std::str::from_utf8(value).ok().filter(|text| is_made_up_name(text));
            found.extend(text.map(Box::from));
        }
        Some(())
    };
    // Why whatever it says: a Bind that is not well formed is the server's to refuse.
    let _ = read();
    found
}

/// The name in a whole `Describe` or `Close`.
///
/// # Errors
/// A name that does not end, or bytes after it.
pub fn target_name(message: &[u8]) -> Result<&[u8], Fault> {
    let (name, rest) = frame::cstr(&message[frame::HEADER + 1..])?;
    if !rest.is_empty() {
        return Err(Fault("Describe or Close with bytes after the name"));
    }
    Ok(name)
}

/// Text of a `Query`, as much of it as has arrived, without its final zero.
pub fn query_text(message: &[u8]) -> &[u8] {
    let body = &message[frame::HEADER.min(message.len())..];
    body.strip_suffix(b"\0").unwrap_or(body)
}

/// Text within the definition of a prepared statement.
pub fn definition_text(definition: &[u8]) -> &[u8] {
    definition.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Write a `Parse` of `definition` under `name`.
pub fn write_prepare(out: &mut Vec<u8>, name: &[u8], definition: &[u8]) {
    head(out, spec::PARSE, name.len() + 1 + definition.len());
    out.extend_from_slice(name);
    out.push(0);
    out.extend_from_slice(definition);
}

/// Write the head of a `Bind` whose remaining `rest_len` bytes the caller forwards.
pub fn write_bind_head(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], rest_len: usize) {
    head(out, spec::BIND, portal.len() + 1 + statement.len() + 1 + rest_len);
    out.extend_from_slice(portal);
    out.push(0);
    out.extend_from_slice(statement);
    out.push(0);
}

/// Write a `Query` of `text`.
pub fn write_query_text(out: &mut Vec<u8>, text: &[u8]) {
    head(out, spec::QUERY, text.len() + 1);
    out.extend_from_slice(text);
    out.push(0);
}

/// `text` with `name`, quoted, in the place of another name.
pub fn renamed(text: &[u8], place: std::ops::Range<usize>, name: &[u8]) -> Vec<u8> {
    [&text[..place.start], b"\"", name, b"\"", &text[place.end..]].concat()
}

/// Write a `Describe` of a statement.
pub fn write_describe(out: &mut Vec<u8>, statement: &[u8]) {
    head(out, spec::DESCRIBE, statement.len() + 2);
    out.push(b'S');
    out.extend_from_slice(statement);
    out.push(0);
}

/// Write a `Close` of a statement.
pub fn write_close(out: &mut Vec<u8>, statement: &[u8]) {
    head(out, spec::CLOSE, statement.len() + 2);
    out.push(b'S');
    out.extend_from_slice(statement);
    out.push(0);
}

/// Write a `CopyFail`, which ends a COPY whose client is gone.
pub fn write_copy_fail(out: &mut Vec<u8>, reason: &str) {
    head(out, spec::COPY_FAIL, reason.len() + 1);
    out.extend_from_slice(reason.as_bytes());
    out.push(0);
}

pub(super) fn head(out: &mut Vec<u8>, tag: u8, body_len: usize) {
    out.push(tag);
    out.extend_from_slice(&((body_len + 4) as u32).to_be_bytes());
}

/// Write a pair of queries, the second of which is answered as a `DEALLOCATE` that was carried out.
pub fn write_forgetting(out: &mut Vec<u8>) {
    super::reply::query(out, "PREPARE mt_forgotten AS SELECT 1");
    super::reply::query(out, "DEALLOCATE mt_forgotten");
}

/// What the name of a statement begins with where it stands among settings; no setting's does, and it comes
/// behind all of them: statements are prepared under the settings that their client has.
const STATEMENT_MARK: char = '\u{7f}';

/// The name under which SQL's prepared statement `name` stands among a session's settings, its text
/// being the value. Why in digits: names of settings compare without case, these do not.
pub fn name_among_settings(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{STATEMENT_MARK}{digits}")
}

/// Is it such a name?
pub fn is_among_settings(name: &str) -> bool {
    name.starts_with(STATEMENT_MARK)
}

fn statement_name(name: &str) -> Option<String> {
    let digits = name.strip_prefix(STATEMENT_MARK)?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(digits.chunks(2).map(byte).collect::<Option<Vec<_>>>()?).ok()
}

/// Write one `Query` that applies `changes` in order.
///
/// Why `set_config` and not `SET`: it takes the value as a startup packet does, lists included.
pub fn write_settings(out: &mut Vec<u8>, changes: &[(&str, Option<&str>)]) {
    let mut sql = String::with_capacity(changes.len() * 64);
    // Spec: SERIALIZABLE READ ONLY DEFERRABLE waits for others at its first query.
    if changes.iter().any(|(name, _)| name.eq_ignore_ascii_case("default_transaction_isolation")) {
        sql.push_str("SET TRANSACTION ISOLATION LEVEL READ COMMITTED;");
    }
    for (name, value) in changes {
        if let Some(statement) = statement_name(name) {
            match value {
                // Why a new line: the text may end in a comment.
                Some(text) => sql.push_str(text),
                None => {
                    sql.push_str("DEALLOCATE ");
                    push_quoted(&mut sql, &statement);
                }
            }
            sql.push_str("\n;");
            continue;
        }
        match value {
            Some(value) => {
                sql.push_str("SELECT pg_catalog.set_config(");
                push_literal(&mut sql, name);
                sql.push(',');
                push_literal(&mut sql, value);
                sql.push_str(",false);");
            }
            None => {
                sql.push_str("RESET ");
                push_name(&mut sql, name);
                sql.push(';');
            }
        }
    }
    head(out, spec::QUERY, sql.len() + 1);
    out.extend_from_slice(sql.as_bytes());
    out.push(0);
}

/// Invariant: reads the same whatever `standard_conforming_strings` is.
pub(super) fn push_literal(sql: &mut String, text: &str) {
    sql.push_str(if text.contains('\\') { " E'" } else { "'" });
    for letter in text.chars() {
        if letter == '\'' || letter == '\\' {
            sql.push(letter);
        }
        sql.push(letter);
    }
    sql.push('\'');
}

/// A setting's name, dotted parts quoted one by one.
fn push_name(sql: &mut String, name: &str) {
    for (at, part) in name.split('.').enumerate() {
        if at > 0 {
            sql.push('.');
        }
        push_quoted(sql, part);
    }
}

pub(super) fn push_quoted(sql: &mut String, name: &str) {
    sql.push('"');
    sql.push_str(&name.replace('"', "\"\""));
    sql.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_head_waits_for_both_names_and_no_longer() {
        let mut bind = Vec::new();
        write_bind_head(&mut bind, b"p", b"stmt", 3);
        let total = bind.len() + 3;
        assert_eq!(bind_head(&bind[..9], total), Ok(None));
        let head = bind_head(&bind, total).expect("well formed").expect("whole");
        assert_eq!((head.portal, head.statement, head.rest_at), (&b"p"[..], &b"stmt"[..], bind.len()));
        assert!(bind_head(b"B\0\0\0\x08xxxx", 9).is_err());
    }

    #[test]
    fn settings_are_quoted_whatever_they_hold() {
        let mut out = Vec::new();
        write_settings(&mut out, &[("a.b", Some("it's \\ here")), ("c\"d.e", None)]);
        let text = String::from_utf8(query_text(&out).to_vec()).expect("text");
        assert_eq!(
            text,
            "SELECT pg_catalog.set_config('a.b', E'it''s \\\\ here',false);RESET \"c\"\"d\".\"e\";"
        );
    }

    #[test]
    fn statements_stand_among_settings_and_behind_them() {
        let name = name_among_settings("My \"p\"");
        assert!(is_among_settings(&name) && !is_among_settings("work_mem"));
        assert!(name.as_str() > "zzz");
        let mut out = Vec::new();
        write_settings(
            &mut out,
            &[(&name, None), (&name, Some("prepare \"My \"\"p\"\"\" as select 1 -- x"))],
        );
        let text = String::from_utf8(query_text(&out).to_vec()).expect("text");
        assert_eq!(text, "DEALLOCATE \"My \"\"p\"\"\"\n;prepare \"My \"\"p\"\"\" as select 1 -- x\n;");
    }

    #[test]
    fn names_of_settings_are_found_among_values() {
        let mut rest = b"\0\x01\0\0\0\x04".to_vec();
        for value in [Some("app.x"), None, Some("plain"), Some("1.5"), Some("App.Sub.y")] {
            rest.extend_from_slice(&value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            rest.extend_from_slice(value.unwrap_or_default().as_bytes());
        }
        let names = |rest: &[u8]| made_up_names(rest).join(",");
        assert_eq!(names(&rest), "app.x", "four values were announced");
        rest[5] = 5;
        assert_eq!(names(&rest), "app.x,App.Sub.y");
        for end in 0..rest.len() {
            assert!("app.x".starts_with(&names(&rest[..end])), "cut at {end}");
        }
    }
}
