"""Lines of TOML keys.

The scanner is compared with what tomllib makes of the same text. Run by pytest.
"""

from __future__ import annotations

import tomllib

import pytest

from maitred.config.lines import Lines

TEXT = (
    '''\
# a comment with [brackets] and "quotes"
top = 1
[pool]
size = 20            # [not.a.table]
mode = "session"
many = [
  "a", # ]
  "b",
]
after = 1
text = """
[not.a.table]
not_a_key = 1
"""
behind = 2
[databases."odd.name"]
url = 'it'''
    + """'
pool.size = 3
pool . 'mode' = "x"
inline = { one = 1, two = { three = 3 } }
[users]
[users.app]
password = "a\\"b # = ["
last = 1
[[array]]
x = 1
"""
)


@pytest.fixture
def lines() -> Lines:
    tomllib.loads(TEXT)
    return Lines(TEXT)


@pytest.mark.parametrize(
    ("path", "start"),
    [
        (("top",), "top ="),
        (("pool",), "[pool]"),
        (("pool", "size"), "size = 20"),
        (("pool", "many"), "many ="),
        (("pool", "after"), "after ="),
        (("pool", "behind"), "behind ="),
        (("databases", "odd.name"), "[databases."),
        (("databases", "odd.name", "pool", "size"), "pool.size"),
        (("databases", "odd.name", "pool", "mode"), "pool . 'mode'"),
        (("databases", "odd.name", "inline", "two", "three"), "inline ="),
        (("users", "app", "password"), "password"),
        (("users", "app", "last"), "last ="),
        (("array", "x"), "x = 1"),
    ],
)
def test_a_key_is_found_on_its_line(lines: Lines, path: tuple[str, ...], start: str) -> None:
    line = lines.find(path)
    assert line is not None
    assert TEXT.splitlines()[line - 1].startswith(start)


def test_an_unknown_key_is_found_at_its_table(lines: Lines) -> None:
    assert lines.find(("users", "app", "nothing")) == lines.find(("users", "app"))


def test_what_stands_in_a_text_is_no_key(lines: Lines) -> None:
    assert lines.find(("not", "a", "table")) is None
    assert lines.find(("pool", "not_a_key")) == lines.find(("pool",))


def test_escaped_keys_are_understood() -> None:
    assert Lines('a = 1\n"\\u00e9\\t" = 2\n').find(("é\t",)) == 2
