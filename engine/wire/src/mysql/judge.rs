//! What the text of a MySQL or MariaDB statement shows of its effects on the session.
//!
//! Reads words, not grammar: a false alarm costs one question to the server. What the server tells by itself
//! (its session tracker: system variables, the schema, that something changed) is left to it. Called by `relay`
//! through `Dialect`, once for a prepared statement and for each query.
//!
//! Source: MySQL manual, "SQL Statements", "Server Tracking of Client Session State"; MariaDB manual, "SQL Statements".

use super::assign;
use super::calls;
use super::probe::LOCK_NAME_CHARS;
use super::words::{is, is_any, name, plain, said, Reading, Token, Words};
use crate::effects::{Effects, Thing, Touched, Traces};

/// The effects of `text`, which may hold several statements; None: none but what the server tells by itself.
pub fn effects(text: &[u8]) -> Option<Box<Effects>> {
    let mut found = judged(text, Reading::USUAL);
    let may_be_read_otherwise =
        memchr::memchr2_iter(b'\\', b'*', text).any(|at| text[at] == b'\\' || at > 0 && text[at - 1] == b'/');
    if may_be_read_otherwise {
        for reading in Reading::others(text) {
            let mut other = judged(text, reading);
            // Why not these: read otherwise than it is meant, any text is odd.
            other.begins = other.begins.without(Traces::UNKNOWN).without(Traces::ROUTINE);
            other.defines = false;
            if other != found {
                found.add(&other);
            }
        }
    }
    (!found.is_empty()).then(|| Box::new(found))
}

fn judged(text: &[u8], reading: Reading) -> Effects {
    let mut judge = Judge::new(text, reading);
    judge.statements();
    if judge.found.reads_sequences && !calls::advances_first(text) {
        judge.found.begins.add(Traces::SEQUENCES);
    }
    judge.found
}

/// What to suspect when a server says that the state of its session changed and the text showed no reason.
pub fn after_unseen_change() -> Effects {
    let settings = Touched { unnamed: true, ..Touched::default() };
    Effects { settings, ..Effects::default() }
}

/// What to suspect of a statement that runs what the text does not show.
fn anything() -> Effects {
    let mut effects = Effects { begins: Traces::ROUTINE, ..after_unseen_change() };
    effects.settings.asked.push("last_insert_id".into());
    effects
}

/// What to suspect of the part of a text that has not arrived: what else there may be in it the server tells.
pub fn effects_of_rest() -> Effects {
    Effects { begins: Traces::ROUTINE, ..Effects::default() }
}

/// Kinds of which a server can be asked whether any is left.
pub const PROVABLE: Traces = Traces::LOCKS.with(Traces::INSERT_ID).with(Traces::ROUTINE);

/// Kinds that come and go by name: [`Thing`]s say so.
pub const BY_NAME: Traces = Traces::TEMPORARY
    .with(Traces::TABLE_LOCKS)
    .with(Traces::GLOBAL_LOCKS)
    .with(Traces::HANDLERS)
    .with(Traces::DISTRIBUTED)
    .with(Traces::CLOCK)
    .with(Traces::PREPARED)
    .with(Traces::ROLE)
    .with(Traces::VARIABLES)
    .with(Traces::LOCKS);

/// Kinds of which a new session in the same connection has nothing. Spec: "COM_RESET_CONNECTION".
pub const UNDONE: Traces = BY_NAME
    .with(PROVABLE)
    .with(Traces::NEXT_TRANSACTION)
    .with(Traces::FOUND_ROWS)
    .with(Traces::SEQUENCES)
    .with(Traces::EXCESS);

/// The first word of `text`, behind whatever brackets and comments.
pub fn first_word(text: &[u8]) -> Option<&[u8]> {
    let mut words = Words::usual(text);
    std::iter::from_fn(|| words.next()).find_map(|token| match token {
        Token::Symbol(b'(' | b';') => None,
        Token::Word(word) => Some(Some(word)),
        _ => Some(None),
    })?
}

pub(super) struct Judge<'a> {
    pub words: Words<'a>,
    pub found: Effects,
    reading: Reading,
    /// What was prepared in this text, under which names.
    prepared: Vec<(String, String)>,
}

