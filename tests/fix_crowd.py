"""Crowds of clients in processes of their own, and what must hold once they have left.

Knows nothing of what the clients do; that is `break/marked_clients.py` and its like for MySQL.
Called by the isolation and the leak test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from fix_maitred import Maitred
from fix_processes import eventually

PROGRAMS = Path(__file__).parent / "break"
PROCESSES = 2


def run_clients(told: dict[str, object], clients: int) -> Counter[str]:
    """Run the clients in several processes; all counts added up."""
    running = [start_clients(told, name, clients // PROCESSES) for name in "abcdefgh"[:PROCESSES]]
    total: Counter[str] = Counter()
    wrong: list[str] = []
    for each in running:
        found = outcome(each)
        total.update(found["counts"])
        wrong += found["wrong"]
    assert not wrong, "\n".join(wrong)
    return total


def start_clients(told: dict[str, object], name: str, clients: int) -> subprocess.Popen[bytes]:
    """One process of clients; which program they are is `program` in what they are told."""
    plan = told | {"name": name, "clients": clients}
    program = str(told.get("program", "marked_clients.py"))
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS / program), json.dumps(plan)], stdout=subprocess.PIPE
    )


def outcome(running: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, _ = running.communicate()
    assert running.returncode == 0, "the clients' own program failed"
    return json.loads(out)


def told_of(maitred: Maitred, database: str, **more: object) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": maitred.port, "database": database} | more


def at_rest(maitred: Maitred) -> None:
    """All clients have left: nothing is counted as busy or waiting any more."""

    def is_at_rest() -> bool:
        shown = maitred.pool()
        busy = ("cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req",
                "sv_active", "sv_active_cancel", "sv_being_canceled", "sv_login",
                "sv_closing")  # fmt: skip
        assert {name: shown[name] for name in busy} == dict.fromkeys(busy, 0)
        clients = maitred.console("SHOW CLIENTS")
        assert [row for row in clients if row["database"] == "shop"] == []
        return True

    eventually(is_at_rest, because="something is still counted after everybody left")
