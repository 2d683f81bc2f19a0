//! What MySQL's texts show of their effects on the session: table by table, and whatever the bytes.

use maitred_wire::effects::{Effects, Thing, Things, Traces};
use maitred_wire::mysql::judge::effects;
use maitred_wire::mysql::{kill, leftovers, prepare};
use proptest::prelude::*;

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
        "SET SESSION wait_timeout = 100, sql_mode = CONCAT(@@sql_mode, ',ANSI'), @@session.time_zone='+00:00'",
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
fn numbers_of_rows_are_asked_for_where_the_end_does_not_tell_them() {
    let asked = |text: &str| of(text).settings.asked.iter().any(|name| **name == *"last_insert_id");
    for text in [
        "insert into t (a) values (1), (2) returning id, a",
        "REPLACE INTO t SELECT * FROM u RETURNING id",
        "select 1; insert into t values () returning *",
        "prepare p from 'insert into t values () returning id'; execute p",
        "execute immediate 'insert into t (a) values (1) returning id'",
        "execute p",
        "call p()",
        "begin not atomic insert into t (a) values (1); end",
        "update t set id = last_insert_id(id + 1)",
        "set last_insert_id = 5",
    ] {
        assert!(asked(text), "{text}");
    }
    for text in [
        "insert into t (a) values ('returning')",
        "insert into t (a) values (1); delete from t returning id",
        "insert into t (a) select last_insert_id()",
        "select returning from t",
    ] {
        assert!(!asked(text), "{text}");
    }
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
fn tables_are_told_apart_by_their_schemas() {
    let left = |texts: &[(&str, Option<&str>)]| {
        let mut things = Things::default();
        for (text, schema) in texts {
            let mut effects = of(text);
            effects.qualify(*schema);
            things.note(&effects.things, false);
        }
        things.names(Traces::TEMPORARY).collect::<Vec<_>>().join(",")
    };
    let made = ("create temporary table a (b int)", Some("Shop"));
    assert_eq!(left(&[made]), "shop.a");
    assert_eq!(left(&[made, ("drop table shop.a", Some("other"))]), "");
    assert_eq!(left(&[made, ("drop table if exists a", Some("other"))]), "shop.a");
    assert_eq!(left(&[made, ("use other; drop table if exists a; use shop", Some("shop"))]), "shop.a");
    assert_eq!(left(&[made, ("use other; drop table `shop`.a", Some("shop"))]), "");
    assert_eq!(left(&[made, ("use `sh``op`; drop table a", Some("shop"))]), "shop.a");
    assert_eq!(left(&[("use shop; create temporary table a (b int)", None), ("drop table A", made.1)]), "");
}

#[test]
fn what_is_undone_by_name_is_gone() {
    let left = |texts: &[&str]| {
        let mut things = Things::default();
        for text in texts {
            things.note(&of(text).things, false);
        }
        things.kinds().names().collect::<Vec<_>>().join(",")
    };
    for (texts, kinds) in [
        (&["create temporary table a (b int)", "drop table A"][..], ""),
        (&["create temporary table if not exists `a` (b int)", "drop temporary table if exists b, a"], ""),
        (&["create temporary table a (b int)", "drop table b"], "temporary object"),
        (&["create temporary table a (b int)", "use other", "drop table a"], "temporary object"),
        (&["create temporary table a (b int)", "alter table a rename b", "drop table a"], "temporary object"),
        (&["create temporary table s.a (b int)", "use other", "drop table s.a"], ""),
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
    let mut failed = Things::default();
    failed.note(&of("create temporary table a (b int); drop table a").things, true);
    assert_eq!(failed.kinds(), Traces::TEMPORARY);
}

#[test]
fn statements_that_can_be_said_again_are_kept_whole() {
    let things = of("select 1; PREPARE `P` FROM 'select ?' ; select 2").things;
    assert_eq!(things[1], Thing::Prepared("p".into(), "PREPARE `P` FROM 'select ?'".into()));
    // Where it is said again, double quotes may be those of names.
    let things = of("prepare p from \"select 'its', 5\"").things;
    assert_eq!(things[1], Thing::Prepared("p".into(), "prepare p from 'select ''its'', 5'".into()));
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
        ("set @@time_zone = '+00:00'", "time_zone"),
        ("set autocommit=1, session_track_schema=0, sql_mode=''", "autocommit,sql_mode"),
    ] {
        assert_eq!(asked(text), names, "{text}");
    }
    assert_eq!(of("set autocommit=1, @@session_track_schema=0").blinds, ["session_track_schema".into()]);
    assert!(of("set session_track_gtids=OWN_GTID").blinds.is_empty());
    let blinded = "set session_track_system_variables=''; set sql_mode='ANSI'";
    assert_eq!(asked(blinded), "sql_mode");
    assert!(!of(blinded).begins.has(Traces::UNKNOWN));
    for unseen in ["use shop", "call p()", "execute p", "select f(1)"] {
        assert!(of(&format!("set session_track_schema=0; {unseen}")).begins.has(Traces::UNKNOWN), "{unseen}");
        assert!(
            !of(&format!("{unseen}; set session_track_schema=0")).begins.has(Traces::UNKNOWN),
            "{unseen}"
        );
    }
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

#[test]
fn what_explains_a_change_shows_it_and_nothing_else() {
    use maitred_wire::mysql::explained::explained;
    let explains = |text: &str| {
        let mut left = explained(text.as_bytes(), effects(text.as_bytes()).as_deref());
        let each = std::iter::from_fn(|| {
            let is_so = left.is_so();
            left.next();
            Some(if is_so { '+' } else { '-' })
        });
        each.take(4).collect::<String>()
    };
    for (text, due) in [
        ("set @a = 1", "+---"),
        ("use shop", "+---"),
        ("drop temporary table t", "+---"),
        ("unlock tables", "+---"),
        ("select 1; set @a = 1; select 2", "-+--"),
        ("set @a = ';'; insert into t values (1); commit;", "+-+-"),
        ("begin; set @a = 1; delete from t; commit", "++-+"),
        ("create table if not exists t (a int); set @a = 1", "++--"),
        (
            "create procedure p() begin insert into t values (1); set @a = 1; end; insert into t values (2)",
            "+---",
        ),
        ("begin not atomic set @a = 1; set @b = 1; end; insert into t values (1)", "----"),
        ("select 1", "----"),
        ("insert into t values (1)", "----"),
        ("set @a = f()", "----"),
        ("call p()", "----"),
        ("set @a = 1; call p(); set @b = 1", "----"),
    ] {
        assert_eq!(explains(text), due, "{text}");
    }
    let many = format!("{};insert into t values (1)", ["set @a = 1"; 80].join(";"));
    let mut left = explained(many.as_bytes(), None);
    (0..64).for_each(|_| left.next());
    assert!(!left.is_so(), "what is beyond counting explains nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_are_too_odd(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        look(&text);
    }

    /// Pieces that matter, in any order.
    #[test]
    fn no_order_of_words_is_too_odd(pieces in proptest::collection::vec(0..PIECES.len(), 0..20)) {
        let text: Vec<u8> = pieces.iter().flat_map(|at| [PIECES[*at], " "].concat().into_bytes()).collect();
        look(&text);
    }
}

const PIECES: [&str; 44] = [
    "set",
    "@a",
    "@@",
    "session",
    ".",
    "=",
    ":=",
    "select",
    "into",
    "(",
    ")",
    ",",
    ";",
    "'",
    "\"",
    "`",
    "\\",
    "/*!",
    "*/",
    "/*",
    "--",
    "#",
    "create",
    "temporary",
    "table",
    "drop",
    "get_lock",
    "'x'",
    "prepare",
    "p",
    "from",
    "execute",
    "immediate",
    "statement",
    "for",
    "names",
    "default",
    "row_count",
    "last_insert_id",
    "kill",
    "5",
    "show",
    "warnings",
    "begin not atomic",
];

fn look(text: &[u8]) {
    let found = effects(text);
    assert!(found.is_none_or(|found| !found.is_empty()));
    if let Some(killing) = kill::target(text) {
        assert_eq!(std::str::from_utf8(&text[killing.place]).unwrap().parse(), Ok(killing.number));
    }
    if let Some((_, place)) = prepare::executed(text) {
        assert!(place.end <= text.len());
    }
    prepare::effects_of_prepared(text);
    let known = leftovers::Known {
        row_count: Some(1),
        found_rows: Some(2),
        warnings: Some(3),
        errors: Some(4),
        connection_id: Some(5),
        tracking: Some(Default::default()),
    };
    if let Some(answered) = leftovers::substituted(text, &known) {
        assert!(leftovers::asks(text).is_some());
        assert_ne!(answered, text);
    }
}
