//! What becomes of the result of a call inside a statement, as far as its words show.
//!
//! Reads one statement at a time and only where `judge` has met the name of such a function: this is
//! no part of any hot path. Called by `judge`.
//!
//! Source: PostgreSQL manual, "System Administration Functions", "Session Information Functions".

use crate::effects::{Effects, Stateful};

use super::words::{bare, is, starts, Token, Words};

/// Functions whose result is, or holds, what they are given.
const PASSING: [&[u8]; 26] = [
    b"cast",
    b"coalesce",
    b"greatest",
    b"least",
    b"nullif",
    b"max",
    b"min",
    b"sum",
    b"avg",
    b"abs",
    b"row",
    b"array_agg",
    b"string_agg",
    b"row_to_json",
    b"to_json",
    b"to_jsonb",
    b"concat",
    b"concat_ws",
    b"format",
    b"to_char",
    b"text",
    b"int4",
    b"int8",
    b"unnest",
    b"lpad",
    b"quote_literal",
];

/// Words that may stand before a parenthesis without being a function.
const NO_FUNCTION: [&[u8]; 33] = [
    b"select",
    b"from",
    b"as",
    b"values",
    b"where",
    b"on",
    b"and",
    b"or",
    b"not",
    b"union",
    b"except",
    b"intersect",
    b"all",
    b"any",
    b"some",
    b"distinct",
    b"returning",
    b"then",
    b"when",
    b"else",
    b"case",
    b"join",
    b"with",
    b"using",
    b"by",
    b"having",
    b"limit",
    b"lateral",
    b"over",
    b"filter",
    b"set",
    b"into",
    b"materialized",
];

/// May the number of the server process, which `pg_backend_pid()` gives, outlast the statement that begins
/// with `first` and goes on with `rest`? Where it is compared, or given to a function that acts upon a
/// process, nothing of it leaves.
pub(super) fn hands_out_process(first: &[u8], rest: &[u8]) -> bool {
    let keeps: [&[u8]; 6] = [b"create", b"alter", b"comment", b"grant", b"revoke", b"explain"];
    if keeps.iter().any(|word| is(first, word)) {
        return false;
    }
    let mut words = Words { rest };
    // Of each open parenthesis: is what stands in it used up by what stands before it?
    let mut used_up: Vec<bool> = Vec::new();
    let (mut before, mut before_that): (Option<Token<'_>>, Option<Token<'_>>) = (None, None);
    let mut is_assigning = false;
    while let Some(token) = words.next() {
        match token {
            Token::Symbol(b';') => break,
            Token::Symbol(b'(') => {
                let outer = used_up.last() == Some(&true);
                used_up.push(outer || uses_up(before, before_that));
            }
            Token::Symbol(b')') => drop(used_up.pop()),
            // A schema, and the dot behind it, are no part of the matter.
            Token::Word(word) if is(word, b"pg_catalog") => continue,
            Token::Symbol(b'.') => continue,
            Token::Word(word) if is(word, b"pg_backend_pid") => {
                let is_used = used_up.last() == Some(&true)
                    || !is_assigning && is_comparison(before)
                    || is_compared_next(words.rest);
                if !is_used {
                    return true;
                }
            }
            Token::Word(word) => {
                if is(word, b"set") {
                    is_assigning = true;
                } else if [&b"where"[..], b"from", b"returning", b"when"].iter().any(|end| is(word, end)) {
                    is_assigning = false;
                }
            }
            _ => {}
        }
        before_that = before;
        before = Some(token);
    }
    false
}

fn is_comparison(token: Option<Token<'_>>) -> bool {
    matches!(token, Some(Token::Symbol(b'=' | b'<' | b'>')))
}

/// Is what stands in a parenthesis behind these two tokens only looked at?
fn uses_up(before: Option<Token<'_>>, before_that: Option<Token<'_>>) -> bool {
    let Some(Token::Word(word)) = before else { return false };
    if is(word, b"in") || is(word, b"exists") {
        return true;
    }
    if is(word, b"any") || is(word, b"all") || is(word, b"some") {
        return is_comparison(before_that);
    }
    let passes_on = |names: &[&[u8]]| names.iter().any(|name| is(word, name));
    !passes_on(&NO_FUNCTION) && !passes_on(&PASSING) && !starts(word, b"json")
}

/// Is a call, whose parentheses begin `rest`, compared with what comes behind it?
fn is_compared_next(rest: &[u8]) -> bool {
    let mut words = Words { rest };
    let (mut depth, mut is_cast) = (0, false);
    while let Some(token) = words.next() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            Token::Symbol(b':') => is_cast = true,
            Token::Symbol(b'.') => {}
            Token::Symbol(b'=' | b'<' | b'>' | b'!') => return true,
            Token::Word(_) if is_cast => is_cast = false,
            Token::Word(word) => {
                return [&b"in"[..], b"not", b"is", b"between"].iter().any(|test| is(word, test));
            }
            _ => return false,
        }
    }
    false
}

