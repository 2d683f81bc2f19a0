//! `CREATE` and `DROP`: what is only for one session, and what a routine is made of.
//!
//! Reads words, not grammar. Called by `judge`.
//!
//! Source: MySQL manual, "Data Definition Statements"; MariaDB manual, "CREATE TABLE", "CREATE SEQUENCE".

use super::judge::{Judge, Until};
use super::words::{is, is_any, Token};
use crate::effects::{Thing, Traces};

impl Judge<'_> {
    /// `CREATE …`, the first word taken.
    pub fn create(&mut self) {
        self.found.defines = true;
        let mut ahead = self.words;
        for _ in 0..16 {
            match ahead.next() {
                Some(Token::Word(word)) if is(word, b"temporary") => {
                    // What a temporary table hides is for its session alone.
                    self.found.defines = false;
                    self.words = ahead;
                    return self.create_temporary();
                }
                Some(Token::Word(word))
                    if is_any(word, &[b"procedure", b"function", b"trigger", b"event", b"package"]) =>
                {
                    self.words = ahead;
                    return self.skip_definition();
                }
                Some(Token::Word(word))
                    if is_any(word, &[b"table", b"view", b"index", b"user", b"database"]) =>
                {
                    break;
                }
                Some(Token::Symbol(b';')) | None => break,
                _ => {}
            }
        }
        self.body(b"insert", Until::Semicolon);
    }

    fn create_temporary(&mut self) {
        let _ = self.words.skip(b"table") || self.words.skip(b"sequence");
        if self.words.skip(b"if") {
            self.words.skip(b"not");
            self.words.skip(b"exists");
        }
        let name = self.dotted();
        self.begin(Traces::TEMPORARY, &name);
        self.body(b"insert", Until::Semicolon);
    }

    /// What a routine will do it does not do when it is made: up to the end of its block, or of its one statement.
    fn skip_definition(&mut self) {
        let mut depth = 0_u32;
        while let Some(token) = self.words.next() {
            match token {
                Token::Symbol(b';') if depth == 0 => return,
                Token::Word(word) if is_any(word, &[b"begin", b"case"]) => depth += 1,
                Token::Word(word) if is(word, b"end") => {
                    let inner: [&[u8]; 5] = [b"if", b"loop", b"while", b"repeat", b"for"];
                    if !inner.into_iter().any(|word| self.words.skip(word)) {
                        depth = depth.saturating_sub(1);
                        self.words.skip(b"case");
                    }
                }
                _ => {}
            }
        }
    }

    /// `DROP …`, the first word taken.
    pub fn drop(&mut self) {
        if self.words.skip(b"prepare") {
            self.forget();
            return self.rest();
        }
        let is_temporary = self.words.skip(b"temporary");
        self.found.defines |= !is_temporary;
        let is_table = [&b"table"[..], b"tables", b"sequence"].into_iter().any(|word| self.words.skip(word));
        if is_table {
            let may_be_missing = self.words.skip(b"if");
            self.words.skip(b"exists");
            let is_certain = is_temporary && !may_be_missing;
            loop {
                let name = self.dotted();
                self.found.things.push(if is_certain {
                    Thing::OneGone(Traces::TEMPORARY, name.into())
                } else {
                    Thing::Gone(Traces::TEMPORARY, name.into())
                });
                if !self.words.skip_symbol(b',') {
                    break;
                }
            }
        }
        self.rest();
    }
}
