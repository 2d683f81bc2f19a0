//! What a statement's text shows of its effects on the session.
//!
//! Reads words, not grammar: a false alarm costs one question to the server, which alone knows what
//! became of it. What hides in a function's body or a string that is run is not seen. Called by
//! `relay` through `Dialect`, once for a prepared statement and for each simple query.
//!
//! Source: PostgreSQL manual, "SQL Commands", and the functions listed under each kind below.

use super::words::{bare, ends, is, is_made_up_name, plain, starts, unquoted, Token, Words, LONGEST_NAME};
use super::{calls, spec};
use crate::effects::{Effects, Traces};

/// The effects of `text`, which may hold several statements; None: none that outlast a transaction.
pub fn effects(text: &[u8]) -> Option<Box<Effects>> {
    let mut judge = Judge::new(text);
    judge.statements();
    judge.suspect_named();
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

struct Judge<'a> {
    words: Words<'a>,
    found: Effects,
    /// The statement at hand names its server process.
    is_process_named: bool,
    /// Strings that read as names of an application's settings, which a server does not list.
    named: Vec<Box<str>>,
}

impl<'a> Judge<'a> {
    fn new(text: &'a [u8]) -> Self {
        Judge {
            words: Words { rest: text },
            found: Effects::default(),
            is_process_named: false,
            named: Vec::new(),
        }
    }

    fn note_string(&mut self, text: &[u8]) {
        if text.len() <= LONGEST_NAME + 2 && text.contains(&b'.') {
            self.named.extend(plain(text).filter(|text| is_made_up_name(text)));
        }
    }

    /// `SET` stands in a block, and what it sets may be listed by no server.
    fn note_name_set(&mut self) {
        let rest = self.words.rest;
        while let Some(Token::Word(word)) = self.words.next() {
            if !is(word, b"local") && !is(word, b"session") {
                let name = self.dotted(word);
                self.named.extend(name.contains('.').then_some(name));
                break;
            }
        }
        self.words.rest = rest;
    }

    /// Some setting was set whose name is computed, perhaps from a string among these.
    fn suspect_named(&mut self) {
        if self.found.settings.unnamed {
            self.found.settings.set.append(&mut self.named);
        }
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
            b"discard" => self.discard(),
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
                Token::Text(text) => self.note_string(text),
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
            (4.., Some(b'p')) if starts(word, b"pg_") => self.system_name(word, previous),
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

    fn system_name(&mut self, word: &[u8], previous: &[u8]) {
        let may_update: [&[u8]; 3] = [b"update", b"only", b"pg_catalog"];
        if is(word, b"pg_settings") && may_update.iter().any(|word| is(previous, word)) {
            // Spec: "System Views", pg_settings: an UPDATE of it sets, for the session.
            self.found.settings.unnamed = true;
        } else if is(word, b"pg_notify") {
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
        } else if is(word, b"pg_prepared_statements") {
            self.found.lists_statements = true;
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
        let (mut is_plain, mut is_first) = (true, true);
        while let Some(token) = ahead.next() {
            match token {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') if depth <= 1 => break,
                Token::Symbol(b')') => depth -= 1,
                Token::Symbol(b',') if depth == 1 => argument += 1,
                Token::Text(text) if argument == 0 && depth == 1 && name.is_none() => name = plain(text),
                _ if depth == 0 => break,
                // A name that is put together.
                _ => is_plain &= argument > 0,
            }
            if argument == 2 && !matches!(token, Token::Symbol(b',')) {
                // Why none: of `not true` the last word says nothing.
                last = if is_first { Some(token) } else { None };
                is_first = false;
            }
        }
        match (last, name.filter(|_| is_plain)) {
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
            // Spec: "SET SESSION AUTHORIZATION"; the role is none afterwards.
            self.found.settings.set.push("role".into());
            "session_authorization".into()
        } else if is(name, b"seed") {
            self.found.begins.add(Traces::SEED);
            return self.body(b"");
        } else if is_of_transaction(name) || is(name, b"constraints") {
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
            Some(Token::Word(word)) if is(word, b"session") => {
                self.found.settings.reset.push("role".into());
                "session_authorization".into()
            }
            Some(Token::Word(word)) if is_of_transaction(word) => return self.body(b""),
            Some(Token::Word(word)) => self.dotted(word),
            _ => return self.body(b""),
        };
        self.found.settings.reset.push(name);
        self.body(b"");
    }

    /// `DISCARD …`, the first word taken.
    fn discard(&mut self) {
        self.found.ends.add(Traces::PROVABLE);
        if let Some(Token::Word(word)) = self.words.next() {
            self.found.settings.reset_all |= is(word, b"all");
        }
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
                        inner.note_name_set();
                    }
                    let defining: [&[u8]; 4] = [b"create", b"alter", b"drop", b"execute"];
                    inner.found.defines |= defining.iter().any(|name| is(word, name));
                    inner.word(word, previous);
                    previous = word;
                }
                Token::Symbol(symbol) => previous = if symbol == b';' { b";" } else { previous },
                Token::Text(text) => {
                    inner.note_string(text);
                    // It may be run.
                    if let Some(code) = plain(text).filter(|code| code.contains('.')) {
                        inner.code(code.as_bytes());
                    }
                }
                Token::Body(_) => {}
            }
        }
        inner.suspect_named();
        self.found.add(&inner.found);
    }
}

