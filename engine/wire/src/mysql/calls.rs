//! Which functions a MySQL or MariaDB server has itself, and what those of them do that matter to the session.
//!
//! Names only. Called by `judge`.
//!
//! Source: MySQL manual, "SQL Function and Operator Reference", "Keywords and Reserved Words"; MariaDB manual,
//! "Function and Operator Reference".

use super::functions;
use super::judge::BY_NAME;
use super::words::{bare, is, is_any, Token, Words};
use crate::effects::{Effects, Stateful, Thing, Traces};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It leaves nothing, or it is no function at all.
    Known,
    Takes,
    Releases,
    ReleasesAll,
    LastInserted,
    LastOfSequence,
    /// A stored function, perhaps.
    Unknown,
}

/// What is called where `word` stands before a bracket.
#[inline]
pub(super) fn kind(word: &[u8]) -> Kind {
    let word = bare(word);
    if functions::is_known(word) {
        return Kind::Known;
    }
    match word.len() {
        8 if is(word, b"get_lock") => Kind::Takes,
        12 if is(word, b"release_lock") => Kind::Releases,
        17 if is(word, b"release_all_locks") => Kind::ReleasesAll,
        14 if is(word, b"last_insert_id") => Kind::LastInserted,
        7 if is(word, b"lastval") => Kind::LastOfSequence,
        _ => Kind::Unknown,
    }
}

/// Does `text` advance a sequence, as far as its words show, in a statement before the first that asks for what one
/// last gave?
pub(super) fn advances_first(text: &[u8]) -> bool {
    let mut words = Words::usual(text);
    let mut previous: &[u8] = b"";
    while let Some(token) = words.next() {
        let Token::Word(word) = token else { continue };
        if is(word, b"lastval") || is(word, b"value") && is(previous, b"previous") {
            return false;
        }
        if is(word, b"nextval") || is(word, b"value") && is(previous, b"next") {
            return true;
        }
        previous = word;
    }
    false
}

/// May `text` advance a sequence, as far as its words show?
pub fn advances(text: &[u8]) -> bool {
    let mut words = Words::usual(text);
    let mut previous: &[u8] = b"";
    while let Some(token) = words.next() {
        let Token::Word(word) = token else { continue };
        if is_any(word, &[b"insert", b"replace", b"load", b"call", b"nextval", b"setval"])
            || is(word, b"value") && is(previous, b"next")
        {
            return true;
        }
        previous = word;
    }
    false
}

/// The effects of those of `stateful` that `text` calls or names.
pub fn effects_of_stateful(text: &[u8], stateful: &[Stateful]) -> Option<Effects> {
    let mut effects = named(text, stateful)?;
    if !effects.settings.set.is_empty() {
        // Why: what the server has told is known, and what it has not, it is asked for with all others.
        effects.begins.add(Traces::ROUTINE);
    }
    for (kind, _) in Traces::NAMED.into_iter().filter(|(kind, _)| effects.begins.and(BY_NAME).has(*kind)) {
        // Why: its name is the routine's secret.
        effects.things.push(Thing::Made(kind, Box::default()));
    }
    Some(effects)
}

fn named(text: &[u8], stateful: &[Stateful]) -> Option<Effects> {
    let mut words = Words::usual(text);
    let mut found: Option<Effects> = None;
    // The name before a dot, then the dot; the word before that.
    let (mut schema, mut before): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    let (mut is_procedure, mut is_prepare) = (false, false);
    while let Some(token) = words.next() {
        match token {
            Token::Word(word) => {
                let name = bare(word);
                // Why: a procedure without arguments may be called without brackets.
                let is_called = || is_procedure || words.peek() == Some(Token::Symbol(b'('));
                for one in stateful.iter().filter(|one| one.is_meant(schema, name, is_called)) {
                    found.get_or_insert_with(Effects::default).add(&one.effects);
                }
                is_procedure |= is(word, b"call");
                is_prepare |= is_any(word, &[b"prepare", b"immediate"]);
                (schema, before) = (None, Some(name));
            }
            Token::Symbol(b'.') => schema = before.take(),
            Token::Symbol(b';') => (is_procedure, is_prepare) = (false, false),
            Token::Text(text) if is_prepare => {
                if let Some(effects) = named(bare(text), stateful) {
                    found.get_or_insert_with(Effects::default).add(&effects);
                }
            }
            _ => (schema, before) = (None, None),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_is_called_or_named_has_the_effects_that_are_known_of_it() {
        let stateful = [
            Stateful::function("shop.take", &touched(&["advisory lock"])),
            Stateful::table("orders", &touched(&["sort_buffer_size"])),
        ];
        let of = |text: &str| effects_of_stateful(text.as_bytes(), &stateful).unwrap_or_default();
        for text in
            ["select take(1)", "call shop.take", "prepare p from 'select take(1)'", "do `shop`.`take` (1)"]
        {
            assert_eq!(of(text).begins, Traces::LOCKS, "{text}");
            assert_eq!(of(text).things, [Thing::Made(Traces::LOCKS, "".into())], "{text}");
        }
        for text in [
            "insert into orders (a) values (1)",
            "update t join shop.`orders` using (a) set a = 1",
            "execute immediate 'delete from orders'",
            "select 1; replace orders values (1)",
        ] {
            assert_eq!(of(text).begins, Traces::ROUTINE, "{text}");
            assert_eq!(of(text).settings.set, ["sort_buffer_size".into()], "{text}");
            assert!(of(text).things.is_empty(), "{text}");
        }
        for text in
            ["select take, 'orders'", "select other.take(1)", "select * from orders2", "select 'take(1)'"]
        {
            assert!(of(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn any_table_is_named_by_what_reads_or_writes_one() {
        let any = [Stateful::table("*", &touched(&["routine"]))];
        let is_found = |text: &str| effects_of_stateful(text.as_bytes(), &any).is_some();
        for text in
            ["select 1 from v", "insert t values (1)", "load data infile 'f' into table t", "truncate t"]
        {
            assert!(is_found(text), "{text}");
        }
        for text in ["select 1", "begin", "set @a = 'from'", "commit"] {
            assert!(!is_found(text), "{text}");
        }
    }
}
