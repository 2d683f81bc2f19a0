"""What routines, triggers and views of a MySQL or MariaDB server do that it tells nobody.

Reads only, by statements that need no privileges; what the account may not see, the server does
not list. Called by `routines`.

Source: MySQL manual, "INFORMATION_SCHEMA ROUTINES / TRIGGERS / VIEWS Table", "SET Syntax for
Variable Assignment".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from .bodies import Body, Stateful, Touch, find
from .session import Catalog

_SERVERS_OWN = frozenset({"information_schema", "mysql", "performance_schema", "sys"})
_ROUTINES = (
    "select routine_type, routine_schema, routine_name, routine_definition"
    " from information_schema.routines"
)
_TRIGGERS = (
    "select event_object_schema, event_object_table, trigger_name, action_statement"
    " from information_schema.triggers"
)
_VIEWS = (
    "select table_schema, table_name, nullif(view_definition, '') from information_schema.views"
)

_COMMENT = re.compile(r"--\s[^\n]*|#[^\n]*|/\*(?![!M]).*?\*/", re.DOTALL)
_SET = re.compile(r"\bset\b(.*?)(?:;|$)", re.IGNORECASE | re.DOTALL)
# Why it matters: MariaDB tells of `SET x` and `SET SESSION x`, and of this it does not.
_BARE = re.compile(r"(?:^|,)\s*(@@(?!(?:global|session|local)\s*\.)\s*\w+)\s*:?=", re.IGNORECASE)
_ANY = re.compile(
    r"(?:^|,)\s*((?:@@)?(?:(?:session|local)[\s.]+)?(\w+)|@[\w`'\"][^=:]*?)\s*:?=", re.IGNORECASE
)
_ELSE = re.compile(
    r"\binto\s+@\w+|@[\w$.]+\s*:=|\bcreate\s+temporary\s+table\s+[\w`.]+", re.IGNORECASE
)
_LOCK = re.compile(r"\bget_lock\s*\(", re.IGNORECASE)
_RELEASE = re.compile(r"\brelease_(?:all_locks|lock)\s*\(", re.IGNORECASE)

_Sets = Callable[[str], Iterable[str]]
"""What matters of a body, in its own words."""


def examine(session: Catalog) -> tuple[list[Stateful], list[Body]]:
    """Return what belongs into the configuration, and the bodies that the account may not read.

    Raises:
        DoctorError: with the database's words.
    """
    bodies = [body for body in _bodies(session) if body.schema.lower() not in _SERVERS_OWN]
    is_mariadb = "mariadb" in (session.ask("select lower(version())") or "")
    sets = _bare if is_mariadb else _sets_in(session)
    found = find(bodies, lambda text: _touches(text, sets), is_written_through_views=is_mariadb)
    for one in found:
        # Why: a call is taken for one anyway, and at the end of a write MySQL tells of triggers.
        if one.when == "called" or (one.when == "written" and not is_mariadb):
            one.touches.pop("routine", None)
    unread = [body for body in bodies if body.text is None]
    if not any(body.when == "written" for body in bodies) and not _may_see_triggers(session):
        kind = "triggers, if there are any: the account lacks the privilege TRIGGER"
        unread.append(Body(kind, "", "", "written", None))
    return [one for one in found if one.touches], unread


def _may_see_triggers(session: Catalog) -> bool:
    grants = " ".join(str(grant) for (grant,) in session.rows("show grants")).upper()
    return "ALL PRIVILEGES" in grants or "TRIGGER" in grants


def _bodies(session: Catalog) -> Iterator[Body]:
    for kind, schema, name, text in session.rows(_ROUTINES):
        yield Body(f"{str(kind).lower()} {schema}.{name}", str(schema), str(name), "called", text)
    for schema, table, name, text in session.rows(_TRIGGERS):
        yield Body(f"trigger {name} of {schema}.{table}", str(schema), str(table), "written", text)
    for schema, name, text in session.rows(_VIEWS):
        yield Body(f"view {schema}.{name}", str(schema), str(name), "read", text)


def _touches(text: str, sets: _Sets) -> Iterator[Touch]:
    text = _COMMENT.sub(" ", text)
    for words in sets(text):
        yield Touch("routine", " ".join(words.split()))
    if _LOCK.search(text):
        is_released = _RELEASE.search(text)
        yield Touch("routine" if is_released else "advisory lock", "get_lock()")


def _bare(text: str) -> Iterator[str]:
    for statement in _SET.findall(text):
        yield from (f"set {name}" for name in _BARE.findall(statement))


def _sets_in(session: Catalog) -> _Sets:
    names = {str(name).lower() for name, _ in session.rows("show variables")}

    def sets(text: str) -> Iterator[str]:
        for statement in _SET.findall(text):
            for match in _ANY.finditer(statement):
                # Why: a routine has variables of its own, which end with it.
                if not match[2] or match[2].lower() in names:
                    yield f"set {match[1]}"
        yield from _ELSE.findall(text)

    return sets
