"""Every way to change a setting of the session, a role or a session's user, with others on the
same servers.

Each script is played directly and through maitred; both tell the same, but for one thing: a
setting of an
application that nobody has set is NULL where no session of the server ever had it, else empty.
Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fix_maitred import Maitred
from fix_parity import Parity, pools
from fix_postgres import Postgres

SPELLINGS = {
    "set names": """
        a: set names 'latin1'
        b: set names 'utf8'
        a: show client_encoding
        b: show client_encoding
        a: set names default
        a: show client_encoding
    """,
    "set time zone": """
        a: set time zone 'Europe/Rome'
        b: set time zone interval '+05:30' hour to minute
        c: set time zone -3
        a: show TimeZone
        b: show TimeZone
        c: show TimeZone
        a: set time zone local
        b: set session time zone default
        c: reset time zone
        a: show TimeZone
        b: show TimeZone
        c: show TimeZone
    """,
    "lists and quotes": """
        a: set search_path to "Mixed Case", pg_catalog, public
        b: set search_path = 'one, two'
        c: set schema 'three'
        a: show search_path
        b: show search_path
        c: show search_path
        a: set application_name to 'it''s "me", \\'
        a: show application_name
        b: set app."Odd Name" = 'quoted'
        b: show app."Odd Name"
        b: set "work_mem" = 4321
        b: show work_mem
    """,
    "to default": """
        a: set work_mem to default
        a: set work_mem = '5MB'
        a: set datestyle = 'german'
        a: set work_mem = default
        a: set datestyle to default
        a: show work_mem
        a: show datestyle
    """,
    "what does not exist or is refused": """
        a: set no_such_setting = 1
        a: show work_mem
        a: reset no_such_setting
        a: set work_mem = 'much'
        a: set shared_buffers = '1GB'
        a: set log_statement = 'all'
        a: set session authorization postgres
        a: set role no_such_role
        a: select set_config('no_such_setting', '1', false)
        a: select current_setting('no_such_setting', true), current_setting('app.none', true)
        a: show work_mem
    """,
    "settings with dots": """
        a: set app.x = 'a'
        b: set app.x = 'b'
        b: set app.sub.y = 'deep'
        a: show app.x
        b: show app.x
        b: show app.sub.y
        a: reset app.x
        a: select coalesce(current_setting('app.x', true), '')
        b: reset all
        b: select coalesce(current_setting('app.x', true), ''), \
            coalesce(current_setting('app.sub.y', true), '')
        a: select set_config('app.x', null, false)
        a: set app.x = ''
        a: select coalesce(current_setting('app.x', true), '')
    """,
    "set_config in every guise": """
        a: select set_config('app.a', 'x', false), set_config('app.b', 'y', true)
        a: select current_setting('app.a', true), coalesce(current_setting('app.b', true), '')
        a: select set_config('work_' || 'mem', '5MB', false)
        a: show work_mem
        a: with c as (select set_config('lock_timeout', '3s', false) as v) select v from c
        a: show lock_timeout
        a: explain (analyze, costs off, timing off, summary off) \
            select set_config('app.never', 'y', 1 = 1)
        a: select set_config('transaction_isolation', 'serializable', false)
        a: show transaction_isolation
        a: update pg_settings set setting = '6MB' where name = 'work_mem'
        a: show work_mem
    """,
    "units and extremes": """
        a: set work_mem = '1GB'
        a: set statement_timeout = '1min'
        a: set random_page_cost = 1.10
        a: set vacuum_cost_delay = 0.5
        a: set enable_seqscan = off
        a: set extra_float_digits = -15
        a: set transaction_timeout = '90s'
        a: set geqo_seed = 0.5
        a: show work_mem
        a: show statement_timeout
        a: show random_page_cost
        a: show vacuum_cost_delay
        a: show enable_seqscan
        a: show extra_float_digits
        a: show transaction_timeout
        b: show transaction_timeout
        a: reset transaction_timeout
        a: show transaction_timeout
        a: select 0.1::float8
        a: reset all
        a: select 0.1::float8
    """,
    "discard": """
        a: set work_mem = '5MB'
        a: set TimeZone = 'Asia/Tokyo'
        a: set app.x = 'y'
        a: prepare p as select 1
        a: discard plans
        a: show work_mem
        a: execute p
        a: discard all
        a: show work_mem
        a: show TimeZone
        a: select coalesce(current_setting('app.x', true), '')
        a: execute p
        a: begin
        a: discard all
        a: rollback
        a: discard sequences
        a: discard temp
        a: show work_mem
    """,
    "own parameters, reset": """
        a: show work_mem
        a: show app.own
        a: set work_mem = '9MB'
        a: set app.own = 'changed'
        a: set DateStyle = 'Postgres, YMD'
        b: show DateStyle
        a: reset work_mem
        a: show work_mem
        a: show app.own
        a: discard all
        a: show work_mem
        a: show app.own
        a: show DateStyle
        a: set app.own = 'again'
        a: reset app.own
        a: show app.own
        a: reset all
        a: show DateStyle
        b: show DateStyle
    """,
    "own parameters, reset in a pipeline": """
        a: pipeline query discard all | query show work_mem | query show DateStyle
        a: set work_mem = '9MB'
        a: pipeline reset work_mem | sync | show work_mem | sync
        a: set DateStyle = 'ISO, YMD'
        a: pipeline set work_mem to default | sync | query reset all | show DateStyle | sync
        b: show DateStyle
        a: begin
        a: pipeline query reset all | query savepoint s | query select 1 | query commit
        a: show work_mem
    """,
    "alternating values": """
        a: set DateStyle = 'German'
        b: set DateStyle = 'SQL, DMY'
        c: set DateStyle = 'ISO, YMD'
        a: select date '2026-02-01'
        b: select date '2026-02-01'
        c: select date '2026-02-01'
        a: set IntervalStyle = 'iso_8601'
        b: set application_name = 'b is my name'
        c: set standard_conforming_strings = off
        a: select interval '1 day'
        b: select interval '1 day', current_setting('application_name')
        c: select 'a\\\\b'
        a: select date '2026-02-01', 'a\\\\b'
        b: reset all
        b: select date '2026-02-01'
        a: select date '2026-02-01'
    """,
}

OWN = {
    "options": "-c work_mem=7MB -c app.own=mine",
    "DateStyle": "German, DMY",
    "application_name": "me",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_settings(parity: Parity, name: str) -> None:
    parity.check_script(SPELLINGS[name], a=OWN if name.startswith("own") else {})


ROLES = {
    "set role": """
        a: set role painter
        a: select current_user, session_user
        b: select current_user, session_user
        a: begin
        a: set local role app
        a: select current_user
        a: commit
        a: select current_user
        a: reset all
        a: select current_user
        a: set role none
        a: select current_user
        b: set role printer
        b: begin
        b: reset role
        b: select current_user
        b: rollback
        b: select current_user
        b: discard all
        b: select current_user
        a: set role to default
        a: select set_config('role', 'painter', false)
        a: select current_user
        a: set session role printer
        a: select current_user
    """,
    "roles and settings that a role may not set": """
        root: set log_statement = 'mod'
        root: set role painter
        root: show log_statement
        root: select current_user
        root: set role none
        root: show log_statement
        root: reset log_statement
        root: show log_statement
    """,
    "session authorization": """
        root: set session authorization painter
        root: select current_user, session_user
        root: set role printer
        root: reset session authorization
        root: select current_user, session_user
        root: begin
        root: set local session authorization painter
        root: select session_user
        root: commit
        root: select session_user
        root: set session session authorization printer
        root: select current_user, session_user
        root: set session authorization default
        root: select current_user, session_user
        root: begin
        root: set session authorization painter
        root: rollback
        root: select current_user, session_user
        root: set session authorization painter
        root: discard all
        root: select current_user, session_user
    """,
    "a role within another's session": """
        root: set session authorization app
        root: set role painter
        root: select current_user, session_user
        root: set work_mem = '5MB'
        root: select current_user, session_user
        root: show work_mem
        root: reset role
        root: select current_user, session_user
        root: reset all
        root: show work_mem
        root: select current_user, session_user
    """,
}


@pytest.fixture
def roles(postgres: Postgres) -> Iterator[None]:
    postgres.rows("create role painter")
    postgres.rows("create role printer")
    postgres.rows("grant painter, printer to app")
    try:
        yield
    finally:
        postgres.terminate_all("served")
        postgres.rows("drop role painter")
        postgres.rows("drop role printer")


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize("name", ROLES)
def test_roles(parity: Parity, name: str) -> None:
    parity.check_script(ROLES[name], root={"user": "postgres"})


DEFAULTS = """
    a: show work_mem
    a: show search_path
    a: show TimeZone
    a: select current_setting('app.of_role', true), current_setting('app.of_database', true)
    a: set work_mem = '9MB'
    a: set TimeZone = 'Asia/Tokyo'
    a: set app.of_role = 'changed'
    b: show work_mem
    b: set search_path = elsewhere
    a: reset work_mem
    a: show work_mem
    a: show app.of_role
    a: reset app.of_role
    a: show app.of_role
    a: discard all
    a: show TimeZone
    b: discard all
    b: show search_path
    c: show work_mem
    c: show lock_timeout
    c: set lock_timeout = 0
    c: set work_mem = '10MB'
    c: show lock_timeout
    c: reset all
    c: show work_mem
    c: show lock_timeout
