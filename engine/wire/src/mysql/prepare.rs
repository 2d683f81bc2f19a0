//! SQL's own prepared statements: `EXECUTE` of one by its name, and what that does.
//!
//! Reads words, not grammar. Called by `relay` through `Dialect`.
//!
//! Source: MySQL manual, "Prepared Statements" (PREPARE, EXECUTE).

use std::ops::Range;

use super::judge;
use super::words::{self, is, name, Token, Words};
use crate::effects::{Effects, Traces};

/// The prepared statement that `text` runs, if that is what it begins with, and where its name stands.
pub fn executed(text: &[u8]) -> Option<(String, Range<usize>)> {
    // Why first: this is asked of queries that may do anything.
    if !text.trim_ascii_start().first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'e')) {
        return None;
    }
    let mut words = Words::usual(text);
    if !words.skip(b"execute") {
        return None;
    }
    let Some(Token::Word(word)) = words.next() else { return None };
    if is(word, b"immediate") {
        return None;
    }
    let end = words.at();
    Some((name(word)?, end - word.len()..end))
}

/// The effects of running what `PREPARE name FROM 'text'` has made.
pub fn effects_of_prepared(prepare: &[u8]) -> Effects {
    let mut words = Words::usual(prepare);
    let said = std::iter::from_fn(|| words.next()).find_map(|token| match token {
        Token::Text(text) => Some(text),
        _ => None,
    });
    let unknown = || Effects { begins: Traces::ROUTINE, ..judge::after_unseen_change() };
    let Some(said) = said else { return unknown() };
    match words::said(said) {
        Some(text) => judge::effects(text.as_bytes()).map(|effects| *effects).unwrap_or_default(),
        // Why: with its escapes undone, the words may be others.
        None => unknown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_executed_has_a_name_and_a_place() {
        let of = |text: &'static str| executed(text.as_bytes()).map(|(name, place)| (name, &text[place]));
        assert_eq!(of("EXECUTE Foo"), Some(("foo".to_owned(), "Foo")));
        assert_eq!(of(" execute `Foo` using @a"), Some(("foo".to_owned(), "`Foo`")));
        for other in ["execute immediate 'select 1'", "explain select 1", "execute", "", "call p()"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn what_running_it_does_its_text_says() {
        let of = |text: &str| effects_of_prepared(text.as_bytes());
        assert!(of("prepare p from 'select ?'").is_empty());
        assert_eq!(of("prepare p from 'set @a = ?'").settings.set, ["@a".into()]);
        assert!(of("prepare p from 'select ''a'', @b := 1'").settings.set.contains(&"@b".into()));
        assert!(of("prepare p from 'select \\'a\\''").settings.unnamed);
        assert!(of("prepare p from @sql").settings.unnamed);
    }
}
