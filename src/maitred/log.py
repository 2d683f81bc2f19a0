"""Log lines: for people as text, for machines as JSON; never a secret in either.

Decides only how a line looks and how many of a kind are too many; what is logged is said by the
callers. Used by `supervisor` and `cli`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from maitred.secret import redact

LOGGER = logging.getLogger("maitred")


def write(level: int, text: str, **facts: object) -> None:
    """Write one line with its facts, which stay apart from the text in JSON."""
    LOGGER.log(level, "%s", text, extra={"facts": facts})


def set_up(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the package's log lines to `stream` (standard error), in `form` "text" or "json"."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level.upper())
    LOGGER.propagate = False


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in getattr(record, "facts", {}).items() if value is not None}


def _time(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`time LEVEL text  key=value …`, one line (a traceback follows on its own lines)."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        facts = "".join(f" {key}={_quoted(value)}" for key, value in _facts(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}"
        line = redact(f"{line} {facts}" if facts else line)
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, text, and the facts under their own names."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "text": redact(record.getMessage()),
        }
        line |= {
            key: redact(value) if isinstance(value, str) else value
            for key, value in _facts(record).items()
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(one.isspace() or one in '"=' for one in text):
        return text
    return json.dumps(text, ensure_ascii=False)


class Limiter:
    """Lets `most` lines of a kind through per second and counts the others.

    Why: ten thousand wrong passwords a second must not cost more in log lines than in logins.
    """

    def __init__(self, most: int = 50, clock: Callable[[], float] = time.monotonic) -> None:
        """Count by `clock`, in seconds."""
        self._most = most
        self._clock = clock
        self._seen: dict[str, tuple[int, int, int]] = {}

    def admit(self, kind: str) -> tuple[bool, int]:
        """Return whether to write a line now, and how many were left out since the last one."""
        second = int(self._clock())
        start, written, left_out = self._seen.get(kind, (second, 0, 0))
        if start != second:
            written = 0
        if written >= self._most:
            self._seen[kind] = (second, written, left_out + 1)
            return False, 0
        self._seen[kind] = (second, written + 1, 0)
        return True, left_out
