"""After ten thousand random sessions every counter is back at zero and memory is flat.

What each session is answered is not looked at here: `test_isolation` does that. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fix_crowd import at_rest, run_clients, told_of
from fix_maitred import Maitred
from fix_processes import eventually, settled

MEGABYTE = 1 << 20
WARM_UP = 2_000
SESSIONS = 10_000
# Why: what an allocator keeps back varies; a leak of 1 KiB a session would be 10 MiB.
MAY_GROW = 6 * MEGABYTE


@pytest.mark.deadline(400)
def test_ten_thousand_sessions_leave_nothing(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 8, "queue_timeout": "60s"}}, workers=2)
    # The watch over the files of the configuration opens its descriptors a moment after the start.
    before = settled(maitred.descriptors)
    run_clients(told_of(maitred, "shop", sessions=WARM_UP // 2, seed=1), 60)
    at_rest(maitred)
    warm = maitred.resident_bytes()
    total = run_clients(told_of(maitred, "shop", sessions=SESSIONS // 2, seed=2), 60)
    assert total["sessions"] >= SESSIONS
    at_rest(maitred)
    grown = maitred.resident_bytes() - warm
    assert grown < MAY_GROW, f"memory grew by {grown / MEGABYTE:.1f} MiB"
    servers = len(maitred.console("SHOW SERVERS"))
    # Why eventually: the console's own connection closes a moment after its client has gone.
    eventually(
        lambda: maitred.descriptors() <= before + servers,
        because="descriptors were not given back",
    )
