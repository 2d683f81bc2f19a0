"""Averages per second between two samples of the engine's totals, as SHOW STATS has them.

Keeps two samples and no clock; the caller says when each was taken.
Fed by `supervisor` once a period, read by `show`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Totals = Mapping[str, Mapping[str, Any]]
"""Rows of the report `stats`, by database."""


class Averages:
    """The last complete period, or the time since the start before there is one."""

    def __init__(self, now_s: float) -> None:
        """Start counting at `now_s`."""
        self._older: tuple[float, Totals] = (now_s, {})
        self._newer: tuple[float, Totals] | None = None

    def sample(self, now_s: float, rows: list[dict[str, Any]]) -> None:
        """Take a sample at the end of a period."""
        if self._newer is not None:
            self._older = self._newer
        self._newer = (now_s, {row["database"]: row for row in rows})

    def of(self, now_s: float, row: Mapping[str, Any]) -> dict[str, int]:
        """Return averages of one database's row; times are per transaction, query or lease."""
        database = row["database"]
        end_s, end = self._newer if self._newer else (now_s, {database: row})
        start_s, start = self._older
        span_s = max(end_s - start_s, 1e-6)
        last, first = end.get(database, {}), start.get(database, {})

        def gained(name: str) -> int:
            # Why: a database that left and came back starts again at zero.
            return max(int(last.get(name, 0)) - int(first.get(name, 0)), 0)

        def per_second(name: str) -> int:
            return int(gained(name) / span_s)

        def each(time: str, count: str) -> int:
            return gained(time) // gained(count) if gained(count) else 0

        return {
            "server_assignment_count": per_second("leases"),
            "xact_count": per_second("transactions"),
            "query_count": per_second("queries"),
            "recv": per_second("received_bytes"),
            "sent": per_second("sent_bytes"),
            "xact_time": each("transaction_us", "transactions"),
            "query_time": each("query_us", "queries"),
            # Spec: PgBouncer divides waiting by time, not by the number of waits.
            "wait_time": per_second("wait_us"),
            "client_parse_count": per_second("client_parses"),
            "server_parse_count": per_second("server_parses"),
            "bind_count": per_second("binds"),
            "client_login_count": per_second("logins"),
        }
