"""Notice that a file of the configuration changed, certificates included.

Reads no content: a change is a change of a file's identity, size or time. What to do about it is
the caller's. Called by `supervisor`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

Print = tuple[int, int, int, int]


def fingerprints(files: Iterable[Path]) -> dict[Path, Print | None]:
    """Return what identifies each file's content; None for a file that is not there."""
    found: dict[Path, Print | None] = {}
    for path in files:
        try:
            stat = path.stat()
            found[path] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        except OSError:
            found[path] = None
    return found


async def changes(files: Callable[[], frozenset[Path]], stop: asyncio.Event) -> AsyncIterator[None]:
    """Yield each time one of `files()` changed, until `stop`.

    `files` is asked again after each yield, because a reload may name other files.
    """
    while not stop.is_set():
        watched = files()
        before = fingerprints(watched)
        # Why: editors and Kubernetes replace a file or a link beside it, so folders are watched.
        folders = {path.parent for path in watched if path.parent.is_dir()}
        if not folders:
            await stop.wait()
            return
        async with contextlib.aclosing(
            awatch(
                *folders,
                watch_filter=None,
                recursive=False,
                stop_event=stop,
                debounce=400,
                step=100,
            )
        ) as seen:
            # Why: what changed between reading and watching would go unnoticed.
            changed = fingerprints(watched) != before
            while not changed:
                try:
                    await anext(seen)
                except StopAsyncIteration:
                    return
                changed = fingerprints(watched) != before
        yield
