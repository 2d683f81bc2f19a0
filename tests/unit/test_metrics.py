"""What Prometheus reads, parsed by Prometheus' own client.

The reports are the test's. Run by pytest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maitred.metrics.catalog import (
    CATALOG,
    COUNTERS,
    IN_OTHER_REPORTS,
    POOLS,
    REPORTS,
    STATS,
    WORKERS,
    Metric,
    Sort,
)
from maitred.metrics.expose import Facts, exposition

REPORT_RS = Path(__file__).parents[2] / "engine/relay/src/report.rs"
FACTS = Facts("1.2.3", "epoll", True, 7, 2, 1)
ROWS = [metric for _, rows in CATALOG for metric in rows]


def _row(metrics: tuple[Metric, ...], **labels: Any) -> dict[str, Any]:
    return {metric.field: number for number, metric in enumerate(metrics, 1)} | labels


POOL = _row(
    POOLS, database="shop", user="app", endpoint="db1:5432", mode="session", protocol="mysql"
)
REPORT: dict[str, list[dict[str, Any]]] = {
    "pools": [POOL],
    "stats": [_row(STATS, database="shop")],
    "workers": [_row(WORKERS, worker=0)],
    "waits": [{"database": "shop", "buckets": [[0, 5], [90, 1], [127, 2], [2**40, 3]]}],
    "counters": [
        {"name": "clients_closed", "labels": {"reason": "quit"}, "value": 3},
        {"name": "clients_closed", "labels": {"reason": "killed"}, "value": 4},
        {"name": "servers_closed", "labels": {"reason": "doubt"}, "value": 5},
        {"name": "servers_opened", "labels": {}, "value": 6},
        {"name": "pins", "labels": {"reason": "advisory lock"}, "value": 2},
        {"name": "servers_moved", "labels": {}, "value": 7},
        {"name": "notifications_heard", "labels": {}, "value": 12},
        {"name": "notifications_told", "labels": {}, "value": 13},
        {"name": "channels", "labels": {}, "value": 14},
        {"name": "login_failures", "labels": {}, "value": 8},
        {"name": "cancel_requests", "labels": {}, "value": 9},
        {"name": "logins_under_way", "labels": {}, "value": 10},
        {"name": "clients", "labels": {}, "value": 11},
    ],
}


@pytest.fixture(scope="module")
def samples() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, content_type = exposition(REPORT, FACTS, "")
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_every_row_of_the_catalogue_is_exposed(samples: dict[Any, float]) -> None:
    names = {name for name, _ in samples}
    expected = {
        metric.name + ("_bucket" if metric.sort is Sort.HISTOGRAM else "") for metric in ROWS
    }
    assert expected <= names


def test_nothing_else_is_exposed(samples: dict[Any, float]) -> None:
    known = {metric.name for metric in ROWS}
    for name, _ in samples:
        is_process = name.startswith("process_")
        histogram = name.rpartition("_")[0]
        assert name in known or histogram in known or is_process, name


@pytest.mark.parametrize("metric", [*POOLS, *STATS, *WORKERS], ids=lambda one: one.name + one.state)
def test_a_number_arrives_in_base_units(metric: Metric, samples: dict[Any, float]) -> None:
    row = REPORT[metric.report][0]
    labels = {label: str(row[label]) for label in metric.labels if label != "state"}
    if metric.state:
        labels["state"] = metric.state
    expected = row[metric.field] * metric.scale
    assert samples[metric.name, frozenset(labels.items())] == pytest.approx(expected)


def test_waits_are_a_cumulative_histogram_of_fixed_buckets(samples: dict[Any, float]) -> None:
    def bucket(edge: str) -> float:
        labels = frozenset({("database", "shop"), ("le", edge)})
        return samples["maitred_wait_duration_seconds_bucket", labels]

    assert [bucket(edge) for edge in ("0.0001", "0.00025", "60.0", "+Inf")] == [6, 8, 8, 11]
    shop = frozenset({("database", "shop")})
    wait_us = REPORT["stats"][0]["wait_us"]
    assert samples["maitred_wait_duration_seconds_sum", shop] == pytest.approx(wait_us * 1e-6)
    assert samples["maitred_wait_duration_seconds_count", shop] == 11


def test_the_engines_own_counters_keep_their_labels(samples: dict[Any, float]) -> None:
    quit_ = frozenset({("reason", "quit")})
    assert samples["maitred_clients_closed_total", quit_] == 3
    assert samples["maitred_servers_moved_total", frozenset()] == 7
    assert samples["maitred_logins_under_way", frozenset()] == 10


def test_every_counter_of_the_engine_has_a_row() -> None:
    text = REPORT_RS.read_text()
    named = set(re.findall(r'(?:plain|by_reason)\(\s*"(\w+)"', text))
    assert named == {metric.field for metric in COUNTERS} | set(IN_OTHER_REPORTS)


def test_facts_of_the_control_plane(samples: dict[Any, float]) -> None:
    assert samples["maitred_info", frozenset({("version", "1.2.3"), ("backend", "epoll")})] == 1
    assert samples["maitred_snapshot_number", frozenset()] == 7
    assert samples["maitred_reload_failures_total", frozenset()] == 1


def test_openmetrics_is_spoken_when_asked_for() -> None:
    accept = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    body, content_type = exposition(REPORT, FACTS, accept)
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_an_engine_without_pools_is_no_error() -> None:
    body, _ = exposition({what: [] for what in REPORTS}, FACTS, "")
    assert b"maitred_ready 1.0" in body
