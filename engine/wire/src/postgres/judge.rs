//! What a statement's text shows of its effects on the session.
//!
//! Reads words, not grammar: a false alarm costs one question to the server, which alone knows what
//! became of it. What hides in a function's body or a string that is run is not seen. Called by
//! `relay` through `Dialect`, once for a prepared statement and for each simple query.
//!
//! Source: PostgreSQL manual, "SQL Commands", and the functions listed under each kind below.

use super::calls;
use super::words::{bare, ends, is, plain, starts, unquoted, Token, Words};
use crate::effects::{Effects, Traces};

/// The effects of `text`, which may hold several statements; None: none that outlast a transaction.
pub fn effects(text: &[u8]) -> Option<Box<Effects>> {
    let mut judge = Judge::new(text);
    judge.statements();
    if judge.found.reads_sequences && !calls::advances_first(text) {
        judge.found.begins.add(Traces::SEQUENCES);
    }
    (!judge.found.is_empty()).then(|| Box::new(judge.found))
}

/// The first word of `text`, behind whatever brackets and comments.
pub fn first_word(text: &[u8]) -> Option<&[u8]> {
    let mut words = Words { rest: text };
    std::iter::from_fn(|| words.next()).find_map(|token| match token {
        Token::Symbol(b'(' | b';') => None,
        Token::Word(word) => Some(Some(word)),
        _ => Some(None),
    })?
}

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

struct Judge<'a> {
    words: Words<'a>,
    found: Effects,
    /// The statement at hand names its server process.
    is_process_named: bool,
}

impl<'a> Judge<'a> {
    fn new(text: &'a [u8]) -> Self {
        Judge { words: Words { rest: text }, found: Effects::default(), is_process_named: false }
    }

    fn statements(&mut self) {
        while let Some(token) = self.words.next() {
            match token {
                Token::Symbol(b';' | b'(') => {}
                Token::Word(word) => self.statement(word),
                // A syntax error, or the rest of one.
                _ => self.body(b""),
            }
        }
    }

    /// One statement whose first word is `word`, up to its semicolon.
    fn statement(&mut self, word: &'a [u8]) {
        let mut lower = [0; 12];
        let Some(first) = lowered(word, &mut lower) else {
            self.found.begins.add(Traces::UNKNOWN);
            return self.body(b"");
        };
        match first {
            b"select" | b"insert" | b"update" | b"delete" | b"with" | b"values" | b"table" | b"merge"
            | b"copy" | b"declare" | b"explain" => {}
            b"create" | b"alter" => self.define(word),
            b"call" | b"import" => self.found.defines = true,
            b"begin" | b"start" | b"commit" | b"end" | b"rollback" | b"abort" | b"savepoint" | b"release"
            | b"show" | b"fetch" | b"move" | b"grant" | b"revoke" | b"comment" | b"truncate" | b"vacuum"
            | b"analyze" | b"analyse" | b"reindex" | b"cluster" | b"refresh" | b"lock" | b"security"
            | b"checkpoint" | b"reassign" | b"repack" => {}
            b"set" => return self.set(),
            b"reset" => return self.reset(),
            b"discard" => self.found.ends.add(Traces::PROVABLE),
            b"notify" => self.found.notifies = true,
            b"listen" => self.found.begins.add(Traces::LISTENS),
            b"unlisten" => self.found.ends.add(Traces::LISTENS),
            b"prepare" => return self.prepare(),
            b"deallocate" => self.found.ends.add(Traces::PREPARED),
            // Why: what it runs was judged when it was prepared, perhaps long ago.
            b"execute" => self.found.add(&Effects::anything()),
            b"close" => self.found.ends.add(Traces::CURSORS),
            b"drop" => {
                self.found.ends.add(Traces::TEMPORARY);
                self.define(word);
            }
            b"load" => self.found.begins.add(Traces::LOADED),
            b"do" => return self.block(),
            _ => self.found.begins.add(Traces::UNKNOWN),
        }
        self.body(word);
    }

    /// The rest of a statement that begins with `first`: functions and words that matter wherever they stand.
    fn body(&mut self, first: &'a [u8]) {
        let rest = self.words.rest;
        let mut previous = first;
        while let Some(token) = self.words.next() {
            match token {
                Token::Symbol(b';') => break,
                Token::Word(word) => {
                    self.word(word, previous);
                    previous = word;
                }
                _ => {}
            }
        }
        // Why here: only the whole statement shows whether the number leaves it.
        if std::mem::take(&mut self.is_process_named) && calls::hands_out_process(first, rest) {
            self.found.begins.add(Traces::PROCESS);
        }
    }

