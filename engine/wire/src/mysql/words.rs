//! Cutting MySQL's statement text into words: strings and comments are told apart, grammar is not.
//!
//! Says nothing about what a word means; never fails, whatever the bytes. Called by the modules beside it
//! that read statements.
//!
//! Source: MySQL manual, "Language Structure"; MariaDB manual, "Comment Syntax".
//!
//! What a backslash, a double quote or a comment with code means is a matter of the session's `sql_mode` and of
//! the server's release, which a text does not show: whoever must not be deceived reads it in each [`Reading`].

use crate::digest::{is_name, is_word};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A word, a name in quotes of either kind, quotes included.
    Word(&'a [u8]),
    /// `'…'`, and `"…"` where it cannot be a name; what stands before it (`x`, `_utf8`) is a word.
    Text(&'a [u8]),
    /// `@name`, without the mark; the name may have quotes.
    Variable(&'a [u8]),
    /// `@@`.
    System,
    Number(&'a [u8]),
    Symbol(u8),
}

/// One of the ways in which a text may be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// A backslash hides what comes behind it in `'…'`.
    pub escapes: bool,
    /// The same in `"…"`, which is a string then.
    pub double_escapes: bool,
    /// What stands in `/*! … */` is said.
    pub runs_comments: bool,
}

impl Reading {
    /// As most servers read most texts.
    pub const USUAL: Reading = Reading { escapes: true, double_escapes: true, runs_comments: true };

    /// The other ways in which a server may read `text`.
    pub fn others(text: &[u8]) -> impl Iterator<Item = Reading> {
        let hides = text.windows(2).any(|pair| pair[0] == b'\\' && matches!(pair[1], b'\'' | b'"' | b'\\'));
        let runs = text.windows(3).any(|begin| begin == b"/*!" || begin == b"/*M");
        let all = (0..6).map(|number| Reading {
            escapes: number % 3 != 1,
            double_escapes: number % 3 == 0,
            runs_comments: number < 3,
        });
        all.skip(1)
            .filter(move |reading| (hides || reading.double_escapes) && (runs || reading.runs_comments))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    whole: &'a [u8],
    pub rest: &'a [u8],
    reading: Reading,
    /// We are inside a comment whose content is said.
    in_comment: bool,
}

impl<'a> Words<'a> {
    pub fn new(text: &'a [u8], reading: Reading) -> Self {
        Words { whole: text, rest: text, reading, in_comment: false }
    }

    /// As a server in its usual mode reads it.
    pub fn usual(text: &'a [u8]) -> Self {
        Self::new(text, Reading::USUAL)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.rest.get(at).copied().unwrap_or(0)
    }

    /// Give back the last `length` bytes.
    pub fn put_back(&mut self, length: usize) {
        self.rest = &self.whole[self.whole.len() - self.rest.len() - length..];
    }

    /// Where we are in the whole text.
    pub fn at(&self) -> usize {
        self.whole.len() - self.rest.len()
    }

    /// The text from one place to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.whole[start..self.at()]
    }

    /// The token that comes next, which stays.
    pub fn peek(&self) -> Option<Token<'a>> {
        { *self }.next()
    }

    /// Take the next token if it is this word.
    pub fn skip(&mut self, word: &[u8]) -> bool {
        let mut ahead = *self;
        let is_it = matches!(ahead.next(), Some(Token::Word(found)) if is(found, word));
        if is_it {
            *self = ahead;
        }
        is_it
    }

    /// Take the next token if it is this symbol.
    pub fn skip_symbol(&mut self, symbol: u8) -> bool {
        let mut ahead = *self;
        let is_it = ahead.next() == Some(Token::Symbol(symbol));
        if is_it {
            *self = ahead;
        }
        is_it
    }

    #[inline]
    pub fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.rest.first()?;
            match byte {
                b' ' | b'\t'..=b'\r' | 0 => self.rest = &self.rest[1..],
                b'#' => self.skip_line(),
                // Why the third: without white space behind it, it is two minus signs.
                b'-' if self.byte(1) == b'-' && (self.rest.len() == 2 || self.byte(2) <= b' ') => {
                    self.skip_line();
                }
                b'/' if self.byte(1) == b'*' => self.comment(),
                b'*' if self.in_comment && self.byte(1) == b'/' => {
                    self.in_comment = false;
                    self.take(2);
                }
                b'\'' => return Some(Token::Text(self.quoted(b'\'', self.reading.escapes))),
                b'"' => {
                    let quoted = self.quoted(b'"', self.reading.double_escapes);
                    let is_name = !quoted.contains(&b'\\') && quoted.len() <= LONGEST_NAME;
                    return Some(if is_name { Token::Word(quoted) } else { Token::Text(quoted) });
                }
                b'`' => return Some(Token::Word(self.quoted(b'`', false))),
                b'@' => return Some(self.variable()),
                b'0'..=b'9' => return Some(self.number()),
                b'.' if self.byte(1).is_ascii_digit() => return Some(self.number()),
                _ if is_word(byte) => {
                    let length = self.rest.iter().position(|byte| !is_name(*byte));
                    return Some(Token::Word(self.take(length.unwrap_or(self.rest.len()))));
                }
                _ => return Some(Token::Symbol(self.take(1)[0])),
            }
        }
    }

    fn quoted(&mut self, quote: u8, escapes: bool) -> &'a [u8] {
        let length = crate::digest::quoted_end(self.rest, quote, escapes);
        self.take(length)
    }

    fn variable(&mut self) -> Token<'a> {
        self.take(1);
        match self.byte(0) {
            b'@' => {
                self.take(1);
                Token::System
            }
            quote @ (b'\'' | b'"' | b'`') => {
                let escapes = match quote {
                    b'\'' => self.reading.escapes,
                    b'"' => self.reading.double_escapes,
                    _ => false,
                };
                Token::Variable(self.quoted(quote, escapes))
            }
            _ => {
                let length = self.rest.iter().position(|byte| !is_name(*byte) && *byte != b'.');
                Token::Variable(self.take(length.unwrap_or(self.rest.len())))
            }
        }
    }

    /// `12`, `1.5e-3`, `0xff`; a name that begins with digits is a word, which matters nowhere.
    fn number(&mut self) -> Token<'a> {
        let mut at = 0;
        while let Some(&byte) = self.rest.get(at) {
            let follows_exponent =
                at > 0 && self.rest[at - 1].eq_ignore_ascii_case(&b'e') && !self.rest.starts_with(b"0x");
            match byte {
                _ if is_name(byte) || byte == b'.' => at += 1,
                b'+' | b'-' if follows_exponent && self.byte(at + 1).is_ascii_digit() => at += 1,
                _ => break,
            }
        }
        Token::Number(self.take(at))
    }

    fn skip_line(&mut self) {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        self.take(end.unwrap_or(self.rest.len()));
    }

    fn comment(&mut self) {
        let mark = match (self.byte(2), self.byte(3)) {
            (b'!', _) => 3,
            (b'M', b'!') => 4,
            _ => 0,
        };
        if mark > 0 && self.reading.runs_comments {
            self.take(mark);
            let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            self.take(if digits >= 5 { digits.min(6) } else { 0 });
            self.in_comment = true;
            return;
        }
        self.take(2);
        let end = self.rest.windows(2).position(|pair| pair == b"*/");
        self.take(end.map_or(self.rest.len(), |end| end + 2));
    }
}

