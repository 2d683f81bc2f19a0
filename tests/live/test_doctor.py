"""`maitred doctor isolation` against a running maitred, as an operator would call it.

That it finds what is wrong is shown by `unit/test_doctor.py`. Run by pytest.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from fix_maitred import Maitred, doctor


def examine(port: int) -> subprocess.CompletedProcess[str]:
    url = f"postgres://app:app@127.0.0.1:{port}/shop"
    return doctor("isolation", url, "--lookers", "3")


@pytest.mark.parametrize("size", [1, 3])
def test_nothing_crosses_between_clients(make_maitred: Callable[..., Maitred], size: int) -> None:
    maitred = make_maitred({"pool": {"size": size, "queue_timeout": "2s"}})
    done = examine(maitred.port)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "YES" not in done.stdout


def test_nobody_there_is_said(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred(start=False)
    done = examine(maitred.port)
    assert done.returncode == 2
    assert "cannot log in" in done.stderr