    #[inline]
    fn word(&mut self, word: &[u8], previous: &[u8]) {
        let word = bare(word);
        match (word.len(), word[..word.len().min(1)].first().map(u8::to_ascii_lowercase)) {
            (10, Some(b's')) if is(word, b"set_config") => self.set_config(),
            (4.., Some(b'p')) if starts(word, b"pg_") => self.system_name(word),
            (7, Some(b'l' | b'c')) if is(word, b"lastval") || is(word, b"currval") => {
                self.found.reads_sequences = true;
            }
            (7, Some(b's')) if is(word, b"setseed") => self.found.begins.add(Traces::SEED),
            // Spec: pg_trgm sets by its function what it reads as a setting.
            (9, Some(b's')) if is(word, b"set_limit") => {
                self.found.settings.set.push("pg_trgm.similarity_threshold".into());
            }
            (4 | 9, Some(b't')) if is(word, b"temp") || is(word, b"temporary") => {
                let may_follow: [&[u8]; 5] = [b"create", b"replace", b"global", b"local", b"into"];
                if may_follow.iter().any(|word| is(previous, word)) {
                    self.found.begins.add(Traces::TEMPORARY);
                }
            }
            (4, Some(b'h')) if is(word, b"hold") && is(previous, b"with") => {
                self.found.begins.add(Traces::CURSORS);
            }
            (7, Some(b'e')) if is(word, b"execute") => self.found.add(&Effects::anything()),
            (14.., Some(b'd')) if starts(word, b"dblink_connect") => {
                self.found.begins.add(Traces::UNKNOWN);
            }
            _ => {}
        }
    }

    fn system_name(&mut self, word: &[u8]) {
        if is(word, b"pg_notify") {
            self.found.notifies = true;
        } else if is(word, b"pg_listening_channels") {
            // Only asked for; but its server must listen to answer.
            self.found.ends.add(Traces::LISTENS);
        } else if starts(word, b"pg_temp") || is(word, b"pg_my_temp_schema") {
            self.found.begins.add(Traces::TEMPORARY);
        } else if starts(word, b"pg_advisory_unlock") {
            self.found.ends.add(Traces::LOCKS);
        } else if starts(word, b"pg_advisory_lock") || starts(word, b"pg_try_advisory_lock") {
            self.found.begins.add(Traces::LOCKS);
        } else if is(word, b"pg_backup_start")
            || is(word, b"pg_start_backup")
            || is(word, b"pg_replication_origin_session_setup")
            || word.len() > 17 && ends(word, b"_replication_slot") && calls::holds_true(self.words.rest)
        {
            self.found.begins.add(Traces::REPLICATION);
        } else if is(word, b"pg_backend_pid") {
            self.is_process_named = true;
        }
    }

    /// `CREATE`, `ALTER` or `DROP`, which `first` says; looks ahead only.
    ///
    /// Spec: DROP DATABASE, ALTER DATABASE … RENAME and SET TABLESPACE and the template of CREATE DATABASE
    /// want nobody else in that database.
    fn define(&mut self, first: &[u8]) {
        self.found.defines = true;
        let mut ahead = Words { rest: self.words.rest };
        let mut next = || loop {
            match ahead.next() {
                Some(Token::Word(word)) => return Some(word),
                Some(Token::Symbol(b'=')) => {}
                _ => return None,
            }
        };
        if !next().is_some_and(|word| is(word, b"database")) {
            return;
        }
        let Some(mut name) = next() else { return };
        if is(first, b"drop") && is(name, b"if") {
            next();
            name = next().unwrap_or(name);
        }
        let mut rest = std::iter::from_fn(next);
        let vacated = if is(first, b"drop") {
            Some(name)
        } else if is(first, b"alter") {
            rest.any(|word| is(word, b"rename") || is(word, b"tablespace")).then_some(name)
        } else {
            Some(rest.find(|word| is(word, b"template")).and_then(|_| rest.next()).unwrap_or(b"template1"))
        };
        self.found.vacates.extend(vacated.map(|name| unquoted(name).into()));
    }

