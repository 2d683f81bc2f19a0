"""The table of every metric: name, unit, labels, meaning; the reference page comes from it.

Only rows. A number that is exposed has a row here, and a row has a number behind it.
Called by `expose` and the reference page.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Sort(Enum):
    """What Prometheus calls the type."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row.

    `report` and `field` say where the number is: a report of the engine and its column.
    `scale` turns the column's unit into the metric's; `state` is the value of the label `state`.
    """

    name: str
    sort: Sort
    unit: str
    labels: tuple[str, ...]
    meaning: str
    report: str = ""
    field: str = ""
    scale: float = 1.0
    state: str = ""


# Why: a reload may change the mode, and both pools live on until the old one is empty.
_POOL = ("database", "user", "endpoint", "mode", "protocol")
_US = 1e-6


def _pool_gauge(name: str, field: str, meaning: str, unit: str = "", scale: float = 1.0) -> Metric:
    return Metric(name, Sort.GAUGE, unit, _POOL, meaning, "pools", field, scale)


def _pool_state(side: str, state: str, meaning: str) -> Metric:
    return Metric(
        f"maitred_pool_{side}", Sort.GAUGE, side, (*_POOL, "state"), meaning, "pools",
        f"{side}_{state}", state=state,
    )  # fmt: skip


def _total(name: str, unit: str, field: str, meaning: str, scale: float = 1.0) -> Metric:
    return Metric(
        f"maitred_{name}_total", Sort.COUNTER, unit, ("database",), meaning, "stats", field, scale
    )


POOLS = (
    _pool_state("clients", "active", "Clients of a pool by what they do."),
    _pool_state("clients", "waiting", "Clients of a pool by what they do."),
    _pool_gauge("maitred_pool_clients_connected", "clients", "Clients of a pool.", "clients"),
    _pool_state("servers", "active", "Servers of a pool by what they do."),
    _pool_state("servers", "idle", "Servers of a pool by what they do."),
    _pool_state("servers", "opening", "Servers of a pool by what they do."),
    _pool_state("servers", "closing", "Servers of a pool by what they do."),
    _pool_state("servers", "listening", "Servers of a pool by what they do."),
    # Why: apart from the states, of which such a server has one as well.
    _pool_gauge(
        "maitred_pool_servers_cancelling", "servers_cancelling",
        "Servers on which a cancel request is under way.", "servers",
    ),
    _pool_gauge("maitred_pool_size", "size", "Servers the pool may open: `pool.size`.", "servers"),
    _pool_gauge(
        "maitred_pool_reserve_size", "reserve_size",
        "Servers beyond it: `pool.reserve_size`.", "servers",
    ),
    _pool_gauge(
        "maitred_pool_longest_wait_seconds", "max_wait_us",
        "How long the first client in the queue has waited.", "seconds", _US,
    ),
    _pool_gauge("maitred_pool_paused", "paused", "1 while the pool is paused."),
)  # fmt: skip

STATS = (
    _total("leases", "leases", "leases", "Times a server was lent to a client."),
    _total("transactions", "transactions", "transactions", "Finished transactions."),
    _total("queries", "queries", "queries", "Finished queries."),
    _total("received_bytes", "bytes", "received_bytes", "Bytes received from clients."),
    _total("sent_bytes", "bytes", "sent_bytes", "Bytes sent to clients."),
    _total(
        "transaction_seconds", "seconds", "transaction_us",
        "Time in transactions, idle time inside included.", _US,
    ),
    _total("query_seconds", "seconds", "query_us", "Time in queries.", _US),
    _total("wait_seconds", "seconds", "wait_us", "Time clients waited for a server.", _US),
    _total("client_parses", "statements", "client_parses", "Statements clients prepared."),
    _total("server_parses", "statements", "server_parses", "Statements prepared on servers."),
    _total("binds", "binds", "binds", "Bind messages from clients."),
    _total("logins", "clients", "logins", "Clients that logged in."),
    _total("client_errors", "errors", "client_errors", "Errors that maitred itself gave clients."),
    _total(
        "queue_timeouts", "clients", "queue_timeouts",
        "Clients that waited for longer than `pool.queue_timeout`.",
    ),
    _total(
        "queue_refusals", "clients", "queue_refusals",
        "Clients refused because `pool.queue_length` was reached.",
    ),
    _total(
        "healed_statements", "statements", "healed",
        "Statements prepared anew after a schema change, unnoticed by the client.",
    ),
)  # fmt: skip

WAITS = Metric(
    "maitred_wait_duration_seconds", Sort.HISTOGRAM, "seconds", ("database",),
    "How long a client waited for a server; the waits of zero length included.", "waits", "buckets",
    _US,
)  # fmt: skip

WAIT_EDGES_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper edges of its buckets; the engine's own are finer, SHOW WAITS uses those."""