/// Does `text` advance a sequence, as far as its words show, in a statement before the first that asks
/// for what one last gave?
pub(super) fn advances_first(text: &[u8]) -> bool {
    let mut words = Words { rest: text };
    let (mut before, mut here) = (false, false);
    while let Some(token) = words.next() {
        match token {
            Token::Symbol(b';') => before |= std::mem::take(&mut here),
            Token::Word(word) if is(word, b"lastval") || is(word, b"currval") => return before,
            Token::Word(word) if is(word, b"nextval") => before = true,
            Token::Word(word) => here |= is_advancing(word),
            _ => {}
        }
    }
    before
}

/// Statements in which a sequence may give its next number unseen.
fn is_advancing(word: &[u8]) -> bool {
    [&b"insert"[..], b"copy", b"merge", b"call"].iter().any(|verb| is(word, verb))
}

/// May `text` advance a sequence, as far as its words show?
pub fn advances(text: &[u8]) -> bool {
    let mut words = Words { rest: text };
    std::iter::from_fn(|| words.next()).any(|token| match token {
        Token::Word(word) => is_advancing(word) || is(word, b"nextval") || is(word, b"setval"),
        _ => false,
    })
}

/// The effects of those of `stateful` that `text` calls or names.
pub fn effects_of_stateful(text: &[u8], stateful: &[Stateful]) -> Option<Effects> {
    let mut words = Words { rest: text };
    let mut found: Option<Effects> = None;
    let mut is_block = false;
    // The name before a dot, then the dot.
    let (mut schema, mut before): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    while let Some(token) = words.next() {
        match token {
            Token::Word(word) => {
                is_block |= is(word, b"do");
                let name = bare(word);
                let is_called = || matches!(Words { rest: words.rest }.next(), Some(Token::Symbol(b'(')));
                for one in stateful.iter().filter(|one| one.is_meant(schema, name, is_called)) {
                    found.get_or_insert_with(Effects::default).add(&one.effects);
                }
                (schema, before) = (None, Some(name));
            }
            Token::Symbol(b'.') => schema = before.take(),
            Token::Body(body) if is_block => {
                if let Some(effects) = effects_of_stateful(body, stateful) {
                    found.get_or_insert_with(Effects::default).add(&effects);
                }
            }
            _ => (schema, before) = (None, None),
        }
    }
    found
}

