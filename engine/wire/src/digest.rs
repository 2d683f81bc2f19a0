//! Statement text to its shape: literals, comments and white space folded, in one pass.
//!
//! Understands tokens, not grammar, and never fails: what is not a statement has a shape too. The
//! shape is for people, counters and rules; it is never sent to a server.
//! Called by `relay` for slow statements and by whatever groups statements.
//!
//! ```text
//! SELECT *  FROM t -- why        SELECT * FROM t WHERE a = ? AND b IN (?)
//!  WHERE a=1 and  b in (2,'x')   (case is kept as written)
//! ```

use std::borrow::Cow;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// What quotes and comment marks mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lexis {
    /// Nested comments, dollar quotes, `E''`; double quotes name things.
    Postgres,
    /// `#` comments, backslashes, `/*! code */`; backticks name things, double quotes are strings.
    Mysql,
}

/// Append the shape of `text` to `out`, at most `limit` bytes of it.
///
/// Values become `?`, also parameters; lists of values after IN and equal rows after VALUES become
/// one. Bytes that are not UTF-8 are replaced.
pub fn shape(lexis: Lexis, text: &[u8], out: &mut String, limit: usize) {
    let start = out.len();
    let mut shaper = Shaper {
        lexis,
        rest: text,
        start,
        limit: start.saturating_add(limit),
        out,
        gap: false,
        previous: Token::Start,
        frames: vec![Frame::default()],
    };
    shaper.run();
    let end = start.saturating_add(limit).min(out.len());
    out.truncate(char_boundary(out, end));
    let end = start + out[start..].trim_end_matches([';', ' ']).len();
    out.truncate(end);
}

/// A number for a shape, the same in every process and release.
pub fn digest(shape: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(shape.as_bytes());
    hasher.finish()
}

/// The last place at or before `at` where `text` may be cut.
fn char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What was written last, as far as it decides what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Start,
    Word,
    /// `IN` or `ARRAY`: a list of values may follow.
    In,
    Values,
    Literal,
    /// An operator that compares or assigns; it stands between spaces.
    Comparison,
    Operator,
    Dot,
    Comma,
    Semicolon,
    Open,
    Close,
}

/// One open bracket; the first frame is the statement itself.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    /// Values in it become one.
    is_list: bool,
    /// Where it began in the output, if it is a row that may equal the one before.
    row_start: Option<usize>,
    /// The last row directly in it: start and end in the output.
    last_row: Option<(usize, usize)>,
}

struct Shaper<'a> {
    lexis: Lexis,
    rest: &'a [u8],
    out: &'a mut String,
    /// Where our part of the output begins, and where it must end.
    start: usize,
    limit: usize,
    /// White space or a comment came since the last token.
    gap: bool,
    previous: Token,
    /// Invariant: never empty; as deep as there are brackets in the output, so bounded by `limit`.
    frames: Vec<Frame>,
}