/// Origin: 64 characters of up to four bytes, each of which may be a doubled quote, and the quotes.
const LONGEST_NAME: usize = 2 * 256 + 2;

#[inline]
pub(super) fn is(word: &[u8], lower: &[u8]) -> bool {
    word.eq_ignore_ascii_case(lower)
}

/// Is it one of these?
#[inline]
pub(super) fn is_any(word: &[u8], lower: &[&[u8]]) -> bool {
    lower.iter().any(|name| is(word, name))
}

/// What quotes hold. Doubled quotes and backslashes stay as they are.
pub(super) fn bare(word: &[u8]) -> &[u8] {
    match word {
        [first @ (b'`' | b'"' | b'\''), inner @ .., last] if first == last => inner,
        _ => word,
    }
}

/// A name as it is compared: without quotes, in lower case; None: it is no plain name.
pub(super) fn name(word: &[u8]) -> Option<String> {
    let inner = bare(word);
    let text = std::str::from_utf8(inner).ok()?;
    let is_plain = !inner.is_empty()
        && !inner
            .iter()
            .any(|byte| matches!(byte, b'`' | b'"' | b'\'' | b'\\') || *byte < b' ' || *byte >= 0x7f);
    is_plain.then(|| text.to_ascii_lowercase())
}

/// What a string of the usual kind says, if it has no backslash: its quotes are the same in each mode then.
pub(super) fn said(text: &[u8]) -> Option<String> {
    let (quote, doubled) = match text {
        [b'\'', .., b'\''] => ("'", "''"),
        [b'"', .., b'"'] => ("\"", "\"\""),
        _ => return None,
    };
    let inner = std::str::from_utf8(text.get(1..text.len() - 1)?).ok()?;
    (!inner.contains('\\')).then(|| inner.replace(doubled, quote))
}

/// What a string holds, if it says it plainly: in printable ASCII and without escapes.
pub(super) fn plain(text: &[u8]) -> Option<&str> {
    if !matches!(text, [b'\'', .., b'\''] | [b'"', .., b'"']) || text.len() < 2 {
        return None;
    }
    let inner = bare(text);
    let is_plain =
        !inner.iter().any(|byte| matches!(byte, b'"' | b'\'' | b'\\') || !(b' '..0x7f).contains(byte));
    std::str::from_utf8(inner).ok().filter(|_| is_plain)
}
