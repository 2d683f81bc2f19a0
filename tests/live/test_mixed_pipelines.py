"""Pipelines and COPY that mix settings, statements of both kinds, savepoints and errors with
several Syncs.

What a client set in the middle must be there on the next server, and nothing of it with anybody
else. Each scenario is
played directly and through maitred. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from fix_parity import Parity, Side, ask
from fix_wire import bind, describe, execute, message, parse, query, sync

SEE = """
        a: select current_setting('work_mem'), current_setting('TimeZone')
        a: select coalesce(current_setting('app.x', true), ''), current_user
        b: select current_setting('work_mem'), current_setting('TimeZone')
        b: select coalesce(current_setting('app.x', true), ''), current_user
        b: select count(*) from pg_prepared_statements where from_sql
        a: select count(*) from pg_prepared_statements where from_sql
"""

PIPELINES = {
    "settings between statements": """
        a: pipeline set work_mem = '5MB' | show work_mem | sync | \
            set TimeZone = 'Asia/Tokyo' | show TimeZone | sync
    """,
    "an error undoes its unit alone": """
        a: pipeline set work_mem = '5MB' | sync | set work_mem = '6MB' | select 1/0 | \
            set TimeZone = 'Asia/Tokyo' | sync | show work_mem | sync
    """,
    "a block over several Syncs": """
        a: pipeline begin | set app.x = 'one' | sync | savepoint s | set app.x = 'two' | \
            sync | rollback to s | sync | commit | sync
    """,
    "a block that fails and goes on": """
        a: pipeline begin | set app.x = 'one' | savepoint s | set work_mem = '7MB' | \
            select 1/0 | sync | rollback to s | set TimeZone = 'Asia/Tokyo' | commit | sync
    """,
    "SQL's statements": """
        a: pipeline prepare p (int) as select $1 + 1 | execute p(1) | sync | \
            set work_mem = '5MB' | execute p(2) | sync
        a: execute p(3)
        a: pipeline deallocate p | sync | execute p(4) | sync | prepare p as select 'new' | \
            execute p | sync
        a: execute p
    """,
    "simple queries among others": """
        a: pipeline set app.x = 'one' | sync | query set work_mem = '5MB'; select 1 | \
            show app.x | sync | query begin; set app.x = 'two'; rollback | sync
    """,
    "simple queries without a Sync before them": """
        a: pipeline set app.x = 'one' | query show app.x | select 1 | \
            query set work_mem = '6MB' | sync | show app.x | sync
    """,
    "reset at the end": """
        a: pipeline set work_mem = '5MB' | set app.x = 'one' | sync | prepare p as select 1 | \
            sync | query discard all | show work_mem | sync
    """,
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines(parity: Parity, name: str) -> None:
    parity.check_script(PIPELINES[name] + SEE)


def test_named_statements_in_pipelines(parity: Parity) -> None:
    """Statements of the protocol that set, run again on another server, some after an error."""

    def scenario(side: Side) -> list[str]:
        one, two = side.wire(), side.wire()
        told = []

        def step(client: Any, *parts: bytes) -> None:
            told.append(ask(client, *parts))
            side.pass_by()

        sets = parse("select set_config('app.x', $1, false)", "sets")
        for client, value in ((one, "one"), (two, "two")):
            step(client, sets, bind((value,), name="sets"), execute(), sync())
        for client, value in ((one, "1"), (two, "2")):
            step(
                client,
                bind((value,), name="sets") + describe() + execute(),
                parse("select 1/$1::int", "divides") + bind(("0",), name="divides") + execute(),
                bind(("never",), name="sets") + execute(),
                sync(),
                parse("select current_setting('app.x')") + bind() + execute(),
                sync(),
            )
        for client in (one, two):
            step(client, bind(("1",), name="divides"), execute(), sync())
            step(client, query("select current_setting('app.x')"))
        step(one, bind(("last",), name="sets"), execute(), sync(), query("show app.x"))
        step(two, query("show app.x"))
        return told

    parity.check(scenario)


def test_names_of_settings_come_by_value(parity: Parity) -> None:
    """`set_config($1, $2, false)`: which setting it was stands in the Bind alone."""

    def scenario(side: Side) -> list[str]:
        one, two = side.wire(), side.wire()
        setting = "coalesce(current_setting('app.by_value', true), '')"
        look = f"select {setting}, current_setting('work_mem')"
        told = []
        for name, value in (("app.by_value", "secret"), ("work_mem", "5MB")):
            asked = parse("select set_config($1, $2, false)") + bind((name, value)) + execute()
            told.append(ask(one, asked, sync()))
            side.pass_by()
            told += [ask(two, query(look)), ask(one, query(look))]
        return told

    parity.check(scenario)


ROWS = b"1\tone\n2\ttwo\n"


def copies(side: Side) -> list[str]:
    one = side.wire()
    told = []

    def step(*parts: bytes, busy: int = 0) -> None:
        told.append(ask(one, *parts))
        side.pass_by(busy)

    def copy_in(*data: bytes) -> tuple[bytes, ...]:
        rows = tuple(message("d", part) for part in data)
        return (query("copy copied from stdin"), *rows)

    step(query("create table copied (n int primary key, t text)"))
    step(query("set app.x = 'before'"), *copy_in(ROWS), message("c"))
    step(
        query("begin"), query("set work_mem = '5MB'"), *copy_in(b"3\tthree\n"), message("c"), busy=1
    )
    step(query("savepoint s"), *copy_in(b"4\tfour\n"), message("f", b"given up\0"), busy=1)
    step(query("rollback to s"), query("copy copied to stdout"), busy=1)
    step(query("commit"))
    step(query("show work_mem"), query("select count(*) from copied"))
    # It breaks in the middle: the rest of the data is ignored.
    step(*copy_in(ROWS[:8], b"x\tno number\n", b"9\tnine\n"), message("c"))
    step(*copy_in(ROWS), message("c"), query("select count(*) from copied"))
    step(query("begin"), *copy_in(b"1\tagain\n"), message("c"), query("select 1"), query("commit"))
    step(query("copy (select n, 1/(n-3) from copied order by n) to stdout"))
    step(query("set app.x = 'after'; copy copied to stdout; select 1"))
    # By the extended protocol: Sync within the data is ignored.
    begun = parse("copy copied from stdin") + bind() + execute() + sync()
    step(begun + message("d", b"7\tseven\n") + message("c"), sync())
    step(parse("copy copied to stdout") + bind() + execute(), sync(), query("show app.x"))
    step(query("drop table copied"))
    return told


def test_copies_in_transactions(parity: Parity) -> None:
    parity.postgres.rows("drop table if exists copied", database="served")
    parity.check(copies)


def pipelines_of_psycopg(side: Side) -> list[Any]:
    told: list[Any] = []

    def attempt(act: Callable[[], Any]) -> None:
        try:
            told.append(act())
        except psycopg.Error as error:
            told.append(error.sqlstate)
        side.pass_by()

    client = side.connect()
    client.execute("drop table if exists piped")
    client.execute("create table piped (n int primary key)")
    side.pass_by()

    def fill() -> Any:
        with client.pipeline() as pipeline, client.cursor() as cursor:
            cursor.execute("set work_mem = '5MB'")
            cursor.executemany(
                "insert into piped values (%s) returning n", [(1,), (2,)], returning=True
            )
            pipeline.sync()
            found = [cursor.fetchall()]
            while cursor.nextset():
                found.append(cursor.fetchall())
            return found

    def break_off() -> Any:
        with client.pipeline():
            client.execute("set app.x = 'piped'")
            client.execute("insert into piped values (3)")
            client.execute("insert into piped values (1)")
            client.execute("insert into piped values (4)")

    def nest() -> Any:
        with client.pipeline(), client.transaction():
            client.execute("insert into piped values (5)", prepare=True)
            try:
                with client.transaction():
                    client.execute("set app.x = 'never'")
                    client.execute("insert into piped values (6)").fetchone()
            except psycopg.ProgrammingError:
                pass
            client.execute("set TimeZone = 'Asia/Tokyo'")

    attempt(fill)
    attempt(break_off)
    attempt(nest)
    see = "select current_setting('work_mem'), current_setting('TimeZone')"
    attempt(lambda: client.execute(see).fetchall())
    see = "select coalesce(current_setting('app.x', true), '')"
    attempt(lambda: client.execute(see).fetchall())
    attempt(lambda: client.execute("select n from piped order by n").fetchall())
    attempt(lambda: side.connect().execute("show work_mem").fetchall())
    client.execute("drop table piped")
    return told


def test_pipelines_of_psycopg(parity: Parity) -> None:
    parity.check(pipelines_of_psycopg)
