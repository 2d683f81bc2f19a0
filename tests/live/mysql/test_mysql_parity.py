"""Session state and what a statement leaves behind: the same through maitred as on the database.

Each script is played by a few clients on the database itself and behind one, two and five servers,
while strangers with other settings take the servers between the lines. Run by pytest.
"""

from __future__ import annotations

import pytest

import mysql_scripts
from fix_mysql_parity import MysqlParity, MysqlSide

pytestmark = pytest.mark.one_backend

SCRIPTS = {name.lower(): script for name, script in vars(mysql_scripts).items()
           if name.isupper() and isinstance(script, str)}  # fmt: skip


# In which one client holds a server while another one wants one.
_EXPLICIT = """
b: select last_insert_id()
a: create table t (id int auto_increment primary key, n int)
a: insert into t (n) values (1), (2)
b: insert into t (n) values (3)
a: insert into t (id, n) values (500, 1)
a: select last_insert_id()
b: insert into t (id, n) values (600, 1)
b: select last_insert_id()
a*: begin
a: insert into t (id, n) values (700, 1)
a: insert into t (n) values (4)
a: insert into t (id, n) values (710, 1)
a: insert into t (id, n) values (711, 1)
a-: commit
b: insert into t (id, n) values (800, 1)
a: select last_insert_id()
b: select last_insert_id()
"""
_REPLACED = """
a*: create or replace temporary table r (n int)
b: select * from r
a: insert into r values (1)
a: select * from r
a-: drop temporary table r
"""
HOLDING = {"clock", "transactions", "autocommit", "temporary", "locks", "tables_locked", "handlers",
           "xa", "found", "sql_prepared"}  # fmt: skip


@pytest.mark.parametrize(
    "script", sorted(SCRIPTS.keys() - HOLDING - {"state_in_routines", "tracking"})
)
def test_script(mysql_parity: MysqlParity, script: str) -> None:
    mysql_parity.check_script(SCRIPTS[script])


@pytest.mark.servers(2)
@pytest.mark.parametrize("script", sorted(HOLDING))
def test_script_with_servers_held(mysql_parity: MysqlParity, script: str) -> None:
    mysql_parity.check_script(SCRIPTS[script])


def test_state_in_routines(mysql_parity: MysqlParity) -> None:
    script = SCRIPTS["state_in_routines"]
    if mysql_parity.endpoint.kind == "mysql":
        if mysql_parity.size == 1:
            pytest.skip(
                "MySQL does not tell which user variables a routine has set: its client keeps the "
                "server, and there is no other"
            )
        script = script.replace("a: call p_var()", "a*: call p_var()")
    mysql_parity.check_script(script)


@pytest.mark.parametrize("script", ["variables", "schema", "encodings", "ids", "tracking"])
def test_script_by_clients_that_track_their_session(mysql_parity: MysqlParity, script: str) -> None:
    form = {"with_": "SESSION_TRACK DEPRECATE_EOF"}
    mysql_parity.check_script(SCRIPTS[script], a=form, b=form)


