"""Averages between samples.

The time is given. Run by pytest.
"""

from __future__ import annotations

from typing import Any

from maitred.admin.averages import Averages

NAMES = (
    "leases", "transactions", "queries", "received_bytes", "sent_bytes", "query_us", "wait_us",
    "client_parses", "server_parses", "binds", "logins", "client_errors",
)  # fmt: skip


def row(factor: int, database: str = "shop") -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(NAMES, factor * 100)
    return found | {"database": database, "transaction_us": factor * 100 * 50}


def test_before_the_first_period_the_start_counts() -> None:
    found = Averages(100.0).of(110.0, row(1))
    assert (found["xact_count"], found["xact_time"]) == (10, 50)


def test_the_last_complete_period_counts() -> None:
    averages = Averages(0.0)
    averages.sample(10.0, [row(1)])
    averages.sample(20.0, [row(3)])
    found = averages.of(25.0, row(9))
    assert found["query_count"] == 20
    assert found["wait_time"] == 20


def test_a_database_that_came_back_counts_from_zero() -> None:
    averages = Averages(0.0)
    averages.sample(10.0, [row(9)])
    averages.sample(20.0, [row(1)])
    assert averages.of(21.0, row(1))["query_count"] == 0


def test_a_new_database_and_no_work_give_zero() -> None:
    averages = Averages(0.0)
    averages.sample(10.0, [])
    found = averages.of(20.0, row(1, "new"))
    assert set(found.values()) == {0}