fn is_of_transaction(word: &[u8]) -> bool {
    spec::OF_TRANSACTIONS.iter().any(|name| is(word, name.as_bytes()))
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
        assert_eq!(names("set transaction_timeout = '1s'"), set("transaction_timeout"));
        assert_eq!(names("set transaction_isolation = 'serializable'"), Default::default());
        assert_eq!(names("set session authorization bob").0, "role,session_authorization");
        assert_eq!(names("RESET work_mem"), reset("work_mem"));
        assert_eq!(names("set work_mem to default"), reset("work_mem"));
        assert!(names("begin; reset all; commit").2);
        assert!(names("discard all").2 && !names("discard plans").2);
        let characteristics = "set session characteristics as transaction read only";
        assert_eq!(of(characteristics).settings.set.len(), 3);
    }

    #[test]
    fn settings_whose_names_are_computed_may_be_any_and_those_in_strings() {
        let names = |text: &str| (of(text).settings.set.join(","), of(text).settings.unnamed);
        let calls = [
            "$1, $2, false",
            "'work_' || 'mem', '1MB', false",
            "lower('Q'), f('x'), false",
            "$1, 'x', not true",
        ];
        for call in calls {
            assert_eq!(names(&format!("select set_config({call})")), (String::new(), true), "{call}");
        }
        assert_eq!(names("select set_config(lower('App.Y'), 'v.1', false)"), ("App.Y".to_owned(), true));
        assert_eq!(
            names("do $$ begin set a.b = 1; execute 'set c.d = 2'; end $$"),
            ("c.d,a.b".to_owned(), true)
        );
        let put_together = "do $$ begin perform set_config('a.' || 'b', 'c.d', false); end $$";
        assert_eq!(names(put_together), ("c.d".to_owned(), true));
        assert!(names("update pg_settings set setting = '1MB' where name = 'work_mem'").1);
        assert!(!names("select setting from pg_settings").1);
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
        assert!(of("select name from pg_prepared_statements").lists_statements);
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
    fn a_block_is_looked_into() {
        assert_eq!(effects(b"do $$ begin perform 1; end $$"), None);
        assert_eq!(of("do $x$ begin perform pg_advisory_lock(1); end $x$").begins, Traces::LOCKS);
        assert_eq!(of("do $$ begin set work_mem = '1MB'; end $$"), Effects::anything());
        let anything = Effects { defines: true, ..Effects::anything() };
        assert_eq!(of("do 'begin execute ''x''; end'"), anything);
        assert_eq!(of("explain analyze execute p(1)"), Effects::anything());
    }
}
