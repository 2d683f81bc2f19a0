//! Whom a `KILL` means, as far as its text says a number.
//!
//! Reads words; whose number it is, is `relay`'s matter. Called through `Dialect`.
//!
//! Source: MySQL manual, "KILL Statement"; MariaDB manual, "KILL [CONNECTION | QUERY]".

use std::ops::Range;

use super::settings::push_text;
use super::words::{is, Token, Words};

/// What is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    Query,
    Connection,
}

/// A `KILL` of one connection's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killing {
    pub kill: Kill,
    /// Not what could harm a table.
    pub is_soft: bool,
    pub number: u64,
    /// Where the number stands.
    pub place: Range<usize>,
    /// Where the statement does.
    pub statement: Range<usize>,
    /// The text says nothing else.
    pub is_alone: bool,
}

/// The first `KILL` in `text` that says a number.
pub fn target(text: &[u8]) -> Option<Killing> {
    // Why first: this is asked of every query.
    if !has_word(text) {
        return None;
    }
    let mut words = Words::usual(text);
    let (mut begins, mut is_first) = (true, true);
    while let Some(token) = words.next() {
        match token {
            Token::Word(word) if begins && is(word, b"kill") => {
                if let Some(mut killing) = killing(&mut words) {
                    killing.is_alone &= is_first;
                    return Some(killing);
                }
                begins = false;
            }
            Token::Symbol(b';') => begins = true,
            _ => begins = false,
        }
        is_first &= begins;
    }
    None
}

/// Every `KILL` with a number that nothing but such stands before.
pub fn leading(text: &[u8]) -> Vec<Killing> {
    let mut found = Vec::new();
    if !has_word(text) {
        return found;
    }
    let mut words = Words::usual(text);
    while let Some(token) = words.next() {
        match token {
            Token::Symbol(b';') => {}
            Token::Word(word) if is(word, b"kill") => match killing(&mut words) {
                Some(killing) => found.push(killing),
                None => break,
            },
            _ => break,
        }
    }
    found
}

/// A statement in the place of one that was carried out: its answer is the same.
pub const DONE: &str = "DO 0";

/// One in the place of one that failed, with this number and these words.
pub fn failed(number: u16, message: &str) -> String {
    let mut sql = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO={number},MESSAGE_TEXT=");
    push_text(&mut sql, message);
    sql
}

fn has_word(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    match text.first() {
        Some(b'k' | b'K') => true,
        Some(b'/' | b'-' | b'#' | b';') => text.windows(4).any(|part| is(part, b"kill")),
        _ => memchr::memchr(b';', text).is_some() && text.windows(4).any(|part| is(part, b"kill")),
    }
}

/// The rest of a `KILL`, up to its semicolon.
fn killing(words: &mut Words<'_>) -> Option<Killing> {
    let start = words.at() - b"kill".len();
    let is_soft = words.skip(b"soft");
    if !is_soft {
        words.skip(b"hard");
    }
    let kill = if words.skip(b"query") {
        Kill::Query
    } else {
        words.skip(b"connection");
        Kill::Connection
    };
    let Some(Token::Number(digits)) = words.next() else { return None };
    let end = words.at();
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let place = end - digits.len()..end;
    if !matches!(words.next(), None | Some(Token::Symbol(b';'))) {
        return None;
    }
    let mut ahead = *words;
    let is_alone = std::iter::from_fn(|| ahead.next()).all(|token| token == Token::Symbol(b';'));
    Some(Killing { kill, is_soft, number, place, statement: start..end, is_alone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_where_it_stands() {
        let of = |text: &'static str| {
            target(text.as_bytes())
                .map(|found| (found.kill, found.is_soft, found.number, &text[found.place], found.is_alone))
        };
        for (text, kill, is_soft, is_alone) in [
            ("KILL 57", Kill::Connection, false, true),
            ("kill connection 57;", Kill::Connection, false, true),
            (" /* a */ KILL QUERY 57 ; ; -- end", Kill::Query, false, true),
            ("kill soft query 57", Kill::Query, true, true),
            ("kill hard connection 57", Kill::Connection, false, true),
            ("select 1; kill query 57", Kill::Query, false, false),
            ("kill query 57; select 1", Kill::Query, false, false),
        ] {
            assert_eq!(of(text), Some((kill, is_soft, 57, "57", is_alone)), "{text}");
        }
        for text in [
            "kill",
            "kill ?",
            "kill query id 5",
            "kill user 'a'",
            "kill connection_id()",
            "kill 5 + 1",
            "kill 0x5",
            "select 'kill 5'",
            "select 1 as kill; select 5",
            "kill 99999999999999999999",
            "",
            "kills 5",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn those_that_stand_first_are_found() {
        let of = |text: &'static str| {
            let found = leading(text.as_bytes()).into_iter();
            found.map(|one| (&text[one.statement], one.number)).collect::<Vec<_>>()
        };
        for (text, expected) in [
            ("kill 57; select sleep(0.05)", &[("kill 57", 57)][..]),
            (
                " KILL QUERY 57 ;; /* a */ kill connection 58;do 0; kill 59",
                &[("KILL QUERY 57", 57), ("kill connection 58", 58)],
            ),
            ("kill 5", &[("kill 5", 5)]),
            ("kill 5; kill @a; kill 6", &[("kill 5", 5)]),
            ("select 1; kill 5", &[]),
            ("kill 5 + 1; kill 5", &[]),
            ("", &[]),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!(
            failed(1094, "Unknown thread id: 5"),
            "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO=1094,MESSAGE_TEXT='Unknown thread id: 5'"
        );
    }
}
