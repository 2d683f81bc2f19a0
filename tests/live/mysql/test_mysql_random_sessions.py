"""Random sequences of statements that change a session's state, by three clients on one, two or
five MariaDB servers.

Each client must see what it would see alone on a connection of its own. Run by pytest; hypothesis
makes the sequences and shortens one that fails to a script that `fix_mysql_parity.play` plays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import pymysql
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from pymysql.constants import CLIENT

from fix_mariadb import MariaDB
from fix_mysql_parity import MysqlParity, MysqlSide, play

# What is there before a client comes. `north` has all of it, `south` a table of the same name.
SETUP = """
create schema north;
create schema south character set latin1;
grant all on north.* to app@'%';
grant all on south.* to app@'%';
create table north.t (id int auto_increment primary key, n tinyint, s varchar(20));
create table south.t (id int auto_increment primary key, n tinyint, s varchar(20));
create table north.m (id int auto_increment primary key, n int) engine = myisam;
create table north.audited (id int auto_increment primary key, n int);
create trigger north.audit before insert on north.audited
    for each row set @x = new.n, lock_wait_timeout = 99;
create procedure north.run (what text) execute immediate what;
create procedure north.p_plain()
    begin set sort_buffer_size = 65536; set @x = 'by a procedure'; end;
create procedure north.p_bare()
    begin set @@sort_buffer_size = 131072; set @@lock_wait_timeout = 77; end;
create procedure north.p_autocommit (to_what int) set @@autocommit = to_what;
create procedure north.p_fails()
    begin set @y = 'before'; set @@join_buffer_size = 131072; select nosuch; end;
create procedure north.p_catches() begin
    declare continue handler for sqlexception set @z = 'caught'; select * from nosuch.nosuch; end;
create procedure north.p_results() begin select 1; select 2 union select 3; end;
create procedure north.p_out (out a int, inout b text) begin set a = 5, b = concat(b, '!'); end;
create procedure north.p_inserts()
    begin insert into north.t (n) values (4), (5); set @x = last_insert_id(); end;
create procedure north.p_warns()
    signal sqlstate '01234' set message_text = 'look out', mysql_errno = 4321;
create function north.f_plain (a int) returns int deterministic
    begin set @y = a; set time_zone = '+07:00'; return a; end;
create function north.f_bare() returns int deterministic
    begin set @@join_buffer_size = 262144; return 1; end;
create function north.f_inserts() returns int deterministic
    begin insert into north.t (n) values (6); return last_insert_id(); end;
