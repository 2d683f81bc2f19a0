"""Answers to what MySQL's drivers and clients ask on their own, so that they can connect.

Nothing here looks at or changes maitred; a probe that is not recognised is no error here.
Called by `console` for clients that speak MySQL, before commands are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from maitred import __version__
from maitred.admin.table import Table, columns

VERSION = f"8.0.0-maitred-{__version__}"

# What drivers read at a connect, with values that make them ask for nothing more.
VARIABLES: Mapping[str, str] = {
    "auto_increment_increment": "1",
    "autocommit": "1",
    "character_set_client": "utf8mb4",
    "character_set_connection": "utf8mb4",
    "character_set_database": "utf8mb4",
    "character_set_results": "utf8mb4",
    "character_set_server": "utf8mb4",
    "collation_connection": "utf8mb4_general_ci",
    "collation_database": "utf8mb4_general_ci",
    "collation_server": "utf8mb4_general_ci",
    "default_storage_engine": "",
    "event_scheduler": "OFF",
    "have_ssl": "YES",
    "init_connect": "",
    "interactive_timeout": "28800",
    "license": "Apache-2.0",
    "lower_case_table_names": "0",
    "max_allowed_packet": "16777216",
    "net_write_timeout": "60",
    "performance_schema": "0",
    "query_cache_size": "0",
    "query_cache_type": "OFF",
    "sql_mode": "",
    "sql_select_limit": "18446744073709551615",
    "system_time_zone": "UTC",
    "time_zone": "SYSTEM",
    "transaction_isolation": "REPEATABLE-READ",
    "transaction_read_only": "0",
    "tx_isolation": "REPEATABLE-READ",
    "tx_read_only": "0",
    "version": VERSION,
    "version_comment": "maitred console",
    "wait_timeout": "28800",
}
_SET = re.compile(
    r"SET\s+(?:SESSION\s+|LOCAL\s+)?(?:NAMES\b|CHARACTER\s+SET\b|CHARSET\b|TRANSACTION\b"
    r"|(?:@@(?:SESSION\.|LOCAL\.)?)?(?P<name>\w+)\s*:?=)",
    re.IGNORECASE,
)
_OF_SESSIONS = {"foreign_key_checks", "unique_checks", "sql_notes", "sql_safe_updates",
                "sql_auto_is_null", "net_read_timeout", "max_join_size", "lc_messages"}  # fmt: skip
_HARMLESS = re.compile(r"(BEGIN|START TRANSACTION|COMMIT|ROLLBACK|USE\s+\S+|DO\s+.+)$", re.I)
_VARIABLES = re.compile(
    r"SHOW\s+(?:GLOBAL\s+|SESSION\s+)?(?:VARIABLES|STATUS)(?:\s+LIKE\s+'(?P<like>[^']*)'"
    r"|\s+WHERE\s+(?P<where>.*))?$",
    re.IGNORECASE,
)
_EMPTY: Mapping[str, str] = {
    "WARNINGS": "Level Code Message",
    "ERRORS": "Level Code Message",
    "ENGINES": "Engine Support Comment Transactions XA Savepoints",
    "PLUGINS": "Name Status Type Library License",
    "COLLATION": "Collation Charset Id Default Compiled Sortlen",
    "CHARACTER": "Charset Description Default_collation Maxlen",
    "TABLES": "Tables_in_maitred",
    "SCHEMAS": "Database",
}
_SHOW = re.compile(r"SHOW\s+(?:FULL\s+)?(\w+)(?:\s.*)?$", re.IGNORECASE)
_SELECT = re.compile(r"SELECT\s+(?P<items>.+?)(?:\s+LIMIT\s+1)?$", re.IGNORECASE)
_ITEM = re.compile(
    r"(?P<what>@@(?:SESSION\.|GLOBAL\.|LOCAL\.)?(?P<name>\w+)|(?P<function>\w+)\s*\(\s*\)"
    r"|(?P<number>-?\d+)|'(?P<text>[^']*)')(?:\s+(?:AS\s+)?[`'\"]?(?P<alias>\w+)[`'\"]?)?$",
    re.IGNORECASE,
)


def answer(text: str, *, user: str, database: str) -> dict[str, Any] | None:
    """Answer `text` if it is a probe, else None."""
    text = re.sub(r"/\*.*?\*/", " ", text)
    text = re.sub(r"\s+", " ", text.strip().rstrip(";").strip())
    if not text or _HARMLESS.match(text):
        return {"tag": "OK"}
    if match := _SET.match(text):
        name = (match["name"] or "names").lower()
        return {"tag": "OK"} if name in {"names", *VARIABLES, *_OF_SESSIONS} else None
    if match := _VARIABLES.match(text):
        return _variables(match["like"], match["where"])
    if (match := _SHOW.match(text)) and match[1].upper() in _EMPTY:
        return Table.of(columns(_EMPTY[match[1].upper()]), []).answer()
    if match := _SELECT.match(text):
        return _select(match["items"], user, database)
    return None


def _variables(like: str | None, where: str | None) -> dict[str, Any]:
    if where is not None:
        named = set(re.findall(r"'([^']*)'", where.lower()))
        found = {name: value for name, value in VARIABLES.items() if name in named}
    else:
        parts = {"%": ".*", "_": "."}
        pattern = "".join(parts.get(one, re.escape(one)) for one in (like or "%").lower())
        found = {name: value for name, value in VARIABLES.items() if re.fullmatch(pattern, name)}
    rows = [{"Variable_name": name, "Value": value} for name, value in found.items()]
    return Table.of(columns("Variable_name Value"), rows).answer()


def _select(items: str, user: str, database: str) -> dict[str, Any] | None:
    functions = {
        "version": VERSION, "database": database, "schema": database, "user": user,
        "current_user": user, "session_user": user, "connection_id": "0",
    }  # fmt: skip
    names: list[tuple[str, str]] = []
    values: list[str | None] = []
    for item in items.split(","):
        match = _ITEM.match(item.strip())
        if match is None:
            return None
        if match["name"]:
            values.append(VARIABLES.get(match["name"].lower()))
        elif match["function"]:
            if match["function"].lower() not in functions:
                return None
            values.append(functions[match["function"].lower()])
        else:
            values.append(match["number"] or match["text"] or "")
        kind = "int8" if match["number"] else "text"
        names.append((match["alias"] or match["what"].strip("'"), kind))
    return {"columns": names, "rows": [values], "tag": "SELECT 1"}
