"""The isolation test with thousands of clients at once, for a quiet machine.

Run by pytest with `--run-slow`; the variant of every run stands in `test_isolation`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fix_crowd import at_rest, run_clients, told_of
from fix_maitred import Maitred

CLIENTS = 3000


@pytest.mark.slow
@pytest.mark.deadline(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_thousands_of_clients_get_their_own_answers(
    make_maitred: Callable[..., Maitred], workers: int
) -> None:
    maitred = make_maitred(
        {"pool": {"size": 20, "queue_timeout": "0s"}, "limits": {"clients": 3 * CLIENTS}},
        workers=workers,
    )
    told = told_of(maitred, "shop", seconds=60, seed=10 + workers, patience=300)
    total = run_clients(told, CLIENTS)
    assert total["answers checked"] > CLIENTS
    assert total["error 57014"] > 0, "no cancel ever hit"
    assert total["transactions over several servers"] == 0
    at_rest(maitred)
