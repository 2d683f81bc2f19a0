"""The tables of SHOW: reports of the engine under the column names that tools know.

PgBouncer's columns come first, in its order, and never change; maitred's own follow. Reads only.
Called by `commands`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from maitred import __version__
from maitred.admin.averages import Averages
from maitred.admin.operations import Operations, Rows
from maitred.admin.table import Cell, Table, columns
from maitred.model import Config, Database, Endpoint

_STATS = (
    ("server_assignment_count", "leases"), ("xact_count", "transactions"),
    ("query_count", "queries"), ("received", "received_bytes"), ("sent", "sent_bytes"),
    ("xact_time", "transaction_us"), ("query_time", "query_us"), ("wait_time", "wait_us"),
    ("client_parse_count", "client_parses"), ("server_parse_count", "server_parses"),
    ("bind_count", "binds"), ("client_login_count", "logins"),
)  # fmt: skip
_AVERAGES = (
    "server_assignment_count", "xact_count", "query_count", "recv", "sent", "xact_time",
    "query_time", "wait_time", "client_parse_count", "server_parse_count", "bind_count",
    "client_login_count",
)  # fmt: skip

POOLS = columns(
    "database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4"
    " cl_waiting_cancel_req:int4 sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4"
    " sv_idle:int4 sv_used:int4 sv_tested:int4 sv_login:int4 maxwait:int4 maxwait_us:int4"
    " pool_mode load_balance_hosts"
    " endpoint pool_size:int4 reserve_pool_size:int4 sv_closing:int4 paused:int4 last_error"
    " protocol"
)
_SOCKETS = (
    "type user database replication state addr port:int4 local_addr local_port:int4 connect_time"
    " request_time wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls"
    " application_name prepared_statements:int4 id:int8"
)
CLIENTS = columns(_SOCKETS + " worker:int4 protocol")
SERVERS = columns(_SOCKETS + " worker:int4 endpoint leases:int8 protocol")
CHANNELS = columns("endpoint database channel clients:int8")
PINS = columns("user database client server reasons since seconds:int8 statement")
STATS = columns(
    "database "
    + " ".join(f"total_{name}:numeric" for name, _ in _STATS)
    + " "
    + " ".join(f"avg_{name}:numeric" for name in _AVERAGES)
    + " total_client_error_count:numeric"
)
_TOTAL_NAMES = {"received": "bytes_received", "sent": "bytes_sent"}
STATS_TOTALS = columns(
    "database "
    + " ".join(f"{_TOTAL_NAMES.get(name, name)}:numeric" for name, _ in _STATS)
    + " client_error_count:numeric"
)
# Spec: PgBouncer names the parse, bind and login columns of this one with avg_, the others without.
_AVERAGE_NAMES = {
    "recv": "bytes_received", "sent": "bytes_sent", "client_parse_count": "avg_client_parse_count",
    "server_parse_count": "avg_server_parse_count", "bind_count": "avg_bind_count",
    "client_login_count": "avg_client_login_count",
}  # fmt: skip
STATS_AVERAGES = columns(
    "database " + " ".join(f"{_AVERAGE_NAMES.get(name, name)}:numeric" for name in _AVERAGES)
)
TOTALS = columns("name value:numeric")
DATABASES = columns(
    "name host port:int4 database force_user pool_size:int4 min_pool_size:int4"
    " reserve_pool_size:int4 server_lifetime:int4 pool_mode load_balance_hosts"
    " max_connections:int4 current_connections:int4 max_client_connections:int4"
    " current_client_connections:int4 paused:int4 disabled:int4 endpoint protocol"
)
USERS = columns(
    "name pool_size:int4 reserve_pool_size:int4 pool_mode max_user_connections:int4"
    " current_connections:int4 max_user_client_connections:int4 current_client_connections:int4"
    " admin:int4 stats:int4"
)
CONFIG = columns("key value default changeable")
LISTS = columns("list items:int4")
STATE = columns("key value")
VERSION = columns("version")
WAITS = columns("database waits:int8 p50_us:int8 p90_us:int8 p99_us:int8 max_us:int8")

# Why: exporters and dashboards look these up by PgBouncer's names.
_ALIASES = {
    "max_client_conn": "limits.clients",
    "max_user_connections": "limits.servers_per_user",
    "default_pool_size": "pool.size",
    "pool_mode": "pool.mode",
}


class Show:
    """Builds the tables; one method for each SHOW."""

    def __init__(self, operations: Operations, averages: Averages) -> None:
        """Ask `operations`, divide by `averages`."""
        self._operations = operations
        self._averages = averages

    async def pools(self) -> Table:
        """One row for each pool."""
        return Table.of(POOLS, [_pool(row) for row in await self._operations.report("pools")])

    async def clients(self) -> Table:
        """One row for each client."""
        rows = await self._operations.report("clients")
        return Table.of(CLIENTS, [_client(row, time.time()) for row in rows])

    async def servers(self) -> Table:
        """One row for each server."""
        rows = await self._operations.report("servers")
        return Table.of(SERVERS, [_server(row, time.time()) for row in rows])

    async def channels(self) -> Table:
        """Channels that clients listen to through a shared server, and how many do."""
        rows = await self._operations.report("channels")
        return Table.of(CHANNELS, [dict(row) for row in rows])

    async def pins(self) -> Table:
        """One row for each client that keeps a server beyond a transaction."""
        rows = await self._operations.report("pins")
        return Table.of(PINS, [_pin(row, time.time()) for row in rows])

    async def stats(self) -> Table:
        """Totals and averages by database."""
        rows: list[dict[str, Cell]] = []
        for row in await self._operations.report("stats"):
            found: dict[str, Cell] = {"database": row["database"]}
            found |= {f"total_{name}": row[field] for name, field in _STATS}
            found |= {f"avg_{name}": value for name, value in self._average(row).items()}
            rows.append(found | {"total_client_error_count": row["client_errors"]})
        return Table.of(STATS, rows)

    async def stats_totals(self) -> Table:
        """Totals by database."""
        rows: list[dict[str, Cell]] = []
        for row in await self._operations.report("stats"):
            found: dict[str, Cell] = {"database": row["database"]}
            found |= {_TOTAL_NAMES.get(name, name): row[field] for name, field in _STATS}
            rows.append(found | {"client_error_count": row["client_errors"]})
        return Table.of(STATS_TOTALS, rows)

    async def stats_averages(self) -> Table:
        """Averages by database."""
        rows: list[dict[str, Cell]] = []
        for row in await self._operations.report("stats"):
            found: dict[str, Cell] = {"database": row["database"]}
            for name, value in self._average(row).items():
                found[_AVERAGE_NAMES.get(name, name)] = value
            rows.append(found)
        return Table.of(STATS_AVERAGES, rows)

    async def totals(self) -> Table:
        """Totals and averages over all databases."""
        totals: Counter[str] = Counter()
        averages: Counter[str] = Counter()
        for row in await self._operations.report("stats"):
            totals.update({f"total_{name}": int(row[field]) for name, field in _STATS})
            averages.update({f"avg_{name}": value for name, value in self._average(row).items()})
        rows = [{"name": name, "value": value} for name, value in (totals | averages).items()]
        return Table.of(TOTALS, rows)

    def _average(self, row: Mapping[str, Any]) -> dict[str, int]:
        return self._averages.of(time.monotonic(), row)

    async def databases(self) -> Table:
        """One row for each configured database."""
        config, pools = self._operations.config, await self._operations.report("pools")
        endpoints = {endpoint.name: endpoint for endpoint in config.endpoints}
        disabled = self._operations.disabled
        rows = [
            _database(one, endpoints[one.endpoint], _of(pools, one), one.name in disabled)
            for one in config.databases
        ]
        return Table.of(DATABASES, rows)

    async def users(self) -> Table:
        """One row for each configured user."""
        servers = Counter(row["user"] for row in await self._operations.report("servers"))
        clients = Counter(row["user"] for row in await self._operations.report("clients"))
        rows: list[dict[str, Cell]] = []
        for user in self._operations.config.users:
            mode = user.pool.get("mode")
            rows.append(
                {
                    "name": user.name,
                    "pool_size": _int(user.pool.get("size")),
                    "reserve_pool_size": _int(user.pool.get("reserve_size")),
                    "pool_mode": str(mode) if mode else None,
                    "max_user_connections": user.max_servers,
                    "current_connections": servers[user.name],
                    "max_user_client_connections": user.max_clients,
                    "current_client_connections": clients[user.name],
                    "admin": user.admin,
                    "stats": user.stats,
                }
            )
        return Table.of(USERS, rows)

    async def config(self) -> Table:
        """Every setting in force."""
        return Table.of(CONFIG, _settings(self._operations.config))

    async def lists(self) -> Table:
        """How many there are of each thing."""
        report = self._operations.report
        pools = await report("pools")
        logged_in = sum(row["clients"] for row in pools)
        idle = sum(row["servers_idle"] for row in pools)
        counts = {
            "databases": len(self._operations.config.databases),
            "users": len(self._operations.config.users),
            "peers": 0,
            "pools": len(pools),
            "peer_pools": 0,
            "free_clients": 0,
            "used_clients": logged_in,
            "login_clients": _counter(await report("counters"), "logins_under_way"),
            "free_servers": idle,
            "used_servers": sum(_servers(row) for row in pools) - idle,
            "dns_names": 0,
            "dns_zones": 0,
            "dns_queries": 0,
            "dns_pending": 0,
        }
        rows = [{"list": name, "items": count} for name, count in counts.items()]
        return Table.of(LISTS, rows)

    async def state(self) -> Table:
        """Whether work is done, held or ending."""
        pools = await self._operations.report("pools")
        paused = bool(pools) and all(row["paused"] for row in pools)
        draining = self._operations.phase == "draining"
        states = {
            "active": not paused and not draining,
            "paused": paused,
            "suspended": False,
            "draining": draining,
        }
        rows = [{"key": key, "value": "yes" if on else "no"} for key, on in states.items()]
        return Table.of(STATE, rows)

    async def version(self) -> Table:
        """The version."""
        return Table.of(VERSION, [{"version": f"maitred {__version__}"}])

    async def waits(self) -> Table:
        """How long clients waited for a server, by database."""
        return Table.of(WAITS, [_waits(row) for row in await self._operations.report("waits")])


def _pool(row: Mapping[str, Any]) -> dict[str, Cell]:
    return {
        "database": row["database"],
        "user": row["user"],
        "cl_active": max(row["clients"] - row["clients_waiting"] - row["clients_cancelling"], 0),
        "cl_waiting": row["clients_waiting"],
        "cl_active_cancel_req": row["clients_cancelling"],
        "cl_waiting_cancel_req": 0,
        "sv_active": row["servers_active"],
        "sv_active_cancel": row["servers_cancelling"],
        "sv_being_canceled": 0,
        "sv_idle": row["servers_idle"],
        "sv_used": 0,
        "sv_tested": 0,
        "sv_login": row["servers_opening"],
        "maxwait": row["max_wait_us"] // 1_000_000,
        "maxwait_us": row["max_wait_us"] % 1_000_000,
        "pool_mode": row["mode"],
        "load_balance_hosts": None,
        "endpoint": row["endpoint"],
        "pool_size": row["size"],
        "reserve_pool_size": row["reserve_size"],
        "sv_closing": row["servers_closing"],
        "sv_listening": row["servers_listening"],
        "paused": bool(row["paused"]),
        "last_error": row["last_error"],
        "protocol": row["protocol"],
    }


def _socket(row: Mapping[str, Any], now_s: float) -> dict[str, Cell]:
    return {
        "user": row["user"],
        "database": row["database"],
        "state": row["state"],
        "addr": row["address"],
        "port": row["port"],
        "local_addr": row["local_address"],
        "local_port": row["local_port"],
        "connect_time": _stamp(now_s, row["connected_us"]),
        "request_time": _stamp(now_s, row["request_us"]),
        "close_needed": 0,
        "tls": row["tls"] or "",
        "application_name": row["application_name"] or "",
        "prepared_statements": row["prepared_statements"],
        "id": row["id"],
        "worker": row["worker"],
        "protocol": row["protocol"],
    }


def _client(row: Mapping[str, Any], now_s: float) -> dict[str, Cell]:
    return _socket(row, now_s) | {
        "type": "C",
        "replication": row["replication"] or "none",
        "wait": row["wait_us"] // 1_000_000,
        "wait_us": row["wait_us"] % 1_000_000,
        "ptr": f"client-{row['id']}",
        "link": "" if row["server"] is None else f"server-{row['server']}",
        "remote_pid": 0,
    }


def _server(row: Mapping[str, Any], now_s: float) -> dict[str, Cell]:
    return _socket(row, now_s) | {
        "type": "S",
        "replication": "none",
        "wait": 0,
        "wait_us": 0,
        "ptr": f"server-{row['id']}",
        "link": "" if row["client"] is None else f"client-{row['client']}",
        "remote_pid": row["pid"],
        "endpoint": row["endpoint"],
        "leases": row["leases"],
    }


def _pin(row: Mapping[str, Any], now_s: float) -> dict[str, Cell]:
    return {
        "user": row["user"],
        "database": row["database"],
        "client": f"client-{row['client']}",
        "server": f"server-{row['server']}",
        "reasons": ", ".join(row["reasons"]),
        "since": _stamp(now_s, row["since_us"]),
        "seconds": row["since_us"] // 1_000_000,
        "statement": row["shape"],
    }


def _stamp(now_s: float, ago_us: int | None) -> str:
    if ago_us is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s - ago_us / 1e6))


def _of(pools: Rows, database: Database) -> Rows:
    return [row for row in pools if row["database"] == database.name]


def _servers(row: Mapping[str, Any]) -> int:
    # Why: a server that delivers a cancel request is in one of these states as well.
    states = ("active", "idle", "opening", "closing")
    return sum(row[f"servers_{state}"] for state in states)


def _database(one: Database, endpoint: Endpoint, pools: Rows, disabled: bool) -> dict[str, Cell]:
    address = endpoint.address
    folder, _, port = address.path.rpartition("/.s.PGSQL.")
    return {
        "name": one.name,
        "host": address.host or folder or address.path,
        "port": address.port or (int(port) if port.isdigit() else None),
        "database": one.remote_name or one.name,
        "force_user": one.user,
        "pool_size": _int(one.pool["size"]),
        "min_pool_size": _int(one.pool["min_size"]),
        "reserve_pool_size": _int(one.pool["reserve_size"]),
        "server_lifetime": (_int(one.pool["server_lifetime_ms"]) or 0) // 1000,
        "pool_mode": str(one.pool["mode"]),
        "load_balance_hosts": None,
        "max_connections": one.max_servers,
        "current_connections": sum(_servers(row) for row in pools),
        "max_client_connections": one.max_clients,
        "current_client_connections": sum(row["clients"] for row in pools),
        "paused": any(row["paused"] for row in pools),
        "disabled": one.disabled or disabled,
        "endpoint": endpoint.name,
        "protocol": endpoint.dialect,
    }


def _settings(config: Config) -> Iterator[dict[str, Cell]]:
    by_name = {one.name: one for one in config.effective}
    named = [(one.name, one) for one in config.effective]
    aliases = [(alias, by_name[name]) for alias, name in _ALIASES.items() if name in by_name]
    for key, one in [*named, *aliases]:
        yield {
            "key": key,
            "value": one.value,
            "default": one.default,
            "changeable": "yes" if one.changeable else "no",
        }


def _waits(row: Mapping[str, Any]) -> dict[str, Cell]:
    buckets: list[tuple[int, int]] = [(upper, count) for upper, count in row["buckets"]]
    total = sum(count for _, count in buckets)
    return {
        "database": row["database"],
        "waits": total,
        "p50_us": _quantile(buckets, total, 0.50),
        "p90_us": _quantile(buckets, total, 0.90),
        "p99_us": _quantile(buckets, total, 0.99),
        "max_us": _quantile(buckets, total, 1.0),
    }


def _quantile(buckets: Iterable[tuple[int, int]], total: int, part: float) -> int:
    """Return the upper edge of the bucket in which the quantile lies; 0 without waits."""
    seen = 0
    for upper_us, count in buckets:
        seen += count
        if count and seen >= part * total:
            return upper_us
    return 0


def _counter(rows: Rows, name: str) -> int:
    return sum(row["value"] for row in rows if row["name"] == name)


def _int(value: object) -> int | None:
    return value if isinstance(value, int) else None
