"""Protocol-level prepared statements where several clients share few servers.

Each client must see its own statements, on whichever server it is. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_wire import Wire, bind, close, describe, execute, extended, parse, query, sync, tags

pytestmark = pytest.mark.one_backend


@pytest.fixture
def maitred(make_maitred: Callable[..., Maitred], postgres: Postgres) -> Maitred:
    postgres.rows("drop table if exists plans")
    return make_maitred({"pool": {"size": 2}})


def run(client: Wire, name: str, *values: str) -> list[list[str | None]]:
    """Bind and execute a statement that was prepared before."""
    client.send(bind(values, name=name), execute(), sync())
    seen = client.read_until("Z")
    assert "E" not in tags(seen), [got.fields for got in seen if got.tag == "E"]
    return [got.values for got in seen if got.tag == "D"]


def prepare(client: Wire, name: str, statement: str) -> None:
    client.send(parse(statement, name), sync())
    assert tags(client.read_until("Z")) == "1Z"


def code_of(client: Wire, *messages: bytes) -> str:
    client.send(*messages, sync())
    errors = [got.code for got in client.read_until("Z") if got.tag == "E"]
    assert errors, "no error"
    return errors[0]


def on_both_servers(maitred: Maitred, step: Callable[[], object]) -> None:
    """Do `step` once on each of the two servers, holding the other one in a transaction."""
    with maitred.wire() as one, maitred.wire() as two:
        one.query("begin")
        two.query("begin")
        assert one.backend() != two.backend()
        one.query("commit")
        step()
        one.query("begin")
        two.query("commit")
        step()
        one.query("commit")


def test_named_statement_works_on_every_server(maitred: Maitred) -> None:
    pids = set()
    with maitred.wire() as client:
        prepare(client, "mine", "select $1::int4 * 2, pg_backend_pid()")

        def step() -> None:
            ((doubled, pid),) = run(client, "mine", "21")
            assert doubled == "42"
            pids.add(pid)

        on_both_servers(maitred, step)
    assert len(pids) == 2, "this test must use both servers"


def test_a_statement_of_the_protocol_is_executed_by_sql(maitred: Maitred) -> None:
    with maitred.wire() as client, maitred.wire() as other:
        prepare(client, "Mine", "select 'mine' as word, $1::int4 + 1 as next")
        prepare(other, "Mine", "select 'other' as word, $1::int4 + 1 as next")

        def step() -> None:
            assert client.rows('execute "Mine" (41)') == [["mine", "42"]]
            assert other.rows('execute "Mine"(1)') == [["other", "2"]]
            prepare(client, "", 'execute "Mine" (42)')
            assert run(client, "") == [["mine", "43"]]
            plan = client.rows('explain (verbose) execute "Mine" (6)')
            assert any("'mine'" in str(row) for row in plan)
            client.query('create temp table kept as execute "Mine" (7)')
            assert client.rows("select * from kept") == [["mine", "8"]]
            client.query("drop table kept")

        on_both_servers(maitred, step)
        client.query('deallocate "Mine"')
        assert client.error('execute "Mine" (41)').fields["C"] == "26000"


LISTING = "select name, statement, from_sql from pg_prepared_statements"


def test_each_client_is_told_of_its_own_statements(maitred: Maitred) -> None:
    with maitred.wire() as client, maitred.wire() as other, maitred.wire() as third:
        prepare(client, "first", "select 'first'")
        prepare(client, "It's", "select 'shared'")
        prepare(other, "else", "select 'shared'")
        own = [["It's", "select 'shared'", "f"], ["first", "select 'first'", "f"]]

        def step() -> None:
            assert sorted(client.rows(LISTING)) == own
            prepare(client, "", f"with a as (select 1) {LISTING} p, a where p.name <> $1::text")
            assert sorted(run(client, "", "none")) == own
            assert other.rows(LISTING) == [["else", "select 'shared'", "f"]]
            assert third.rows(LISTING) == []
            other.query("prepare in_sql as select 5")
            assert len(other.rows(LISTING)) == 2
            other.query("deallocate in_sql")

        on_both_servers(maitred, step)
        client.send(close("S", "first"), sync())
        client.read_until("Z")
        assert client.rows(LISTING) == own[:1]
        columns = "count(*), count(prepare_time), count(custom_plans)"
        count = f"select {columns} from pg_prepared_statements"
        assert client.rows(count) == [["1", "1", "1"]]


def test_unnamed_statement_outlives_its_batch(maitred: Maitred) -> None:
    with maitred.wire() as client, maitred.wire() as other:
        prepare(client, "", "select 'mine', $1::text")
        prepare(other, "", "select 'other', $1::text")
        for turn in ("1", "2", "3"):
            assert run(client, "", turn) == [["mine", turn]]
            assert run(other, "", turn) == [["other", turn]]

        def step() -> None:
            assert run(client, "", "x") == [["mine", "x"]]

        on_both_servers(maitred, step)


def test_simple_query_destroys_the_unnamed_statement(maitred: Maitred) -> None:
    # As the database does; a driver that relies on it must not find an old statement.
    with maitred.wire() as client:
        prepare(client, "", "select 1")
        client.query("select 2")
        assert code_of(client, bind(), execute()) == "26000"


def test_same_name_means_something_else_to_each_client(maitred: Maitred) -> None:
    clients = [maitred.wire() for _ in range(8)]
    for number, client in enumerate(clients):
        prepare(client, "same", f"select {number}, $1::int4")
    for turn in range(10):
        for number, client in enumerate(clients):
            assert run(client, "same", str(turn)) == [[str(number), str(turn)]]
    for client in clients:
        client.close()


def test_duplicate_name_is_refused_and_the_first_one_stays(maitred: Maitred) -> None:
    with maitred.wire() as client:
        prepare(client, "once", "select 'first'")
        assert code_of(client, parse("select 'second'", "once")) == "42P05"
        assert run(client, "once") == [["first"]]


def test_unnamed_statement_may_be_replaced(maitred: Maitred) -> None:
    with maitred.wire() as client:
        prepare(client, "", "select 'first'")
        prepare(client, "", "select 'second'")
        assert run(client, "") == [["second"]]


def test_failed_prepare_leaves_no_statement(maitred: Maitred) -> None:
    with maitred.wire() as client:
        assert code_of(client, parse("select nothing_of_that_name", "bad")) == "42703"
        assert code_of(client, bind(name="bad")) == "26000"
        prepare(client, "bad", "select 'good now'")
        assert run(client, "bad") == [["good now"]]


def test_prepare_skipped_by_an_earlier_error_leaves_no_statement(maitred: Maitred) -> None:
    with maitred.wire() as client:
        client.send(parse("selec"), parse("select 1", "skipped"), sync())
        assert tags(client.read_until("Z")) == "EZ"
        assert code_of(client, bind(name="skipped")) == "26000"


def test_closed_statement_is_gone(maitred: Maitred) -> None:
    with maitred.wire() as client:
        prepare(client, "short", "select 1")
        client.send(close("S", "short"), sync())
        assert tags(client.read_until("Z")) == "3Z"
        assert code_of(client, bind(name="short")) == "26000"
        prepare(client, "short", "select 2")
        assert run(client, "short") == [["2"]]


@pytest.mark.parametrize("command", ["deallocate all", "discard all"])
def test_command_that_forgets_all_statements(maitred: Maitred, command: str) -> None:
    with maitred.wire() as client, maitred.wire() as other:
        prepare(client, "a", "select 'a'")
        prepare(client, "b", "select 'b'")
        prepare(other, "a", "select 'other a'")

        def others_is_there() -> None:
            assert run(other, "a") == [["other a"]]

        on_both_servers(maitred, others_is_there)
        client.query(command)
        for name in ("a", "b"):
            assert code_of(client, bind(name=name)) == "26000"
        on_both_servers(maitred, others_is_there)
        prepare(client, "a", "select 'a again'")
        assert run(client, "a") == [["a again"]]


def test_describe_answers_as_the_database_does(maitred: Maitred, postgres: Postgres) -> None:
    batch = (
        parse("select $1::int4 + 1 as sum, $2::text as word", "d"),
        describe("S", "d"),
        sync(),
        describe("S", "d"),
        bind(("1", "x"), name="d", portal="p"),
        describe("P", "p"),
        sync(),
    )
    answers = []
    for address in (maitred.address, ("127.0.0.1", postgres.port)):
        with Wire(address) as client:
            client.login()
            client.send(*batch)
            answers.append(client.read_until("Z") + client.read_until("Z"))
    assert answers[0] == answers[1]


def test_statement_prepared_in_a_transaction_that_failed(maitred: Maitred) -> None:
    # Prepared statements are not transactional: a rollback does not take them away.
    with maitred.wire() as client:
        client.query("begin")
        prepare(client, "kept", "select 'kept'")
        client.query("select 1/0")
        client.query("rollback")
        assert run(client, "kept") == [["kept"]]


def test_prepare_and_close_within_a_pipeline(maitred: Maitred) -> None:
    with maitred.wire() as client:
        for turn in range(20):
            name = f"s{turn}"
            client.send(
                parse(f"select {turn}", name), bind(name=name), execute(), close("S", name), sync(),
                parse(f"select {turn} + 1", name), bind(name=name), execute(), close("S", name),
                sync(),
            )  # fmt: skip
            assert tags(client.read_until("Z")) == "12DC3Z"
            assert tags(client.read_until("Z")) == "12DC3Z"


def test_changed_table_is_healed_outside_a_transaction(
    maitred: Maitred, postgres: Postgres
) -> None:
    postgres.rows("create table plans (a int)")
    postgres.rows("grant select on plans to public")
    postgres.rows("insert into plans values (1)")
    with maitred.wire("postgres") as client:
        prepare(client, "p", "select * from plans")
        assert run(client, "p") == [["1"]]
        postgres.rows("alter table plans add column b int default 2")
        # The database alone says "cached plan must not change result type" here.
        assert run(client, "p") == [["1", "2"]]
        assert run(client, "p") == [["1", "2"]]
    postgres.rows("drop table plans")


def test_changed_table_within_a_transaction_is_the_databases_error(
    maitred: Maitred, postgres: Postgres
) -> None:
    postgres.rows("create table plans (a int)")
    postgres.rows("grant select on plans to public")
    with maitred.wire("postgres") as client:
        prepare(client, "p", "select * from plans")
        run(client, "p")
        client.query("begin")
        postgres.rows("alter table plans add column b int")
        assert code_of(client, bind(name="p"), execute()) == "0A000"
        client.query("rollback")
        assert run(client, "p") == []
    postgres.rows("drop table plans")


def test_driver_survives_a_changed_table(maitred: Maitred, postgres: Postgres) -> None:
    postgres.rows("create table plans (a int)")
    postgres.rows("grant select on plans to public")
    with maitred.connect(prepare_threshold=0) as client:
        for column in range(6):
            row = client.execute("select * from plans").description
            assert len(row) == column + 1
            postgres.rows(f"alter table plans add column c{column} int")
    postgres.rows("drop table plans")


def test_statements_on_a_server_are_bounded(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1, "server_statements": "4KiB"}})
    padding = "x" * 200
    with maitred.wire() as client:
        for turn in range(3):
            for number in range(100):
                name = f"n{number}"
                if turn == 0:
                    prepare(client, name, f"select {number}, '{padding}'")
                assert run(client, name) == [[str(number), padding]]
            kept = int(client.value("select count(*) from pg_prepared_statements") or 0)
            assert kept <= 4096 // 200, f"{kept} statements of 200 bytes are kept within 4 KiB"


def test_statements_of_a_client_are_bounded(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"client_statements": "8KiB"}})
    padding = "x" * 1000
    with maitred.wire() as greedy, maitred.wire() as other:
        for number in range(100):
            greedy.send(parse(f"select '{padding}'", f"n{number}"), sync())
            errors = [got for got in greedy.read_until("Z") if got.tag == "E"]
            if errors:
                break
        assert errors, "a client may hold any amount"
        assert "pool.client_statements" in str(errors[0].fields)
        assert 4 <= number <= 8
        prepare(other, "n1", "select 'unharmed'")
        assert run(other, "n1") == [["unharmed"]]
        greedy.send(close("S", "n0"), sync())
        greedy.read_until("Z")
        prepare(greedy, "fits", "select 'again'")
        assert run(greedy, "fits") == [["again"]]


def test_parameter_types_that_the_client_gave_are_kept(maitred: Maitred) -> None:
    with maitred.wire() as client:
        client.send(parse("select pg_typeof($1)", "typed", (20,)), sync())
        client.read_until("Z")
        with maitred.wire() as other:
            other.send(parse("select pg_typeof($1)", "typed", (25,)), sync())
            other.read_until("Z")
            assert run(client, "typed", "1") == [["bigint"]]
            assert run(other, "typed", "1") == [["text"]]


def test_statement_depends_on_the_search_path_it_was_prepared_with(
    maitred: Maitred, postgres: Postgres
) -> None:
    # Two clients with equal text may share a statement only where it means the same.
    postgres.rows("create schema if not exists one")
    postgres.rows("create schema if not exists two")
    for schema in ("one", "two"):
        postgres.rows(f"create or replace view {schema}.who as select '{schema}' as name")
        postgres.rows(f"grant usage on schema {schema} to public")
        postgres.rows(f"grant select on {schema}.who to public")
    with maitred.wire() as first, maitred.wire() as second:
        for client, schema in ((first, "one"), (second, "two")) * 3:
            client.query("begin")
            client.query(f"set local search_path to {schema}")
            client.send(extended("select name from who"), sync())
            seen = client.read_until("Z")
            assert [got.values for got in seen if got.tag == "D"] == [[schema]]
            client.query("commit")


def test_many_drivers_prepare_over_few_servers(maitred: Maitred) -> None:
    clients = [maitred.connect(prepare_threshold=0) for _ in range(20)]
    for turn in range(10):
        for number, client in enumerate(clients):
            for statement in ("select %s::int4 + 1", f"select %s::int4 + {number} + 1"):
                client.execute(statement, [turn])
            assert client.execute("select %s::text", [str(turn)]).fetchone() == (str(turn),)
    for client in clients:
        client.close()


def test_error_at_bind_keeps_the_statement(maitred: Maitred) -> None:
    with maitred.wire() as client:
        prepare(client, "b", "select $1::int4")
        assert code_of(client, bind(("word",), name="b"), execute()) == "22P02"
        assert run(client, "b", "5") == [["5"]]


def test_sql_level_prepare_within_a_transaction(maitred: Maitred) -> None:
    with maitred.connect(autocommit=False) as client:
        client.execute("prepare inside as select 1")
        assert client.execute("execute inside").fetchone() == (1,)
        client.execute("deallocate inside")
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            client.execute("execute inside")


def test_simple_query_and_statements_in_one_write(maitred: Maitred) -> None:
    with maitred.wire() as client:
        client.send(
            parse("select 'a'", "a"), sync(), query("begin"), bind(name="a"), execute(), sync(),
            query("commit"), bind(name="a"), execute(), sync(),
        )  # fmt: skip
        shapes = [tags(client.read_until("Z")) for _ in range(5)]
        assert shapes == ["1Z", "CZ", "2DCZ", "CZ", "2DCZ"]
