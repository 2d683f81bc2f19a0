"""Two-phase commit: prepared by one client, ended by another, in SQL and by psycopg's own calls.

A transaction that is prepared belongs to nobody, so what holds its server ends with PREPARE
TRANSACTION. Each scenario
is played directly and through maitred. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fix_parity import Parity, Side
from fix_postgres import Postgres


@pytest.fixture(autouse=True)
def two_phase_table(postgres: Postgres) -> Iterator[None]:
    def clear() -> None:
        for (gid,) in postgres.rows("select gid from pg_prepared_xacts", database="served"):
            postgres.rows(f"rollback prepared '{gid}'", database="served")
        postgres.rows("drop table if exists two_phase", database="served")

    clear()
    sql = "create table two_phase (n int primary key); grant all on two_phase to public"
    postgres.rows(sql, database="served")
    yield
    clear()


SCRIPTS = {
    "committed by another": """
        a: begin
        a: insert into two_phase values (1)
        a: set work_mem = '5MB'
        a: prepare transaction 'x'
        a: show work_mem
        a: select count(*) from two_phase
        b: select gid, owner, database from pg_prepared_xacts
        b: commit prepared 'x'
        a: select count(*) from two_phase
        a: show work_mem
        b: show work_mem
    """,
    "rolled back by another": """
        a: begin
        a: insert into two_phase values (1)
        a: prepare transaction 'x'
        b: rollback prepared 'x'
        b: rollback prepared 'x'
        a: select count(*) from two_phase
        a: commit prepared 'x'
        a: select 'goes on'
    """,
    "a name that is taken": """
        a: begin
        a: prepare transaction 'x'
        b: begin
        b: insert into two_phase values (2)
        b: prepare transaction 'x'
        b: select count(*) from two_phase
        b: rollback prepared 'x'
    """,
    "what cannot be prepared": """
        a: prepare transaction 'x'
        a: begin
        a: create temp table t (n int)
        a: prepare transaction 'x'
        a: select to_regclass('t') is null
        a: begin
        a: select 1/0
        a: prepare transaction 'x'
        a: select gid from pg_prepared_xacts
        a: begin
        a: commit prepared 'x'
        a: rollback
    """,
    "in savepoints, in pipelines": """
        a: begin
        a: savepoint s
        a: insert into two_phase values (3)
        a: rollback to s
        a: insert into two_phase values (4)
        a: prepare transaction 'x'
        a: pipeline begin | insert into two_phase values (5) | prepare transaction 'y' | \
            sync | select 'after' | sync
        b: pipeline query commit prepared 'x' | commit prepared 'y' | sync
        b: select n from two_phase order by n
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_two_phases_in_sql(parity: Parity, name: str) -> None:
    parity.check_script(SCRIPTS[name] + "a: delete from two_phase")


def two_phases_of_psycopg(side: Side) -> list[Any]:
    told: list[Any] = []
    one, other = side.connect(autocommit=False), side.connect(autocommit=False)
    for number, end in enumerate(("commit", "rollback")):
        xid = one.xid(7, f"global {number}", "branch")
        one.tpc_begin(xid)
        one.execute("insert into two_phase values (%s)", [number])
        one.tpc_prepare()
        side.pass_by()
        found = other.tpc_recover()
        told.append([(each.format_id, each.gtrid, each.bqual) for each in found])
        other.rollback()
        side.pass_by()
        other.tpc_commit(found[0]) if end == "commit" else other.tpc_rollback(found[0])
        side.pass_by()
        told.append(other.execute("select n from two_phase order by n").fetchall())
        other.rollback()
        one.close()
        one = side.connect(autocommit=False)
    one.tpc_begin("in one phase")
    one.execute("insert into two_phase values (9)")
    one.tpc_commit()
    side.pass_by()
    told.append(one.execute("select n from two_phase order by n").fetchall())
    one.rollback()
    try:
        one.tpc_commit(one.xid(7, "never begun", "branch"))
    except psycopg.Error as error:
        told.append(error.sqlstate)
    told.append(one.execute("select 'goes on'").fetchone())
    one.rollback()
    one.execute("delete from two_phase")
    one.commit()
    return told


def test_two_phases_of_psycopg(parity: Parity) -> None:
    told = parity.check(two_phases_of_psycopg)
    assert told[0] == [(7, "global 0", "branch")]