    /// `set_config('name', value, is_local)`.
    fn set_config(&mut self) {
        let mut ahead = Words { rest: self.words.rest };
        let mut name = None;
        let (mut depth, mut argument, mut last): (u32, u32, Option<Token<'a>>) = (0, 0, None);
        while let Some(token) = ahead.next() {
            match token {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') if depth <= 1 => break,
                Token::Symbol(b')') => depth -= 1,
                Token::Symbol(b',') if depth == 1 => argument += 1,
                Token::Text(text) if argument == 0 && depth == 1 => name = plain(text),
                _ if depth == 0 => break,
                _ => {}
            }
            if argument == 2 && !matches!(token, Token::Symbol(_)) {
                last = Some(token);
            }
        }
        match (last, name) {
            (Some(Token::Word(word)), Some(name)) if is(word, b"true") && !is(name.as_bytes(), b"seed") => {}
            (_, Some(name)) if is(name.as_bytes(), b"seed") => self.found.begins.add(Traces::SEED),
            (_, Some(name)) => self.found.settings.set.push(name),
            _ => self.found.settings.unnamed = true,
        }
    }

    /// `SET …`, the first word taken.
    fn set(&mut self) {
        let mut name = match self.words.next() {
            Some(Token::Word(word)) => word,
            _ => return self.body(b""),
        };
        if is(name, b"local") {
            // Spec: a seed is no value that could be taken back.
            let next = Words { rest: self.words.rest }.next();
            if matches!(next, Some(Token::Word(word)) if is(word, b"seed")) {
                self.found.begins.add(Traces::SEED);
            }
            return self.body(b"");
        }
        if is(name, b"transaction") {
            return self.body(b"");
        }
        if is(name, b"session") {
            match self.words.next() {
                Some(Token::Word(word)) if is(word, b"characteristics") => {
                    let kinds = ["isolation", "read_only", "deferrable"];
                    let names = kinds.map(|kind| format!("default_transaction_{kind}").into());
                    self.found.settings.set.extend(names);
                    return self.body(b"");
                }
                Some(Token::Word(word)) => name = word,
                _ => return self.body(b""),
            }
        }
        let name: Box<str> = if is(name, b"names") {
            "client_encoding".into()
        } else if is(name, b"time") {
            "TimeZone".into()
        } else if is(name, b"schema") {
            "search_path".into()
        } else if is(name, b"xml") {
            "xmloption".into()
        } else if is(name, b"authorization") {
            "session_authorization".into()
        } else if is(name, b"seed") {
            self.found.begins.add(Traces::SEED);
            return self.body(b"");
        } else if starts(name, b"transaction_") || is(name, b"constraints") {
            return self.body(b"");
        } else {
            self.dotted(name)
        };
        // Spec: `SET x TO DEFAULT` is `RESET x`.
        let mut ahead = Words { rest: self.words.rest };
        let is_default = std::iter::from_fn(|| ahead.next())
            .take_while(|token| !matches!(token, Token::Symbol(b';')))
            .take(3)
            .any(|token| matches!(token, Token::Word(word) if is(word, b"default")));
        let settings = &mut self.found.settings;
        if is_default { &mut settings.reset } else { &mut settings.set }.push(name);
        self.body(b"");
    }

    /// `RESET …`, the first word taken.
    fn reset(&mut self) {
        let name: Box<str> = match self.words.next() {
            Some(Token::Word(word)) if is(word, b"all") => {
                self.found.settings.reset_all = true;
                return self.body(b"");
            }
            Some(Token::Word(word)) if is(word, b"time") => "TimeZone".into(),
            Some(Token::Word(word)) if is(word, b"session") => "session_authorization".into(),
            Some(Token::Word(word)) if starts(word, b"transaction_") => return self.body(b""),
            Some(Token::Word(word)) => self.dotted(word),
            _ => return self.body(b""),
        };
        self.found.settings.reset.push(name);
        self.body(b"");
    }

    /// A setting's name that begins with `first` and may go on behind dots.
    fn dotted(&mut self, first: &[u8]) -> Box<str> {
        let mut name = unquoted(first);
        while let Some(rest) = self.words.rest.strip_prefix(b".") {
            self.words.rest = rest;
            let Some(Token::Word(part)) = self.words.next() else { break };
            name.push('.');
            name.push_str(&unquoted(part));
        }
        name.into()
    }

    /// `PREPARE TRANSACTION` ends a transaction; any other makes a statement.
    fn prepare(&mut self) {
        match self.words.next() {
            Some(Token::Word(word)) if is(word, b"transaction") => {}
            _ => self.found.begins.add(Traces::PREPARED),
        }
        self.body(b"");
    }

    /// `DO`: what stands in its block is run.
    fn block(&mut self) {
        while let Some(token) = self.words.next() {
            match token {
                Token::Symbol(b';') => return,
                Token::Body(body) => self.code(body),
                Token::Text(text) => match plain(text) {
                    Some(code) => self.code(code.as_bytes()),
                    None => self.found.add(&Effects::anything()),
                },
                _ => {}
            }
        }
    }

    fn code(&mut self, code: &[u8]) {
        let mut inner = Judge::new(code);
        let mut previous: &[u8] = b";";
        while let Some(token) = inner.words.next() {
            match token {
                Token::Word(word) => {
                    // Why any `set`: where a statement begins in a block is a matter of its language.
                    if is(word, b"set") || is(word, b"reset") || is(word, b"listen") || is(word, b"load") {
                        inner.found.add(&Effects::anything());
                    }
                    let defining: [&[u8]; 4] = [b"create", b"alter", b"drop", b"execute"];
                    inner.found.defines |= defining.iter().any(|name| is(word, name));
                    inner.word(word, previous);
                    previous = word;
                }
                Token::Symbol(symbol) => previous = if symbol == b';' { b";" } else { previous },
                _ => {}
            }
        }
        self.found.add(&inner.found);
    }
}

fn lowered<'a>(word: &[u8], into: &'a mut [u8; 12]) -> Option<&'a [u8]> {
    let target = into.get_mut(..word.len())?;
    target.copy_from_slice(word);
    target.make_ascii_lowercase();
    Some(target)
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

    fn of(text: &str) -> Effects {
        effects(text.as_bytes()).map(|effects| *effects).unwrap_or_default()
    }

    #[test]
    fn ordinary_statements_have_no_effects() {
        for text in [
            "SELECT abalance FROM pgbench_accounts WHERE aid = 5",
            "select 'set_config(1)', \"temp\", $1 -- pg_advisory_lock()\n, /* listen; */ 2",
            "insert into tempo values (1); begin; commit; rollback to savepoint a",
            "SET LOCAL work_mem = '1MB'",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "select set_config('a.b', $1, true)",
            "select pg_advisory_xact_lock(5), pg_try_advisory_xact_lock(6)",
            "prepare transaction 'x'; commit prepared 'x'",
            "explain select 1",
            "select pg_create_physical_replication_slot('a'), nextval('s'), setval('s', 1)",
            "select pg_drop_replication_slot('a')",
            "",
            " ; ",
        ] {
            assert_eq!(effects(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn settings_are_named_as_the_server_knows_them() {
        let names = |text: &str| {
            let found = of(text).settings;
            (found.set.join(","), found.reset.join(","), found.reset_all, found.unnamed)
        };
        let set = |name: &str| (name.to_owned(), String::new(), false, false);
        let reset = |name: &str| (String::new(), name.to_owned(), false, false);
        assert_eq!(names("SET work_mem TO '4MB'"), set("work_mem"));
        assert_eq!(names("set session Search_Path = a, b"), set("search_path"));
        assert_eq!(names("set app.\"User Id\" = 5"), set("app.User Id"));
        assert_eq!(names("select set_config('a.b', current_user, false)"), set("a.b"));
        assert_eq!(names("select set_config('a.b', f(1, 2), $1)"), set("a.b"));
        assert_eq!(names("select set_limit(0.5)"), set("pg_trgm.similarity_threshold"));
        assert_eq!(names("SET TIME ZONE 'UTC'"), set("TimeZone"));
        assert_eq!(names("SET NAMES 'latin1'"), set("client_encoding"));
        assert_eq!(names("set role bob"), set("role"));
        assert!(names("select set_config($1, $2, false)").3);
        assert_eq!(names("RESET work_mem"), reset("work_mem"));
        assert_eq!(names("set work_mem to default"), reset("work_mem"));
        assert!(names("begin; reset all; commit").2);
        let characteristics = "set session characteristics as transaction read only";
        assert_eq!(of(characteristics).settings.set.len(), 3);
    }

    #[test]
    fn traces_are_seen_where_they_begin_and_where_they_may_end() {
        let begins = |text: &str| of(text).begins;
        assert_eq!(begins("select pg_advisory_lock(1)"), Traces::LOCKS);
        assert_eq!(begins("SELECT pg_catalog.PG_TRY_ADVISORY_LOCK_SHARED(1, 2)"), Traces::LOCKS);
        assert_eq!(begins("create temp table t ()"), Traces::TEMPORARY);
        assert_eq!(begins("create or replace temporary view v as select 1"), Traces::TEMPORARY);
        assert_eq!(begins("CREATE LOCAL TEMP SEQUENCE s"), Traces::TEMPORARY);
        assert_eq!(begins("select 1 into temp t"), Traces::TEMPORARY);
        assert_eq!(begins("create table pg_temp.t ()"), Traces::TEMPORARY);
        assert_eq!(begins("declare c scroll cursor with hold for select 1"), Traces::CURSORS);
        assert_eq!(begins("listen a"), Traces::LISTENS);
        assert_eq!(begins("prepare p as select 1"), Traces::PREPARED);
        assert_eq!(begins("load 'auto_explain'"), Traces::LOADED);
        assert_eq!(begins("frobnicate everything"), Traces::UNKNOWN);
        assert!(of("notify a, 'b'").notifies && of("select pg_catalog.pg_notify('a', $1)").notifies);
        assert!(!of("listen a").notifies);
        assert_eq!(of("select * from pg_listening_channels()").ends, Traces::LISTENS);
        for seed in ["select setseed(0.5)", "set seed = 0.5", "set local seed to 0.5", "SET SESSION seed = 1"]
        {
            assert_eq!(begins(seed), Traces::SEED, "{seed}");
        }
        assert_eq!(begins("select set_config('seed', '0.5', true)"), Traces::SEED);
        assert_eq!(begins("select pg_backup_start('a')"), Traces::REPLICATION);
        assert_eq!(begins("select pg_replication_origin_session_setup('a')"), Traces::REPLICATION);
        let slot = "select pg_create_logical_replication_slot('a', 'b', temporary => true)";
        assert_eq!(begins(slot), Traces::REPLICATION);
        assert_eq!(of("select pg_advisory_unlock(1)").ends, Traces::LOCKS);
        assert_eq!(of("drop table t").ends, Traces::TEMPORARY);
        assert_eq!(of("close all").ends, Traces::CURSORS);
        assert_eq!(of("discard all").ends, Traces::PROVABLE);
    }

    #[test]
    fn definitions_are_seen_and_who_must_leave_for_them() {
        let defines = Effects { defines: true, ..Effects::default() };
        for text in [
            "create table t (temp int, hold text); alter table t add set_config_x int",
            "create function f() returns void language sql as $$ select pg_advisory_lock(1) $$",
            "call f()",
            "do $$ begin create table t (); end $$",
        ] {
            assert_eq!(of(text), defines, "{text}");
        }
        assert!(of("drop table t").defines && of("do $$ begin execute 'x'; end $$").defines);
        assert!(!of("execute p").defines);
        let vacates = |text: &str| of(text).vacates.join(",");
        assert_eq!(vacates("drop database Shop; select 1"), "shop");
        assert_eq!(vacates("DROP DATABASE IF EXISTS \"Shop\" (force)"), "Shop");
        assert_eq!(vacates("alter database shop rename to store"), "shop");
        assert_eq!(vacates("alter database shop set work_mem = '1MB'"), "");
        assert_eq!(vacates("create database shop"), "template1");
        assert_eq!(vacates("create database shop owner app template = store"), "store");
        assert_eq!(vacates("drop table database"), "");
    }

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

    #[test]
    fn a_block_is_looked_into() {
        assert_eq!(effects(b"do $$ begin perform 1; end $$"), None);
        assert_eq!(of("do $x$ begin perform pg_advisory_lock(1); end $x$").begins, Traces::LOCKS);
        assert_eq!(of("do $$ begin set work_mem = '1MB'; end $$"), Effects::anything());
        let anything = Effects { defines: true, ..Effects::anything() };
        assert_eq!(of("do 'begin execute ''x''; end'"), anything);
        assert_eq!(of("explain analyze execute p(1)"), Effects::anything());
    }
}
