"""Session state in transaction mode: carried where it can be, else its client keeps the server.

Each test has one server and two clients that must not see each other's state. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import Wire, bind, execute, parse, query, sync, tags


@pytest.fixture
def maitred(make_maitred: Callable[..., Maitred]) -> Maitred:
    return make_maitred({"pool": {"size": 1}})


def pins(maitred: Maitred) -> list[str]:
    return [row["reasons"] for row in maitred.console("SHOW PINS")]


SETTINGS = {
    "SET": ("set work_mem = '4567kB'", "work_mem", "4567kB"),
    "SET TO a list": ('set search_path to a, "B c"', "search_path", 'a, "B c"'),
    "set_config": ("select set_config('app.tenant', '7', false)", "app.tenant", "7"),
    "a name by value": (
        "select set_config(name, '3min', false) from (values ('statement_timeout')) v (name)",
        "statement_timeout", "3min",),
    "SET TIME ZONE": ("set time zone 'Asia/Tokyo'", "timezone", "Asia/Tokyo"),
    "in a block": ("do $$ begin set work_mem = '2345kB'; end $$", "work_mem", "2345kB"),
    "run in a block": (
        "do $$ begin execute 'set lock_timeout = ''4s'''; end $$", "lock_timeout", "4s",),
    "in several statements": ("select 1; set work_mem = '9MB'; select 2", "work_mem", "9MB"),
    "characteristics": (
        "set session characteristics as transaction isolation level serializable",
        "default_transaction_isolation", "serializable",),
    "committed": ("begin; set work_mem = '8MB'; commit", "work_mem", "8MB"),
    "behind a savepoint": (
        "begin; set work_mem='5MB'; savepoint s; set work_mem='6MB'; rollback to s; commit",
        "work_mem", "5MB",),
}  # fmt: skip


@pytest.mark.parametrize("how", SETTINGS)
def test_a_setting_is_its_clients_and_nobody_elses(
    maitred: Maitred, postgres: Postgres, how: str
) -> None:
    statement, name, value = SETTINGS[how]
    current = f"select coalesce(current_setting('{name}', true), '')"
    default = postgres.rows(current)[0][0]
    with maitred.wire() as one, maitred.wire() as two:
        one.query(statement)
        for _ in range(2):
            assert two.value(current) == default
            assert one.value(current) == value
        one.query(f"reset {name}")
        assert one.value(current) == default
        assert two.value(current) == default
    assert pins(maitred) == []


@pytest.mark.parametrize(
    "statement",
    [
        "begin; set work_mem = '8MB'; rollback",
        "set local work_mem = '8MB'",
        "begin; set local work_mem = '8MB'; commit",
        "begin; select set_config('work_mem', '8MB', true); commit",
        "set work_mem = '8MB'; select 1/0",
    ],
)
def test_a_setting_that_does_not_last_is_not_carried(maitred: Maitred, statement: str) -> None:
    with maitred.wire() as one, maitred.wire() as two:
        one.send(query(statement))
        one.read_until("Z")
        for client in (two, one):
            assert client.value("show work_mem") == "4MB"


def test_a_role_is_carried(maitred: Maitred, postgres: Postgres) -> None:
    postgres.rows("drop role if exists carried")
    postgres.rows("create role carried")
    postgres.rows("grant carried to app")
    try:
        with maitred.wire() as one, maitred.wire() as two:
            one.query("set role carried")
            for _ in range(2):
                assert two.value("select current_user") == "app"
                assert one.value("select current_user") == "carried"
            one.query("reset all")
            assert one.value("select current_user") == "carried", "RESET ALL leaves the role"
            one.query("reset role")
            assert one.value("select current_user") == "app"
    finally:
        postgres.rows("drop role carried")


@pytest.mark.parametrize("reset", ["reset work_mem", "reset all", "discard all"])
def test_a_reset_returns_to_what_the_client_began_with(maitred: Maitred, reset: str) -> None:
    with maitred.wire(options="-c work_mem=7MB") as one, maitred.wire() as two:
        one.query("set work_mem = '8MB'")
        assert two.value("show work_mem") == "4MB"
        one.query(reset)
        assert one.value("show work_mem") == "7MB"
        assert two.value("show work_mem") == "4MB"


PINS = {
    "advisory lock": (
        "select pg_advisory_lock(4711)", "select pg_advisory_unlock(4711)",
        "select count(*) from pg_locks where locktype = 'advisory'",
    ),
    "temporary object": (
        "create temp table kept (x int)", "drop table kept",
        "select count(*) from pg_class where relname = 'kept'",
    ),
    "cursor with hold": (
        "declare kept cursor with hold for select 1", "close kept",
        "select count(*) from pg_cursors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", PINS)
def test_what_cannot_be_carried_keeps_the_server_until_it_is_gone(
    maitred: Maitred, reason: str
) -> None:
    begin, end, _ = PINS[reason]
    with maitred.wire() as one, maitred.wire() as two:
        one.query(begin)
        eventually(lambda: pins(maitred) == [reason])
        two.send(query("select 'waited'"))
        eventually(lambda: maitred.pool()["cl_waiting"] == 1)
        assert one.value("select 'mine'") == "mine"
        one.query(end)
        assert two.read_until("Z")[1].tag == "D"
        assert pins(maitred) == []
    assert maitred.metrics()[f'maitred_pins_total{{reason="{reason}"}}'] == 1


@pytest.mark.parametrize("reason", PINS)
def test_what_a_client_leaves_is_gone_for_the_next(maitred: Maitred, reason: str) -> None:
    begin, _, count = PINS[reason]
    with maitred.wire() as one:
        one.query(begin)
        assert one.value(count) == "1"
    with maitred.wire() as two:
        assert two.value(count) == "0"


def test_the_number_of_the_process_is_its_clients_once_told(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 2, "pin_ignore": []}})
    with maitred.wire() as one, maitred.wire() as two, maitred.wire() as three:
        pid = one.value("select pg_backend_pid()")
        assert pins(maitred) == ["backend pid"]
        assert two.value("select pid <> pg_backend_pid() from (values (1)) as v (pid)") == "t"
        three.query("begin")
        assert one.value("select pg_backend_pid()") == pid
        three.query("rollback")
        one.query("discard all")
        assert pins(maitred) == []
        pid = one.value("select 'now ' || pg_backend_pid()").removeprefix("now ")
        assert pins(maitred) == ["backend pid"]
    eventually(lambda: pins(maitred) == [])
    alive = f"select count(*) from pg_stat_activity where pid = {pid}"
    assert postgres.value(alive) == 1, "its server is used further"


@pytest.fixture
def sequence(postgres: Postgres) -> Iterator[str]:
    postgres.rows("create table numbered (id serial, word text)")
    postgres.rows("grant all on numbered, numbered_id_seq to app")
    yield "numbered_id_seq"
    postgres.rows("drop table numbered")


INSERT = "insert into numbered (word) values ('a')"


@pytest.mark.parametrize("ask", ["select lastval()", "select currval('numbered_id_seq')"])
def test_what_a_sequence_gave_is_told_to_its_client_alone(
    maitred: Maitred, sequence: str, ask: str
) -> None:
    with maitred.wire() as one, maitred.wire() as two:
        one.query(INSERT)
        assert one.value(ask) == "1"
        assert pins(maitred) == ["sequence"]
        one.query(INSERT)
        one.query("discard sequences")
        one.query(INSERT)
        assert two.error(ask).fields["C"] == "55000"
        assert pins(maitred) == ["sequence"]
        two.query(INSERT)
        assert two.value(ask) == "4"
        two.query("discard sequences")
        two.query("deallocate all")
        for client, name in ((one, ""), (two, "named")):
            client.send(parse(ask, name) + bind(name=name) + execute() + sync())
            assert client.read_until("Z")[-2].fields["C"] == "55000"
            client.query("discard sequences")
    eventually(lambda: pins(maitred) == [])


def test_what_a_sequence_gave_in_a_transaction_is_told_there(
    maitred: Maitred, sequence: str
) -> None:
    with maitred.wire() as one, maitred.wire() as two:
        for number in (1, 3, 5):
            for client, expected in ((one, number), (two, number + 1)):
                client.send(query("begin") + query(INSERT) + query("select lastval()"))
                for _ in range(2):
                    client.read_until("Z")
                assert client.read_until("Z")[1].values == [str(expected)]
                client.query("commit")
    assert pins(maitred) == []


def test_whoever_inserts_keeps_its_server_where_that_is_wanted(
    make_maitred: Callable[..., Maitred], sequence: str
) -> None:
    maitred = make_maitred({"pool": {"size": 1, "sequences": "session"}})
    with maitred.wire() as one:
        one.query(INSERT)
        assert pins(maitred) == ["sequence"]
        assert one.value("select lastval()") == "1"


@pytest.mark.parametrize(
    "seed", ["select setseed(0.25)", "set seed = 0.25", "set local seed = 0.25"]
)
def test_a_seed_is_nobody_elses(maitred: Maitred, postgres: Postgres, seed: str) -> None:
    expected = [row[0] for row in postgres.rows("select setseed(0.25); select random()::text")]
    with maitred.wire() as one:
        one.query(seed)
        assert pins(maitred) == ["seed"]
        (server,) = postgres.backends()
    eventually(lambda: server not in postgres.backends())
    with maitred.wire() as two:
        assert two.value("select random()") not in expected


def test_more_settings_than_a_client_may_carry_keep_its_server(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred({"pool": {"size": 1, "client_state": "1KiB"}})
    with maitred.wire() as one, maitred.wire() as two:
        for name in ("app.a", "search_path"):
            one.query(f"set {name} = '{'x' * 600}'")
            eventually(lambda: pins(maitred) == [])
            one.query(f"set {name} = '{'y' * 1100}'")
            eventually(lambda: pins(maitred) == ["too much state"])
            assert one.value(f"show {name}") == "y" * 1100
            one.query("discard all")
            assert "y" not in (two.value(f"select current_setting('{name}', true)") or "")
            assert pins(maitred) == []
        one.query(f"prepare p as select 'kept' -- {'z' * 1100}")
        eventually(lambda: pins(maitred) == ["sql prepare"])
        assert one.value("execute p") == "kept"


def test_a_time_limit_does_not_hit_what_we_ask(maitred: Maitred) -> None:
    with maitred.wire() as one, maitred.wire() as two:
        one.query("set default_transaction_isolation = serializable")
        one.query("set default_transaction_read_only = on; set default_transaction_deferrable = on")
        one.query("set statement_timeout = '1ms'; set lock_timeout = '1ms'")
        for number in range(100):
            one.query(f"do $$ begin execute 'set work_mem = {number + 100}'; end $$")
            if number % 10 == 0:
                assert two.value("show statement_timeout") == "0"
                assert two.value("show work_mem") == "4MB"
        seen = "select current_setting('statement_timeout'), current_setting('lock_timeout')"
        # Why not at once: its own statements may take longer than its limit.
        eventually(lambda: one.rows(seen) == [["1ms", "1ms"]])
        eventually(lambda: one.value("show transaction_isolation") == "serializable")
        eventually(lambda: not any(got.tag == "E" for got in one.query("reset statement_timeout")))
        assert two.value("show statement_timeout") == "0"
        assert one.rows(seen) == [["0", "1ms"]]
        one.query("reset all")
        assert one.rows(seen) == [["0", "0"]]
    assert pins(maitred) == []


def test_what_a_function_does_inside_is_told_by_configuration(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    for name, body in (
        ("set_tenant", "select set_config('app.tenant', '7', false)"),
        ("take_lock", "select pg_advisory_lock(99)"),
        ("drop_lock", "select pg_advisory_unlock(99)"),
    ):
        postgres.rows(f"create function {name}() returns void language sql as $$ {body} $$")
    functions = {"public.set_tenant": ["app.tenant"], "drop_lock": ["advisory lock"]}
    functions["take_lock"] = ["advisory lock"]
    maitred = make_maitred({"pool": {"size": 1, "stateful_functions": functions}})
    tenant = "select coalesce(current_setting('app.tenant', true), '')"
    try:
        with maitred.wire() as one, maitred.wire() as two:
            one.query("select set_tenant()")
            assert two.value(tenant) == ""
            assert one.value(tenant) == "7"
            one.send(parse("select public.take_lock()") + bind() + execute() + sync())
            one.read_until("Z")
            eventually(lambda: pins(maitred) == ["advisory lock"])
            one.query("do $$ begin perform drop_lock(); end $$")
            eventually(lambda: pins(maitred) == [])
    finally:
        for name in ("set_tenant", "take_lock", "drop_lock"):
            postgres.rows(f"drop function {name}")


def test_statements_of_sql_keep_their_names_in_each_client(maitred: Maitred) -> None:
    with maitred.wire() as one, maitred.wire() as two:
        one.query("prepare p (int) as select 'one', $1 -- with a comment")
        two.query("prepare p as select 'two'")
        two.query("prepare \"Q q\" as select 'quoted'")
        for _ in range(2):
            assert one.value("execute p(5)") == "one"
            assert two.value("execute p") == "two"
            assert two.value('execute "Q q"') == "quoted"
        one.query("deallocate p")
        assert one.error("execute p(5)").fields["C"] == "26000"
        assert two.value("execute p") == "two"
        two.query("deallocate all")
        assert two.error("execute p").fields["C"] == "26000"
    assert pins(maitred) == []


def test_statements_of_sql_that_cannot_be_said_again_pin(maitred: Maitred) -> None:
    with maitred.wire() as one:
        one.query("prepare a as select 1; prepare b as select 2")
        eventually(lambda: pins(maitred) == ["sql prepare"])
        assert one.value("execute b") == "2"
        one.query("deallocate all")
        eventually(lambda: pins(maitred) == [])


def test_a_temporary_table_of_one_transaction_pins_nobody(maitred: Maitred) -> None:
    with maitred.wire() as one, maitred.wire() as two:
        one.query("begin; create temp table t (x int) on commit drop; insert into t values (1)")
        assert one.value("select count(*) from t") == "1"
        one.query("commit")
        assert two.value("select 'free'") == "free"
    assert pins(maitred) == []


def test_state_survives_other_clients_under_load(maitred: Maitred) -> None:
    both = "select current_setting('app.number'), current_setting('work_mem')"
    clients: list[Wire] = [maitred.wire() for _ in range(20)]
    try:
        for number, client in enumerate(clients):
            client.query(f"set app.number = '{number}'; set work_mem = '{number + 1}MB'")
        for _ in range(5):
            for client in clients:
                client.send(query(both))
            for number, client in enumerate(clients):
                row = client.read_until("Z")[1].body
                assert row.endswith(f"{number + 1}MB".encode())
                assert f"{number}".encode() in row
    finally:
        for client in clients:
            client.close()


def test_a_statement_of_the_protocol_is_forgotten_by_sql(maitred: Maitred) -> None:
    with maitred.wire() as one, maitred.wire() as two:
        for client in (one, two):
            client.send(parse("select 'kept'", "P1") + sync())
            client.read_until("Z")
        assert tags(one.query('deallocate "P1"')) == "CZ"
        one.send(bind(name="P1") + execute() + sync())
        assert one.read_until("Z")[0].fields["C"] == "26000"
        assert one.error('deallocate "P1"').fields["C"] == "26000"
        two.send(bind(name="P1") + execute() + sync())
        assert tags(two.read_until("Z")) == "2DCZ"
