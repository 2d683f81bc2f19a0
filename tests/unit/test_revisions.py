"""Reloads: all or nothing, numbered, and what the console sets for a while.

`Applied` stands for the engine, by the Protocol `Applies`. Run by pytest.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from maitred.errors import ConfigInvalid, ConsoleUnknown, EngineRefused
from maitred.prepare import Source
from maitred.revisions import Revisions

TEXT = "[databases.shop]\nurl = 'postgres://a:b@h/x'\n[users.a]\npassword = 'b'\n"


class Applied:
    """Keeps snapshots, or refuses them."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self.refuses = False

    def apply(self, snapshot: dict[str, Any]) -> None:
        if self.refuses:
            raise EngineRefused("cannot listen on 1.2.3.4:5")
        self.snapshots.append(snapshot)

    @property
    def size(self) -> int:
        return int(self.snapshots[-1]["databases"][0]["pool"]["size"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "maitred.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
async def revisions(file: Path) -> Revisions:
    found = Revisions(Source(file=file))
    first = await found.first()
    assert first["number"] == 1
    return found


async def test_a_reload_brings_the_next_number(revisions: Revisions, file: Path) -> None:
    engine = Applied()
    file.write_text("pool.size = 30\n" + TEXT)
    change = await revisions.reload(engine, cause="SIGHUP")
    assert (engine.snapshots[-1]["number"], engine.size) == (2, 30)
    assert change.live == ("pool.size: 20 -> 30",)
    assert (revisions.number, revisions.reloads, revisions.failures) == (2, 1, 0)


async def test_a_bad_file_changes_nothing_and_tells_why(
    revisions: Revisions, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Applied()
    file.write_text("pool.size = 'x'\npool.mode = 'y'\n" + TEXT)
    with pytest.raises(ConfigInvalid), caplog.at_level(logging.ERROR):
        await revisions.reload(engine, cause="SIGHUP")
    assert engine.snapshots == []
    assert (revisions.number, revisions.failures) == (1, 1)
    assert revisions.config.databases[0].pool["size"] == 20
    assert f"{file}:1: pool.size must be" in caplog.text
    assert f"{file}:2: pool.mode must be" in caplog.text


async def test_what_the_engine_refuses_changes_nothing(
    revisions: Revisions, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Applied()
    engine.refuses = True
    file.write_text("pool.size = 30\n" + TEXT)
    with pytest.raises(EngineRefused):
        await revisions.reload(engine, cause="a file changed")
    assert revisions.config.databases[0].pool["size"] == 20
    assert "cannot listen on 1.2.3.4:5" in caplog.text


async def test_the_console_sets_until_the_next_reload(revisions: Revisions) -> None:
    engine = Applied()
    await revisions.set(engine, "pool.size", "30")
    await revisions.set(engine, "pool.queue_timeout", "5s")
    assert engine.size == 30
    assert engine.snapshots[-1]["databases"][0]["pool"]["queue_timeout_ms"] == 5000
    await revisions.reload(engine, cause="RELOAD")
    assert engine.size == 20


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("pool.sise", "3", ConsoleUnknown),
        ("users.NAME.password", "3", ConsoleUnknown),
        ("engine.workers", "3", ConsoleUnknown),
        ("pool.size", "0", ConfigInvalid),
        ("pool.size", "many", ConfigInvalid),
        ("log.connections", "perhaps", ConfigInvalid),
    ],
)
async def test_the_console_sets_nothing_bad(
    revisions: Revisions, name: str, value: str, error: type[Exception]
) -> None:
    engine = Applied()
    with pytest.raises(error):
        await revisions.set(engine, name, value)
    assert engine.snapshots == []


async def test_a_disabled_database_stays_so_over_a_reload(revisions: Revisions) -> None:
    engine = Applied()
    await revisions.set_disabled(engine, "shop", True)
    await revisions.reload(engine, cause="RELOAD")
    assert engine.snapshots[-1]["databases"][0]["disabled"] is True
    await revisions.set_disabled(engine, "shop", False)
    assert engine.snapshots[-1]["databases"][0]["disabled"] is False
    assert [one["number"] for one in engine.snapshots] == [2, 3, 4]


async def test_unchanged_users_stay_unchanged(revisions: Revisions) -> None:
    engine = Applied()
    await revisions.reload(engine, cause="RELOAD")
    await revisions.reload(engine, cause="RELOAD")
    assert engine.snapshots[0]["users"] == engine.snapshots[1]["users"]
