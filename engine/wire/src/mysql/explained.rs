//! Which statements of a text show by themselves why a server would say that the state of its session changed.
//!
//! Reads words, not grammar: one that is in doubt explains nothing, and the server is asked. Called by `relay` through
//! `Dialect`, once for each text.
//!
//! Source: MySQL manual, "Server Tracking of Client Session State".

use super::words::{is_any, Token, Words};
use crate::effects::{Effects, Traces};

/// One bit for each statement of a text, the first one's lowest; what comes behind the last bit explains nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explained(u64);

impl Explained {
    pub const NOTHING: Explained = Explained(0);
    /// Whatever it is that the server says.
    pub const ALL: Explained = Explained(u64::MAX);

    /// Does the statement under way?
    pub fn is_so(self) -> bool {
        self.0 & 1 != 0
    }

    /// The next statement of the text is under way.
    pub fn next(&mut self) {
        self.0 >>= 1;
    }
}

/// What runs nothing that is not in the text.
const VERBS: [&[u8]; 16] = [
    b"execute",
    b"set",
    b"use",
    b"create",
    b"drop",
    b"alter",
    b"prepare",
    b"deallocate",
    b"begin",
    b"start",
    b"commit",
    b"rollback",
    b"lock",
    b"unlock",
    b"flush",
    b"xa",
];

/// Statements that have statements in them.
const BODIES: [&[u8]; 5] = [b"procedure", b"function", b"trigger", b"event", b"package"];

/// Of `text`, whose effects are `effects`.
pub fn explained(text: &[u8], effects: Option<&Effects>) -> Explained {
    // Why first: this is asked of every statement, and most read or write rows.
    if effects.is_some_and(|effects| effects.begins.has(Traces::ROUTINE) || effects.settings.unnamed) {
        return Explained::NOTHING;
    }
    let is_one = memchr::memchr(b';', text).is_none();
    let mut words = Words::usual(text);
    let (mut begins, mut bit, mut found) = (true, 1_u64, 0);
    let mut may_have_body = false;
    while let Some(token) = words.next() {
        match token {
            Token::Symbol(b';') => {
                begins = true;
                bit <<= 1;
                if bit == 0 {
                    break;
                }
                continue;
            }
            Token::Word(word) if begins => {
                if is_any(word, &VERBS) {
                    found |= bit;
                } else if is_one {
                    break;
                }
                may_have_body = is_any(word, &[b"create", b"alter"]);
            }
            // Why the end: which statement of the text is which cannot be told behind one.
            Token::Word(word) if may_have_body && is_any(word, &BODIES) => break,
            _ => {}
        }
        begins = false;
    }
    Explained(found)
}
