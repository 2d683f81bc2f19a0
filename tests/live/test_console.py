"""The console and the admin listener of a running maitred: what they show is what is.

Run by pytest; parsing of commands is tested in the unit ring.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg
import pytest

from fix_maitred import ConsoleError, Maitred, refusal
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import query, tags

pytestmark = pytest.mark.one_backend


def test_console_answers_psql(make_maitred: Callable[..., Maitred], postgres: Postgres) -> None:
    maitred = make_maitred()
    for name in ("maitred", "pgbouncer"):
        dsn = maitred.dsn("postgres", name)
        done = postgres.tool("psql", "-XAtd", dsn, "-c", "SHOW VERSION")
        assert done.returncode == 0, done.stderr
        assert "maitred" in done.stdout.lower()


@pytest.mark.parametrize(
    "topic",
    ["POOLS", "CLIENTS", "SERVERS", "STATS", "DATABASES", "CONFIG", "VERSION", "HELP", "USERS",
     "LISTS", "STATE", "WAITS", "TOTALS", "STATS_TOTALS", "STATS_AVERAGES"],
)  # fmt: skip
def test_every_table_has_rows(make_maitred: Callable[..., Maitred], topic: str) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        client.query("select 1")
        assert maitred.console(f"SHOW {topic};")


def test_pools_show_who_works_and_who_waits(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 2}})
    clients = [maitred.wire() for _ in range(5)]
    for client in clients[:2]:
        client.query("begin")
    clients[2].send(query("select 1"))
    eventually(lambda: maitred.pool()["cl_waiting"] == 1)
    shown = maitred.pool()
    # Spec: PgBouncer counts idle clients as active; only those in the queue are not.
    assert (shown["cl_active"], shown["sv_active"], shown["sv_idle"]) == (4, 2, 0)
    clients[0].query("commit")
    clients[2].read_until("Z")
    eventually(lambda: maitred.pool()["sv_idle"] == 1)
    for client in clients:
        client.close()
    eventually(lambda: maitred.pool()["cl_active"] == maitred.pool()["cl_waiting"] == 0)


def test_clients_and_servers_are_linked(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire(application_name="tester") as client:
        client.query("begin")
        pid = client.backend()
        (ours,) = [row for row in maitred.console("SHOW CLIENTS") if row["database"] == "shop"]
        (server,) = maitred.console("SHOW SERVERS")
        assert ours["application_name"] == "tester"
        assert (ours["user"], ours["addr"], ours["state"]) == ("app", "127.0.0.1", "active")
        assert int(ours["port"] or 0) == client.socket.getsockname()[1]
        assert int(server["remote_pid"] or 0) == pid
        assert ours["link"] == server["ptr"]
        assert server["link"] == ours["ptr"]
        client.query("commit")


def test_statistics_count_what_was_done(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        for _ in range(10):
            client.query("select 1")
        client.query("begin")
        client.query("select repeat('x', 100000)")
        client.query("commit")

        def shown() -> dict[str, int]:
            rows = maitred.console("SHOW STATS")
            (row,) = [each for each in rows if each["database"] == "shop"]
            return {key: int(value) for key, value in row.items() if key != "database"}

        stats = shown()
        assert stats["total_query_count"] == 13
        assert stats["total_xact_count"] == 11
        assert 100_000 < stats["total_sent"] < 120_000
        assert 100 < stats["total_received"] < 2_000


def test_commands_need_the_right(make_maitred: Callable[..., Maitred]) -> None:
    users = {"reader": {"stats": True}, "app": {}}
    maitred = make_maitred({"users": users})
    assert maitred.console("SHOW POOLS", user="reader") is not None
    for command in ("PAUSE", "KILL shop", "SHUTDOWN", "RELOAD", "SET pool.size = 3"):
        with pytest.raises(ConsoleError) as refused:
            maitred.console(command, user="reader")
        assert refused.value.code == "42501"
    assert refusal(maitred, "app", "maitred")["C"] in ("28000", "42501")


def test_bad_commands_say_what_to_type(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    for command in ("SHOW POLLS", "FROBNICATE", "PAUSE nowhere", "SHOW POOLS; SHOW CLIENTS"):
        with pytest.raises(ConsoleError):
            maitred.console(command)
    with maitred.wire("postgres", "maitred") as operator:
        error = operator.error("SHOW POLLS")
        assert "SHOW POOLS" in error.fields["H"]
        # The console stays open after an error.
        assert tags(operator.query("SHOW VERSION")) == "TDCZ"


def test_psycopg_reaches_the_console_with_client_side_binding(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred()
    with maitred.connect("postgres", "maitred", cursor_factory=psycopg.ClientCursor) as operator:
        assert operator.execute("SHOW POOLS") is not None


def test_pause_waits_for_leases_and_holds_clients(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with (
        maitred.wire() as busy,
        maitred.wire() as late,
        maitred.wire("postgres", "maitred") as operator,
    ):
        busy.query("begin")
        operator.send(query("PAUSE shop"))
        eventually(lambda: maitred.pool()["paused"] == 1)
        late.send(query("select 'after resume'"))
        eventually(lambda: maitred.pool()["cl_waiting"] == 1)
        assert busy.value("select 'transactions go on'") == "transactions go on"
        busy.query("commit")
        assert operator.read_until("Z")[0].text == "PAUSE"
        assert maitred.pool()["cl_waiting"] == 1
        operator.query("RESUME shop")
        assert tags(late.read_until("Z")) == "TDCZ"


def test_pause_with_a_time_limit_takes_itself_back(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire() as busy, maitred.wire() as other:
        busy.query("begin")
        with pytest.raises(ConsoleError, match="1 server"):
            maitred.console("PAUSE TIMEOUT '300ms'")
        assert other.value("select 'not paused'") == "not paused"
        busy.query("commit")


def test_kill_closes_clients_and_servers_of_one_database(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    url = f"postgres://app@127.0.0.1:{postgres.port}/warehouse"
    maitred = make_maitred({"databases": {"warehouse": {"url": url}}})
    with maitred.wire() as victim, maitred.wire(database="warehouse") as bystander:
        victim.query("begin")
        maitred.console("KILL shop")
        seen = victim.read_to_end()
        assert seen[-1].code == "57P01"
        assert bystander.value("select 1") == "1"
        eventually(lambda: not postgres.backends("shop"))
        maitred.console("RESUME shop")
        with maitred.wire() as again:
            assert again.value("select 1") == "1"


def test_kill_client(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire(application_name="victim") as victim, maitred.wire() as other:
        (row,) = [
            each for each in maitred.console("SHOW CLIENTS") if each["application_name"] == "victim"
        ]
        maitred.console(f"KILL_CLIENT {row['id']}")
        assert victim.read_to_end()[-1].code == "57P01"
        assert other.value("select 1") == "1"
        with pytest.raises(ConsoleError):
            maitred.console(f"KILL_CLIENT {row['id']}")


def test_reconnect_replaces_servers_when_they_are_free(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred({"pool": {"size": 2}})
    with maitred.wire() as busy, maitred.wire() as other:
        busy.query("begin")
        held, free = busy.backend(), other.backend()
        maitred.console("RECONNECT shop")
        assert busy.backend() == held
        assert other.backend() not in (held, free)
        busy.query("commit")
        eventually(lambda: busy.backend() != held)


def test_disable_and_enable(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire() as before:
        maitred.console("DISABLE shop")
        assert "disabled" in refusal(maitred)["M"]
        assert before.value("select 1") == "1"
        maitred.console("ENABLE shop")
        maitred.wire().close()


def test_set_changes_a_setting(make_maitred: Callable[..., Maitred], postgres: Postgres) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    maitred.console("SET pool.size = 3")
    clients = [maitred.wire() for _ in range(3)]
    for client in clients:
        client.query("begin")
    assert len(postgres.backends()) == 3
    for client in clients:
        client.close()


@pytest.mark.parametrize("command", ["SHUTDOWN", "SHUTDOWN WAIT_FOR_SERVERS"])
def test_shutdown_ends_the_process(make_maitred: Callable[..., Maitred], command: str) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        client.query("select 1")
        with maitred.wire("postgres", "maitred") as operator:
            operator.send(query(command))
            assert client.read_to_end()[-1].code == "57P01"
        assert maitred.wait() == 0


def test_http_endpoints(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    assert maitred.http("/healthz")[0] == 200
    assert maitred.http("/readyz")[0] == 200
    assert maitred.http("/nowhere")[0] == 404
    with maitred.wire() as client:
        for _ in range(7):
            client.query("select 1")
        found = maitred.metrics()
    total = [value for name, value in found.items() if name.startswith("maitred_queries_total")]
    assert total == [7]
    assert any(
        name.startswith("maitred_pool_servers") and value == 1 for name, value in found.items()
    )


def test_metrics_have_help_and_no_duplicates(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        client.query("select 1")
        body = maitred.http("/metrics")[1]
    lines = body.splitlines()
    samples = [line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")]
    assert len(samples) == len(set(samples))
    helped = {line.split()[2] for line in lines if line.startswith("# HELP")}
    for sample in samples:
        family = sample.split("{")[0]
        stems = {family, *(family.removesuffix(end) for end in ("_bucket", "_sum", "_count"))}
        stems |= {family.removesuffix("_total"), family.removesuffix("_created")}
        assert stems & helped, f"no help for {family}"


def test_slow_query_is_logged_by_its_shape(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"log": {"slow_query": "200ms"}})
    with maitred.wire() as client:
        client.query("select pg_sleep(0.4), 'do not log me' as secret")
        client.query("select 'quick one'")
    eventually(lambda: "pg_sleep" in maitred.log_text(), because="no slow-query line")
    assert "do not log me" not in maitred.log_text()
    assert "quick one" not in maitred.log_text()


def test_log_as_json(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"log": {"format": "json", "connections": True}})
    with maitred.wire() as client:
        client.query("select 1")
    maitred.stop()
    lines = [line for line in maitred.log_text().splitlines() if line.strip()]
    assert len(lines) >= 3
    for line in lines:
        assert isinstance(json.loads(line), dict)
