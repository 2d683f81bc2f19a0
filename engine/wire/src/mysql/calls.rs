//! Which functions a MySQL or MariaDB server has itself, and what those of them do that matter to the session.
//!
//! Names only. Called by `judge`.
//!
//! Source: MySQL manual, "SQL Function and Operator Reference", "Keywords and Reserved Words"; MariaDB manual,
//! "Function and Operator Reference".

use super::functions;
use super::words::{bare, is, is_any, Token, Words};
use crate::effects::{Effects, StatefulFunction};

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

/// The effects of the calls in `text` of any of `functions`.
pub fn effects_of_calls(text: &[u8], functions: &[StatefulFunction]) -> Option<Effects> {
    let mut words = Words::usual(text);
    let mut found: Option<Effects> = None;
    // The name before a dot, then the dot; the word before that.
    let (mut schema, mut before): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    let mut is_procedure = false;
    while let Some(token) = words.next() {
        match token {
            Token::Word(word) => {
                let name = bare(word);
                // Why: a procedure without arguments may be called without brackets.
                let is_call = is_procedure || words.peek() == Some(Token::Symbol(b'('));
                for function in functions.iter().filter(|function| function.is_called(schema, name)) {
                    if is_call {
                        found.get_or_insert_with(Effects::default).add(&function.effects);
                    }
                }
                is_procedure |= is(word, b"call");
                (schema, before) = (None, Some(name));
            }
            Token::Symbol(b'.') => schema = before.take(),
            Token::Symbol(b';') => is_procedure = false,
            _ => (schema, before) = (None, None),
        }
    }
    found
}
