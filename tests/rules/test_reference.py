"""The generated pages are in step with the tables, and the tables with the engine.

Writes nothing. Run by pytest; mend a failure with `python -m maitred.reference`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maitred import errors, reference
from maitred.config.schema import SETTINGS
from maitred.errors import CLIENT_ERRORS, MaitredError

ROOT = Path(__file__).parents[2]
WIRE = ROOT / "engine/wire/src/lib.rs"


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_is_what_the_tables_say(name: str) -> None:
    page = ROOT / "docs/reference" / name
    assert page.read_text() == reference.PAGES[name](), "run: python -m maitred.reference"


def test_no_page_is_left_over() -> None:
    found = {path.name for path in (ROOT / "docs/reference").glob("*.md")}
    # `make test-suites` writes this one; test_compatibility.py holds it.
    assert found == {*reference.PAGES, "compatibility.md"}


def _codes() -> dict[str, str]:
    """Variants of `enum Code` with the SQLSTATE that its comment names."""
    text = WIRE.read_text()
    part = text[text.index("pub enum Code") : text.index("/// An error that we author")]
    comment, found = "", {}
    for line in part.splitlines():
        if line.strip().startswith("///"):
            comment += line
        elif variant := re.match(r"    (\w+),", line):
            state = re.search(r"\b([0-9A-Z]{5})\b", comment.replace("PostgreSQL", ""))
            found[variant[1]] = state[1] if state else ""
            comment = ""
    return found


def test_every_refusal_of_the_engine_is_explained() -> None:
    assert {one.kind: one.sqlstate for one in CLIENT_ERRORS} == _codes()


def test_numbers_of_mysql_are_those_of_the_engine() -> None:
    text = (ROOT / "engine/wire/src/mysql/errors.rs").read_text()
    table = text[text.index("pub fn number") : text.index("/// Append the error packet")]
    found: dict[str, tuple[int, str]] = {}
    for names, number, state in re.findall(r"([\w:| ]+) => \((\d+), b\"(\w+)\"\)", table):
        found |= {kind: (int(number), state) for kind in re.findall(r"Code::(\w+)", names)}
    assert set(found) == set(_codes())
    assert found == dict(errors.MYSQL_NUMBERS)


def _tree(kind: type[MaitredError]) -> list[type[MaitredError]]:
    return [kind, *(found for one in kind.__subclasses__() for found in _tree(one))]


@pytest.mark.parametrize("error", _tree(MaitredError), ids=lambda one: one.__name__)
def test_an_exception_says_whose_fault_what_is_seen_and_whether_to_retry(
    error: type[MaitredError],
) -> None:
    text = error.__doc__ or ""
    for part in ("Whose fault:", "What the client sees:", "Retry:"):
        assert part in text
    assert re.fullmatch(r"[A-Z]+(-[A-Z]+)*", error.code)


def test_codes_of_exceptions_are_unique() -> None:
    codes = [error.code for error in _tree(errors.MaitredError)]
    assert len(codes) == len(set(codes))


def _pages() -> list[Path]:
    return sorted((ROOT / "docs/errors").glob("*.md"))


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_a_page_names_only_settings_and_codes_that_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`((?:pool|limits|listen|auth|tls|log|console|engine)\.[\w.]+)", text):
        assert name in SETTINGS, name
    states = {one.sqlstate for one in CLIENT_ERRORS}
    title = text.splitlines()[0]
    for state in re.findall(r"\b[0-9][0-9A-Z]{4}\b", title):
        assert state in states, state


def test_every_page_is_listed() -> None:
    listed = (ROOT / "docs/errors/README.md").read_text()
    for page in _pages():
        assert page.name == "README.md" or f"({page.name})" in listed