/// Where to stop reading an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Semicolon,
    /// Or a comma, or `FOR`, outside of brackets.
    Comma,
}

impl<'a> Judge<'a> {
    fn new(text: &'a [u8], reading: Reading) -> Self {
        Judge { words: Words::new(text, reading), found: Effects::default(), reading, prepared: Vec::new() }
    }

    fn statements(&mut self) {
        while let Some(token) = self.words.next() {
            match token {
                Token::Symbol(b';' | b'(') => {}
                Token::Word(word) if !self.found.blinds.is_empty() => self.unseen_statement(word),
                Token::Word(word) => self.statement(word),
                // A syntax error, or the rest of one.
                _ => self.body(b"", Until::Semicolon),
            }
        }
    }

    /// One behind which the server need not tell what changed, in the same text.
    fn unseen_statement(&mut self, word: &'a [u8]) {
        let before = self.found.begins.and(Traces::ROUTINE);
        self.found.begins = self.found.begins.without(Traces::ROUTINE);
        self.statement(word);
        if is(word, b"use") || self.found.begins.has(Traces::ROUTINE) {
            self.found.begins.add(Traces::UNKNOWN);
        }
        self.found.begins.add(before);
    }

    pub fn begin(&mut self, kind: Traces, name: &str) {
        self.found.begins.add(kind);
        self.found.things.push(Thing::Made(kind, name.into()));
    }

    pub fn gone(&mut self, kind: Traces, name: &str) {
        self.found.things.push(Thing::Gone(kind, name.into()));
    }

    pub fn rest(&mut self) {
        self.body(b"", Until::Semicolon);
    }

    /// One statement whose first word is `word`, up to its semicolon.
    pub fn statement(&mut self, word: &'a [u8]) {
        let mut lower = [0; 12];
        let Some(first) = lowered(word, &mut lower) else {
            self.found.begins.add(Traces::UNKNOWN);
            return self.rest();
        };
        match first {
            b"select" | b"insert" | b"update" | b"delete" | b"replace" | b"with" | b"values" | b"table" => {}
            b"begin" | b"commit" | b"rollback" | b"start" | b"savepoint" | b"release" | b"show"
            | b"explain" | b"describe" | b"desc" | b"do" | b"help" | b"kill" | b"analyze" | b"optimize"
            | b"repair" | b"check" | b"checksum" | b"truncate" | b"grant" | b"revoke" | b"install"
            | b"uninstall" | b"reset" | b"purge" | b"binlog" | b"change" | b"stop" | b"cache" | b"signal"
            | b"resignal" | b"import" | b"clone" | b"restart" | b"shutdown" => {
                if first == b"begin" && self.words.skip(b"not") {
                    return self.code();
                }
            }
            // Spec: MariaDB runs these outside of routines, too.
            b"if" | b"case" | b"loop" | b"while" | b"repeat" | b"for" | b"declare" => return self.code(),
            b"set" => return assign::set(self),
            b"use" => {
                let schema = self.dotted();
                self.found.things.push(Thing::Elsewhere(Traces::TEMPORARY, schema.into()));
            }
            b"create" => return self.create(),
            b"alter" | b"rename" => {
                self.found.defines = true;
                self.found.things.push(Thing::Obscured(Traces::TEMPORARY));
            }
            b"drop" => return self.drop(),
            b"call" => {
                self.found.begins.add(Traces::ROUTINE);
                self.found.settings.asked.push("last_insert_id".into());
                return self.variables();
            }
            b"get" | b"load" => return self.variables(),
            b"lock" => self.lock(),
            b"unlock" => self.unlock(),
            b"flush" => return self.flush(),
            b"backup" => self.backup(),
            b"handler" => self.handler(),
            b"xa" => match self.words.peek() {
                Some(Token::Word(word)) if is_any(word, &[b"start", b"begin"]) => {
                    self.begin(Traces::DISTRIBUTED, "xa");
                }
                Some(Token::Word(word)) if is_any(word, &[b"commit", b"rollback"]) => {
                    self.found.things.push(Thing::AllGone(Traces::DISTRIBUTED));
                }
                _ => {}
            },
            b"prepare" => return self.prepare(word),
            // What follows the name of a statement that is run.
            b"using" => return self.variables(),
            b"execute" => return self.execute(),
            b"deallocate" => {
                self.words.skip(b"prepare");
                self.forget();
            }
            _ => self.found.begins.add(Traces::UNKNOWN),
        }
        self.body(word, Until::Semicolon);
    }

