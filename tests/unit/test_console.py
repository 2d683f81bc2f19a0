"""The console: words, probes, permissions, commands and tables, on operations of the test's own.

`Desk` here stands for `supervisor`, by the Protocol `Operations`; the engine is not needed. Run by
pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from maitred.admin.averages import Averages
from maitred.admin.commands import COMMANDS
from maitred.admin.console import Console
from maitred.config import load
from maitred.config.load import Layer
from maitred.errors import ConfigInvalid, Problem
from maitred.event import ConsoleAsked
from maitred.model import Config

POOL = {
    "protocol": "postgres", "database": "shop", "user": "app", "endpoint": "db1:5432",
    "mode": "transaction", "size": 20,
    "min_size": 0, "reserve_size": 2, "clients": 10, "clients_active": 3, "clients_waiting": 4,
    "clients_cancelling": 1, "servers_active": 3, "servers_idle": 2, "servers_opening": 1,
    "servers_closing": 0, "servers_listening": 0, "servers_cancelling": 1,
    "max_wait_us": 2_500_000, "paused": False, "last_error": None,
}  # fmt: skip
SOCKET = {
    "id": 7, "protocol": "mysql", "worker": 0, "user": "app", "database": "shop", "state": "active",
    "address": "10.0.0.9", "port": 5000, "local_address": "10.0.0.1", "local_port": 6432,
    "connected_us": 5_000_000, "request_us": 1_000_000, "tls": None, "application_name": "psql",
    "prepared_statements": 2,
}  # fmt: skip
STATS = {
    "database": "shop", "leases": 10, "transactions": 10, "queries": 20, "received_bytes": 300,
    "sent_bytes": 400, "transaction_us": 5000, "query_us": 4000, "wait_us": 600, "client_parses": 1,
    "server_parses": 2, "binds": 3, "logins": 4, "client_errors": 5,
}  # fmt: skip
REPORTS: dict[str, list[dict[str, Any]]] = {
    "pools": [POOL],
    "clients": [SOCKET | {"wait_us": 1_500_000, "server": 9, "replication": None}],
    "channels": [{"endpoint": "db1:5432", "database": "shop", "channel": "jobs", "clients": 3}],
    "pins": [
        {
            "client": 7,
            "server": 9,
            "user": "app",
            "database": "shop",
            "since_us": 61_000_000,
            "reasons": ["advisory lock"],
            "shape": "SELECT pg_advisory_lock(?)",
        },
    ],
    "servers": [SOCKET | {"endpoint": "db1:5432", "client": 7, "pid": 4711, "leases": 3}],
    "stats": [STATS],
    "waits": [{"database": "shop", "buckets": [[100, 50], [1000, 49], [9999, 1]]}],
    "workers": [{"worker": 0, "clients": 12, "servers": 7, "loops": 1, "backend": "epoll"}],
    "counters": [{"name": "logins_under_way", "labels": {}, "value": 3}],
}

# Spec: PgBouncer 1.25, admin.c: names and order.
PGBOUNCER = {
    "SHOW POOLS": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req"
    " sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait"
    " maxwait_us pool_mode load_balance_hosts",
    "SHOW CLIENTS": "type user database replication state addr port local_addr local_port"
    " connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name"
    " prepared_statements id",
    "SHOW SERVERS": "type user database replication state addr port local_addr local_port"
    " connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name"
    " prepared_statements id",
    "SHOW STATS": "database total_server_assignment_count total_xact_count total_query_count"
    " total_received total_sent total_xact_time total_query_time total_wait_time"
    " total_client_parse_count total_server_parse_count total_bind_count total_client_login_count"
    " avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time"
    " avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count"
    " avg_client_login_count",
    "SHOW STATS_TOTALS": "database server_assignment_count xact_count query_count bytes_received"
    " bytes_sent xact_time query_time wait_time client_parse_count server_parse_count bind_count"
    " client_login_count",
    "SHOW STATS_AVERAGES": "database server_assignment_count xact_count query_count bytes_received"
    " bytes_sent xact_time query_time wait_time avg_client_parse_count avg_server_parse_count"
    " avg_bind_count avg_client_login_count",
    "SHOW TOTALS": "name value",
    "SHOW DATABASES": "name host port database force_user pool_size min_pool_size"
    " reserve_pool_size server_lifetime pool_mode load_balance_hosts max_connections"
    " current_connections max_client_connections current_client_connections paused disabled",
    "SHOW USERS": "name pool_size reserve_pool_size pool_mode max_user_connections"
    " current_connections max_user_client_connections current_client_connections",
    "SHOW CONFIG": "key value default changeable",
    "SHOW LISTS": "list items",
    "SHOW STATE": "key value",
    "SHOW VERSION": "version",
}


class Desk:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.config: Config = load.from_url(
            "postgres://app:x@db1/shop", [Layer("test", {("pool", "size"): 20})]
        )
        self.phase = "running"
        self.disabled: frozenset[str] = frozenset()
        self.asked: list[tuple[object, ...]] = []
        self.at_rest = True
        self.reload_fails = False

    async def report(self, what: str) -> list[dict[str, Any]]:
        return REPORTS[what]

    def pause(self, database: str | None) -> None:
        self.asked.append(("pause", database))

    def resume(self, database: str | None) -> None:
        self.asked.append(("resume", database))

    def paused(self, database: str | None) -> bool:
        return ("pause", database) in self.asked and self.at_rest

    def kill(self, database: str | None) -> int:
        self.asked.append(("kill", database))
        return 3

    def kill_client(self, client: int) -> bool:
        if client != 7:
            return False
        self.asked.append(("kill_client", client))
        return True

    def reconnect(self, database: str | None) -> None:
        self.asked.append(("reconnect", database))

    async def reload(self) -> Sequence[str]:
        if self.reload_fails:
            raise ConfigInvalid([Problem("x.toml", 3, "is wrong")])
        self.asked.append(("reload",))
        return ()

    async def set(self, name: str, value: str) -> Sequence[str]:
        self.asked.append(("set", name, value))
        return ()

    async def set_disabled(self, database: str, disabled: bool) -> None:
        self.asked.append(("disabled", database, disabled))

    def shut_down(self, *, drain: bool) -> None:
        self.asked.append(("shut_down", drain))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def console(desk: Desk) -> Console:
    return Console(desk, Averages(0.0))


async def ask(
    console: Console,
    text: str,
    *,
    admin: bool = True,
    stats: bool = False,
    protocol: str = "postgres",
) -> dict[str, Any]:
    return await console.answer(ConsoleAsked(1, protocol, "op", "maitred", admin, stats, text))


async def rows(console: Console, text: str) -> list[dict[str, str | None]]:
    answer = await ask(console, text)
    names = [name for name, _ in answer["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer["rows"]]


@pytest.mark.parametrize("command", list(PGBOUNCER))
async def test_the_columns_of_pgbouncer_come_first_in_its_order(
    console: Console, command: str
) -> None:
    names = [name for name, _ in (await ask(console, command))["columns"]]
    expected = PGBOUNCER[command].split()
    assert names[: len(expected)] == expected


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.startswith("SHOW")])
async def test_every_show_answers_text_rows_of_known_types(console: Console, command: str) -> None:
    answer = await ask(console, command, admin=False, stats=True)
    assert answer["tag"] == "SHOW"
    assert answer["rows"]
    assert {kind for _, kind in answer["columns"]} <= {"text", "int4", "int8", "numeric"}
    for row in answer["rows"]:
        assert len(row) == len(answer["columns"])
        for cell, (name, kind) in zip(row, answer["columns"], strict=True):
            assert cell is None or isinstance(cell, str), name
            assert kind == "text" or cell is None or cell.lstrip("-").isdigit(), name


async def test_pools_tell_the_engines_numbers(console: Console) -> None:
    (pool,) = await rows(console, "show pools;")
    assert (pool["cl_active"], pool["cl_waiting"], pool["cl_active_cancel_req"]) == ("5", "4", "1")
    assert (pool["sv_active"], pool["sv_idle"], pool["sv_login"]) == ("3", "2", "1")
    assert (pool["maxwait"], pool["maxwait_us"]) == ("2", "500000")


async def test_clients_and_servers_point_at_each_other(console: Console) -> None:
    (client,) = await rows(console, "SHOW CLIENTS")
    assert (client["ptr"], client["link"]) == ("client-7", "server-9")
    assert (client["wait"], client["wait_us"]) == ("1", "500000")
    (server,) = await rows(console, "SHOW SERVERS")
    assert (server["link"], server["remote_pid"]) == ("client-7", "4711")


async def test_waits_are_quantiles(console: Console) -> None:
    (wait,) = await rows(console, "SHOW WAITS")
    assert wait == {
        "database": "shop", "waits": "100", "p50_us": "100", "p90_us": "1000", "p99_us": "1000",
        "max_us": "9999",
    }  # fmt: skip


async def test_config_has_the_names_that_exporters_read(console: Console) -> None:
    found = {row["key"]: row["value"] for row in await rows(console, "SHOW CONFIG")}
    assert found["pool.size"] == found["default_pool_size"] == "20"
    assert found["max_client_conn"] == "10000"
    assert "x" not in str(found["databases.shop.url"]).split("@")[0].split(":")[-1]


async def test_databases_tell_limits_and_use(console: Console) -> None:
    (database,) = await rows(console, "SHOW DATABASES")
    assert (database["host"], database["port"], database["force_user"]) == ("db1", "5432", "app")
    assert (database["current_connections"], database["current_client_connections"]) == ("6", "10")
    assert (database["server_lifetime"], database["disabled"]) == ("3600", "0")


@pytest.mark.parametrize(
    "text",
    [
        "show pools",
        "SHOW  POOLS ;",
        "select pools",
        "Select * from pools;",
        "/* hi */ SHOW POOLS -- bye",
    ],
)
async def test_ways_to_ask_for_pools(console: Console, text: str) -> None:
    assert len(await rows(console, text)) == 1


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("PAUSE", ("pause", None)),
        ("pause shop;", ("pause", "shop")),
        ("PAUSE \"shop\" TIMEOUT '10s'", ("pause", "shop")),
        ("RESUME shop", ("resume", "shop")),
        ("RELOAD", ("reload",)),
        ("KILL", ("kill", None)),
        ("KILL shop", ("kill", "shop")),
        ("KILL_CLIENT 7", ("kill_client", 7)),
        ("RECONNECT", ("reconnect", None)),
        ("DISABLE shop", ("disabled", "shop", True)),
        ("ENABLE shop", ("disabled", "shop", False)),
        ("SET pool.size = 30", ("set", "pool.size", "30")),
        ("SET pool.size=30;", ("set", "pool.size", "30")),
        ("SET pool.queue_timeout TO '10 s'", ("set", "pool.queue_timeout", "10 s")),
        ("SHUTDOWN", ("shut_down", False)),
        ("SHUTDOWN WAIT_FOR_CLIENTS", ("shut_down", True)),
    ],
)
async def test_a_command_is_carried_out(
    console: Console, desk: Desk, text: str, asked: tuple[object, ...]
) -> None:
    answer = await ask(console, text)
    assert answer == {"tag": text.split(maxsplit=1)[0].strip(";").upper()}
    assert desk.asked == [asked]


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("FROB", "42601", "no command"),
        ("SHOW POLS", "42601", "SHOW POOLS"),
        ("SHOW POOLS now", "42601", "no argument"),
        ("PAUSE shp", "42704", "shop"),
        ("PAUSE shop other", "42601", "one database"),
        ("PAUSE shop TIMEOUT 10", "42601", "duration"),
        ("PAUSE shop TIMEOUT", "42601", "duration"),
        ("DISABLE", "42601", "one database"),
        ("KILL_CLIENT x", "42601", "id"),
        ("KILL_CLIENT 8", "42704", "SHOW CLIENTS"),
        ("SET pool.size", "42601", "SET pool.size = 30;"),
        ("SHUTDOWN NOW", "42601", "unknown"),
        ("RELOAD x", "42601", "no argument"),
        ("SHOW POOLS; SHOW CLIENTS", "42601", "one command at a time"),
        ("SHOW 'pools", "42601", "not closed"),
        ("-- nothing", "42601", "no command"),
        ("create table t()", "42601", "no command"),
    ],
)
async def test_a_mistake_is_told_with_what_to_type(
    console: Console, desk: Desk, text: str, code: str, told: str
) -> None:
    answer = await ask(console, text)
    assert answer["code"] == code
    assert told in f"{answer['error']} {answer['hint']}"
    assert desk.asked == []


async def test_a_refused_reload_tells_file_line_and_reason(console: Console, desk: Desk) -> None:
    desk.reload_fails = True
    answer = await ask(console, "RELOAD")
    assert (answer["code"], "x.toml:3: is wrong" in answer["error"]) == ("55000", True)


async def test_stats_users_look_but_do_not_touch(console: Console, desk: Desk) -> None:
    assert "rows" in await ask(console, "SHOW POOLS", admin=False, stats=True)
    answer = await ask(console, "KILL", admin=False, stats=True)
    assert answer["code"] == "42501"
    assert "users.op.admin = true" in answer["hint"]
    assert desk.asked == []


async def test_others_do_not_even_look(console: Console) -> None:
    answer = await ask(console, "SHOW POOLS", admin=False)
    assert answer["code"] == "42501"
    assert "users.op.stats = true" in answer["hint"]


async def test_pause_waits_until_everything_is_at_rest(console: Console, desk: Desk) -> None:
    desk.at_rest = False
    task = asyncio.create_task(ask(console, "PAUSE shop"))
    await asyncio.sleep(0.05)
    assert not task.done()
    desk.at_rest = True
    assert await task == {"tag": "PAUSE"}


async def test_pause_that_takes_too_long_is_taken_back(console: Console, desk: Desk) -> None:
    desk.at_rest = False
    answer = await ask(console, "PAUSE shop TIMEOUT '30ms'")
    assert answer["code"] == "57014"
    assert "3 servers were still in use" in answer["error"]
    assert desk.asked == [("pause", "shop"), ("resume", "shop")]


@pytest.mark.parametrize("resume", ["RESUME", "RESUME shop"])
async def test_resume_ends_a_pause_that_still_waits(
    console: Console, desk: Desk, resume: str
) -> None:
    desk.at_rest = False
    task = asyncio.create_task(ask(console, "PAUSE shop"))
    await asyncio.sleep(0.01)
    await ask(console, resume)
    assert (await task)["code"] == "55000"


async def test_pause_of_what_is_paused_changes_nothing(console: Console) -> None:
    assert await ask(console, "PAUSE") == await ask(console, "PAUSE") == {"tag": "PAUSE"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SELECT 1", "1"),
        ("select 1 as one;", "1"),
        ("SELECT 'x''y'", "x'y"),
        ("SHOW client_encoding", "UTF8"),
        ("show transaction isolation level", "read committed"),
        ("select current_database()", "maitred"),
        ("select current_user", "op"),
        ("SELECT pg_catalog.set_config('search_path', '', false)", ""),
        ("select current_setting('server_encoding')", "UTF8"),
    ],
)
async def test_probes_of_drivers_are_answered_to_anybody(
    console: Console, text: str, value: str
) -> None:
    answer = await ask(console, text, admin=False)
    assert answer["rows"] == [[value]]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("BEGIN", "BEGIN"),
        ("commit;", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("SET client_encoding TO 'UTF8'", "SET"),
        ("set extra_float_digits = 3", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"),
        ("SET application_name = 'x'", "SET"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("RESET ALL;", "RESET ALL"),
        ("", ""),
        (" ; ", ""),
    ],
)
async def test_harmless_commands_of_drivers_are_taken(
    console: Console, text: str, tag: str
) -> None:
    assert await ask(console, text, admin=False) == {"tag": tag}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SELECT 1", "1"),
        ("select @@version_comment limit 1", "maitred console"),
        ("SELECT /* mysql-connector-j */ @@session.auto_increment_increment AS x", "1"),
        ("SELECT DATABASE()", "maitred"),
        ("select user()", "op"),
        ("SELECT @@tx_isolation", "REPEATABLE-READ"),
        ("SELECT @@nobody_knows", None),
        ("SELECT CONNECTION_ID()", "0"),
        ("SELECT 'test plain returns' AS anon_1", "test plain returns"),
    ],
)
async def test_probes_of_mysql_drivers_are_answered_to_anybody(
    console: Console, text: str, value: str | None
) -> None:
    answer = await ask(console, text, admin=False, protocol="mysql")
    assert answer["rows"] == [[value]]


async def test_mysql_drivers_read_many_variables_at_once(console: Console) -> None:
    asked = "SELECT @@max_allowed_packet, @@session.autocommit AS a , @@version_comment LIMIT 1"
    answer = await ask(console, asked, admin=False, protocol="mysql")
    assert answer["columns"] == [("@@max_allowed_packet", "text"), ("a", "text"),
                                 ("@@version_comment", "text")]  # fmt: skip
    assert answer["rows"] == [["16777216", "1", "maitred console"]]
    listed = await ask(console, "SHOW VARIABLES LIKE 'character\\_set%'", protocol="mysql")
    assert listed["columns"] == [("Variable_name", "text"), ("Value", "text")]
    wanted = "SHOW SESSION VARIABLES WHERE Variable_name IN ('sql_mode', 'wait_timeout')"
    answer = await ask(console, wanted, protocol="mysql")
    assert answer["rows"] == [["sql_mode", ""], ["wait_timeout", "28800"]]


@pytest.mark.parametrize(
    "text",
    [
        "SET NAMES utf8mb4",
        "SET AUTOCOMMIT = 0",
        "set @@session.sql_mode='x'",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "USE maitred",
        "ROLLBACK",
        "",
    ],
)
async def test_harmless_commands_of_mysql_drivers_are_taken(console: Console, text: str) -> None:
    assert await ask(console, text, admin=False, protocol="mysql") == {"tag": "OK"}


async def test_mysql_clients_have_the_same_commands(console: Console, desk: Desk) -> None:
    answer = await ask(console, "SHOW POOLS", protocol="mysql")
    assert answer["rows"][0][0] == "shop"
    await ask(console, "RECONNECT shop", protocol="mysql")
    assert desk.asked == [("reconnect", "shop")]
    refused = await ask(console, "SELECT 1 FROM t", protocol="mysql")
    assert "the console has no command" in refused["error"]


async def test_version_is_maitreds(console: Console) -> None:
    (row,) = await rows(console, "SHOW VERSION")
    assert str(row["version"]).startswith("maitred ")
    assert "maitred" in (await ask(console, "select version()"))["rows"][0][0]


async def test_lists_count(console: Console) -> None:
    found = {row["list"]: row["items"] for row in await rows(console, "SHOW LISTS")}
    assert (found["databases"], found["pools"], found["used_clients"]) == ("1", "1", "10")
    assert (found["login_clients"], found["free_servers"], found["used_servers"]) == ("3", "2", "4")
