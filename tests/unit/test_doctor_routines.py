"""What the doctor reads in bodies of routines, triggers and views, and what it says of them.

Databases are played by lists of rows; that real ones tell these is shown by the live rings. Run by
pytest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

import pytest

from maitred.doctor import mysql_bodies, postgres_bodies
from maitred.doctor.bodies import Body, Stateful, Touch, When, find, lines_for


class Played:
    """A catalog of one database: rows by a word of the question."""

    def __init__(self, version: str, **rows: Sequence[Sequence[str | None]]) -> None:
        self.version = version
        self.tables = rows

    def rows(self, sql: str) -> Sequence[Sequence[str | None]]:
        for word, rows in self.tables.items():
            if f"information_schema.{word}" in sql or word in sql.split()[:2]:
                return rows
        return []

    def ask(self, sql: str) -> str | None:
        assert "version" in sql
        return self.version

    def close(self) -> None: ...


def words(found: Sequence[Stateful]) -> dict[str, set[str]]:
    return {f"{one.schema}.{one.name}": set(one.touches) for one in found}


def mysql(version: str, **rows: Sequence[Sequence[str | None]]) -> dict[str, set[str]]:
    found, _ = mysql_bodies.examine(Played(version, **rows))
    return words(found)


def body(name: str, text: str, when: When = "called") -> Body:
    return Body(f"body {name}", "s", name, when, text)


def test_what_a_body_names_is_its_own() -> None:
    bodies = [
        body("outer", "select Middle()", "read"),
        body("middle", "return inner()"),
        body("inner", "TOUCH"),
        body("apart", "select innermost, 'nothing'"),
        body("mutual_1", "call mutual_2()"),
        body("mutual_2", "call mutual_1()"),
    ]
    found = find(bodies, lambda text: [Touch("role", "touches")] if "TOUCH" in text else [])
    assert words(found) == {"s.outer": {"role"}, "s.middle": {"role"}, "s.inner": {"role"}}
    (outer,) = (one for one in found if one.when == "read")
    assert outer.touches == {"role": "body outer names s.middle"}


def test_who_only_reads_a_table_runs_no_trigger_of_it() -> None:
    bodies = [
        body("view", "select a from t", "read"),
        body("t", "TOUCH", "written"),
        body("writer", "insert into t values (1)"),
        body("over", "select writer()", "read"),
    ]
    for is_written_through, more in ((True, {"s.view"}), (False, set[str]())):
        found = find(
            bodies,
            lambda text: [Touch("role", "touches")] if "TOUCH" in text else [],
            is_written_through_views=is_written_through,
        )
        assert words(found).keys() == {"s.t", "s.writer", "s.over"} | more


def test_the_lines_are_configuration() -> None:
    found = [
        Stateful("s", "t", "written", {"routine": "trigger a of s.t: set @@x"}),
        Stateful("s", "t", "read", {"role": "policy of s.t: set role"}),
        Stateful("s", 'odd"v', "read", {"routine": "view names s.f", "advisory lock": "it locks"}),
        Stateful("s", "f", "called", {"advisory lock": "takes a named lock"}),
    ]
    text = lines_for(found, [Body("view s.hidden", "s", "hidden", "read", None)])
    read = tomllib.loads(text)["pool"]
    assert read["stateful_tables"] == {
        "s.t": ["role", "routine"],
        's.odd"v': ["advisory lock", "routine"],
    }
    assert read["stateful_functions"] == {"s.f": ["advisory lock"]}
    assert "# trigger a of s.t: set @@x\n" in text
    assert "#   view s.hidden" in text
    assert tomllib.loads(lines_for([], [])) == {}


@pytest.mark.parametrize(
    "text",
    [
        "set @@sort_buffer_size = 65536",
        "begin if new.a then set @x = 1,\n @@ sql_mode := 'ANSI'; end if; end",
        "SET @@lock_wait_timeout=7",
    ],
)
def test_mariadb_does_not_tell_of_a_bare_set(text: str) -> None:
    triggers = [("shop", "orders", "note", text)]
    assert mysql("10.11-mariadb", triggers=triggers) == {"shop.orders": {"routine"}}
    # MySQL tells at the end of the write.
    assert not mysql("9.7", triggers=triggers)


@pytest.mark.parametrize(
    "text",
    [
        "set sort_buffer_size = 65536",
        "set session sort_buffer_size = 65536, @@session.sql_mode = ''",
        "begin declare v int; set v = @@sort_buffer_size; end",
        "begin -- set @@x = 1\n /* set @@x = 2 */ set @a = @@x; update t set a = @@x; end",
    ],
)
def test_what_mariadb_tells_needs_no_name(text: str) -> None:
    assert not mysql("10.11-mariadb", triggers=[("shop", "orders", "note", text)])


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("begin set sort_buffer_size = 65536; return 1; end", True),
        ("begin set session sql_mode = 'ANSI'; return 1; end", True),
        ("begin set @noted = 7; return 1; end", True),
        ("begin select 1 into @noted; return 1; end", True),
        ("begin create temporary table if not exists t (n int); return 1; end", True),
        ("begin declare v int; set v = 7; return v; end", False),
        ("return 1", False),
    ],
)
def test_mysql_does_not_tell_all_at_the_end_of_a_views_rows(text: str, is_found: bool) -> None:
    found = mysql(
        "9.7",
        routines=[("FUNCTION", "shop", "f", text)],
        views=[("shop", "v", "select `shop`.`f`() AS `f`"), ("shop", "w", "select 1")],
        variables=[("sort_buffer_size", "1"), ("sql_mode", "")],
    )
    assert found == ({"shop.v": {"routine"}} if is_found else {})


@pytest.mark.parametrize("version", ["10.11-mariadb", "9.7"])
def test_locks_that_a_routine_takes_are_named_and_those_that_it_gives_back_asked_for(
    version: str,
) -> None:
    take = "return get_lock('a', 0)"
    both = "begin do get_lock ('a', 0); do release_lock('a'); end"
    assert mysql(
        version,
        routines=[("FUNCTION", "shop", "f", take), ("PROCEDURE", "shop", "p", both)],
        triggers=[("shop", "orders", "note", "set @a = f()")],
    ) == {"shop.f": {"advisory lock"}, "shop.orders": {"advisory lock"}}


def test_what_the_account_may_not_read_is_said() -> None:
    _, unread = mysql_bodies.examine(
        Played(
            "10.11-mariadb",
            routines=[("FUNCTION", "shop", "f", None), ("FUNCTION", "sys", "g", None)],
            views=[("shop", "v", None)],
            grants=[("GRANT SELECT, TRIGGER ON `shop`.* TO `app`@`%`",)],
        )
    )
    assert [each.kind for each in unread] == ["function shop.f", "view shop.v"]
    _, unread = mysql_bodies.examine(Played("9.7", grants=[("GRANT SELECT ON `shop`.* TO `app`",)]))
    assert ["lacks the privilege TRIGGER" in each.kind for each in unread] == [True]


def postgres(text: str) -> dict[str, set[str]]:
    header = "CREATE OR REPLACE FUNCTION app.f()\n LANGUAGE plpgsql\n SET work_mem TO '1MB'\n"
    rows = [("f", "app", "plpgsql", f"{header}AS $function$ {text} $function$")]

    class Catalog(Played):
        def rows(self, sql: str) -> Sequence[Sequence[str | None]]:
            return rows if "pg_proc p join pg_namespace" in sql else []

    found, _ = postgres_bodies.examine(Catalog("18"))
    return words(found)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("begin perform set_config('app.tenant', x::text, false); end", "app.tenant"),
        ("begin perform set_config(name, f(a, 'b,c'), false); end", "any setting"),
        ("begin set work_mem = '2MB'; end", "work_mem"),
        ("begin if a then set session search_path to app; end if; end", "search_path"),
        ("begin execute 'set time zone ' || zone; end", "timezone"),
        ("begin set session authorization ann; end", "session_authorization"),
        ("begin set role ann; end", "role"),
        ("begin reset all; end", "any setting"),
        ("begin perform pg_try_advisory_lock(1); end", "advisory lock"),
        ("begin listen news; end", "listen"),
        ("begin create temp table t (a int); end", "temporary object"),
        ("begin create or replace local temporary view v as select 1; end", "temporary object"),
        ("begin execute 'declare c cursor with hold for select 1'; end", "cursor with hold"),
        ("begin execute 'prepare p as select 1'; end", "sql prepare"),
        ("begin perform setseed(0.5); end", "seed"),
    ],
)
def test_what_a_function_of_postgres_leaves_is_read(text: str, word: str) -> None:
    assert postgres(text) == {"app.f": {word}}


@pytest.mark.parametrize(
    "text",
    [
        "begin perform set_config('app.tenant', x, true); end",
        "begin perform set_config('app.tenant', x, 't'::boolean); end",
        "begin set local work_mem = '2MB'; set constraints all deferred; end",
        "begin update t set a = 1; insert into t values (1) on conflict do update set a = 2; end",
        "begin perform pg_advisory_xact_lock(1); -- listen news\n end",
        "begin notify news; prepare transaction 'a'; end",
        "select current_setting('app.tenant')",
    ],
)
def test_what_lasts_no_longer_than_its_transaction_needs_no_name(text: str) -> None:
    assert not postgres(text)