WORKERS = (
    Metric(
        "maitred_worker_clients", Sort.GAUGE, "clients", ("worker",), "Clients of a worker.",
        "workers", "clients",
    ),
    Metric(
        "maitred_worker_servers", Sort.GAUGE, "servers", ("worker",), "Servers of a worker.",
        "workers", "servers",
    ),
    Metric(
        "maitred_worker_loops_total", Sort.COUNTER, "turns", ("worker",),
        "Turns of a worker's loop.", "workers", "loops",
    ),
)  # fmt: skip


def _counter(name: str, unit: str, meaning: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(f"maitred_{name}_total", Sort.COUNTER, unit, labels, meaning, "counters", name)


COUNTERS = (
    _counter("clients_closed", "clients", "Clients that left or were closed.", ("reason",)),
    _counter("servers_closed", "servers", "Servers that were closed.", ("reason",)),
    _counter("servers_opened", "servers", "Servers that logged in."),
    _counter("servers_moved", "servers", "Idle servers that went from one worker to another."),
    _counter(
        "pins", "leases", "Leases kept beyond a transaction, by what kept them.", ("reason",)
    ),
    _counter("notifications_heard", "notifications", "Notifications from listening servers."),
    _counter("notifications_told", "notifications", "Notifications passed on to clients."),
    Metric(
        "maitred_channels", Sort.GAUGE, "channels", (), "Channels that listening servers hear.",
        "counters", "channels",
    ),
    _counter("login_failures", "clients", "Clients that could not log in."),
    _counter("cancel_requests", "requests", "Requests to cancel a query."),
    Metric(
        "maitred_logins_under_way", Sort.GAUGE, "clients", (), "Clients that are logging in now.",
        "counters", "logins_under_way",
    ),
)  # fmt: skip
"""Here `field` is the engine's name of the counter."""

IN_OTHER_REPORTS = ("clients", "servers")
"""Counters of the engine that the workers' report has already."""

CONTROL = (
    Metric("maitred_info", Sort.GAUGE, "", ("version", "backend"), "1; what is running."),
    Metric(
        "maitred_ready", Sort.GAUGE, "", (), "1 while clients may come: what `/readyz` says."
    ),
    Metric(
        "maitred_snapshot_number", Sort.GAUGE, "", (), "Number of the configuration in force."
    ),
    Metric("maitred_reloads_total", Sort.COUNTER, "", (), "Configurations taken after the first."),
    Metric(
        "maitred_reload_failures_total", Sort.COUNTER, "", (),
        "Configurations refused; the last good one stayed.",
    ),
)  # fmt: skip

CATALOG: tuple[tuple[str, tuple[Metric, ...]], ...] = (
    ("Pools", POOLS),
    ("Databases", (*STATS, WAITS)),
    ("Workers", WORKERS),
    ("Comings and goings", COUNTERS),
    ("Control plane", CONTROL),
)

REPORTS = ("pools", "stats", "waits", "workers", "counters")
"""What must be asked of the engine for one exposition."""
