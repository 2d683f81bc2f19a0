"""Events: dicts of the contract to classes.

The contract is read as text. Run by pytest.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from maitred import event
from maitred.event import Drained, Unknown, from_dict

CONTRACT = Path(__file__).parents[2] / "src/maitred/_engine.pyi"


def contract() -> dict[str, list[str]]:
    """Kinds and field names, as the docstring of `take_events` lists them."""
    text = CONTRACT.read_text()
    part = text[text.index("def take_events") : text.index("def answer_console")]
    found = {}
    for kind, rest in re.findall(r"^        (\w+): (.*)$", part, re.MULTILINE):
        names = [re.match(r"\w+", one.strip()) for one in rest.split(",")]
        found[kind] = [] if kind == "drained" else [name[0] for name in names if name]
    return found


@pytest.mark.parametrize(("kind", "names"), contract().items(), ids=str)
def test_every_event_of_the_contract_has_its_class(kind: str, names: list[str]) -> None:
    raw = {"kind": kind} | dict.fromkeys(names, 1)
    found = from_dict(raw)
    assert not isinstance(found, Unknown)
    assert [one.name for one in fields(found)] == names


def test_the_contract_was_read() -> None:
    assert len(contract()) == 10


def test_an_unknown_kind_is_kept_by_name() -> None:
    assert from_dict({"kind": "new"}) == Unknown("new")


def test_more_fields_are_left_out_and_fewer_are_a_fault() -> None:
    assert from_dict({"kind": "drained", "more": 1}) == Drained()
    with pytest.raises(KeyError):
        from_dict({"kind": "login_failed", "user": "x"})


def test_every_class_is_in_the_union() -> None:
    classes = {
        one
        for one in vars(event).values()
        if isinstance(one, type) and one.__module__ == event.__name__
    }
    assert set(event.Event.__args__) == classes
