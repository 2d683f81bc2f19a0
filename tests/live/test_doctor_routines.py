"""`maitred doctor routines` for PostgreSQL: what functions, triggers, views and policies do unseen.

What it says is put into the configuration, and what they set stays with its client. Run by pytest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fix_maitred import Maitred, doctor
from fix_postgres import Postgres

pytestmark = pytest.mark.one_backend

LOOK = "select coalesce(current_setting('doctor.tenant', true), '')"
SCHEMA = """
create schema unseen;
create function unseen.enter(tenant text) returns text language plpgsql as
  $$ begin perform set_config('doctor.tenant', tenant, false); return tenant; end $$;
create function unseen.through() returns text language sql as $$ select unseen.enter('through') $$;
create function unseen.quiet() returns text language plpgsql as
  $$ begin perform set_config('doctor.tenant', 'quiet', true); return 'quiet'; end $$;
create function unseen.note() returns trigger language plpgsql as
  $$ begin perform unseen.enter('trigger'); return new; end $$;
create table unseen.plain (n int, by text default 'nobody');
create table unseen.orders (n int primary key);
create trigger note before insert or update on unseen.orders for each row
  execute function unseen.note();
create view unseen.entered as select unseen.enter('view') as tenant;
create table unseen.filled (n int, by text default unseen.enter('default'));
create table unseen.parted (n int) partition by range (n);
create table unseen.part partition of unseen.parted for values from (0) to (9);
create trigger note before insert on unseen.part for each row execute function unseen.note();
create table unseen.owners (n int primary key);
create table unseen.owned (n int references unseen.owners on delete cascade);
create trigger note after delete on unseen.owned for each row execute function unseen.note();
insert into unseen.owners values (1);
insert into unseen.owned values (1);
create function unseen.takes() returns void language sql as $$ select pg_advisory_lock(77) $$;
"""
SAID = {
    "through": "select unseen.through()",
    "trigger": "insert into unseen.orders values (1) on conflict (n) do update set n = 1",
    "view": "select * from unseen.entered",
    "default": "insert into unseen.filled (n) values (1)",
    "cascade": "delete from unseen.owners",
    "partition": "insert into unseen.parted values (1)",
}


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Postgres]:
    with postgres.connect("postgres") as admin:
        admin.execute(SCHEMA)
        admin.execute(
            "grant usage on schema unseen to public;"
            " grant all on all tables in schema unseen to public"
        )
        try:
            yield postgres
        finally:
            admin.execute("drop schema unseen cascade")


def prescribed(postgres: Postgres) -> dict[str, Any]:
    done = doctor("routines", f"postgres://app@127.0.0.1:{postgres.port}/shop")
    assert done.returncode == 1, done.stdout + done.stderr
    return tomllib.loads(done.stdout)["pool"]


def test_what_functions_tables_and_views_do_unseen_is_found(database: Postgres) -> None:
    pool = prescribed(database)
    assert pool["stateful_functions"] == {
        "unseen.enter": ["doctor.tenant"],
        "unseen.note": ["doctor.tenant"],
        "unseen.through": ["doctor.tenant"],
        "unseen.takes": ["advisory lock"],
    }
    names = ("orders", "entered", "filled", "parted", "part", "owners", "owned")
    assert pool["stateful_tables"] == {f"unseen.{name}": ["doctor.tenant"] for name in names}


@pytest.mark.parametrize("how", SAID)
def test_it_is_its_clients_and_nobody_elses(
    make_maitred: Callable[..., Maitred], database: Postgres, how: str
) -> None:
    pool = {name: named for name, named in prescribed(database).items() if named}
    maitred = make_maitred({"pool": {"size": 1, **pool}})
    with maitred.wire() as one, maitred.wire() as two:
        one.query(SAID[how])
        for _ in range(2):
            assert two.value(LOOK) == ""
            assert one.value(LOOK) == ("trigger" if how in ("partition", "cascade") else how)
