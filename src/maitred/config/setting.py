"""What a setting is: its kind, default, bounds and text, and how a written value is checked.

Knows no particular setting (those are rows of `schema`) and reads no file.
Called by `schema`, `read` and the reference page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import cast

from maitred.config import units
from maitred.config.units import BadValue
from maitred.model import Value
from maitred.secret import HIDDEN, redact

STATE_KINDS = (
    "any setting",
    "advisory lock",
    "temporary object",
    "cursor with hold",
    "listen",
    "sql prepare",
    "load",
    "not understood",
    "backend pid",
    "sequence",
    "seed",
    "backup or replication",
    "user variable",
    "table lock",
    "global lock",
    "handler",
    "xa transaction",
    "next transaction",
    "found rows",
    "insert id",
    "timestamp",
    "routine",
    "set role",
)
"""What a session can hold besides settings that have a name; SHOW PINS uses the same words."""


class Kind(Enum):
    """How a value is written; the text is what the reference page says."""

    DURATION = "duration"
    SECONDS = "duration in whole seconds"
    SIZE = "size"
    COUNT = "number"
    PERCENT = "per cent"
    SWITCH = "true or false"
    TEXT = "text"
    CHOICE = "one of"
    CHOICES = "list of"
    ADDRESSES = "address, or list of addresses"
    ADDRESS = "address"
    PATH = "path"
    SECRET = "secret"  # noqa: S105
    NAMES = "list of names"
    MODE_BITS = "permission bits"
    STATE = "list of settings and kinds of state"


class Scope(Enum):
    """Where a setting may stand; the text is how the file spells the place."""

    GLOBAL = "for all"
    DATABASE = "[databases.NAME]"
    USER = "[users.NAME]"
    ENDPOINT = '[endpoints."HOST:PORT"]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table.

    `field` is the engine's name of it, where the engine knows it. Bounds are in the value's
    base unit (ms, bytes, seconds), `most` of None being the engine's 32 bits.
    """

    name: str
    kind: Kind
    default: str | int | bool | tuple[str, ...] | None
    meaning: str
    neighbour: str = ""
    field: str = ""
    least: int = 0
    most: int | None = None
    zero: str = ""
    """What 0 means, where it is a word of its own; then `least` is for other values."""
    choices: tuple[str, ...] = ()
    pgbouncer: str = ""
    reloadable: bool = True
    scopes: tuple[Scope, ...] = (Scope.GLOBAL,)

    @property
    def key(self) -> str:
        """The last word of the name."""
        return self.name.rpartition(".")[2]

    def read(self, written: object) -> Value:
        """Turn what the file says into the value the program uses.

        Raises:
            BadValue: with a text that says what to write.
        """
        value = _READERS[self.kind](self, written)
        if isinstance(value, int) and not isinstance(value, bool):
            self._check_bounds(value)
        return value

    @property
    def default_value(self) -> Value | None:
        """The default as the program uses it."""
        return None if self.default is None else self.read(self.default)

    def show(self, value: Value | None) -> str:
        """Write a value the way the file would."""
        if value is None:
            return ""
        if self.kind is Kind.SECRET:
            return redact(str(value)) if "://" in str(value) else HIDDEN
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ", ".join(value)
        if isinstance(value, str):
            return value
        if self.kind is Kind.DURATION:
            return units.duration_text(value)
        if self.kind is Kind.SECONDS:
            return units.duration_text(value * 1000)
        if self.kind is Kind.SIZE:
            return units.size_text(value)
        return f"{value:04o}" if self.kind is Kind.MODE_BITS else str(value)

    def _check_bounds(self, value: int) -> None:
        if value == 0 and self.zero:
            return
        most = self.upper_bound
        if value < self.least:
            zero = f" (or 0: {self.zero})" if self.zero else ""
            least = self.show(self.least)
            raise BadValue(f"must be at least {least}{zero}, not {self.show(value)}")
        if value > most:
            raise BadValue(f"must be at most {self.show(most)}, not {self.show(value)}")

    @property
    def upper_bound(self) -> int:
        """The largest value, from the row or from what the engine can hold."""
        if self.most is not None:
            return self.most
        # Why: a year is longer than any timeout that is meant; it catches a wrong unit.
        return {Kind.DURATION: 366 * 86_400_000, Kind.SECONDS: 86_400 * 366}.get(
            self.kind, 2**32 - 1
        )


def _seconds(_: Setting, written: object) -> Value:
    value_ms = units.duration_ms(written)
    if value_ms % 1000:
        raise BadValue(f"must be whole seconds, not {units.duration_text(value_ms)}")
    return value_ms // 1000


def _switch(_: Setting, written: object) -> Value:
    if not isinstance(written, bool):
        raise BadValue(f"must be true or false without quotes, not {units.shown(written)}")
    return written


def _text(_: Setting, written: object) -> Value:
    if not isinstance(written, str):
        raise BadValue(f"must be a text in quotes, not {units.shown(written)}")
    if "\0" in written:
        raise BadValue("must not contain a zero byte")
    return written


def _choice(setting: Setting, written: object) -> Value:
    if not isinstance(written, str) or written not in setting.choices:
        listed = ", ".join(f'"{choice}"' for choice in setting.choices)
        raise BadValue(f"must be one of {listed}, not {units.shown(written)}")
    return written


def _choices(setting: Setting, written: object) -> tuple[str, ...]:
    many = isinstance(written, list | tuple)
    items = cast("list[object]", written) if many else [written]
    return tuple(str(_choice(setting, item)) for item in items)


def _texts(setting: Setting, written: object) -> tuple[str, ...]:
    many = isinstance(written, list | tuple)
    items = cast("list[object]", written) if many else [written]
    return tuple(str(_text(setting, item)) for item in items)


def _addresses(setting: Setting, written: object) -> Value:
    texts = _texts(setting, written)
    for text in texts:
        units.address(text)
    return texts


def _address(setting: Setting, written: object) -> Value:
    text = str(_text(setting, written))
    if text:
        units.address(text)
    return text


def _state(setting: Setting, written: object) -> Value:
    items = _texts(setting, written)
    for item in items:
        if item not in STATE_KINDS and not re.fullmatch(
            r"[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*)*", item
        ):
            listed = ", ".join(f'"{kind}"' for kind in STATE_KINDS)
            raise BadValue(
                f"must hold names of settings or some of {listed}, not {units.shown(item)}"
            )
    if not items:
        raise BadValue("must say what it touches; remove the line if it is nothing")
    return items


def _count(setting: Setting, written: object) -> Value:
    # Why: "auto" reads better than 0 in a file, and both are asked for in practice.
    return 0 if written == "auto" and setting.zero else units.count(written)


_READERS: dict[Kind, Callable[[Setting, object], Value]] = {
    Kind.DURATION: lambda _, written: units.duration_ms(written),
    Kind.SECONDS: _seconds,
    Kind.SIZE: lambda _, written: units.size_bytes(written),
    Kind.COUNT: _count,
    Kind.PERCENT: lambda _, written: units.count(written),
    Kind.SWITCH: _switch,
    Kind.TEXT: _text,
    Kind.CHOICE: _choice,
    Kind.CHOICES: _choices,
    Kind.ADDRESSES: _addresses,
    Kind.ADDRESS: _address,
    Kind.PATH: _text,
    Kind.SECRET: _text,
    Kind.NAMES: _texts,
    Kind.STATE: _state,
    Kind.MODE_BITS: lambda _, written: units.mode_bits(written),
}
