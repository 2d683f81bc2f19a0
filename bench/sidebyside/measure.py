"""What a measure is given, and the rounds in which targets take turns.

It must not know any single measure.
Called by the measures and by `bench/run.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .pgbench import Pgbench
from .process import BenchError
from .targets import Site, Target


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    site: Site
    pgbench: Pgbench
    rounds: int
    seconds: int
    # A tenth of the idle clients and of the bulk: to see that everything works.
    quick: bool
    only: frozenset[str]
    # Seconds between two runs, for the database to settle.
    pause_s: float = 0.3

    def wants(self, measure: str) -> bool:
        # Why: `mysql` stands for all that begin with it.
        asked = {measure, measure.partition("-")[0]}
        return not self.only or bool(asked & self.only)


def say(text: str) -> None:
    """Progress for people; the table goes to standard output, this does not."""
    print(text, file=sys.stderr, flush=True)


def turns(plan: Plan, targets: Sequence[Target], rounds: int | None = None) -> Iterator[Target]:
    """Each target once per round; every round starts with another one.

    Why: what else the machine does in a minute hits all targets alike.
    """
    for number in range(rounds or plan.rounds):
        shift = number % len(targets)
        for target in [*targets[shift:], *targets[:shift]]:
            time.sleep(plan.pause_s)
            yield target


def attempt(what: str, target: Target, act: Callable[[], None]) -> None:
    """Do `act`; when it cannot be done, say so and leave that value out of the table."""
    try:
        act()
    except (BenchError, OSError) as error:
        say(f"  {what} at {target.name}: left out: {error}")
