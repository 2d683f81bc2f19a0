"""Turn events of the engine into log lines.

Acts on nothing: what calls for an answer is handled by `supervisor`. Kinds that an attacker or an
outage could multiply are limited per second. Called by `supervisor`.
"""

from __future__ import annotations

import logging

from maitred import log
from maitred.event import (
    ClientClosed,
    ClientOpened,
    Event,
    LoginFailed,
    ServerClosed,
    ServerFailed,
    ServerOpened,
    SlowQuery,
    Unknown,
)

_TEXTS: dict[type[Event], tuple[int, str]] = {
    SlowQuery: (logging.INFO, "slow query"),
    ClientOpened: (logging.INFO, "client connected"),
    ClientClosed: (logging.INFO, "client closed"),
    ServerOpened: (logging.INFO, "server opened"),
    ServerClosed: (logging.INFO, "server closed"),
    ServerFailed: (logging.WARNING, "server could not be opened"),
    LoginFailed: (logging.WARNING, "login failed"),
    Unknown: (logging.WARNING, "the engine reported something unknown"),
}
_MILLISECONDS = {"duration_us": "duration_ms", "wait_us": "wait_ms", "login_us": "login_ms"}


class Reporter:
    """Writes one line for each event, within limits."""

    def __init__(self, limiter: log.Limiter | None = None) -> None:
        """Leave out what `limiter` does not admit."""
        self._limiter = limiter or log.Limiter()

    def on_event(self, event: Event) -> None:
        """Write the line of `event`."""
        known = _TEXTS.get(type(event))
        if known is None:
            return
        level, text = known
        admitted, left_out = self._limiter.admit(type(event).__name__)
        if left_out:
            log.write(logging.WARNING, f"{left_out} more lines were left out", kind=text)
        if admitted:
            log.write(level, text, **_facts(event))


def _facts(event: Event) -> dict[str, object]:
    facts: dict[str, object] = {}
    for name in type(event).__dataclass_fields__:
        value = getattr(event, name)
        if name in _MILLISECONDS:
            facts[_MILLISECONDS[name]] = round(value / 1000, 3)
        else:
            facts[name] = value
    return facts
