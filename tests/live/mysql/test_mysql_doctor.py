"""`maitred doctor isolation` for MySQL clients, as an operator would call it.

That it finds what is wrong is shown by `unit/test_doctor.py`. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fix_maitred import doctor
from fix_mariadb import PASSWORD
from fix_mysql_front import Front

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize("size", [1, 3])
def test_nothing_crosses_between_clients(make_front: Callable[..., Front], size: int) -> None:
    front = make_front({"pool": {"size": size, "queue_timeout": "2s"}})
    host, port = front.address
    url = f"mysql://app:{PASSWORD}@{host}:{port}/shop"
    done = doctor("isolation", url, "--lookers", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "YES" not in done.stdout
