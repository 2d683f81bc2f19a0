"""The routes by which state of one session could reach another, each as statements.

Only a table; nothing is run here. Called by `isolation`, which tries each, and by the tests.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of state: how it is left, and how a session tells whether it has it."""

    name: str
    leave: tuple[str, ...]
    look: str
    """One row of one value, another one with the state than without."""
    undo: tuple[str, ...] = ()
    """Run by whoever left it, before the next route."""
    documented: str = ""
    """Why maitred neither carries nor pins it; empty where it does."""
    without: str = ""
    """What the database's error says where `look` fails for whoever has no such state."""


def _setting(name: str, *leave: str, of: str = "work_mem") -> Route:
    return Route(name, leave, f"select current_setting('{of}', true)", (f"reset {of}",))


ROUTES = (
    _setting("SET", "set work_mem = '1234kB'"),
    _setting("SET, committed", "begin", "set work_mem = '1235kB'", "commit"),
    _setting(
        "SET behind a savepoint",
        *("begin", "set work_mem = '1236kB'", "savepoint s", "set work_mem = '1237kB'"),
        *("rollback to savepoint s", "commit"),
    ),
    _setting("SET among others", "select 1; set work_mem = '1238kB'; select 2"),
    _setting("SET in a block", "do $$ begin set work_mem = '1239kB'; end $$"),
    _setting("SET run in a block", "do $$ begin execute 'set work_mem = ''1240kB'''; end $$"),
    _setting("set_config()", "select set_config('work_mem', '1241kB', false)"),
    _setting("an application's own setting", "set doctor.mark = 'left'", of="doctor.mark"),
    _setting("a reported setting", "set application_name = 'left'", of="application_name"),
    _setting("search_path", "set search_path to doctor_left", of="search_path"),
    _setting("time zone", "set time zone 'Asia/Kathmandu'", of="timezone"),
    _setting(
        "SESSION CHARACTERISTICS",
        "set session characteristics as transaction isolation level repeatable read",
        of="default_transaction_isolation",
    ),
    Route(
        "advisory lock",
        ("select pg_advisory_lock(1869508714)",),
        "select count(*) from pg_locks where locktype = 'advisory'"
        " and objid = 1869508714 and pid = pg_backend_pid()",
        ("select pg_advisory_unlock(1869508714)",),
    ),
    Route(
        "temporary table",
        ("create temporary table doctor_left (x int)",),
        "select count(*) from pg_class where relname = 'doctor_left'"
        " and relnamespace = pg_my_temp_schema()",
        ("drop table doctor_left",),
    ),
    Route(
        "SQL PREPARE",
        ("prepare doctor_left as select 1",),
        "select count(*) from pg_prepared_statements where name = 'doctor_left'",
        ("deallocate doctor_left",),
    ),
    Route(
        "cursor WITH HOLD",
        ("declare doctor_left cursor with hold for select 1",),
        "select count(*) from pg_cursors where name = 'doctor_left'",
        ("close doctor_left",),
    ),
    Route(
        "LISTEN",
        ("listen doctor_left",),
        "select count(*) from pg_listening_channels() where pg_listening_channels = 'doctor_left'",
        ("unlisten doctor_left",),
    ),
    Route(
        "lastval()",
        ("create temporary sequence doctor_left", "select nextval('doctor_left')"),
        "do $$ begin perform set_config('doctor.last', lastval()::text, true);"
        " exception when others then perform set_config('doctor.last', 'none', true); end $$;"
        " select current_setting('doctor.last')",
        ("drop sequence doctor_left",),
    ),
    Route(
        "setseed()",
        ("select setseed(0.1869508714)",),
        # Spec: what random() gives after that seed, from PostgreSQL 15 on.
        "select trunc(random()::numeric, 6)::text in ('0.054820', '0.110807', '0.982847',"
        " '0.869951', '0.893381', '0.592869', '0.979167', '0.971157', '0.283335', '0.004441',"
        " '0.337267', '0.324594', '0.565613', '0.519585')",
    ),
    Route(
        "open transaction",
        ("begin", "set local work_mem = '1242kB'"),
        "select current_setting('work_mem')",
        ("rollback",),
    ),
)
