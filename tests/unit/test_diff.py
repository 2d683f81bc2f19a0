"""What a reload says that it changes.

Files are written to pytest's folder; no engine is asked. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maitred.config import load
from maitred.config.diff import Difference, between

BASE = """\
[databases.shop]
url = "postgres://app:hush@db1/shop"
[users.app]
password = "hush"
"""


Change = Callable[[str, str], Difference]


@pytest.fixture
def change(tmp_path: Path) -> Change:
    def change(old: str, new: str) -> Difference:
        path = tmp_path / "maitred.toml"
        path.write_text(old)
        before = load.from_file(path)
        path.write_text(new)
        return between(before, load.from_file(path))

    return change


def test_nothing_changes_nothing(change: Change) -> None:
    assert change(BASE, "# moved\n" + BASE).is_empty


def test_a_value_is_told_with_both_sides(change: Change) -> None:
    found = change(BASE, "pool.size = 30\n" + BASE)
    assert found == Difference(("pool.size: 20 -> 30",), ())


def test_what_needs_a_restart_stands_apart(change: Change) -> None:
    found = change(BASE, "engine.workers = 3\nlisten.admin = ''\n" + BASE)
    assert found.live == ()
    assert found.restart == ('listen.admin: 127.0.0.1:9127 -> ""', "engine.workers: 0 -> 3")


def test_sections_come_and_go(change: Change) -> None:
    other = BASE + "[databases.b]\nurl = 'postgres://h/b'\n"
    assert change(BASE, other).live == ("databases.b.url: set to postgres://h/b",)
    assert change(other, BASE).live == ("databases.b.url: no longer set",)


def test_secrets_are_told_without_their_text(change: Change) -> None:
    found = change(BASE, BASE.replace("hush", "hushed"))
    assert found.live == (
        "users.app.password: changed",
        "databases.shop: server password changed",
    )