/// Does `true` stand among the arguments that begin `rest`?
pub(super) fn holds_true(rest: &[u8]) -> bool {
    let mut words = Words { rest };
    let mut depth = 0;
    while let Some(token) = words.next() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') if depth <= 1 => return false,
            Token::Symbol(b')') => depth -= 1,
            Token::Word(word) if is(word, b"true") => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{advances, effects_of_stateful};
    use crate::effects::{Stateful, Traces};
    use crate::postgres::judge::effects;

    fn begins(text: &str) -> Traces {
        effects(text.as_bytes()).map(|effects| effects.begins).unwrap_or_default()
    }

    #[test]
    fn a_number_that_leaves_its_statement_is_handed_out() {
        for text in [
            "select pg_backend_pid()",
            "SELECT pg_catalog.PG_BACKEND_PID() AS pid",
            "(select pg_backend_pid())",
            "select 1, (select pg_backend_pid()), 2",
            "select pg_backend_pid() as pid from t where a = 1",
            "select coalesce(pg_backend_pid(), 0), x = 1",
            "select cast(pg_backend_pid() as text)",
            "select format('%s', pg_backend_pid())",
            "select json_build_object('pid', pg_backend_pid())",
            "select 'pid ' || pg_backend_pid()::text",
            "select * from pg_backend_pid()",
            "with a (pid) as (select pg_backend_pid()) select * from a",
            "select 1 union all (select pg_backend_pid())",
            "insert into workers (pid) values (pg_backend_pid())",
            "update workers set pid = pg_backend_pid() where name = 'a'",
            "insert into w values (1) on conflict do update set pid = pg_catalog.pg_backend_pid()",
            "call note_worker(1); select pg_backend_pid()",
            "prepare p as select pg_backend_pid()",
        ] {
            assert!(begins(text).has(Traces::PROCESS), "{text}");
        }
    }

    #[test]
    fn a_number_that_is_only_looked_at_is_not() {
        for text in [
            "select count(*) from pg_stat_activity where pid = pg_backend_pid()",
            "select * from pg_stat_activity where pid <> pg_backend_pid()",
            "select * from pg_stat_activity where pid != pg_catalog.pg_backend_pid() and state = 'a'",
            "select * from pg_stat_activity where pg_backend_pid() = pid",
            "select pg_backend_pid()::text = '5'",
            "select 1 where pg_backend_pid() in (1, 2)",
            "select * from a where pid not in (1, pg_backend_pid())",
            "select * from a where pid not in (select pg_backend_pid())",
            "select * from a where pid <> all (array[pg_backend_pid()])",
            "select pg_terminate_backend(pg_backend_pid())",
            "select pg_blocking_pids(pg_backend_pid()), 2",
            "select app.is_mine(coalesce(pg_backend_pid(), 0))",
            "update workers set busy = true where pid = pg_backend_pid()",
            "explain verbose select pg_backend_pid()",
            "create view v as select pg_backend_pid()",
            "create function f() returns int language sql as $$ select pg_backend_pid() $$",
            "do $$ declare a int; begin a := pg_backend_pid(); end $$",
            "select 'pg_backend_pid()', \"pg_backend_pid_x\" -- pg_backend_pid()",
        ] {
            assert!(effects(text.as_bytes()).is_none_or(|effects| effects.begins.is_empty()), "{text}");
        }
    }

    #[test]
    fn what_a_sequence_gave_is_asked_of_this_text_or_of_those_before_it() {
        let earlier = |text: &str| {
            let effects = effects(text.as_bytes()).expect("effects");
            assert!(effects.reads_sequences, "{text}");
            effects.begins.has(Traces::SEQUENCES)
        };
        for text in [
            "select lastval()",
            "SELECT pg_catalog.currval('s')",
            "insert into child values (currval('parent_id_seq'))",
            "select lastval(); select nextval('s')",
        ] {
            assert!(earlier(text), "{text}");
        }
        for text in [
            "insert into t default values; select lastval()",
            "begin; insert into t values (1); select currval('t_id_seq'); commit",
            "select nextval('s'), currval('s')",
        ] {
            assert!(!earlier(text), "{text}");
        }
    }

    #[test]
    fn calls_of_functions_that_are_known_to_touch_the_session_are_found() {
        let touched = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let functions = [
            Stateful::function("app.set_tenant", &touched(&["app.tenant", "role"])),
            Stateful::function("take_lock", &touched(&["advisory lock"])),
            Stateful::function("login", &touched(&["any setting"])),
        ];
        let of = |text: &str| effects_of_stateful(text.as_bytes(), &functions).unwrap_or_default();
        for text in
            ["select app.set_tenant(5)", "SELECT Set_Tenant (5)", "select \"app\" . \"set_tenant\"(1)"]
        {
            assert_eq!(of(text).settings.set, ["app.tenant".into(), "role".into()], "{text}");
        }
        assert_eq!(of("call any.take_lock()").begins, Traces::LOCKS);
        assert_eq!(of("do $$ begin perform take_lock(); end $$").begins, Traces::LOCKS);
        let both = of("select login(), take_lock() from t");
        assert!(both.settings.unnamed && both.begins == Traces::LOCKS);
        for text in [
            "select other.set_tenant(5)",
            "select take_lock, 'login()' -- login()",
            "create function f() returns void language sql as $$ select login() $$",
        ] {
            assert!(of(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn statements_that_name_a_table_which_touches_the_session_are_found() {
        let tables = [Stateful::table("app.orders", &["advisory lock".to_owned()])];
        let of = |text: &str| effects_of_stateful(text.as_bytes(), &tables).is_some();
        for text in [
            "insert into orders (a) values (1)",
            "update app.\"orders\" set a = 1",
            "with a as (delete from Orders returning *) select 1",
            "prepare p as select * from orders",
        ] {
            assert!(of(text), "{text}");
        }
        for text in ["select 'orders'", "select * from other.orders", "select orders2 from t"] {
            assert!(!of(text), "{text}");
        }
        let any = [Stateful::table("*", &["any setting".to_owned()])];
        assert!(
            effects_of_stateful(b"copy t from stdin", &any).is_some_and(|effects| effects.settings.unnamed)
        );
        assert!(
            effects_of_stateful(b"select 1", &any).is_none() && effects_of_stateful(b"begin", &any).is_none()
        );
    }

    #[test]
    fn statements_that_may_advance_a_sequence_are_known() {
        for text in ["insert into t values (1)", "with a as (insert into t values (1)) select 1"] {
            assert!(advances(text.as_bytes()), "{text}");
        }
        assert!(advances(b"select NEXTVAL('s')") && advances(b"copy t from stdin") && advances(b"call f()"));
        assert!(!advances(b"select 'insert', \"copy\" from t where a = 1"));
    }
}
