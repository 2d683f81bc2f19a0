//! `GET DIAGNOSTICS` from what was told of a statement before, where its server has gone to others since, and
//! which statements leave that as it is.
//!
//! Reads words and writes an assignment; None for whatever it does not know, which the server then says. Called by
//! `leftovers`.
//!
//! Source: MySQL manual, "GET DIAGNOSTICS Statement"; MariaDB manual, the same.

use std::fmt::Write as _;

use super::frame;
use super::leftovers::Message;
use super::settings::push_text;
use super::words::{bare, is, is_any, Token, Words};

/// What is known of the statement.
#[derive(Clone, Copy, Debug)]
pub struct Diagnosed<'a> {
    pub messages: &'a [Message],
    pub row_count: i64,
    /// Of the error that ended it.
    pub sqlstate: [u8; 5],
}

/// A `SET` that gives the variables in `text` what its `GET DIAGNOSTICS` would give them.
pub fn assigned(text: &[u8], known: &Diagnosed<'_>) -> Option<Vec<u8>> {
    let mut words = Words::usual(text);
    if !words.skip(b"get") {
        return None;
    }
    words.skip(b"current");
    if !words.skip(b"diagnostics") {
        return None;
    }
    let condition = if words.skip(b"condition") {
        let Token::Number(digits) = words.next()? else { return None };
        let number: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(known.messages.get(number.checked_sub(1)?)?)
    } else {
        None
    };
    let mut sql = String::new();
    loop {
        let Token::Variable(variable) = words.next()? else { return None };
        if !words.skip_symbol(b'=') {
            return None;
        }
        let Token::Word(item) = words.next()? else { return None };
        sql.push_str(if sql.is_empty() { "SET " } else { "," });
        let name = std::str::from_utf8(bare(variable)).ok()?.replace('`', "``");
        let _ = write!(sql, "@`{name}`=");
        match condition {
            None if is(item, b"number") => {
                let _ = write!(sql, "CAST({} AS UNSIGNED)", known.messages.len());
            }
            None if is(item, b"row_count") => sql.push_str(&known.row_count.to_string()),
            None => return None,
            Some(message) => push_item(&mut sql, item, message, known)?,
        }
        match words.next() {
            Some(Token::Symbol(b',')) => {}
            Some(Token::Symbol(b';')) if words.peek().is_some() => return None,
            Some(Token::Symbol(b';')) | None => break,
            Some(_) => return None,
        }
    }
    Some(sql.into_bytes())
}

/// Does a statement that gives no messages leave those of the statement before as they are, on a server of this
/// `version`?
///
/// Spec: MariaDB manual, "SHOW WARNINGS": statements that use no table do. Measured: not so with MySQL 9.7.
pub fn keeps_messages(text: &[u8], version: &str) -> bool {
    const FIRST: [&[u8]; 10] = [
        b"select",
        b"set",
        b"do",
        b"use",
        b"begin",
        b"start",
        b"commit",
        b"rollback",
        b"savepoint",
        b"release",
    ];
    const TABLES: [&[u8]; 4] = [b"from", b"into", b"table", b"call"];
    if !version.contains("MariaDB") {
        return false;
    }
    let mut words = Words::usual(text);
    let is_one = matches!(words.next(), Some(Token::Word(word)) if is_any(word, &FIRST));
    let is_of_table = |token: Token<'_>| matches!(token, Token::Word(word) if is_any(word, &TABLES));
    is_one && !std::iter::from_fn(|| words.next()).any(is_of_table)
}

/// One item of one thing that went wrong.
fn push_item(sql: &mut String, item: &[u8], message: &Message, known: &Diagnosed<'_>) -> Option<()> {
    let (level, rest) = frame::string(message).ok()?;
    let (code, rest) = frame::string(rest).ok()?;
    let (said, _) = frame::string(rest).ok()?;
    if is(item, b"mysql_errno") {
        let number: u32 = std::str::from_utf8(code).ok()?.parse().ok()?;
        let _ = write!(sql, "CAST({number} AS UNSIGNED)");
    } else if is(item, b"message_text") {
        push_text(sql, std::str::from_utf8(said).ok()?);
    } else if is(item, b"returned_sqlstate") {
        // Spec: what is no error is of the class 01, where no standard says otherwise.
        let state: &[u8] = match (level, &known.sqlstate) {
            // An error that a routine has caught.
            (b"Error", [0, ..]) => b"HY000",
            (b"Error", sqlstate) => sqlstate,
            _ => b"01000",
        };
        push_text(sql, std::str::from_utf8(state).ok()?);
    } else {
        return None;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uses_no_table_keeps_messages() {
        for text in ["select 5", "SET @a = 1", "/* c */ begin", "do 1", "select 'from', @from", "use shop"] {
            assert!(keeps_messages(text.as_bytes(), "10.11.14-MariaDB-log"), "{text}");
            assert!(!keeps_messages(text.as_bytes(), "9.7.4"), "{text}");
        }
        for text in
            ["select 1 from t", "set @a = (select 1 from t)", "insert into t values (1)", "", "call p()"]
        {
            assert!(!keeps_messages(text.as_bytes(), "10.11.14-MariaDB-log"), "{text}");
        }
    }

    #[test]
    fn variables_get_what_was_told() {
        let mut message = Vec::new();
        for part in ["Error", "1062", "it's there"] {
            frame::put_string(&mut message, part.as_bytes());
        }
        let messages = [Message::from(message)];
        let known = Diagnosed { messages: &messages, row_count: -1, sqlstate: *b"23000" };
        let of =
            |text: &str| assigned(text.as_bytes(), &known).map(|sql| String::from_utf8(sql).expect("text"));
        let text = "GET DIAGNOSTICS CONDITION 1 @a = returned_sqlstate, @`b` = MYSQL_ERRNO;";
        assert_eq!(of(text).as_deref(), Some("SET @`a`='23000',@`b`=CAST(1062 AS UNSIGNED)"));
        let counted = of("get current diagnostics @n = number, @r = row_count");
        assert_eq!(counted.as_deref(), Some("SET @`n`=CAST(1 AS UNSIGNED),@`r`=-1"));
        let said = of("get diagnostics condition 1 @t = message_text");
        assert_eq!(said.as_deref(), Some("SET @`t`=_utf8mb4 X'69742773207468657265'"));
        for text in [
            "get diagnostics condition 2 @t = message_text",
            "get diagnostics condition 1 @t = class_origin",
            "get diagnostics condition @i @t = message_text",
            "get stacked diagnostics @n = number",
            "get diagnostics @n = number + 1",
            "select 1",
            "get diagnostics",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
