"""Settings inside transactions and savepoints: what is kept and what is undone is PostgreSQL's to
say.

Each script is played directly and through maitred; both tell the same. Run by pytest.
"""

from __future__ import annotations

import pytest

from fix_parity import Parity

SCRIPTS = {
    "set in a savepoint that is rolled back": """
        a: set work_mem = '5MB'
        a: begin
        a: savepoint one
        a: set work_mem = '6MB'
        a: show work_mem
        a: rollback to one
        a: show work_mem
        a: commit
        a: show work_mem
    """,
    "set in a savepoint that is released": """
        a: begin
        a: savepoint one
        a: set work_mem = '6MB'
        a: set app.level = 'one'
        a: release one
        a: commit
        a: show work_mem
        a: show app.level
    """,
    "released, then rolled back with all": """
        a: begin
        a: savepoint one
        a: set work_mem = '6MB'
        a: set DateStyle = 'SQL, DMY'
        a: release one
        a: rollback
        a: show work_mem
        a: show DateStyle
    """,
    "nested": """
        a: begin
        a: set app.level = 'zero'
        a: savepoint one
        a: set app.level = 'one'
        a: savepoint two
        a: set app.level = 'two'
        a: set TimeZone = 'Europe/Rome'
        a: rollback to two
        a: show app.level
        a: release one
        a: show app.level
        a: commit
        a: show app.level
        a: show TimeZone
    """,
    "of one name, twice": """
        a: begin
        a: savepoint s
        a: set lock_timeout = '1s'
        a: savepoint s
        a: set lock_timeout = '2s'
        a: rollback to s
        a: release s
        a: show lock_timeout
        a: rollback to s
        a: commit
        a: show lock_timeout
    """,
    "a savepoint after an error": """
        a: begin
        a: set work_mem = '7MB'
        a: savepoint one
        a: set work_mem = '8MB'
        a: select 1/0
        a: show work_mem
        a: rollback to one
        a: show work_mem
        a: commit
        a: show work_mem
    """,
    "set in a failed transaction": """
        a: set app.level = 'before'
        a: begin
        a: set app.level = 'in it'
        a: select no_such_column
        a: set app.level = 'too late'
        a: commit
        a: show app.level
        a: set app.level = 'after'
        a: show app.level
    """,
    "set local": """
        a: set work_mem = '5MB'
        a: begin
        a: set local work_mem = '6MB'
        a: set local TimeZone = 'Asia/Tokyo'
        a: show work_mem
        a: commit
        a: show work_mem
        a: show TimeZone
        a: set local work_mem = '9MB'
        a: show work_mem
    """,
    "set local over set in one transaction": """
        a: begin
        a: set work_mem = '6MB'
        a: set local work_mem = '7MB'
        a: show work_mem
        a: commit
        a: show work_mem
    """,
    "set over set local in one transaction": """
        a: begin
        a: set local app.level = 'local'
        a: set app.level = 'session'
        a: commit
        a: show app.level
    """,
    "set, then rollback": """
        a: begin
        a: set work_mem = '6MB'
        a: set client_encoding = 'latin1'
        a: set app.level = 'gone'
        a: show client_encoding
        a: rollback
        a: show work_mem
        a: show client_encoding
        a: select current_setting('app.level', true)
    """,
    "reset in a transaction that is rolled back": """
        a: set work_mem = '6MB'
        a: set IntervalStyle = 'iso_8601'
        a: begin
        a: reset all
        a: show work_mem
        a: rollback
        a: show work_mem
        a: show IntervalStyle
        a: begin
        a: reset work_mem
        a: commit
        a: show work_mem
        a: show IntervalStyle
    """,
    "commit and chain": """
        a: begin
        a: set app.level = 'first'
        a: commit and chain
        a: set app.level = 'second'
        a: rollback and chain
        a: show app.level
        a: rollback
        a: show app.level
    """,
    "the level of the next transaction": """
        a: begin isolation level serializable read only
        a: show transaction_isolation
        a: show transaction_read_only
        a: commit
        a: show transaction_isolation
        a: set session characteristics as transaction isolation level repeatable read, read only
        a: begin
        a: show transaction_isolation
        a: show transaction_read_only
        a: set transaction read write
        a: commit
        a: show default_transaction_isolation
        a: show default_transaction_read_only
    """,
    "in one request": """
        a: begin; set work_mem='5MB'; savepoint s; set work_mem='6MB'; rollback to s; commit
        a: show work_mem
        a: set work_mem = '7MB'; select 1/0
        a: show work_mem
        a: begin; set work_mem = '8MB'; commit; select 1/0
        a: show work_mem
        a: set app.level = 'x'; begin; set app.level = 'y'; rollback
        a: select current_setting('app.level', true)
    """,
    "in blocks and functions": """
        a: begin
        a: do $$ begin perform set_config('app.level', 'block', false); end $$
        a: savepoint s
        a: select set_config('app.level', 'function', false), set_config('work_mem', '9MB', true)
        a: rollback to s
        a: show app.level
        a: commit
        a: show app.level
        a: do $$ begin begin set work_mem='6MB'; perform 1/0; \
            exception when others then set app.level = 'caught'; end; end $$
        a: show app.level
        a: show work_mem
    """,
    "a statement of SQL prepared in what is rolled back stays": """
        a: begin
        a: prepare p as select 'kept'
        a: rollback
        a: execute p
        a: begin
        a: savepoint s
        a: prepare q (int) as select $1 + 1
        a: rollback to s
        a: execute q(41)
        a: deallocate p
        a: commit
        a: execute q(1)
        a: execute p
    """,
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_settings_in_transactions(parity: Parity, name: str) -> None:
    parity.check_script(SCRIPTS[name])


@pytest.mark.servers(2)
def test_two_clients_in_the_middle_of_theirs(parity: Parity) -> None:
    parity.check_script(
        """
        a: set work_mem = '5MB'
        b: set work_mem = '6MB'
        a: begin
        a: set TimeZone = 'Europe/Rome'
        b: show TimeZone
        b: begin
        b: set TimeZone = 'Asia/Kolkata'
        a: rollback
        b: commit
        a: show TimeZone
        b: show TimeZone
        a: show work_mem
        b: show work_mem
        """
    )
