//! Cutting statement text into words: strings and comments are told apart, grammar is not.
//!
//! Says nothing about what a word means; never fails, whatever the bytes. Called by `judge` and `calls`.

use crate::digest::{is_name, is_word, quoted_end};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A word or a quoted name, quotes included.
    Word(&'a [u8]),
    /// A string, what is around it included.
    Text(&'a [u8]),
    /// The body of a dollar-quoted string.
    Body(&'a [u8]),
    Symbol(u8),
}

pub(super) struct Words<'a> {
    pub rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn byte(&self, at: usize) -> u8 {
        self.rest.get(at).copied().unwrap_or(0)
    }

    #[inline]
    pub fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.rest.first()?;
            match byte {
                b' ' | b'\t'..=b'\r' | 0 => drop(self.take(1)),
                b'-' if self.byte(1) == b'-' => {
                    let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.take(end.unwrap_or(self.rest.len()));
                }
                b'/' if self.byte(1) == b'*' => self.skip_comment(),
                b'\'' => return Some(Token::Text(self.take(quoted_end(self.rest, b'\'', false)))),
                b'"' => return Some(Token::Word(self.take(quoted_end(self.rest, b'"', false)))),
                b'$' => return Some(self.dollar()),
                b'0'..=b'9' => {
                    let length =
                        self.rest.iter().take_while(|byte| is_name(**byte) || **byte == b'.').count();
                    self.take(length);
                    return Some(Token::Symbol(b'0'));
                }
                _ if is_word(byte) => return Some(self.word()),
                _ => return Some(Token::Symbol(self.take(1)[0])),
            }
        }
    }

    #[inline]
    fn word(&mut self) -> Token<'a> {
        let length = self.rest.iter().position(|byte| !is_name(*byte)).unwrap_or(self.rest.len());
        let first = self.rest[0].to_ascii_lowercase();
        if length == 1 && self.byte(1) == b'\'' && matches!(first, b'e' | b'b' | b'x' | b'n') {
            let quoted = quoted_end(&self.rest[1..], b'\'', first == b'e');
            return Token::Text(self.take(1 + quoted));
        }
        if length == 1 && first == b'u' && self.byte(1) == b'&' && self.byte(2) == b'\'' {
            let quoted = quoted_end(&self.rest[2..], b'\'', false);
            return Token::Text(self.take(2 + quoted));
        }
        Token::Word(self.take(length))
    }

    /// `$1`, `$tag$…$tag$`, or a dollar sign.
    fn dollar(&mut self) -> Token<'a> {
        let after = &self.rest[1..];
        let tag = after.iter().take_while(|byte| is_name(**byte) && **byte != b'$').count();
        if after.get(tag) != Some(&b'$') || after[0].is_ascii_digit() {
            self.take(1 + tag);
            return Token::Symbol(b'$');
        }
        let mark = self.take(tag + 2);
        let end = self.rest.windows(mark.len()).position(|part| part == mark).unwrap_or(self.rest.len());
        let body = self.take(end);
        self.take(mark.len());
        Token::Body(body)
    }

    fn skip_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.byte(0), self.byte(1)) {
                (b'/', b'*') => depth += 1,
                (b'*', b'/') => depth -= 1,
                _ if self.rest.is_empty() => return,
                _ => {
                    self.take(1);
                    continue;
                }
            }
            self.take(2);
            if depth == 0 {
                return;
            }
        }
    }
}

#[inline]
pub(super) fn is(word: &[u8], lower: &[u8]) -> bool {
    word.eq_ignore_ascii_case(lower)
}

#[inline]
pub(super) fn starts(word: &[u8], lower: &[u8]) -> bool {
    word.len() >= lower.len() && word[..lower.len()].eq_ignore_ascii_case(lower)
}

#[inline]
pub(super) fn ends(word: &[u8], lower: &[u8]) -> bool {
    word.len() >= lower.len() && word[word.len() - lower.len()..].eq_ignore_ascii_case(lower)
}

/// What a string of the plain kind holds.
pub(super) fn plain(text: &[u8]) -> Option<Box<str>> {
    let inner = text.strip_prefix(b"'")?.strip_suffix(b"'")?;
    Some(std::str::from_utf8(inner).ok()?.replace("''", "'").into())
}

/// A word without the quotes around it.
pub(super) fn bare(word: &[u8]) -> &[u8] {
    word.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(word)
}

/// A name as the server knows it.
pub(super) fn unquoted(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => text.to_ascii_lowercase(),
    }
}

/// Does `text` read as the name of a setting that an application or an extension made up?
pub(super) fn is_made_up_name(text: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|byte| is_word(byte) && !byte.is_ascii_digit())
            && part.bytes().all(is_name)
    };
    text.contains('.') && text.len() <= LONGEST_NAME && text.split('.').all(is_part)
}

/// Origin: `NAMEDATALEN`, for each of two parts.
pub(super) const LONGEST_NAME: usize = 128;
