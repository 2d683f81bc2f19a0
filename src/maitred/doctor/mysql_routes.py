"""As `routes`, for MySQL and MariaDB.

Only a table; nothing is run here. Called by `isolation`, which tries each, and by the tests.
"""

from __future__ import annotations

from .routes import Route

_LOCK = "maitred doctor"


def _setting(name: str, *leave: str, of: str = "sort_buffer_size") -> Route:
    return Route(name, leave, f"select @@{of}", (f"set session {of} = default",))


def _variable(name: str, *leave: str) -> Route:
    return Route(name, leave, "select @doctor_left", ("set @doctor_left = null",))


MYSQL_ROUTES = (
    _setting("SET SESSION", "set session sort_buffer_size = 66560"),
    _setting("SET @@", "set @@sort_buffer_size = 67584"),
    _setting("SET, committed", "begin", "set sort_buffer_size = 68608", "commit"),
    _setting("SET among others", "select 1; set sort_buffer_size = 69632; select 2"),
    _setting("SET in a comment", "/*!40101 set sort_buffer_size = 70656 */"),
    _setting("SET of several", "set @a = 1, sort_buffer_size = 71680, @b = 2"),
    _setting(
        "SET run from a text",
        *("prepare doctor_left from 'set sort_buffer_size = 72704'", "execute doctor_left"),
        "deallocate prepare doctor_left",
    ),
    _setting("sql_mode", "set sql_mode = 'ANSI_QUOTES'", of="sql_mode"),
    _setting("time zone", "set time_zone = '+05:45'", of="time_zone"),
    _setting("foreign_key_checks", "set foreign_key_checks = 0", of="foreign_key_checks"),
    Route(
        "SET NAMES",
        ("set names utf8mb4 collate utf8mb4_bin",),
        "select @@collation_connection",
        ("set names utf8mb4",),
    ),
    Route("autocommit", ("set autocommit = 0",), "select @@autocommit", ("set autocommit = 1",)),
    _variable("user variable", "set @doctor_left = 'left'"),
    _variable("user variable in a SELECT", "select @doctor_left := 5"),
    _variable("user variable in a transaction", "begin", "set @doctor_left = 1.5", "commit"),
    _variable("user variable INTO", "select 7 into @doctor_left"),
    _variable(
        "user variable, run from a text",
        *("prepare doctor_left from 'set @doctor_left = ?'", "set @doctor_given = 'given'"),
        *("execute doctor_left using @doctor_given", "deallocate prepare doctor_left"),
    ),
    Route("USE", ("use information_schema",), "select database()"),
    Route(
        "named lock",
        (f"do get_lock('{_LOCK}', 0)",),
        # Why not IS_USED_LOCK: that tells the server's number of its holder, to everybody.
        f"select if(release_lock('{_LOCK}') = 1, get_lock('{_LOCK}', 0), 0)",
        (f"do release_lock('{_LOCK}')",),
    ),
    Route(
        "temporary table",
        ("create temporary table doctor_left (x int)",),
        "select count(*) from doctor_left",
        ("drop temporary table doctor_left",),
        without="exist",
    ),
    Route(
        "SQL PREPARE",
        ("prepare doctor_left from 'select 1'",),
        "execute doctor_left",
        ("deallocate prepare doctor_left",),
        without="Unknown prepared statement",
    ),
    Route("LAST_INSERT_ID()", ("select last_insert_id(1869508714)",), "select last_insert_id()"),
    Route("warnings", ("select cast('x' as signed)",), "select @@warning_count"),
)
