"""The table of settings against itself: complete rows, good defaults, bounds that hold.

`test_snapshot` compares it with the engine. Run by pytest.
"""

from __future__ import annotations

import pytest

from maitred.config.schema import SECTIONS, SETTINGS
from maitred.config.setting import Kind, Setting
from maitred.config.units import BadValue

ROWS = list(SETTINGS.values())


def test_names_are_unique() -> None:
    assert len(ROWS) == sum(len(rows) for _, rows in SECTIONS)


@pytest.mark.parametrize("setting", ROWS, ids=lambda one: one.name)
def test_a_row_is_complete(setting: Setting) -> None:
    assert setting.meaning.endswith(".")
    assert setting.neighbour
    assert (setting.kind in (Kind.CHOICE, Kind.CHOICES)) == bool(setting.choices)


@pytest.mark.parametrize(
    "setting", [one for one in ROWS if one.default is not None], ids=lambda one: one.name
)
def test_a_default_is_a_good_value_and_reads_back(setting: Setting) -> None:
    value = setting.default_value
    assert value is not None
    if setting.kind not in (Kind.COUNT, Kind.PERCENT, Kind.SWITCH, Kind.NAMES, Kind.CHOICES):
        assert setting.read(setting.show(value)) == value


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("pool.size", 0, "at least 1"),
        ("pool.size", "20", "without quotes"),
        ("pool.size", 2**33, "at most"),
        ("pool.mode", "txn", "one of"),
        ("pool.server_lifetime", "1ms", r"at least 1s \(or 0: for ever\)"),
        ("limits.keepalive_idle", "1500ms", "whole seconds"),
        ("log.connections", "yes", "true or false"),
        ("listen.postgres", ["127.0.0.1:6432", 5], "text in quotes"),
        ("console.names", [1], "text in quotes"),
        ("pool.stateful_functions.FUNCTION", ["a lock"], '"advisory lock"'),
        ("pool.stateful_tables.TABLE", [], "what it touches"),
        ("pool.pin_ignore", ["advisory lock"], 'one of "backend pid"'),
        ("pool.reset_query", "a\0b", "zero byte"),
        ("pool.queue_timeout", "400d", "at most 366d"),
    ],
)
def test_a_bad_value_is_refused_with_what_to_write(name: str, value: object, told: str) -> None:
    with pytest.raises(BadValue, match=told):
        SETTINGS[name].read(value)


def test_zero_is_taken_where_it_means_something() -> None:
    assert SETTINGS["pool.server_lifetime"].read(0) == 0
    assert SETTINGS["engine.workers"].read("auto") == 0
