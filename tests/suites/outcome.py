"""How one test of a suite ended.

Pure data; says nothing about why.
Called by the runners `run` and `node`, and by `record`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How one test ended: passed, failed or skipped, and the first line of why it failed."""

    outcome: str
    said: str = ""
