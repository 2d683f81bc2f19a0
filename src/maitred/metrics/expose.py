"""Turn reports of the engine into what Prometheus reads.

Keeps nothing between calls; every number is the engine's or given. Called by `supervisor` for
each GET of /metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from maitred.metrics.catalog import (
    COUNTERS,
    POOLS,
    STATS,
    WAIT_EDGES_S,
    WAITS,
    WORKERS,
    Metric,
    Sort,
)

Reports = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the control plane knows of itself."""

    version: str
    backend: str
    ready: bool
    snapshot: int
    reloads: int
    reload_failures: int


def exposition(reports: Reports, facts: Facts, accept: str) -> tuple[bytes, str]:
    """Return the body and its content type for an Accept header."""
    registry = CollectorRegistry()
    registry.register(_Once(reports, facts))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Once(Collector):
    """The library's way to ask for families."""

    def __init__(self, reports: Reports, facts: Facts) -> None:
        self._reports = reports
        self._facts = facts

    def describe(self) -> Iterable[Family]:
        """Nothing: names are unique by the catalogue, and asking twice would cost twice."""
        return ()

    def collect(self) -> Iterable[Family]:
        """Yield every family once."""
        yield from _tables((*POOLS, *STATS, *WORKERS), self._reports)
        sums_us = {row["database"]: row["wait_us"] for row in self._reports.get("stats", [])}
        yield _waits(self._reports.get(WAITS.report, []), sums_us)
        yield from _counters(self._reports.get("counters", []))
        yield from _control(self._facts)


def _family(metric: Metric) -> GaugeMetricFamily | CounterMetricFamily:
    make = CounterMetricFamily if metric.sort is Sort.COUNTER else GaugeMetricFamily
    return make(metric.name, metric.meaning, labels=metric.labels)


def _tables(metrics: Iterable[Metric], reports: Reports) -> Iterator[Family]:
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for metric in metrics:
        family = families.setdefault(metric.name, _family(metric))
        for row in reports.get(metric.report, []):
            labels = [
                metric.state if label == "state" else str(row[label]) for label in metric.labels
            ]
            family.add_metric(labels, float(row[metric.field]) * metric.scale)
    yield from families.values()


def _waits(rows: Iterable[Mapping[str, Any]], sums_us: Mapping[str, int]) -> Family:
    """Put the engine's many fine buckets into few that are always the same.

    Why: Prometheus computes rates by bucket, so a bucket must not come and go with what fills it.
    Spec: a Prometheus histogram is cumulative and ends with +Inf.
    """
    family = HistogramMetricFamily(WAITS.name, WAITS.meaning, labels=WAITS.labels)
    for row in rows:
        fine: list[tuple[int, int]] = [(upper, count) for upper, count in row["buckets"]]
        buckets = [
            (str(edge_s), float(sum(count for upper_us, count in fine if upper_us <= edge_s * 1e6)))
            for edge_s in WAIT_EDGES_S
        ]
        buckets.append(("+Inf", float(sum(count for _, count in fine))))
        sum_s = sums_us.get(row["database"], 0) * WAITS.scale
        family.add_metric([row["database"]], buckets, sum_value=sum_s)
    return family


def _counters(rows: Iterable[Mapping[str, Any]]) -> Iterator[Family]:
    families = {metric.field: _family(metric) for metric in COUNTERS}
    labels = {metric.field: metric.labels for metric in COUNTERS}
    for row in rows:
        family = families.get(row["name"])
        if family is not None:
            values = [row["labels"][label] for label in labels[row["name"]]]
            family.add_metric(values, float(row["value"]))
    yield from families.values()


def _control(facts: Facts) -> Iterator[Family]:
    info = GaugeMetricFamily("maitred_info", "1; what is running.", labels=["version", "backend"])
    info.add_metric([facts.version, facts.backend], 1)
    yield info
    yield GaugeMetricFamily("maitred_ready", "1 while clients may come.", value=float(facts.ready))
    yield GaugeMetricFamily(
        "maitred_snapshot_number", "Number of the configuration in force.", value=facts.snapshot
    )
    yield CounterMetricFamily(
        "maitred_reloads_total", "Configurations taken after the first.", value=facts.reloads
    )
    yield CounterMetricFamily(
        "maitred_reload_failures_total", "Configurations refused.", value=facts.reload_failures
    )
