//! Values of user variables as literals that make the same value again.
//!
//! Reads what `probe` has a server say of a variable: type, character set, collation and bytes. Called by `probe`.
//!
//! Source: MySQL manual, "Literal Values", "JSON Function Reference" (JSON_TYPE); MariaDB manual, "Information Schema
//! USER_VARIABLES Table" (VARIABLE_TYPE).

use std::fmt::Write as _;

/// A literal for `type:charset:collation:hex`; None: the variable is NULL, or not set.
///
/// # Errors
/// It cannot be said again.
pub(super) fn of(told: &[u8]) -> Result<Option<String>, ()> {
    let told = std::str::from_utf8(told).map_err(drop)?;
    let mut parts = told.split(':');
    let (kind, charset, collation) = (parts.next(), parts.next(), parts.next());
    let (Some(kind), Some(charset), Some(collation)) = (kind, charset, collation) else { return Err(()) };
    // Spec: CONCAT_WS leaves out what is NULL.
    let Some(hex) = parts.next() else { return Ok(None) };
    match kind {
        "INT" | "INTEGER" => number(hex, |text| text.to_owned()).map(Some),
        "INT UNSIGNED" | "UNSIGNED INTEGER" => {
            number(hex, |text| format!("CAST({text} AS UNSIGNED)")).map(Some)
        }
        "DECIMAL" => number(hex, |text| match text.contains('.') {
            true => text.to_owned(),
            false => format!("CAST({text} AS DECIMAL(65,0))"),
        })
        .map(Some),
        "DOUBLE" => number(hex, |text| match text.contains(['e', 'E']) {
            true => text.to_owned(),
            false => format!("{text}e0"),
        })
        .map(Some),
        "VARCHAR" | "STRING" | "BLOB" => string(charset, collation, hex).map(Some),
        _ => Err(()),
    }
}

/// The digits of a number, told as the hexadecimal codes of their characters.
fn number(hex: &str, literal: impl Fn(&str) -> String) -> Result<String, ()> {
    let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(digit).collect();
    let text = String::from_utf8(bytes.ok_or(())?).map_err(drop)?;
    let is_number = text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if is_number {
        Ok(literal(&text))
    } else {
        Err(())
    }
}

fn string(charset: &str, collation: &str, hex: &str) -> Result<String, ()> {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_hex = hex.len() % 2 == 0 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_word(charset) || !is_word(collation) || !is_hex {
        return Err(());
    }
    let mut literal = format!("_{charset} X'{hex}'");
    if charset != "binary" {
        let _ = write!(literal, " COLLATE {collation}");
    }
    Ok(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_literal() {
        let of = |told: &str| of(told.as_bytes());
        for (told, literal) in [
            ("INT:binary:binary:35", "5"),
            ("INTEGER:binary:binary:2D33", "-3"),
            ("INT UNSIGNED:binary:binary:3138", "CAST(18 AS UNSIGNED)"),
            ("UNSIGNED INTEGER:binary:binary:35", "CAST(5 AS UNSIGNED)"),
            ("DECIMAL:binary:binary:312E3530", "1.50"),
            ("DECIMAL:binary:binary:37", "CAST(7 AS DECIMAL(65,0))"),
            ("DOUBLE:binary:binary:31", "1e0"),
            ("DOUBLE:binary:binary:312E3565333030", "1.5e300"),
            ("VARCHAR:utf8mb4:utf8mb4_bin:616263", "_utf8mb4 X'616263' COLLATE utf8mb4_bin"),
            ("STRING:latin1:latin1_bin:E9", "_latin1 X'E9' COLLATE latin1_bin"),
            ("BLOB:binary:binary:00FF", "_binary X'00FF'"),
            ("VARCHAR:utf8mb4:utf8mb4_bin:", "_utf8mb4 X'' COLLATE utf8mb4_bin"),
        ] {
            assert_eq!(of(told), Ok(Some(literal.to_owned())), "{told}");
        }
        assert_eq!(of("VARCHAR:binary:binary"), Ok(None), "NULL");
        assert_eq!(of("-:binary:binary"), Ok(None), "not set");
        for odd in [
            "",
            "INT",
            "INT:binary:binary:3B",
            "INT:binary:binary:",
            "GEOMETRY:binary:binary:00",
            "VARCHAR:a b:c:61",
        ] {
            assert!(of(odd).is_err(), "{odd}");
        }
    }
}