MARIADB = {
    "statement settings": """
a: set statement sort_buffer_size = 65536 for select @@sort_buffer_size
a: select @@sort_buffer_size = @@global.sort_buffer_size
b: select @@sort_buffer_size = @@global.sort_buffer_size
a: set statement max_statement_time = 0.05 for select sleep(2)
""",
    "prepared warnings": """
a: create table t (n tinyint)
a: set sql_mode = ''
a: @prepare warnings: show warnings
a: @prepare errors: show errors limit 1
a: @prepare count: show count(*) warnings
a: insert into t values (1000), (-1000)
a: @execute warnings:
b: @prepare warnings: show warnings
b: @execute warnings:
a: insert into t values (1000), (-1000)
a: @execute count:
a: insert into t values (1000), (7)
a: @execute errors:
a: @execute warnings:
a: select * from nosuch
a: @execute errors:
a: @execute warnings:
a: insert into t values (1)
a: @execute warnings:
""",
    "limits": """
a: set max_statement_time = 20
a: start transaction with consistent snapshot
a: begin not atomic set @@sql_big_selects = 1, @@lock_wait_timeout = 9; set @x = 1; end
a: commit
a: select @@max_statement_time, @@lock_wait_timeout
b: select @@max_statement_time, @@lock_wait_timeout = 9
a: set @@max_statement_time = 30, @x = 2
a: select @@max_statement_time, @x
b: select @@max_statement_time, @x
""",
    "execute immediate": """
a: execute immediate 'set @imm = 5'
a: select @imm
b: select @imm
a: execute immediate 'set sort_buffer_size = 65536'
a: select @@sort_buffer_size
b: select @@sort_buffer_size = @@global.sort_buffer_size
""",
    "returning": """
a: create table t (id int auto_increment primary key, n int)
a: insert into t (n) values (1), (2) returning id, n
a: select last_insert_id()
b: select last_insert_id()
a: delete from t returning id
a: select row_count()
a: replace into t (id, n) values (40, 1), (null, 2) returning id
a: select last_insert_id(), @@identity
b: insert into t (n) values (7) returning id
b: create procedure idle() select 1
b: call idle()
b: select last_insert_id()
a: update t set n = last_insert_id(n + 1) where id = 12345
a: select last_insert_id()
a*: begin
a: insert into t (n) values (9) returning id
a: select last_insert_id()
a-: commit
a: select last_insert_id()
a: @prepare p: insert into t (n) values (?) returning id, n
a: @execute p: 5
a: select last_insert_id()
b: select last_insert_id()
""",
    # Why not on MySQL: there a variable has in a statement the type that it had when that was
    # prepared, which is another time on each server.
    "prepared variable": """
a: @prepare d: select @uv
a: @execute d:
a: set @uv = 4
a: @execute d:
b: select 1
a: @execute d:
""",
    # Why not on MySQL: there each of them is told.
    "bare settings in routines": """
a: create procedure p_bare() begin set @@sort_buffer_size = 65536; set @@lock_wait_timeout = 77; end
a: create function f_bare() returns int no sql begin set @@join_buffer_size = 131072; return 1; end
a: create procedure p_back() set @@sort_buffer_size = default
a: create procedure p_over() set @@time_zone = '+03:00'
a: call p_bare()
a: select @@sort_buffer_size, @@lock_wait_timeout
b: select @@sort_buffer_size = @@global.sort_buffer_size, @@lock_wait_timeout
a: select f_bare()
b: select @@join_buffer_size = @@global.join_buffer_size, f_bare()
b: select @@join_buffer_size
a: select @@sort_buffer_size, @@lock_wait_timeout, @@join_buffer_size
a: set time_zone = '+05:00'
b: set time_zone = '+06:00'
a: call p_over()
b: select @@time_zone, @@sort_buffer_size = @@global.sort_buffer_size
a: select @@time_zone
a: call p_back()
b: call p_back()
b: select @@time_zone, @@sort_buffer_size = @@global.sort_buffer_size
a: select @@time_zone, @@sort_buffer_size = @@global.sort_buffer_size, @@lock_wait_timeout
""",
    "compound": """
a: begin not atomic set @c = 4; end
a: select @c
b: select @c
""",
}


def test_what_is_asked_at_once_is_as_it_was_set(mysql_parity: MysqlParity) -> None:
    # Why so often: what was set is asked of the server, and the client may be quicker than that.
    def ask(side: MysqlSide) -> list[str]:
        client = side.wire()
        seen = []
        for number in range(3, 40):
            client.run(f"set last_insert_id = {number}")
            seen.append(client.value("select last_insert_id()"))
        return seen

    assert mysql_parity.check(ask) == [str(number) for number in range(3, 40)]


@pytest.mark.flavour("mariadb")
@pytest.mark.servers(2)
def test_a_temporary_table_replaced(mysql_parity: MysqlParity) -> None:
    mysql_parity.check_script(_REPLACED)


def test_an_id_that_was_given_is_known_once_a_client_of_the_pool_has_asked(
    mysql_parity: MysqlParity,
) -> None:
    mysql_parity.check_script(_EXPLICIT)


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("script", MARIADB)
def test_script_of_mariadb(mysql_parity: MysqlParity, script: str) -> None:
    mysql_parity.check_script(MARIADB[script])