create view north.v as select north.f_plain(3) as n;
"""
CLEANUP = """
revoke all on north.* from app@'%'; revoke all on south.* from app@'%';
drop schema north; drop schema south;
"""
RESET = (
    "set autocommit = 1; truncate north.t; truncate south.t; truncate north.m;"
    " truncate north.audited; drop table if exists north.made;"
    " insert into north.t (n, s) values (1, 'one'), (2, 'two'), (3, 'three');"
    " insert into south.t (n, s) values (-1, 'south')"
)
VALUES = {
    "sort_buffer_size": ["65536", "131072", "5", "'much'"],
    "group_concat_max_len": ["4", "2000", "2000.5"],
    "lock_wait_timeout": ["10", "20", "-1"],
    "sql_select_limit": ["1", "3", "18446744073709551615"],
    "sql_mode": ["''", "'ANSI'", "'TRADITIONAL'", "'NO_BACKSLASH_ESCAPES'", "'ORACLE'",
                 "'PIPES_AS_CONCAT,EMPTY_STRING_IS_NULL'", "'NOSUCH'", "'MSSQL'", "131072",
                 "concat(@@sql_mode, ',NO_ZERO_DATE')"],
    "time_zone": ["'+05:30'", "'-08:00'", "'SYSTEM'", "'Nowhere'"],
    "character_set_client": ["latin1", "'utf8mb4'", "'utf8mb3'", "cp1251", "ucs2", "gbk"],
    "character_set_connection": ["latin1", "utf8mb4", "'ucs2'"],
    "character_set_results": ["null", "latin1", "'utf8mb4'", "binary"],
    "character_set_server": ["latin1", "utf8mb4"],
    "collation_server": ["latin1_bin"],
    "character_set_filesystem": ["latin1"],
    "collation_connection": ["utf8mb4_bin", "'latin1_swedish_ci'", "utf8mb4_general_ci",
                             "latin1_german1_ci"],
    "tx_isolation": ["'SERIALIZABLE'", "'READ-COMMITTED'", "'READ-UNCOMMITTED'"],
    "foreign_key_checks": ["0", "off", "1"],
    "unique_checks": ["0", "true"],
    "sql_notes": ["0", "1"],
    "sql_warnings": ["1"],
    "sql_safe_updates": ["1", "0"],
    "sql_auto_is_null": ["1", "0"],
    "sql_big_selects": ["0", "1"],
    "max_join_size": ["1", "1000"],
    "max_error_count": ["0", "1", "64"],
    "div_precision_increment": ["8", "2"],
    "auto_increment_increment": ["10", "1"],
    "auto_increment_offset": ["3"],
    "lc_time_names": ["'de_DE'", "'fr_FR'", "'xx'"],
    "lc_messages": ["'de_DE'", "'en_US'"],
    "default_week_format": ["3"],
    "max_sort_length": ["64"],
    "max_statement_time": ["20", "30.5"],
    "wait_timeout": ["600", "700"],
    "net_write_timeout": ["77"],
    "join_buffer_size": ["65536", "@@sort_buffer_size"],
    "tmp_memory_table_size": ["0", "1024"],
    "big_tables": ["1", "0"],
    "optimizer_switch": ["'index_merge=off'", "'mrr=on'", "'default'"],
    "default_storage_engine": ["MyISAM", "'InnoDB'", "nosuch"],
    "enforce_storage_engine": ["null", "InnoDB"],
    "max_sp_recursion_depth": ["3"],
    "old_mode": ["'NO_PROGRESS_INFO'", "''"],
    "long_query_time": ["0.5"],
    "innodb_lock_wait_timeout": ["7"],
    "check_constraint_checks": ["off"],
    "character_sets_dir": ["'/tmp'"],
    "updatable_views_with_limit": ["no", "yes"],
}  # fmt: skip
LOOK = (
    "select database(), @x, @y, @z, @`odd name`, @@autocommit, @@tx_read_only, last_insert_id(),"
    " @@collation_database, if(@x is null, null, collation(@x)), "
    + ", ".join(f"@@{name}" for name in VALUES)
)
NAMES = st.sampled_from(list(VALUES))
LITERALS = st.sampled_from(
    ["5", "-7", "1.50", "1e10", "'text'", "''", "'it''s'", "'back\\\\slash'", "null", "x'00ff'",
     "b'101'", "18446744073709551615", "-9223372036854775808", "cast(5 as unsigned)", "0x41",
     "1e-300", "99999999999999999999999999", "-0.0e0", "0.1e0 + 0.2e0", "1/3", "date '2026-01-02'",
     "time '10:00:00.5'", "cast('2026-01-02' as datetime)", "true", "_latin1 x'eb'", "n'x'", "'ë'",
     "repeat('x', 300)", "@x", "@y + 1", "concat(@x, 'z')", "json_object('a', 1)", "'A' = 'a'",
     "'a' collate utf8mb4_bin", "_binary 'a'", "convert('a' using utf16)", "current_user()",
     "cast('::1' as inet6)", "(select s from north.t where id = 2)", "@@sql_mode", "database()",
     "year(20260102)", "cast(1 as decimal(10, 4))", "float_of", "\"quoted\"", "'a' 'b'", "\\N"]
)  # fmt: skip
VARIABLES = st.sampled_from(["x", "y", "z", "`odd name`", "X", "'z'"])
TABLES = st.sampled_from(["north.t", "t", "south.t", "`t`", "north.m"])


UNCHECKED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example,
             HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]  # fmt: skip


def texts(*several: str) -> st.SearchStrategy[str]:
    return st.sampled_from(several)


def quoted(sql: str) -> str:
    """As a literal that means the same in every `sql_mode`, if there is no backslash in it."""
    return "'" + sql.replace("'", "''") + "'"


@st.composite
def assignments(draw: st.DrawFn) -> str:
    """What may stand behind SET, once or among others."""
    if draw(st.booleans()):
        sign = draw(st.sampled_from(["=", ":="]))
        return f"@{draw(VARIABLES)} {sign} {draw(LITERALS)}"
    name = draw(NAMES)
    value = draw(st.sampled_from([*VALUES[name], "default", "@@global." + name]))
    # Why not that one bare: it is for the next transaction only, which keeps the server.
    bare = () if name == "tx_isolation" else ("@@",)
    scope = draw(
        st.sampled_from(["", "", *bare, *bare, "session ", "local ", "@@session.", "@@LOCAL."])
    )
    written = draw(st.sampled_from([name, name, name.upper(), f"`{name}`"]))
    return f"{scope}{written} {draw(st.sampled_from(['=', ':=']))} {value}"


ONE_SET = assignments().map("set {}".format)
SETS = st.one_of(
    ONE_SET,
    ONE_SET,
    st.lists(assignments(), min_size=2, max_size=3).map(", ".join).map("set {}".format),
    st.builds("set statement {0} = {1} for select @@{0}, @x".format,
              texts("sort_buffer_size", "lock_wait_timeout"), texts("default", "70000")),
    ONE_SET.map(lambda sql: f"/*!40101 {sql} */"),
    ONE_SET.map(lambda sql: f"execute immediate {quoted(sql)}"),
    ONE_SET.map(lambda sql: f"begin not atomic {sql}; end"),
    ONE_SET.map(lambda sql: f"call north.run({quoted(sql)})"),
    texts(
        "set names latin1", "set names utf8mb4", "set names utf8mb4 collate utf8mb4_bin",
        "set names 'gbk'", "set names default", "set character set latin1", "set charset utf8mb4",
        "set names nosuch", "set session transaction isolation level read committed",
        "set session transaction isolation level repeatable read",
        "set session transaction read only", "set session transaction read write",
        "set session character_set_database = latin1", "set collation_database = utf8mb4_bin",
        "set global sort_buffer_size = 70000", "set nosuchvariable = 5", "set @@nosuch = 1",
        "set version = '5'", "set last_insert_id = 9", "set @@identity = 11", "set autocommit = 1",
        "set sort_buffer_size = 65536, @x = 1, nosuchvariable = 5",
        "set @old = @@sql_mode, sql_mode = 'ANSI'", "set sql_mode = @old",
    ),
)  # fmt: skip
ROUTINES = texts(
    "call north.p_plain()", "call north.p_bare()", "call north.p_fails()",
    "call north.p_catches()", "call north.p_results()", "call p_results()",
    "call north.p_out(@x, @y)", "call north.p_inserts()", "call north.p_warns()",
    "select north.f_plain(7)", "select north.f_bare()", "do north.f_bare()", "set @z = f_bare()",
    "select north.f_inserts()", "select n from north.v", "call nosuch()",
    "insert into north.audited (n) values (7)", "select north.f_plain(@x := 8)",
)  # fmt: skip
PLACES = texts(
    "use north", "use south", "use served", "USE `south`", "use nosuch", "@init_db north",
    "@init_db served", "@init_db nosuch", "select database()", "@ping", "@reset_connection",
)  # fmt: skip
ASSIGNING = texts(
    "select @x := 5, @y := 'five'", "select 1, 'two' into @x, @z", "select @x := @x + 1",
    "select n, s from north.t where id = 2 into @y, @z", "select max(id) from north.t into @x",
    "select id, n from north.t where id = 1000 into @x, @y", "do @z := 1.5",
    "update north.t set n = (@y := n) where id = 2", "select n into @x from t limit 1",
)  # fmt: skip
ROWS = st.builds(
    str.format,
    texts(
        "insert into {0} (n) values (1)", "insert into {0} (n) values (2), (3)",
        "insert into {0} (id, n) values (50, 1)", "insert ignore into {0} (id, n) values (1, 1)",
        "insert into {0} (id, n) values (2, 7) on duplicate key update n = 8,"
        " id = last_insert_id(id)", "replace into {0} (id, n) values (1, 5)",
        "insert into {0} (n) values (1000)", "insert ignore into {0} (n) values ('x'), (-1000)",
        "insert into {0} (n) select n from {0} limit 2", "insert into {0} (id) values (1)",
        "insert into {0} (n) values (1) returning id, n", "insert into {0} (id) values (0)",
        "update {0} set n = n + 1 where id < 3", "update {0} set n = 1", "delete from {0}",
        "update {0} set n = last_insert_id(id + 20) where id = 1",
        "delete from {0} where id = 1 returning id", "delete from {0} where id = 1000",
        "select id, n from {0} order by id limit 1", "select count(*) from {0}",
        "select sql_no_cache id from {0} order by id",
        "insert into {0} (n) values (last_insert_id())", "truncate {0}",
        "select n from {0} where id = last_insert_id()", "select * from {0} where id is null",
    ),
    TABLES,
)  # fmt: skip
PLAIN = texts(
    "select 1", "select 1 union select 2", "select 1 limit 0", "select * from nosuch", "selec",
    "select 1/0", "select cast('x' as signed), cast('y' as signed)", "do 1", "select 'a' || 'b'",
    "drop table if exists nosuch", "create table if not exists north.made (n int)",
    "drop table north.made", "signal sqlstate '01000' set message_text = 'careful'",
    "signal sqlstate '45000' set message_text = 'no', mysql_errno = 5000",
    "signal sqlstate '23000'", "select group_concat(n order by id) from north.t", "select 1/3",
    "select last_insert_id(77)", "do last_insert_id(5)", "select \"q\", 'a\\\\b', length('ë')",
    "select from_unixtime(0), date_format('2026-05-01', '%M')", "show tables", "explain select 1",
    "analyze table north.t", "select sleep(0)", "select raise", ";", "select 1 -- last",
    "show variables like 'sort_buffer_size'", "show session variables like 'collation_c%'",
    "select collation('a'), 'a' = 'A', _utf8mb4'a' = 'A'", "select 1 from dual where false",
    "show create table north.t", "select * from (select 1 a union select 2) q limit 1",
    "values (1), (2)", "table_of", "with w as (select 5) select * from w", "help 'nosuch'",
)  # fmt: skip
LEFT = texts(
    "select row_count()", "select found_rows()", "select last_insert_id()", "show warnings",
    "show count(*) warnings", "select @@warning_count, @@error_count", "show errors",
    "show count(*) errors", "show warnings limit 1", "show warnings limit 1, 5",
    "select row_count(), found_rows(), last_insert_id(), @@warning_count",
    "select @@identity, @@last_insert_id, @@error_count", "set @x = row_count()",
    "set @y = found_rows(), @z = last_insert_id()", "get diagnostics @x = number",
    "get diagnostics @x = row_count, @y = number",
    "get diagnostics condition 1 @z = message_text, @x = mysql_errno, @y = returned_sqlstate",
    "get diagnostics condition 2 @z = message_text", "do row_count()",
    "select row_count() from north.t where id = 1", "select found_rows() + 1 as found",
    "set @x = @@warning_count", "insert into north.t (n) values (row_count())",
    "execute immediate 'select row_count(), found_rows()'", "resignal",
    "call north.run('select row_count(), found_rows(), last_insert_id(), @@warning_count')",
    "select 1; select row_count(), found_rows(), @@warning_count",
    "get current diagnostics condition 1 @x = class_origin, @y = table_name",
    "begin not atomic get diagnostics @x = number; end",
)  # fmt: skip
STATEMENTS = texts(
    "prepare p from 'select ? + 1 as n'", "prepare p from 'set @x = ''by p'''", "execute p",
    "execute p using @x", "deallocate prepare p", "drop prepare q", "prepare q from 'selec'",
    "prepare q from 'select last_insert_id(), row_count(), @@sql_mode'", "execute q",
    "prepare Q from 'set @@lock_wait_timeout = 33'", "execute `q`", "prepare q from \"select 5\"",
    "prepare q from 'select ''it\\'s'', database()'", "prepare q from 'call north.p_plain()'",
    "prepare p from 'insert into north.t (n) values (?)'", "execute immediate 'select @x'",
    "execute immediate concat('set @x', ' = 6')", "execute immediate 'select ? <=> 5' using @y",
    "execute immediate 'use south'",
)  # fmt: skip
# Of the binary protocol: what is prepared, and with what it is executed.
BINARY = {
    "add: select ? + 1 as n, @x": ["5", "null", "x"],
    "put: insert into north.t (n) values (?)": ["7", "1000", "null"],
    "back: insert into north.t (n) values (?) returning id": ["7"],
    "left: select row_count(), found_rows(), last_insert_id(), @@warning_count": [""],
    "let: set @x = ?": ["5", "text", "null"],
    "mode: set sql_mode = ?": ["ANSI", "nosuch"],
    "bare: set @@lock_wait_timeout = ?": ["44", "x"],
    "do: call north.p_plain()": [""],
    "many: call north.p_results()": [""],
    "out: call north.p_out(?, @y)": ["5"],
    "all: select id, n, s from north.t order by id limit 2": [""],
    "where: select database(), @@sort_buffer_size, 'a' = 'A'": [""],
    "warn: show warnings": [""],
    "id: select id from north.t where id = last_insert_id()": [""],
    "assign: select @y := ?, @z": ["5", "x"],
}
BEGINS = texts("begin", "start transaction", "begin work", "start transaction read only",
               "start transaction with consistent snapshot", "start transaction read write",
               "set autocommit = 0")  # fmt: skip
SAVEPOINTS = texts("savepoint s", "rollback to s", "release savepoint s", "commit and chain",
                   "rollback and chain", "begin", "commit")  # fmt: skip
ENDS = texts("commit", "rollback", "commit work", "rollback and no chain")
# What keeps its server, and what gives it back.
KEEPING = st.sampled_from(
    [
        (["create temporary table north.own (n int)"], ["drop temporary table north.own"]),
        (["select get_lock('random', 5)"], ["select release_lock('random')"]),
        (["lock tables north.t write"], ["unlock tables"]),
        (["handler north.t open as h", "handler h read first"], ["handler h close"]),
        (["xa start 'random'"], ["xa end 'random'", "xa rollback 'random'"]),
        (["set timestamp = 1000000000", "select now()"], ["set timestamp = default"]),
        (["set @s = 'select 1 + 1'", "prepare s from @s", "execute s"], ["deallocate prepare s"]),
        (["set insert_id = 200"], ["insert into north.t (n) values (1)", "set insert_id = 0"]),
    ]
)
NEXT = texts(
    "set transaction isolation level serializable", "set transaction read only",
    "set @@tx_isolation = 'READ-COMMITTED'", "set transaction read write",
)  # fmt: skip
AUTOCOMMIT = texts("set autocommit = 0", "call north.p_autocommit(0)",
                   "set @@autocommit = off", "set autocommit = 1")  # fmt: skip
ANY = st.one_of(SETS, SETS, ROUTINES, ASSIGNING, ROWS, PLAIN, LEFT, LEFT)


def turns() -> st.SearchStrategy[list[str]]:
    """What one client does before another has its turn: it ends outside of a transaction, where
    `autocommit` is on."""
    some = st.lists(ANY | STATEMENTS | PLACES, min_size=1, max_size=2)
    left = st.tuples(ROWS | PLAIN | ROUTINES, LEFT).map(list)
    inner = st.lists(ANY | STATEMENTS | SAVEPOINTS | PLACES.filter(is_plain), max_size=5)
    block = st.builds(kept, st.tuples(BEGINS.map(lone), ENDS.map(lone)), inner)
    following = st.builds(preceded, NEXT, block)
    several = st.lists(ANY | PLACES.filter(is_plain), min_size=2, max_size=4)
    text = several.map("; ".join).map(lone)
    keeping = st.builds(kept, KEEPING, st.lists(LEFT | ROWS, max_size=2))
    off = st.tuples(AUTOCOMMIT, ANY).map(list)
    binary = st.lists(executions(), min_size=1, max_size=2)
    # Why nothing between: it keeps its server for one statement.
    found = st.just(["select sql_calc_found_rows id from north.t limit 1", "select found_rows()"])
    return st.one_of(some, some, left, left, found, block, following, text, keeping, off, binary)


def lone(statement: str) -> list[str]:
    return [statement]


def preceded(first: str, rest: list[str]) -> list[str]:
    return [first, *rest]


def kept(around: tuple[list[str], list[str]], within: list[str]) -> list[str]:
    return [*around[0], *within, *around[1]]


@st.composite
def executions(draw: st.DrawFn) -> str:
    """What `told` makes lines of."""
    sql = draw(st.sampled_from(list(BINARY)))
    return f"@binary {sql} <- {draw(st.sampled_from(BINARY[sql]))}"


def is_plain(statement: str) -> bool:
    return not statement.startswith("@")


def ended(turn: list[str], before: list[str], end: str) -> list[str]:
    """A turn that ends outside of a transaction, also where its client has no `autocommit`."""
    may_be_off = any("autocommit" in line for line in before + turn)
    return [*turn, end] if may_be_off and turn[-1] != end else turn


@st.composite
def scripts(draw: st.DrawFn, size: int) -> tuple[str, dict[str, dict[str, str]]]:
    """A script of three clients, and how they log in.

    Behind several servers others hold some of them now and then, so that not everybody gets back
    the one that it had.
    """
    names = ["a", "b", "c", *(f"new{number}" for number in range(size))]
    form = draw(st.sampled_from(["", "", "DEPRECATE_EOF", "FOUND_ROWS"]))
    lines: list[str] = []
    clients = st.sampled_from("abc")
    said: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    held: set[str] = set()
    parts = st.tuples(clients, turns(), ENDS, st.sets(clients), st.integers(0, 4))
    for client, turn, end, looking, holder in draw(st.lists(parts, min_size=1, max_size=10)):
        for statement in ended(turn, said[client], end):
            lines += [f"{client}: {each}" for each in told(statement, said[client])]
        if holder < size - 1:
            name = f"held{holder}"
            lines.append(f"{name}: {'rollback' if name in held else 'begin'}")
            held ^= {name}
        lines += [f"{each}: look" for each in sorted(looking)]
    lines += [f"{each}: rollback" for each in sorted(held)]
    names += [f"held{number}" for number in range(size - 1)]
    return "\n".join([*lines, "a: look", "b: look", "c: look"]), {n: {"with_": form} for n in names}


def told(statement: str, before: list[str]) -> list[str]:
    """The lines of a statement, which is prepared the first time that its client executes it."""
    kind, _, rest = statement.partition(" ")
    if kind == "@reset_connection":
        before.clear()
    before.append(statement)
    if kind != "@binary":
        return [statement]
    sql, _, value = rest.partition(" <-")
    prepared = f"@prepare {sql}"
    made = [] if prepared in before else [prepared]
    before += made
    return [*made, f"@execute {sql.partition(':')[0]}:{value}"]


# What is not the same, by `docs/start/mysql.md` ("Different from a session of one's own"), or what
# means the statement right before: `test_mysql_parity` plays that, step by step.
KNOWN = re.compile(
    r"row_count|found_rows|warnings|errors|_count\b|diagnostics|: explain|: xa |signal"
    r"|(character_set|collation)_database|prepare \w+ from (@|'selec)|\\|@reset_connection"
    r"|enforce_storage|(north\.run|not atomic).*sql_mode|\(id, n\)|@(prepare|execute) (warn|left)",
    re.IGNORECASE,
)

Admin: TypeAlias = "pymysql.Connection[Any]"


def run_all(admin: Admin, text: str) -> None:
    """All statements of a text."""
    with admin.cursor() as cursor:
        cursor.execute(text)
        while cursor.nextset():
            pass


@pytest.fixture
def admin(endpoint: MariaDB) -> Iterator[Admin]:
    """Who has made the schemas, which `endpoint.clear` knows nothing of."""
    with endpoint.connect(
        "root", None, password="", client_flag=CLIENT.MULTI_STATEMENTS
    ) as connection:
        run_all(connection, SETUP)
        yield connection
        endpoint.kill_all()
        run_all(connection, CLEANUP)


@pytest.mark.one_backend
@pytest.mark.flavour("mariadb")
@pytest.mark.deadline(2400)
def test_clients_see_what_they_would_see_alone(
    request: pytest.FixtureRequest, mysql_parity: MysqlParity, admin: Admin
) -> None:
    is_long = request.config.getoption("--run-slow")
    count = int(os.environ.get("MAITRED_RANDOM_SESSIONS", "3000" if is_long else "45"))
    # Why: from then on servers of the pool are asked for ids that were given explicitly, too.
    with mysql_parity.proxied() as side:
        side.wire().run("select last_insert_id()")

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=not is_long,
        # Why not always: it takes minutes; a shorter script is found by taking lines away.
        phases=(Phase.generate, Phase.shrink) if is_long else (Phase.generate,),
        suppress_health_check=UNCHECKED,
    )
    @given(scripts(mysql_parity.size))
    def check(case: tuple[str, dict[str, dict[str, str]]]) -> None:
        script, clients = case
        # Why first: a newcomer's FOUND_ROWS() is MariaDB's of whoever had the thread before.
        script = f"a: select 1\nb: select 1\nc: select 1\n{script}"
        note(f"behind {mysql_parity.size} servers, {clients['a']}\n{script}")
        # Newcomers, as many as there are servers, meet what was left behind.
        for number in range(mysql_parity.size):
            script += f"\nnew{number}: begin\nnew{number}: look"
        lines = [line for line in script.splitlines() if not KNOWN.search(line)]
        script = re.sub("look$", lambda _: LOOK, "\n".join(lines), flags=re.MULTILINE)

        def scenario(side: MysqlSide) -> list[str]:
            run_all(admin, RESET)
            return play(side, script, strangers=False, **clients)

        mysql_parity.check(scenario)

    check()
