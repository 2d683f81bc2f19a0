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
    if text.contains(&b'\\') || text.windows(2).any(|pair| pair == b"/*") {
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
    Effects { begins: Traces::ROUTINE, ..after_unseen_change() }
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

/// Does `text` itself show why a server would say that the state of its session changed, and nothing that may have
/// done so unseen?
pub fn explains_change(text: &[u8], effects: Option<&Effects>) -> bool {
    const READS: [&[u8]; 5] = [b"select", b"show", b"explain", b"describe", b"desc"];
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
    let mut words = Words::usual(text);
    let (mut begins, mut is_explained) = (true, false);
    // Why first: this is asked of every statement, and most read or write rows.
    if effects.is_some_and(|effects| effects.begins.has(Traces::ROUTINE) || effects.settings.unnamed) {
        return false;
    }
    while let Some(token) = words.next() {
        match token {
            Token::Word(word) if begins && is_any(word, &VERBS) => is_explained = true,
            Token::Word(word) if begins && !is_any(word, &READS) => return false,
            Token::Word(_) if begins && !words.rest.contains(&b';') => break,
            _ => {}
        }
        begins = token == Token::Symbol(b';');
    }
    is_explained
}

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
                Token::Word(word) => self.statement(word),
                // A syntax error, or the rest of one.
                _ => self.body(b"", Until::Semicolon),
            }
        }
    }

    pub fn begin(&mut self, kind: Traces, name: &str) {
        self.found.begins.add(kind);
        self.found.things.push(Thing::Made(kind, name.into()));
    }

    fn gone(&mut self, kind: Traces, name: &str) {
        self.found.things.push(Thing::Gone(kind, name.into()));
    }

    fn rest(&mut self) {
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
            b"use" => self.found.things.push(Thing::Obscured(Traces::TEMPORARY)),
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
        let mut is_target = matches!(first.first(), Some(b'i' | b'I' | b'r' | b'R'))
            && is_any(first, &[b"insert", b"replace"]);
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
                    is_into = self.word(word, previous);
                    is_target &= !is_any(word, &[b"values", b"value", b"select", b"set", b"with"]);
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

    /// `CREATE …`, the first word taken.
    fn create(&mut self) {
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

    /// A name that may have a schema before it, as it is compared; empty: none that we could compare.
    fn dotted(&mut self) -> String {
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
    fn drop(&mut self) {
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
        let literal = match token {
            Some(Token::Text(text) | Token::Word(text)) => said(text),
            _ => None,
        };
        // Why also one that we cannot read: it can be said again as it stands.
        let is_literal = literal.is_some() || was_text;
        self.prepared.retain(|(known, _)| *known != name);
        self.prepared.extend(literal.map(|text| (name.clone(), text)));
        let is_end = matches!(self.words.peek(), None | Some(Token::Symbol(b';')));
        let whole = self.words.since(start);
        match std::str::from_utf8(whole) {
            Ok(text) if is_literal && is_end && !name.is_empty() => {
                self.found.begins.add(Traces::PREPARED);
                self.gone(Traces::PREPARED, &name);
                self.found.things.push(Thing::Prepared(name.into(), text.trim().into()));
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
    fn forget(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Effects {
        effects(text.as_bytes()).map(|effects| *effects).unwrap_or_default()
    }

    #[test]
    fn what_the_server_tells_by_itself_has_no_effects() {
        for text in [
            "SELECT c FROM sbtest1 WHERE id=5",
            "INSERT INTO sbtest1 (id, k, c, pad) VALUES (1, 2, 'a', 'b'),(3,4,'c','d')",
            "insert t(a) select count(*), max(b) from u on duplicate key update a=values(a)",
            "replace into `shop`.`t` (a) values (1)",
            "SELECT @@version, @@session.sql_mode, @@global.max_connections, @a, @`b`",
            "SET autocommit=0",
            "SET SESSION wait_timeout = 100, sql_mode = CONCAT(@@sql_mode, ',ANSI'), @@time_zone='+00:00'",
            "SET GLOBAL max_connections = 5, @@global.timestamp = 5",
            "SET PERSIST max_connections = 5",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
            "SET GLOBAL TRANSACTION READ WRITE",
            "SET PASSWORD FOR a = PASSWORD('x')",
            "SET DEFAULT ROLE a TO b",
            "SET sql_select_limit=DEFAULT",
            "begin; insert into t values (1); commit",
            "START TRANSACTION READ ONLY",
            "select 'get_lock(1) @a := 1', \"set @a=1\" # set @b = 1\n, 2 -- set @c = 1\n",
            "select 'it''s \\n', 5 /* @a := 1 */",
            "select a.b, `count`(c), (select 1), 1 in (1, 2) from t join u using (x) where not (a and (b))",
            "select cast(a as decimal(10, 2)), convert(b, char(5)), date_add(c, interval (1) day) from t",
            "with recursive x as (select 1 union all select 2) select * from x",
            "show tables; explain select 1; describe t; kill query 5; flush tables; flush status",
            "select last_insert_id(), row_count(), found_rows(), is_used_lock('a')",
            "grant select on *.* to a; analyze table t; optimize table t; truncate t",
            "create procedure",
            "",
            " ; ",
        ] {
            let found = of(text);
            if text != "create procedure" {
                assert_eq!(effects(text.as_bytes()), None, "{text}");
            } else {
                assert_eq!(found, Effects { defines: true, ..Effects::default() });
            }
        }
    }

    #[test]
    fn variables_are_named_that_may_have_another_value() {
        let set = |text: &str| of(text).settings.set.join(",");
        for (text, names) in [
            ("SET @a = 5", "@a"),
            ("set @A:=1, @`b.c` = @d, @'e' = 2, sql_mode='', @f=(select 1, 2)", "@a,@b.c,@e,@f"),
            ("select @a:=b, @c, @d := @e + 1 from t where @f = 1", "@a,@d"),
            ("SELECT 1, 2 INTO @a, @b FROM t WHERE @c", "@a,@b"),
            ("SET SESSION sql_mode='', @x=1", "@x"),
            ("call p(@a, 5, @b)", "@a,@b"),
            ("GET DIAGNOSTICS @n = NUMBER", "@n"),
            ("load data infile 'x' into table t (a, @b) set c = @b", "@b"),
            ("select 1; select 2; set @a = 1", "@a"),
            ("/*!50701 set @a = 1 */", "@a"),
            ("/*M!100100 set @a = 1 */ /* set @b = 1 */", "@a"),
            ("/*! set*/ @a=1", "@a"),
            ("execute p using @a, @b", "@a,@b"),
            ("EXECUTE IMMEDIATE 'set @a = 1'", "@a"),
            ("do @a := 1", "@a"),
            ("update t set a = (@a := a + 1) order by b", "@a"),
            ("select \"a\\\" @x:=1", "@x"),
            ("select 'a\\' @x:=1", "@x"),
            ("begin not atomic set @a = 1; end", "@a"),
        ] {
            assert_eq!(set(text), names, "{text}");
        }
        assert!(of("set @`ä` = 1").begins.has(Traces::VARIABLES));
    }

    #[test]
    fn traces_are_seen_where_they_begin() {
        let begins = |text: &str| of(text).begins;
        for (text, kind) in [
            ("create temporary table t (a int)", Traces::TEMPORARY),
            ("CREATE OR REPLACE TEMPORARY TABLE t AS SELECT 1", Traces::TEMPORARY),
            ("create /*!40001 temporary */ table t (a int)", Traces::TEMPORARY),
            ("execute immediate 'create temporary table t (a int)'", Traces::TEMPORARY),
            ("create temporary sequence s", Traces::TEMPORARY),
            ("select GET_LOCK ('a', 5)", Traces::LOCKS),
            ("select get_lock(?, 5)", Traces::LOCKS),
            ("select `get_lock`('a', 5)", Traces::LOCKS),
            ("do get_lock('a', 5)", Traces::LOCKS),
            ("LOCK TABLES t READ", Traces::TABLE_LOCKS),
            ("lock instance for backup", Traces::GLOBAL_LOCKS),
            ("flush tables with read lock", Traces::GLOBAL_LOCKS),
            ("FLUSH LOCAL TABLES t, u WITH READ LOCK", Traces::GLOBAL_LOCKS),
            ("flush tables t for export", Traces::GLOBAL_LOCKS),
            ("backup stage start", Traces::GLOBAL_LOCKS),
            ("backup lock t", Traces::GLOBAL_LOCKS),
            ("handler t open", Traces::HANDLERS),
            ("xa start 'a'", Traces::DISTRIBUTED),
            ("xa begin 'a'", Traces::DISTRIBUTED),
            ("prepare p from 'select 1'", Traces::PREPARED),
            ("prepare p from @sql", Traces::PREPARED),
            ("select sql_calc_found_rows * from t limit 1", Traces::FOUND_ROWS),
            ("set transaction isolation level serializable", Traces::NEXT_TRANSACTION),
            ("set @@transaction_isolation = 'SERIALIZABLE'", Traces::NEXT_TRANSACTION),
            ("set timestamp = 5", Traces::CLOCK),
            ("set insert_id = 5", Traces::INSERT_ID),
            ("set rand_seed1 = 5, rand_seed2 = 6", Traces::SEED),
            ("set role r", Traces::ROLE),
            ("set resource group g", Traces::UNKNOWN),
            ("frobnicate everything", Traces::UNKNOWN),
            ("select my_function(1)", Traces::ROUTINE),
            ("select shop.my_function (1)", Traces::ROUTINE),
            ("insert into t (a) values (my_function(1))", Traces::ROUTINE),
            ("call p()", Traces::ROUTINE),
            ("select lastval(s)", Traces::SEQUENCES),
            ("select previous value for s", Traces::SEQUENCES),
            ("select 1; lock tables t write", Traces::TABLE_LOCKS),
        ] {
            assert!(begins(text).has(kind), "{text}: {:?}", of(text));
        }
        assert!(!begins("select nextval(s); select lastval(s)").has(Traces::SEQUENCES));
        assert!(of("select nextval(s), lastval(s)").reads_sequences);
    }

    #[test]
    fn what_is_undone_by_name_is_gone() {
        let left = |texts: &[&str]| {
            let mut things = crate::effects::Things::default();
            for text in texts {
                things.note(&of(text).things, false);
            }
            things.kinds().names().collect::<Vec<_>>().join(",")
        };
        for (texts, kinds) in [
            (&["create temporary table a (b int)", "drop table A"][..], ""),
            (
                &["create temporary table if not exists `a` (b int)", "drop temporary table if exists b, a"],
                "",
            ),
            (&["create temporary table a (b int)", "drop table b"], "temporary object"),
            (&["create temporary table a (b int)", "use other", "drop table a"], "temporary object"),
            (
                &["create temporary table a (b int)", "alter table a rename b", "drop table a"],
                "temporary object",
            ),
            (&["create temporary table s.a (b int)", "use other", "drop table s.a"], "temporary object"),
            (&["lock tables a read", "unlock tables"], ""),
            (&["flush tables with read lock; lock tables a read", "UNLOCK TABLES"], ""),
            (&["lock instance for backup", "unlock tables"], "global lock"),
            (&["lock instance for backup", "unlock instance"], ""),
            (&["backup lock t", "backup unlock"], ""),
            (&["backup stage start", "backup stage flush", "backup stage end"], ""),
            (&["handler a open as b", "handler b close"], ""),
            (&["handler s.a open", "handler b open", "handler a close"], "handler"),
            (&["xa start 'x'", "xa end 'x'", "xa prepare 'x'"], "xa transaction"),
            (&["xa start 'x'", "xa end 'x'", "xa commit 'x' one phase"], ""),
            (&["prepare p from @a", "deallocate prepare P"], ""),
            (&["prepare p from @a", "drop prepare p"], ""),
            (&["prepare p from @a", "prepare p from 'select 1'"], ""),
            (&["set timestamp=5", "set timestamp=default"], ""),
            (&["select get_lock('a', 1)", "select release_all_locks()"], ""),
            (&["select get_lock('a', 1), release_all_locks()"], "advisory lock"),
        ] {
            assert_eq!(left(texts), kinds, "{texts:?}");
        }
        let mut failed = crate::effects::Things::default();
        failed.note(&of("create temporary table a (b int); drop table a").things, true);
        assert_eq!(failed.kinds(), Traces::TEMPORARY);
    }

    #[test]
    fn statements_that_can_be_said_again_are_kept_whole() {
        let things = of("select 1; PREPARE `P` FROM 'select ?' ; select 2").things;
        assert_eq!(things[1], Thing::Prepared("p".into(), "PREPARE `P` FROM 'select ?'".into()));
        assert!(of("prepare p from concat('a', 'b')")
            .things
            .contains(&Thing::Made(Traces::PREPARED, "p".into())));
        assert!(of("deallocate prepare p").things.contains(&Thing::Forgotten("p".into())));
    }

    #[test]
    fn values_that_the_tracker_does_not_tell_are_asked_for() {
        let asked = |text: &str| of(text).settings.asked.join(",");
        for (text, names) in [
            ("SET NAMES utf8mb4", "collation_connection"),
            ("set names 'latin1' collate 'latin1_bin', autocommit=0", "collation_connection"),
            ("SET CHARACTER SET utf8", "collation_connection"),
            ("set session character_set_connection=latin1, time_zone='UTC'", "collation_connection"),
            ("set autocommit=0, names utf8", "collation_connection"),
            ("set collation_server=utf8mb4_bin", "collation_server"),
            (
                "set statement max_statement_time=1, sort_buffer_size=2 for select 1",
                "max_statement_time,sort_buffer_size",
            ),
            ("set last_insert_id=7", "last_insert_id"),
            ("set @@identity=7", "last_insert_id"),
            ("select last_insert_id(5)", "last_insert_id"),
            ("update t set id=last_insert_id(id+1)", "last_insert_id"),
            ("call p", "last_insert_id"),
            ("set autocommit=1, session_track_schema=0, sql_mode=''", "autocommit,sql_mode"),
        ] {
            assert_eq!(asked(text), names, "{text}");
        }
        assert!(of("set autocommit=1, session_track_schema=0").blinds);
        assert!(!of("set session_track_gtids=OWN_GTID").blinds);
        assert!(of("set statement sort_buffer_size=1 for select @a:=1").settings.set == ["@a".into()]);
    }

    #[test]
    fn what_a_routine_would_do_it_does_not_do_when_it_is_made() {
        let defines = Effects { defines: true, ..Effects::default() };
        for text in [
            "create procedure p() begin set @a=1; if x then create temporary table t (a int); end if; end",
            "CREATE DEFINER=`a`@`%` FUNCTION f() RETURNS int BEGIN case a when 1 then set @b=1; end case; RETURN get_lock('a',1); END; ",
            "create trigger t before insert on u for each row set @a = new.b",
            "create table t (a int, key (a)); alter table t add b int; drop view v",
            "create index i on t (a)",
        ] {
            let mut found = of(text);
            found.things.retain(|thing| !matches!(thing, Thing::Obscured(_)));
            assert_eq!(found, defines, "{text}");
        }
        assert_eq!(of("create procedure p() begin set @a=1; end; set @b=1").settings.set, ["@b".into()]);
    }
}