    /// The rest of a statement that begins with `first`: what matters wherever it stands. What it stops at stays.
    #[inline]
    pub fn body(&mut self, first: &[u8], until: Until) {
        let (mut depth, mut is_into) = (0_u32, false);
        let mut previous: Option<&'a [u8]> = None;
        // The columns of a table to insert into look like a call.
        let inserts = matches!(first.first(), Some(b'i' | b'I' | b'r' | b'R'))
            && is_any(first, &[b"insert", b"replace"]);
        let mut is_target = inserts;
        while let Some(token) = self.words.next() {
            match token {
                Token::Symbol(b';') => return self.put_back(b";"),
                Token::Symbol(b',') if until == Until::Comma && depth == 0 => return self.put_back(b","),
                Token::Symbol(b'(') => {
                    depth += 1;
                    if let Some(word) = previous {
                        if !std::mem::take(&mut is_target) {
                            self.call(word);
                        }
                    }
                }
                Token::Symbol(b')') => depth = depth.saturating_sub(1),
                Token::Word(word) => {
                    if until == Until::Comma && depth == 0 && is(word, b"for") {
                        return self.put_back(word);
                    }
                    if inserts && word.len() == 9 && is(word, b"returning") {
                        // Measured: MariaDB 10.11 ends the rows without the number that a row got.
                        self.found.settings.asked.push("last_insert_id".into());
                    }
                    is_into = self.word(word, previous);
                    if is_target {
                        is_target = !is_any(word, &[b"values", b"value", b"select", b"set", b"with"]);
                    }
                    previous = Some(word);
                    continue;
                }
                Token::Variable(variable) => {
                    let mut ahead = self.words;
                    let is_assigned = ahead.next() == Some(Token::Symbol(b':'))
                        && ahead.next() == Some(Token::Symbol(b'='));
                    if is_into || is_assigned {
                        self.variable(variable);
                    }
                }
                Token::Symbol(b',') => {}
                _ => is_into = false,
            }
            previous = None;
        }
    }

    /// Give back what was taken last. Why bytes: they are the end of what was read.
    fn put_back(&mut self, last: &[u8]) {
        self.words.put_back(last.len());
    }

    /// Does what follows stand behind `INTO`?
    #[inline]
    fn word(&mut self, word: &'a [u8], previous: Option<&[u8]>) -> bool {
        match (word.len(), word[0] | 0x20) {
            (4, b'i') if is(word, b"into") => return true,
            (19, b's') if is(word, b"sql_calc_found_rows") => self.found.begins.add(Traces::FOUND_ROWS),
            // `NEXT VALUE FOR s`, `PREVIOUS VALUE FOR s`
            (5, b'v') if is(word, b"value") && previous.is_some_and(|word| is(word, b"previous")) => {
                self.found.reads_sequences = true;
            }
            _ => {}
        }
        false
    }

    /// `word` stands before a bracket.
    #[inline]
    fn call(&mut self, word: &'a [u8]) {
        match calls::kind(word) {
            calls::Kind::Known => {}
            calls::Kind::Takes => {
                let name = self.first_literal();
                self.begin(Traces::LOCKS, name);
            }
            calls::Kind::Releases => self.found.ends.add(Traces::LOCKS),
            calls::Kind::ReleasesAll => {
                self.found.ends.add(Traces::LOCKS);
                if !self.found.begins.has(Traces::LOCKS) {
                    self.found.things.push(Thing::AllGone(Traces::LOCKS));
                }
            }
            calls::Kind::LastInserted => {
                if self.words.peek() != Some(Token::Symbol(b')')) {
                    self.found.settings.asked.push("last_insert_id".into());
                }
            }
            calls::Kind::LastOfSequence => self.found.reads_sequences = true,
            calls::Kind::Unknown => self.found.begins.add(Traces::ROUTINE),
        }
    }

