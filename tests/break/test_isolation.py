"""No client ever receives another client's bytes, whatever happens around it.

Thousands of clients each ask for their own marker while cancels, kills, disconnects, garbage and
errors rain; every answer is checked in full. Run by pytest; scaled by `--isolation-clients` and
`--isolation-seconds`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fix_crowd import at_rest, outcome, run_clients, start_clients, told_of
from fix_maitred import Maitred


@pytest.mark.deadline(600)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_client_gets_its_own_answers(
    make_maitred: Callable[..., Maitred],
    pytestconfig: pytest.Config,
    workers: int,
) -> None:
    clients = pytestconfig.getoption("--isolation-clients")
    seconds = pytestconfig.getoption("--isolation-seconds")
    maitred = make_maitred(
        {"pool": {"size": 10, "queue_timeout": "60s"}, "limits": {"clients": 2 * clients + 100}},
        workers=workers,
    )
    told = told_of(maitred, "shop", seconds=seconds, seed=workers)
    total = run_clients(told, clients)
    # Without these the test would pass on a maitred that answers hardly anybody.
    assert total["answers checked"] > clients
    assert total["error 57014"] > 0, "no cancel ever hit"
    assert total["transactions over several servers"] == 0
    at_rest(maitred)


def test_orderly_clients_see_no_error_at_all(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 5, "queue_timeout": "60s"}}, workers=2)
    total = run_clients(told_of(maitred, "shop", seconds=3, deeds="orderly"), 100)
    assert total["answers checked"] > 100
    unexpected = {key for key in total if key.startswith("error")} - {"error 22012", "error 22P02"}
    assert not unexpected, total


def test_cancels_hit_nobody_else(make_maitred: Callable[..., Maitred]) -> None:
    """Half of the clients cancel all the time, the other half must never notice."""
    maitred = make_maitred({"pool": {"size": 4, "queue_timeout": "60s"}}, workers=2)
    told = told_of(maitred, "shop", seconds=4)
    running = [
        start_clients(told | {"deeds": deeds}, name, 40)
        for name, deeds in (("rogue", "cancels"), ("calm", "orderly"))
    ]
    rogue, calm = (outcome(each) for each in running)
    assert not rogue["wrong"], rogue["wrong"]
    assert not calm["wrong"], calm["wrong"]
    assert rogue["counts"]["error 57014"] > 0
    assert "error 57014" not in calm["counts"], "a cancel hit another client's query"
    assert calm["counts"]["answers checked"] > 100