impl Shaper<'_> {
    fn run(&mut self) {
        while let Some(&byte) = self.rest.first() {
            if self.out.len() >= self.limit {
                return;
            }
            if byte.is_ascii_whitespace() || byte == 0 || byte == 0x0b {
                self.skip(1);
                self.gap = true;
            } else if !self.comment() {
                self.token(byte);
                self.gap = false;
            }
        }
    }

    fn skip(&mut self, count: usize) {
        self.rest = &self.rest[count.min(self.rest.len())..];
    }

    fn byte(&self, at: usize) -> u8 {
        self.rest.get(at).copied().unwrap_or(0)
    }

    /// Skip a comment if one begins here.
    fn comment(&mut self) -> bool {
        let is_mysql = self.lexis == Lexis::Mysql;
        let length = match (self.byte(0), self.byte(1)) {
            // Why: MySQL takes `--` for a comment only before white space or the end.
            (b'-', b'-') if !is_mysql || self.byte(2) <= b' ' => self.line_end(),
            (b'#', _) if is_mysql => self.line_end(),
            // Why: MySQL runs what stands here, so only the marks are folded.
            (b'/', b'*') if is_mysql && self.byte(2) == b'!' => {
                3 + self.rest[3..].iter().take_while(|byte| byte.is_ascii_digit()).count()
            }
            // MariaDB's own.
            (b'/', b'*') if is_mysql && self.byte(2) == b'M' && self.byte(3) == b'!' => {
                4 + self.rest[4..].iter().take_while(|byte| byte.is_ascii_digit()).count()
            }
            (b'*', b'/') if is_mysql => 2,
            (b'/', b'*') => self.block_comment_end(!is_mysql),
            _ => return false,
        };
        self.skip(length);
        self.gap = true;
        true
    }

    fn line_end(&self) -> usize {
        self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest.len())
    }

    fn block_comment_end(&self, nests: bool) -> usize {
        let (mut at, mut depth) = (2, 1);
        while at < self.rest.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') if depth == 1 => return at + 2,
                (b'*', b'/') => (at, depth) = (at + 2, depth - 1),
                (b'/', b'*') if nests => (at, depth) = (at + 2, depth + 1),
                _ => at += 1,
            }
        }
        at
    }

    /// Take one token; `byte` is its first.
    fn token(&mut self, byte: u8) {
        let is_mysql = self.lexis == Lexis::Mysql;
        match byte {
            b'\'' => self.literal(quoted_end(self.rest, b'\'', is_mysql)),
            b'"' if is_mysql => self.literal(quoted_end(self.rest, b'"', true)),
            b'"' => self.word(quoted_end(self.rest, b'"', false)),
            b'`' if is_mysql => self.word(quoted_end(self.rest, b'`', false)),
            b'$' if !is_mysql => self.dollar(),
            b'?' if is_mysql => self.literal(1),
            b'0'..=b'9' => self.literal(number_end(self.rest)),
            b'.' if self.byte(1).is_ascii_digit() && self.previous != Token::Word => {
                self.literal(number_end(self.rest));
            }
            b'.' => self.symbol(Token::Dot),
            b',' => self.symbol(Token::Comma),
            b';' => self.symbol(Token::Semicolon),
            b'(' | b'[' => self.open(),
            b')' | b']' => self.close(),
            _ if is_word(byte) => self.word_or_prefixed(),
            _ => self.operator(),
        }
    }

    /// `$1`, `$tag$…$tag$`, or a dollar sign.
    fn dollar(&mut self) {
        let after = &self.rest[1..];
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            return self.literal(1 + digits);
        }
        let tag = after.iter().take_while(|byte| is_name(**byte) && **byte != b'$').count();
        if after.get(tag) != Some(&b'$') {
            return self.operator();
        }
        let (mark, body) = self.rest.split_at(tag + 2);
        let length = body.windows(mark.len()).position(|part| part == mark);
        self.literal(length.map_or(self.rest.len(), |length| length + 2 * mark.len()));
    }

    /// A word, unless it is the letter in front of a string: `E''`, `B''`, `X''`, `N''`, `U&''`.
    fn word_or_prefixed(&mut self) {
        let length = self.rest.iter().take_while(|byte| is_name(**byte)).count();
        let letter = self.byte(0).to_ascii_lowercase();
        if length == 1 && letter == b'u' && self.byte(1) == b'&' && self.lexis == Lexis::Postgres {
            match self.byte(2) {
                b'\'' => return self.literal(2 + quoted_end(&self.rest[2..], b'\'', false)),
                b'"' => return self.word(2 + quoted_end(&self.rest[2..], b'"', false)),
                _ => {}
            }
        }
        if length == 1 && self.byte(1) == b'\'' && matches!(letter, b'e' | b'b' | b'x' | b'n') {
            let escapes = letter == b'e' || self.lexis == Lexis::Mysql;
            return self.literal(1 + quoted_end(&self.rest[1..], b'\'', escapes));
        }
        if letter == b'_' && self.lexis == Lexis::Mysql {
            if let Some(value) = self.introduced(length) {
                return self.literal(value);
            }
        }
        self.word(length);
    }

    /// Length of a value whose character set stands before it: `_utf8mb4'x'`, `_binary X'00'`.
    fn introduced(&self, name: usize) -> Option<usize> {
        let blanks = self.rest[name..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let at = name + blanks;
        match (self.byte(at), self.byte(at + 1)) {
            (quote @ (b'\'' | b'"'), _) => Some(at + quoted_end(&self.rest[at..], quote, true)),
            (b'x' | b'X' | b'b' | b'B', b'\'') => {
                Some(at + 1 + quoted_end(&self.rest[at + 1..], b'\'', false))
            }
            (b'0', b'x' | b'b') => Some(at + number_end(&self.rest[at..])),
            _ => None,
        }
    }

    fn word(&mut self, length: usize) {
        let text = &self.rest[..length];
        let token = if text.eq_ignore_ascii_case(b"in") || text.eq_ignore_ascii_case(b"array") {
            Token::In
        } else if text.eq_ignore_ascii_case(b"values") || text.eq_ignore_ascii_case(b"value") {
            Token::Values
        } else {
            Token::Word
        };
        self.write(token, length);
    }

    /// A run of operator characters; ends where a comment or another kind of token begins.
    fn operator(&mut self) {
        let is_operator = |byte: u8| b"+-*/<>=~!@#%^&|:?".contains(&byte);
        let mut length = 1;
        while is_operator(self.byte(0)) && is_operator(self.byte(length)) {
            let pair = (self.byte(length), self.byte(length + 1));
            if pair == (b'-', b'-') || pair == (b'/', b'*') {
                break;
            }
            length += 1;
        }
        // Why: a sign in front of a number belongs to the value where no left operand can be. Spec:
        // an operator of several characters does not end in a sign in PostgreSQL unless it has ~!@#%^&|?.
        let text = &self.rest[..length];
        let last = text[length - 1];
        let is_sign = matches!(last, b'-' | b'+') && (self.byte(length).is_ascii_digit());
        if is_sign && length == 1 && self.has_no_left_operand() {
            return self.literal(1 + number_end(&self.rest[1..]));
        }
        if is_sign && length > 1 && !text[..length - 1].iter().any(|byte| b"~!@#%^&|?".contains(byte)) {
            length -= 1;
        }
        let compares = self.rest[..length].iter().any(|byte| matches!(byte, b'=' | b'<' | b'>'));
        self.write(if compares { Token::Comparison } else { Token::Operator }, length);
    }

    fn has_no_left_operand(&self) -> bool {
        use Token::{Comma, Comparison, In, Open, Operator, Semicolon, Start, Values};
        matches!(self.previous, Start | In | Values | Comparison | Operator | Comma | Semicolon | Open)
    }

    /// A value: the source has `length` bytes of it.
    fn literal(&mut self, length: usize) {
        self.skip(length);
        let is_list = self.frames.last().is_some_and(|frame| frame.is_list);
        // Why: only a value that is a whole item; `in (select 1, 2)` is no list.
        let follows_value = || ["(?,", "[?,", ", ?,"].iter().any(|end| self.out.ends_with(end));
        if is_list && self.previous == Token::Comma && follows_value() {
            self.out.pop();
        } else {
            self.separate(Token::Literal);
            self.out.push('?');
        }
        self.previous = Token::Literal;
    }

    fn symbol(&mut self, token: Token) {
        self.write(token, 1);
    }

    fn open(&mut self) {
        let top = self.frames.last().copied().unwrap_or_default();
        let follows_row = self.previous == Token::Comma && top.last_row.is_some();
        let is_row =
            self.previous == Token::Values || follows_row || (top.is_list && self.previous != Token::In);
        let is_list = self.previous == Token::In;
        let kept = top.last_row;
        self.write(Token::Open, 1);
        if let Some(frame) = self.frames.last_mut() {
            frame.last_row = kept.filter(|_| follows_row);
        }
        let row_start = is_row.then(|| self.out.len() - 1);
        self.frames.push(Frame { is_list, row_start, last_row: None });
    }

    fn close(&mut self) {
        let closed =
            if self.frames.len() > 1 { self.frames.pop().unwrap_or_default() } else { Frame::default() };
        let kept = self.frames.last().and_then(|frame| frame.last_row);
        self.write(Token::Close, 1);
        let (Some(start), Some(frame)) = (closed.row_start, self.frames.last_mut()) else {
            return;
        };
        match kept {
            Some((first, end)) if self.out[first..end] == self.out[start..] => {
                self.out.truncate(end);
                frame.last_row = Some((first, end));
            }
            _ => frame.last_row = Some((start, self.out.len())),
        }
    }

    /// Write `length` bytes of the source as they are.
    fn write(&mut self, token: Token, length: usize) {
        self.separate(token);
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        match String::from_utf8_lossy(text) {
            Cow::Borrowed(text) => self.out.push_str(text),
            Cow::Owned(text) => self.out.push_str(&text),
        }
        self.previous = token;
        if token != Token::Comma {
            if let Some(frame) = self.frames.last_mut() {
                frame.last_row = None;
            }
        }
    }

    /// Write the space before `next`, where one belongs.
    fn separate(&mut self, next: Token) {
        use Token::{Close, Comma, Comparison, Dot, In, Open, Semicolon, Values};
        let needs = match (self.previous, next) {
            _ if self.out.len() == self.start => false,
            (Open | Dot, _) | (_, Close | Comma | Semicolon | Dot) => false,
            (Comma | Semicolon | Comparison, _) | (_, Comparison) | (In | Values, Open) => true,
            _ => self.gap,
        };
        if needs {
            self.out.push(' ');
        }
    }
}

/// Letters, underscore, dollar and everything beyond ASCII.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// What a word goes on with.
pub(crate) fn is_name(byte: u8) -> bool {
    is_word(byte) || byte.is_ascii_digit()
}

/// Length of a quoted text at the front of `text`; a doubled quote is part of it.
pub(crate) fn quoted_end(text: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Length of a number at the front of `text`: `1`, `1.5e-3`, `0xff`, `1_000`.
fn number_end(text: &[u8]) -> usize {
    let is_hex = text.len() > 1 && text[0] == b'0' && text[1].eq_ignore_ascii_case(&b'x');
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let follows_exponent = at > 0 && !is_hex && text[at - 1].eq_ignore_ascii_case(&b'e');
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' => at += 1,
            b'+' | b'-' if follows_exponent && text.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
            _ => break,
        }
    }
    at
}
