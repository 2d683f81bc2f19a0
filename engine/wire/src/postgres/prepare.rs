//! What SQL says of prepared statements: `PREPARE`, `EXECUTE` and `DEALLOCATE` of one by its name.
//!
//! Reads words, not grammar, and knows no statement's effects. Called by `relay` through `Dialect`.

use super::words::{is, unquoted, Token, Words};

/// Is `text` one `PREPARE` and nothing else, so that it can be said again elsewhere?
pub fn is_one_prepare(text: &[u8]) -> bool {
    let mut words = Words { rest: text };
    let is_prepare = matches!(words.next(), Some(Token::Word(word)) if is(word, b"prepare"));
    let end = Token::Symbol(b';');
    is_prepare
        && std::iter::from_fn(|| words.next()).skip_while(|token| *token != end).all(|token| token == end)
}

/// The one statement that `text` forgets, if that is all it does: `DEALLOCATE [PREPARE] name`.
pub fn forgotten(text: &[u8]) -> Option<String> {
    // Why first: this is asked of every query.
    if !text.trim_ascii_start().first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'd')) {
        return None;
    }
    let mut words = Words { rest: text };
    let mut word = || match words.next() {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    };
    word().filter(|word| is(word, b"deallocate"))?;
    let mut name = word()?;
    if is(name, b"prepare") {
        name = word().unwrap_or(name);
    }
    let is_all = std::iter::from_fn(|| words.next()).all(|token| token == Token::Symbol(b';'));
    (is_all && !is(name, b"all")).then(|| unquoted(name))
}

/// The prepared statement that the first statement of `text` runs by SQL's `EXECUTE`, and where its name stands:
/// `EXECUTE name`, `EXPLAIN … EXECUTE name`, `CREATE TABLE … AS EXECUTE name`.
pub fn executed(text: &[u8]) -> Option<(String, std::ops::Range<usize>)> {
    // Why first: this is asked of every query of clients that have prepared statements.
    let first = text.trim_ascii_start().first()?.to_ascii_lowercase();
    if !matches!(first, b'e' | b'c' | b'/' | b'-') {
        return None;
    }
    let mut words = Words { rest: text };
    let mut before: &[u8] = b"";
    while let Some(token) = words.next() {
        let Token::Word(word) = token else {
            if token == Token::Symbol(b';') {
                return None;
            }
            continue;
        };
        let is_first = before.is_empty();
        if is_first && ![&b"execute"[..], b"explain", b"create"].iter().any(|verb| is(word, verb)) {
            return None;
        }
        if is(word, b"execute") && !is(before, b"on") {
            let Some(Token::Word(name)) = words.next() else { return None };
            let end = text.len() - words.rest.len();
            return Some((unquoted(name), end - name.len()..end));
        }
        before = word;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepare_alone_can_be_said_again() {
        assert!(is_one_prepare(b"prepare p as select ';', 1"));
        assert!(is_one_prepare(b" PREPARE p (int) AS SELECT $1 ; ; -- end"));
        assert!(!is_one_prepare(b"prepare p as select 1; select 2"));
        assert!(!is_one_prepare(b"select 1; prepare p as select 1"));
        assert!(!is_one_prepare(b""));
    }

    #[test]
    fn what_is_forgotten_alone_has_a_name() {
        assert_eq!(forgotten(b"DEALLOCATE Foo").as_deref(), Some("foo"));
        assert_eq!(forgotten(b" deallocate prepare \"Foo\";").as_deref(), Some("Foo"));
        assert_eq!(forgotten(b"deallocate prepare").as_deref(), Some("prepare"));
        for other in [&b"deallocate all"[..], b"deallocate a; select 1", b"discard all", b"", b"deallocate"] {
            assert_eq!(forgotten(other), None);
        }
    }

    #[test]
    fn what_is_executed_has_a_name_and_a_place() {
        let of = |text: &'static str| executed(text.as_bytes()).map(|(name, place)| (name, &text[place]));
        let found = |name: &str, written| Some((name.to_owned(), written));
        assert_eq!(of("EXECUTE Foo (1, 'a')"), found("foo", "Foo"));
        assert_eq!(of(" /* a */ execute \"Foo\";"), found("Foo", "\"Foo\""));
        assert_eq!(of("explain (analyze, costs off) execute foo"), found("foo", "foo"));
        assert_eq!(of("create temp table t as execute foo(2)"), found("foo", "foo"));
        for other in ["select 'execute a'", "end", "commit; execute a", "execute", "explain select 1", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
