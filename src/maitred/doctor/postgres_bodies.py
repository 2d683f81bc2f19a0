"""What functions, triggers, views and whatever else runs unseen do to a session of PostgreSQL's.

Reads only; every account may read these catalogs. Statements that a body puts together while it
runs are seen where their first words stand in quotes. Called by `routines`.

Source: PostgreSQL manual, "System Catalogs", "SET", "System Administration Functions".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .bodies import Body, Stateful, Touch, find
from .session import Catalog

_ROUTINES = """
select p.proname, n.nspname, l.lanname,
  case when l.lanname in ('sql', 'plpgsql') then pg_get_functiondef(p.oid) end
from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
where p.prokind in ('f', 'p') and l.lanname not in ('c', 'internal') and not exists
  (select from pg_depend where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e')
"""
# Kind, schema and name of what a statement names, and what runs then.
_TABLES = """
select t.kind, n.nspname, c.relname, t.body from (
  select 'trigger ' || tgname as kind, tgrelid as relation, proname || '()' as body
    from pg_trigger join pg_proc p on p.oid = tgfoid where not tgisinternal
  union all select 'view', oid, pg_get_viewdef(oid) from pg_class where relkind in ('v', 'm')
  union all select 'rule ' || rulename, ev_class, pg_get_ruledef(oid)
    from pg_rewrite where rulename <> '_RETURN'
  union all select 'default', adrelid, pg_get_expr(adbin, adrelid) from pg_attrdef
  union all select 'constraint ' || conname, conrelid, pg_get_constraintdef(oid)
    from pg_constraint where contype = 'c' and conrelid <> 0
  union all select 'policy', polrelid,
    concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    from pg_policy
  union all select 'foreign key ' || conname, confrelid, conrelid::regclass::text
    from pg_constraint where contype = 'f'
      and (confupdtype in ('c', 'n', 'd') or confdeltype in ('c', 'n', 'd'))
  union all select 'child', inhparent, inhrelid::regclass::text from pg_inherits
) t join pg_class c on c.oid = t.relation join pg_namespace n on n.oid = c.relnamespace
"""
_SERVERS_OWN = ("pg_catalog", "information_schema", "pg_toast")

_FLAGS = re.IGNORECASE | re.DOTALL
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_BEGIN = r"(?:^|;|\$\w*\$|'|\b(?:begin|atomic|then|else|loop)\b)\s*"
_SET = re.compile(
    _BEGIN + r"((?:re)?set\s+(?:session\s+)?(?!local\b|constraints\b|transaction\b)([a-z_][\w.]*))",
    _FLAGS,
)
_SET_CONFIG = re.compile(r"\bset_config\s*(?=\()", _FLAGS)
_MARK = re.compile(r"'[^']*'|[(),]")
_OTHERS = (
    (re.compile(_BEGIN + r"(discard\s+\w+)", _FLAGS), "any setting"),
    (re.compile(r"\b(update\s+(?:pg_catalog\.)?pg_settings)", _FLAGS), "any setting"),
    (re.compile(r"\b(pg_(?:try_)?advisory_lock(?:_shared)?)\s*\(", _FLAGS), "advisory lock"),
    (re.compile(r"\b(create\s+(?:\w+\s+){0,3}?temp(?:orary)?)\s", _FLAGS), "temporary object"),
    (re.compile(r"\b(into\s+temp(?:orary)?)\s", _FLAGS), "temporary object"),
    (re.compile(r"\b(with\s+hold)\b", _FLAGS), "cursor with hold"),
    (re.compile(_BEGIN + r"(listen\s+\w+)", _FLAGS), "listen"),
    (re.compile(_BEGIN + r"(prepare\s+(?!transaction)\w+)", _FLAGS), "sql prepare"),
    (re.compile(_BEGIN + r"(load\s+')", _FLAGS), "load"),
    (re.compile(r"\b(setseed)\s*\(", _FLAGS), "seed"),
)
_CALLED = {
    "time": "timezone",
    "schema": "search_path",
    "names": "client_encoding",
    "authorization": "session_authorization",
    "characteristics": "any setting",
    "all": "any setting",
}
"""Settings that SET knows by a word of its own."""


def examine(session: Catalog) -> tuple[list[Stateful], list[Body]]:
    """Return what belongs into the configuration, and the bodies that cannot be read.

    Raises:
        DoctorError: with the database's words.
    """
    bodies = [body for body in _bodies(session) if not body.schema.startswith(_SERVERS_OWN)]
    return find(bodies, _touches), [body for body in bodies if body.text is None]


def _bodies(session: Catalog) -> Iterator[Body]:
    for name, schema, language, text in session.rows(_ROUTINES):
        kind = f"{language} function {schema}.{name}"
        yield Body(kind, str(schema), str(name), "called", text)
    for kind, schema, name, text in session.rows(_TABLES):
        of = f"{kind} {schema}.{name}" if kind == "view" else f"{kind} of {schema}.{name}"
        when = "read" if kind in ("view", "policy") else "written"
        yield Body(of, str(schema), str(name), when, text)


def _touches(text: str) -> Iterator[Touch]:
    text = _COMMENT.sub(" ", text)
    for match in _SET.finditer(text):
        name = match[2].lower()
        yield Touch(_CALLED.get(name, name), " ".join(match[1].split()))
    for match in _SET_CONFIG.finditer(text):
        arguments = _arguments(text[match.end() :])
        if not _is_local(arguments):
            yield Touch(_literal(arguments[0]) or "any setting", f"set_config({arguments[0]}, …)")
    for pattern, word in _OTHERS:
        for match in pattern.finditer(text):
            yield Touch(word, " ".join(match[1].split()))


def _arguments(text: str) -> list[str]:
    """Cut what stands in the bracket with which `text` begins at its commas."""
    found: list[str] = []
    depth, start = 0, 1
    for match in _MARK.finditer(text):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0 or (depth == 1 and match[0] == ","):
            found.append(text[start : match.start()].strip())
            start = match.end()
        if depth == 0:
            break
    return found


def _is_local(arguments: list[str]) -> bool:
    last = arguments[-1].partition("::")[0].strip(" '").lower()
    return len(arguments) == 3 and last in ("true", "t", "on", "yes", "1")


def _literal(argument: str) -> str | None:
    match = re.fullmatch(r"'([A-Za-z_][\w.]*)'(?:::text)?", argument)
    return match[1] if match else None
