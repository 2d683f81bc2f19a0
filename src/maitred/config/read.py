"""Check a parsed TOML document against the table of settings, key by key, keeping every problem.

Decides nothing about what values mean together (that is `load`) and opens no file.
Called by `load`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from maitred.config.lines import KeyPath, Lines
from maitred.config.schema import NOT_YET, SETTINGS
from maitred.config.setting import Scope, Setting
from maitred.config.units import BadValue, shown
from maitred.errors import ConfigInvalid, Problem
from maitred.model import Place, Value

Table = dict[str, Any]

_NAMED = {
    "databases": Scope.DATABASE,
    "users": Scope.USER,
    "endpoints": Scope.ENDPOINT,
}


@dataclass(frozen=True, slots=True)
class Written:
    """A value that was set, and where."""

    value: Value
    place: Place


_OPEN = {
    "parameters.": "databases.NAME.parameters.PARAMETER",
    "pool.stateful_functions.": "pool.stateful_functions.FUNCTION",
    "pool.stateful_tables.": "pool.stateful_tables.TABLE",
}
"""Settings whose last word is the user's own: what comes before it, and the row."""

Values = dict[str, Written]
"""Checked values by name; inside a named section the name is relative to it."""


@dataclass(slots=True)
class Document:
    """One TOML document: its data, where its keys stand, and what is wrong with it so far."""

    source: str
    folder: Path
    data: Table
    lines: Lines | None = None
    places: dict[KeyPath, Place] = field(default_factory=dict[KeyPath, Place])
    """Keys that came from elsewhere than the file, such as the command line."""
    problems: list[Problem] = field(default_factory=list[Problem])

    @classmethod
    def from_text(cls, text: str, *, source: str, folder: Path) -> Document:
        """Parse `text`.

        Raises:
            ConfigInvalid: it is not TOML.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            match = re.search(r"\(at line (\d+), column \d+\)", str(error))
            reason = re.sub(r" \(at .*\)$", "", str(error))
            # Why: an early end is reported without a line; the last line is where to look.
            line = int(match[1]) if match else text.count("\n") + 1
            raise ConfigInvalid([Problem(source, line, f"not valid TOML: {reason}")]) from None
        return cls(source=source, folder=folder, data=data, lines=Lines(text))

    def override(self, path: KeyPath, value: object, *, origin: str) -> None:
        """Set `path` as if the file said so; `origin` is named in problems."""
        table = self.data
        for key in path[:-1]:
            inner = table.setdefault(key, {})
            if not isinstance(inner, dict):
                return  # The file is wrong there, and is told so.
            table = cast(Table, inner)
        table[path[-1]] = value
        self.places[path] = Place(origin)

    def place(self, path: KeyPath) -> Place:
        """Where `path` was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place(self.source, self.lines.find(path) if self.lines else None)

    def complain(self, path: KeyPath, text: str) -> None:
        """Note that what stands at `path` is wrong; the name is put before `text`."""
        self.complain_at(self.place(path), f"{dotted(path)} {text}" if path else text)

    def complain_at(self, place: Place, text: str) -> None:
        """Note a problem at a place."""
        self.problems.append(Problem(place.file, place.line, text))

    def global_values(self) -> Values:
        """Check and return everything outside the named sections."""
        table = {key: value for key, value in self.data.items() if key not in _NAMED}
        return self._values((), table, Scope.GLOBAL)

    def named_values(self, section: str) -> Iterator[tuple[str, Values]]:
        """Check and return each `[section.NAME]`, in the file's order."""
        tables = self.data.get(section, {})
        if not isinstance(tables, dict):
            self.complain((section,), f"must hold sections: write [{section}.NAME]")
            return
        for name, table in cast(Table, tables).items():
            if not isinstance(table, dict):
                self.complain((section, name), f"must be a section: write [{section}.{_key(name)}]")
                continue
            yield name, self._values((section, name), cast(Table, table), _NAMED[section])

    def _values(self, prefix: KeyPath, table: Table, scope: Scope) -> Values:
        known = allowed(scope)
        result: Values = {}
        for path, written in _leaves(table):
            name = ".".join(path)
            setting = _meant(path, known)
            if setting is None:
                self.complain(prefix + path, _unknown(path, written, known, scope))
                continue
            try:
                result[name] = Written(setting.read(written), self.place(prefix + path))
            except BadValue as error:
                self.complain(prefix + path, str(error))
        return result


def _meant(path: KeyPath, known: Mapping[str, Setting]) -> Setting | None:
    name = ".".join(path)
    setting = known.get(name) or open_setting(name)
    # Why: a parameter is one word, its dots are in quotes.
    is_too_long = path[0] == "parameters" and len(path) > 2
    return setting if setting in known.values() and not is_too_long else None


def open_setting(name: str) -> Setting | None:
    """Return the setting whose last word is free, if `name`, relative to its section, is one."""
    row = next((row for prefix, row in _OPEN.items() if name.startswith(prefix)), None)
    return SETTINGS[row] if row else None


def is_open(setting: Setting) -> bool:
    """Whether the last word of its name is the user's own."""
    return setting.name in _OPEN.values()


def allowed(scope: Scope) -> dict[str, Setting]:
    """Return the settings of one scope by the name they have there."""
    result: dict[str, Setting] = {}
    for name, setting in SETTINGS.items():
        if scope in setting.scopes:
            result[_relative(name, scope)] = setting
    return result


def _relative(name: str, scope: Scope) -> str:
    if scope is Scope.GLOBAL:
        return name
    # The section's own keys lose "databases.NAME."; shared ones keep "pool." and "tls.".
    name = re.sub(r'^(?:databases\.NAME|users\.NAME|endpoints\."HOST:PORT")\.', "", name)
    return name.replace("tls.server.", "tls.")


def _leaves(table: Mapping[str, Any], prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    for key, value in table.items():
        path = (*prefix, key)
        if isinstance(value, dict) and value:
            yield from _leaves(cast(Table, value), path)
        elif value != {}:
            yield path, value


def _unknown(path: KeyPath, written: object, known: Mapping[str, Setting], scope: Scope) -> str:
    name = ".".join(path)
    if scope is Scope.GLOBAL and name in NOT_YET:
        return f"cannot be used: {NOT_YET[name]}"
    if any(other.startswith(name + ".") for other in known):
        return f"is a section: write [{name}] and its settings below it, not {shown(written)}"
    if scope is not Scope.GLOBAL:
        full = allowed(Scope.GLOBAL).get(name.replace("tls.", "tls.server."))
        if full:
            places = " or ".join(one.value for one in full.scopes)
            return f"cannot be set here; {full.name} can be set {places}"
    near = nearest(name, [one for one, setting in known.items() if not is_open(setting)])
    return f"is not a setting{f'; did you mean {near}?' if near else ''}"


def nearest(name: str, names: list[str]) -> str | None:
    """Return the one of `names` that was most likely meant."""
    found = difflib.get_close_matches(name, names, 1, cutoff=0.6)
    if found:
        return found[0]
    # Why: the last word is often right and the section wrong.
    last = name.rpartition(".")[2]
    keys = {one.rpartition(".")[2]: one for one in names}
    found = difflib.get_close_matches(last, list(keys), 1, cutoff=0.75)
    return keys[found[0]] if found else None


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else shown(name)


def dotted(path: KeyPath) -> str:
    """Write a path as the file would."""
    return ".".join(_key(key) for key in path)
