"""Changes of files are noticed: rewritten, replaced, swapped by a link.

Uses the kernel's notification on pytest's folder. Run by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from maitred.watch import changes, fingerprints

pytestmark = pytest.mark.slow


class Watched:
    """Counts changes of one file."""

    def __init__(self, path: Path) -> None:
        self.stop = asyncio.Event()
        self.seen = asyncio.Queue[None]()
        self._files = frozenset({path})

    async def run(self) -> None:
        async for _ in changes(lambda: self._files, self.stop):
            self.seen.put_nowait(None)

    async def notices(self) -> None:
        async with asyncio.timeout(5):
            await self.seen.get()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    (tmp_path / "..1").mkdir()
    (tmp_path / "..1" / "file").write_text("one")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "file").symlink_to("..data/file")
    found = Watched(tmp_path / "file")
    task = asyncio.create_task(found.run())
    await asyncio.sleep(0.3)
    yield found
    found.stop.set()
    async with asyncio.timeout(5):
        await task


async def test_every_way_to_change_a_file_is_noticed(watched: Watched, tmp_path: Path) -> None:
    # As Kubernetes swaps a mounted secret.
    (tmp_path / "..2").mkdir()
    (tmp_path / "..2" / "file").write_text("two")
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    await watched.notices()
    # As an editor replaces a file.
    (tmp_path / "draft").write_text("three")
    (tmp_path / "draft").replace(tmp_path / "file")
    await watched.notices()
    # As `echo >` rewrites one.
    (tmp_path / "file").write_text("four and more")
    await watched.notices()
    # A neighbour is not the file.
    (tmp_path / "other").write_text("x")
    await asyncio.sleep(0.8)
    assert watched.seen.empty()


def test_a_missing_file_has_no_fingerprint(tmp_path: Path) -> None:
    assert fingerprints([tmp_path / "none"]) == {tmp_path / "none": None}