    /// The first argument of a call, if it is a plain string; else an empty one.
    fn first_literal(&self) -> &'a str {
        let mut ahead = self.words;
        match (ahead.next(), ahead.next()) {
            (Some(Token::Text(text) | Token::Word(text)), Some(Token::Symbol(b','))) => {
                plain(text).filter(|name| name.len() <= LOCK_NAME_CHARS).unwrap_or_default()
            }
            _ => "",
        }
    }

    /// A user variable may have another value.
    pub fn variable(&mut self, variable: &[u8]) {
        match name(variable) {
            Some(name) => {
                let name: Box<str> = format!("@{name}").into();
                if !self.found.settings.set.contains(&name) {
                    self.found.settings.set.push(name);
                }
            }
            None => self.begin(Traces::VARIABLES, ""),
        }
    }

    /// A statement that may give any variable it names another value.
    fn variables(&mut self) {
        let mut ahead = self.words;
        while let Some(token) = ahead.next() {
            match token {
                Token::Symbol(b';') => break,
                Token::Variable(variable) => self.variable(variable),
                _ => {}
            }
        }
        self.rest();
    }

    /// A name that may have a schema before it, as it is compared; empty: none that we could compare.
    pub fn dotted(&mut self) -> String {
        let mut whole = String::new();
        while let Some(Token::Word(word)) = self.words.peek() {
            self.words.next();
            let Some(part) = name(word) else { return String::new() };
            whole.push_str(&part);
            if !self.words.skip_symbol(b'.') {
                break;
            }
            whole.push('.');
        }
        whole
    }

    fn lock(&mut self) {
        if self.words.skip(b"instance") {
            self.begin(Traces::GLOBAL_LOCKS, "instance");
        } else {
            self.begin(Traces::TABLE_LOCKS, "tables");
        }
    }

    fn unlock(&mut self) {
        if self.words.skip(b"instance") {
            self.gone(Traces::GLOBAL_LOCKS, "instance");
        } else {
            self.found.things.push(Thing::AllGone(Traces::TABLE_LOCKS));
            self.gone(Traces::GLOBAL_LOCKS, "tables");
        }
    }

    /// `FLUSH …`: with a lock, or without.
    fn flush(&mut self) {
        let mut previous: &[u8] = b"";
        while let Some(token) = self.words.next() {
            match token {
                Token::Symbol(b';') => break,
                Token::Word(word) => {
                    let locks = is(previous, b"with") && is(word, b"read");
                    let exports = is(previous, b"for") && is(word, b"export");
                    if locks || exports {
                        self.begin(Traces::GLOBAL_LOCKS, "tables");
                    }
                    previous = word;
                }
                _ => previous = b"",
            }
        }
    }

    /// Spec: MariaDB, "BACKUP STAGE", "BACKUP LOCK".
    fn backup(&mut self) {
        if self.words.skip(b"stage") {
            if self.words.skip(b"end") {
                self.gone(Traces::GLOBAL_LOCKS, "stage");
            } else {
                self.begin(Traces::GLOBAL_LOCKS, "stage");
            }
        } else if self.words.skip(b"unlock") {
            self.gone(Traces::GLOBAL_LOCKS, "backup");
        } else {
            self.begin(Traces::GLOBAL_LOCKS, "backup");
        }
    }

    /// `HANDLER t OPEN [AS a]`, `HANDLER a CLOSE`.
    fn handler(&mut self) {
        let table = self.dotted();
        if self.words.skip(b"open") {
            self.words.skip(b"as");
            let alias = self.dotted();
            let own = table.rsplit('.').next().unwrap_or_default();
            self.begin(Traces::HANDLERS, if alias.is_empty() { own } else { &alias });
        } else if self.words.skip(b"close") {
            self.gone(Traces::HANDLERS, &table);
        }
    }

    /// `PREPARE p FROM …`, of which `first` is the first word.
    fn prepare(&mut self, first: &'a [u8]) {
        let start = self.words.at() - first.len();
        let name = self.dotted();
        self.words.skip(b"from");
        let token = self.words.next();
        let was_text = matches!(token, Some(Token::Text(_)));
        let quoted = match token {
            Some(Token::Text(text) | Token::Word(text)) => text,
            _ => &[],
        };
        let literal = said(quoted);
        // Why also one that we cannot read: it can be said again as it stands.
        let is_literal = literal.is_some() || was_text;
        self.prepared.retain(|(known, _)| *known != name);
        self.prepared.extend(literal.clone().map(|text| (name.clone(), text)));
        let is_end = matches!(self.words.peek(), None | Some(Token::Symbol(b';')));
        let whole = self.words.since(start);
        match std::str::from_utf8(whole) {
            Ok(text) if is_literal && is_end && !name.is_empty() => {
                self.found.begins.add(Traces::PREPARED);
                self.gone(Traces::PREPARED, &name);
                let text = match literal.filter(|_| quoted.starts_with(b"\"")) {
                    // Why: where it is said again, double quotes may be those of names.
                    Some(literal) => {
                        let before = &text[..text.len() - quoted.len()];
                        format!("{before}'{}'", literal.replace('\'', "''"))
                    }
                    None => text.trim().to_owned(),
                };
                self.found.things.push(Thing::Prepared(name.into(), text.into()));
            }
            _ => {
                if !name.is_empty() {
                    self.found.things.push(Thing::Forgotten(name.as_str().into()));
                }
                self.begin(Traces::PREPARED, &name);
            }
        }
        self.rest();
    }

    /// The name of a prepared statement comes next, which is forgotten.
    pub fn forget(&mut self) {
        let name = self.dotted();
        self.found.ends.add(Traces::PREPARED);
        self.gone(Traces::PREPARED, &name);
        self.found.things.push(Thing::Forgotten(name.into()));
    }

    /// `EXECUTE …`, the first word taken.
    fn execute(&mut self) {
        if self.words.skip(b"immediate") {
            let mut ahead = self.words;
            if let Some(Token::Text(text) | Token::Word(text)) = ahead.next() {
                let is_whole = match ahead.peek() {
                    None | Some(Token::Symbol(b';')) => true,
                    Some(Token::Word(word)) => is(word, b"using"),
                    _ => false,
                };
                if let Some(inner) = said(text).filter(|_| is_whole) {
                    let inner = judged(inner.as_bytes(), self.reading);
                    self.found.add(&inner);
                    return self.variables();
                }
                let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                let mut code = Judge::new(inner, self.reading);
                code.code();
                self.found.add(&code.found);
            }
        }
        if let Some(Token::Word(word)) = self.words.peek() {
            let name = name(word).unwrap_or_default();
            if let Some((_, text)) = self.prepared.iter().find(|(known, _)| *known == name) {
                let inner = judged(text.as_bytes(), self.reading);
                self.found.add(&inner);
                return self.variables();
            }
        }
        // Why: what it runs was judged when it was prepared, perhaps long ago.
        self.found.add(&anything());
        self.variables();
    }

    /// What stands here is run, in an order that the words do not show.
    fn code(&mut self) {
        self.found.add(&anything());
        self.found.defines = true;
        let mut previous: &[u8] = b"";
        while let Some(token) = self.words.next() {
            match token {
                Token::Variable(variable) => self.variable(variable),
                Token::Word(word) => {
                    if is(word, b"temporary") && is_any(previous, &[b"create", b"replace"]) {
                        self.begin(Traces::TEMPORARY, "");
                    } else if is(word, b"get_lock") {
                        self.begin(Traces::LOCKS, "");
                    } else if is(word, b"open") {
                        self.begin(Traces::HANDLERS, "");
                    } else if is(word, b"prepare") && !is(previous, b"deallocate") && !is(previous, b"drop") {
                        self.begin(Traces::PREPARED, "");
                    } else if is(previous, b"set") || is(previous, b"session") || is(previous, b"local") {
                        assign::name_set(self, word);
                    }
                    previous = word;
                }
                Token::Symbol(b'.') => {}
                _ => previous = b"",
            }
        }
    }
}

fn lowered<'a>(word: &[u8], into: &'a mut [u8; 12]) -> Option<&'a [u8]> {
    let target = into.get_mut(..word.len())?;
    target.copy_from_slice(word);
    target.make_ascii_lowercase();
    Some(target)
}