"""


@pytest.fixture
def defaults(postgres: Postgres) -> Iterator[None]:
    changes = [
        ("role app", "work_mem", "'6MB'"),
        ("role app", "app.of_role", "'role'"),
        ("role app in database served", "search_path", "of_both, public"),
        ("database served", "TimeZone", "'Europe/Lisbon'"),
        ("database served", "app.of_database", "'database'"),
        ("database served", "lock_timeout", "'77s'"),
    ]
    for whose, name, value in changes:
        postgres.rows(f"alter {whose} set {name} = {value}")
    try:
        yield
    finally:
        for whose, name, _ in changes:
            postgres.rows(f"alter {whose} reset {name}")


@pytest.mark.usefixtures("defaults")
def test_defaults_of_roles_and_databases(
    postgres: Postgres, make_maitred: Callable[..., Maitred], pool_of: int
) -> None:
    maitred = make_maitred(pools(postgres), replace=True)
    own = {"options": "-c work_mem=8MB -c lock_timeout=5s"}
    Parity(postgres, maitred, pool_of).check_script(DEFAULTS, c=own)


def test_strangers_do_move_the_transactions(parity: Parity) -> None:
    with parity.proxied() as side:
        client = side.wire()
        seen = set()
        for _ in range(4):
            seen.add(client.backend())
            side.pass_by()
        assert len(seen) == (1 if parity.size == 1 else 2)
