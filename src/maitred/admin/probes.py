"""Answers to what ordinary drivers and psql ask on their own, so that they can connect.

Nothing here looks at or changes maitred; a probe that is not recognised is no error here.
Called by `console` before commands are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from maitred import __version__
from maitred.admin.table import Table, columns

# Spec: PgBouncer answers the first five of these in its console with values of the same kind.
SETTINGS: Mapping[str, str] = {
    "client_encoding": "UTF8",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "datestyle": "ISO, MDY",
    "timezone": "UTC",
    "server_version": "17.0 (maitred console)",
    "server_encoding": "UTF8",
    "integer_datetimes": "on",
    "transaction_isolation": "read committed",
    "transaction isolation level": "read committed",
    "transaction_read_only": "off",
    "default_transaction_read_only": "off",
    "in_hot_standby": "off",
    "is_superuser": "off",
    "max_identifier_length": "63",
    "search_path": "",
    "application_name": "",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_min_messages": "notice",
    "row_security": "on",
    "session_authorization": "",
}
_HARMLESS = re.compile(
    r"(BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT|DISCARD ALL|RESET ALL|DEALLOCATE(?: ALL)?"
    r"|UNLISTEN \*|CLOSE ALL)\b",
    re.IGNORECASE,
)
_TAGS = {"END": "COMMIT", "ABORT": "ROLLBACK", "DEALLOCATE": "DEALLOCATE ALL"}
_SHOW = re.compile(
    r"SHOW\s+(?P<name>.+)$|SELECT\s+(?:pg_catalog\.)?current_setting\('(?P<set>\w+)'\)$",
    re.IGNORECASE,
)
_SET = re.compile(
    r"SET\s+(?:SESSION\s+|LOCAL\s+)?(?:(?P<name>\w+)\s*(?:=|\bTO\b)|NAMES\b|TIME\s+ZONE\b"
    r"|SESSION\s+CHARACTERISTICS\b|TRANSACTION\b|CHARACTERISTICS\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"SELECT\s+(-?\d+)(?:\s+AS\s+(\w+))?$", re.IGNORECASE)
_TEXT = re.compile(r"SELECT\s+'((?:[^']|'')*)'(?:\s+AS\s+(\w+))?$", re.IGNORECASE)
_FUNCTION = re.compile(
    r"SELECT\s+(?:pg_catalog\.)?(version|current_database|current_schema|pg_backend_pid"
    r"|current_user|session_user|user|pg_is_in_recovery)\s*(?:\(\s*\))?$",
    re.IGNORECASE,
)
_SET_CONFIG = re.compile(r"SELECT\s+(?:pg_catalog\.)?set_config\s*\('(\w+)'\s*,\s*'([^']*)'", re.I)


def answer(text: str, *, user: str, database: str) -> dict[str, Any] | None:
    """Answer `text` if it is a probe, else None."""
    text = re.sub(r"\s+", " ", text.strip().rstrip(";").strip())
    if not text:
        return {"tag": ""}
    if match := _HARMLESS.match(text):
        word = match[1].upper()
        return {"tag": _TAGS.get(word, word)}
    if match := _SHOW.match(text):
        return _setting(match["name"] or match["set"])
    if match := _SET.match(text):
        name = match["name"]
        return {"tag": "SET"} if name is None or name.lower() in SETTINGS else None
    if match := _SET_CONFIG.match(text):
        return _one("set_config", match[2])
    if match := _NUMBER.match(text):
        return _one(match[2] or "?column?", match[1], "int4")
    if match := _TEXT.match(text):
        return _one(match[2] or "?column?", match[1].replace("''", "'"))
    if match := _FUNCTION.match(text):
        return _function(match[1].lower(), user, database)
    return None


def _setting(name: str) -> dict[str, Any] | None:
    value = SETTINGS.get(name.lower())
    return None if value is None else _one(name.lower(), value) | {"tag": "SHOW"}


def _function(name: str, user: str, database: str) -> dict[str, Any]:
    values = {
        "version": f"PostgreSQL 17.0 (maitred {__version__} console)",
        "current_database": database,
        "current_schema": "public",
        "pg_backend_pid": "0",
        "pg_is_in_recovery": "f",
    }
    return _one(name, values.get(name, user), "int4" if name == "pg_backend_pid" else "text")


def _one(column: str, value: str, kind: str = "text") -> dict[str, Any]:
    # Why: not `columns(column)`, a name such as ?column? or one with a colon must stay whole.
    table = Table.of(columns("value"), [{"value": value}]).answer()
    return table | {"columns": [(column, kind)], "tag": "SELECT 1"}
