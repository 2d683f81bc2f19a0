"""Which tables, views and functions change their session although no text that names them says so.

It must not run any of them: bodies are read, and what is said there is taken to happen. Called by
`routines`; where the bodies come from, `mysql_bodies` and `postgres_bodies` know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from maitred.config.units import shown

_NAME = re.compile(r"[^\W\d][\w$]*")


When = Literal["called", "read", "written"]
"""What a statement has to do to a name so that a body runs: all that its words show is the name."""


@dataclass(frozen=True, slots=True)
class Body:
    """Something that runs when a statement names `name`: a routine, a trigger of that table."""

    kind: str
    """As the report calls it, such as "trigger audit of shop.orders"."""
    schema: str
    name: str
    """What a statement names: the routine, the view, the table."""
    when: When
    text: str | None
    """None: it cannot be read, or the account may not."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One thing that a text does to its session."""

    word: str
    """As `pool.stateful_functions` knows it: a setting, or a kind of state."""
    why: str
    """The words that do it."""


Reader = Callable[[str], Iterable[Touch]]
"""What a body's text does by itself."""


@dataclass(slots=True)
class Stateful:
    """A name that belongs into the configuration."""

    schema: str
    name: str
    when: When
    touches: dict[str, str] = field(default_factory=dict[str, str])
    """Words for the configuration, each with the reason."""


def find(
    bodies: Sequence[Body], reads: Reader, *, is_written_through_views: bool = True
) -> list[Stateful]:
    """Return what touches the session, by itself or by something that its body names.

    Names are compared without schema and case, as a statement may say them.
    """
    found: dict[tuple[str, str, When], Stateful] = {}
    by_name: dict[str, list[Stateful]] = {}

    def inherited(body: Body, names: set[str]) -> Iterator[tuple[str, str]]:
        for other in (other for name in names & by_name.keys() for other in by_name[name]):
            is_only_read = body.when == "read" and other.when == "written"
            if is_written_through_views or not is_only_read:
                why = f"{body.kind} names {other.schema}.{other.name}"
                yield from ((word, why) for word in other.touches)

    known = [(body, *_read(body, reads)) for body in bodies]
    is_new = True
    while is_new:
        is_new = False
        for body, own, names in known:
            touches = own | {word: why for word, why in inherited(body, names) if word not in own}
            key = (body.schema, body.name, body.when)
            if touches.keys() <= (found[key].touches.keys() if key in found else set()):
                continue
            is_new = True
            if key not in found:
                found[key] = Stateful(*key)
                by_name.setdefault(body.name.lower(), []).append(found[key])
            found[key].touches = touches | found[key].touches
    return sorted(found.values(), key=lambda one: (one.schema, one.name, one.when))


def _read(body: Body, reads: Reader) -> tuple[dict[str, str], set[str]]:
    text = body.text or ""
    own = {touch.word: f"{body.kind}: {touch.why}" for touch in reads(text)}
    return own, {name.lower() for name in _NAME.findall(text)}


def lines_for(found: Sequence[Stateful], unread: Sequence[Body]) -> str:
    """Lines for the configuration, with the reason of each."""
    tables = [one for one in found if one.when != "called"]
    functions = [one for one in found if one.when == "called"]
    lines = [*_section("stateful_tables", tables), *_section("stateful_functions", functions)]
    if not found:
        lines.append("# No table, view or function needs to be named, as far as bodies were read.")
    if unread:
        lines += ["", "# Not read, by this account or at all:"]
        lines += [f"#   {body.kind}" for body in unread]
    return "\n".join(lines)


def _section(title: str, found: Sequence[Stateful]) -> Iterator[str]:
    if found:
        yield f"[pool.{title}]  # or [databases.NAME.pool.{title}]"
    named: dict[str, dict[str, str]] = {}
    for one in found:
        named.setdefault(f"{one.schema}.{one.name}", {}).update(one.touches)
    for name, touches in named.items():
        for why in sorted(set(touches.values())):
            yield f"# {why}"
        yield f"{shown(name)} = {shown(sorted(touches))}"
