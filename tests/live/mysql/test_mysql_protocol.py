"""The MySQL protocol through maitred, command by command, with every capability a client may want.

Written against the raw client, because drivers hide what is tested here. Run by pytest.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable

import pytest

from fix_mysql_front import Front
from fix_mysql_packets import CAPABILITIES, Column, Err, Infile, Ok, Rows, column
from fix_mysql_stream import MysqlClosed
from fix_mysql_wire import MysqlError, MysqlWire

pytestmark = pytest.mark.one_backend

FORMS = ["", "DEPRECATE_EOF", "SESSION_TRACK", "DEPRECATE_EOF SESSION_TRACK", "COMPRESS",
         "COMPRESS DEPRECATE_EOF SESSION_TRACK", "ZSTD DEPRECATE_EOF"]  # fmt: skip


@pytest.fixture(params=FORMS, ids=lambda form: form.replace(" ", "+") or "plain")
def client(request: pytest.FixtureRequest, front: Front) -> MysqlWire:
    """A client with the capabilities named; zstd where the server has it."""
    made = front.wire(database="transaction", with_=request.param)
    wanted = sum(CAPABILITIES[name] for name in request.param.split())
    if "ZSTD" not in request.param or front.endpoint.kind == "mysql":
        assert made.capabilities & wanted == wanted, "a capability of the server is not offered"
    return made


def ok(answers: list[object]) -> Ok:
    assert isinstance(answers[-1], Ok), answers
    return answers[-1]


# Simple queries


def test_rows_columns_and_nulls(client: MysqlWire) -> None:
    (got,) = client.query("select 1 as a, null as b, 'x' as c union all select 2, 'y', ''")
    assert isinstance(got, Rows)
    assert got.names == ["a", "b", "c"]
    assert got.rows == [("1", None, "x"), ("2", "y", "")]
    assert isinstance(got.end, Ok)


def test_no_rows_at_all(client: MysqlWire) -> None:
    (got,) = client.query("select 1 as n from dual where false")
    assert isinstance(got, Rows)
    assert (got.names, got.rows) == (["n"], [])


def test_counts_ids_and_texts_of_ok(client: MysqlWire) -> None:
    client.run("create table counted (id int auto_increment primary key, n int)")
    done = ok(client.query("insert into counted (n) values (1), (2), (3)"))
    assert (done.affected, done.insert_id) == (3, 1)
    assert done.info == "Records: 3  Duplicates: 0  Warnings: 0"
    done = ok(client.query("update counted set n = 1"))
    assert done.affected == 2
    assert done.info == "Rows matched: 3  Changed: 2  Warnings: 0"


def test_several_statements_and_an_error_at_the_end(client: MysqlWire) -> None:
    got = client.query("select 1; set @a = 5; select @a; select * from nosuch; select 2")
    assert [type(each) for each in got] == [Rows, Ok, Rows, Err]
    assert isinstance(got[3], Err)
    assert got[3].number == 1146
    assert client.value("select 3") == "3"


def test_results_of_a_procedure(client: MysqlWire) -> None:
    client.run("create procedure two() begin select 1; select 2, 3; end")
    got = client.query("call two()")
    assert [each.rows for each in got if isinstance(each, Rows)] == [[("1",)], [("2", "3")]]
    assert isinstance(got[-1], Ok)


def test_an_error_in_the_middle_of_a_result(client: MysqlWire) -> None:
    """A row fails after others were sent: the error ends the result, the connection goes on."""
    client.run("create table part (n int)")
    client.run("insert into part values (1), (2), (3)")
    got = client.query(
        "select repeat('x', 20000), n, (select 1 from part p where p.n >= part.n) from part "
        "order by n desc limit 10"
    )
    (rows,) = got
    end = rows.end if isinstance(rows, Rows) else rows
    assert isinstance(end, Err)
    assert end.number == 1242
    assert client.value("select 1") == "1"


def test_17_mib_in_both_directions(client: MysqlWire) -> None:
    size = 17 * (1 << 20)
    assert len(client.value(f"select repeat('x', {size})")) == size
    assert client.value("select length('" + "y" * size + "')") == str(size)


@pytest.mark.parametrize("more", [-6, -5, -4, -1, 0, 1])
def test_packets_around_16_mib(front: Front, more: int) -> None:
    """A packet of exactly 2^24 - 1 bytes is followed by an empty one."""
    client = front.wire(database="transaction")
    size = (1 << 24) - 1 + more
    assert len(client.value(f"select repeat('x', {size})")) == size
    text = "select length('')"
    padding = size - len(text) - 1
    assert client.value("select length('" + "y" * padding + "')") == str(padding)


def test_errors_of_ours_stand_behind_the_last_packet_of_a_command(
    make_front: Callable[..., Front],
) -> None:
    """Clients count packets, and close a connection in which one is missing."""
    front = make_front({"pool": {"size": 1, "queue_timeout": "1s"}})
    holder, client = front.wire(), front.wire()
    holder.run("begin")
    # So many packets follow the first: one with something in it, an empty one, two.
    for size in (17 << 20, (1 << 24) - 2, 33 << 20):
        text = b"select '" + b"y" * (size - 9) + b"'"
        (told,) = client.query(text.decode())
        if front.maitred:
            assert isinstance(told, Err)
            assert told.number == 1205
    holder.run("commit")
    if front.maitred:
        for state in ("begin", "commit"):
            # Longer than a client's prepared statements may be.
            refused = client.ask("STMT_PREPARE", b"select '" + b"y" * (17 << 20) + b"'")
            assert isinstance(refused, Err)
            assert "pool.client_statements" in refused.text
            client.run(state)
    assert client.value("select 1") == "1"


# Commands beside queries


def test_ping(client: MysqlWire) -> None:
    assert client.expect_ok("PING").affected == 0


def test_init_db(client: MysqlWire) -> None:
    assert client.expect_ok("INIT_DB", b"warehouse")
    assert client.value("select database()") == "warehouse"
    refused = client.ask("INIT_DB", b"nosuchdatabase")
    assert isinstance(refused, Err)
    assert refused.number in (1044, 1049)
    assert client.value("select database()") == "warehouse"


def test_statistics(client: MysqlWire) -> None:
    client.send("STATISTICS")
    assert re.match(rb"Uptime: \d+  Threads: \d+", client.read_packet())
    assert client.value("select 1") == "1"


def test_reset_connection(client: MysqlWire) -> None:
    client.run("set @kept = 1", "set sort_buffer_size = 65536", "use warehouse")
    client.run("create temporary table gone (n int)", "begin")
    statement = client.prepared("select 1")
    client.expect_ok("RESET_CONNECTION")
    assert client.value("select @kept") is None
    assert client.value("select @@sort_buffer_size = @@global.sort_buffer_size") == "1"
    # Why: the current database outlives a reset, as on the server itself.
    assert client.value("select database()") == "warehouse"
    assert client.error("select * from gone").number == 1146
    assert not client.in_transaction
    (gone,) = client.execute(statement.id)
    assert isinstance(gone, Err)
    assert gone.number == 1243


def test_change_user(client: MysqlWire, front: Front) -> None:
    plugin = (
        "mysql_native_password" if front.endpoint.kind == "mariadb" else "caching_sha2_password"
    )
    client.run("set @kept = 1", "set sort_buffer_size = 65536")
    client.change_user("app", front.named("transaction") or "", plugin=plugin)
    assert client.value("select @kept") is None
    assert client.value("select @@sort_buffer_size = @@global.sort_buffer_size") == "1"
    assert client.value("select database()") == "served"
    assert client.value("select current_user()") == "app@%"


def test_change_user_with_a_wrong_password(make_front: Callable[..., Front]) -> None:
    front = make_front({"auth": {"mysql_method": "mysql_native_password"}})
    client = front.wire()
    with pytest.raises(MysqlError) as caught:
        client.change_user("app", "shop", "wrong")
    assert caught.value.number == 1045
    # Why either: MySQL closes, MariaDB lets the client go on as who it was.
    with contextlib.suppress(MysqlClosed, ConnectionError):
        assert client.value("select current_user()") == "app@%"
    assert front.wire().value("select 1") == "1"


def test_field_list(client: MysqlWire, front: Front) -> None:
    """An old command: the columns of a table, without rows."""
    client.run("create table listed (a int, b varchar(9))")
    client.send("FIELD_LIST", b"listed\0%")
    found: list[Column] = []
    while (body := client.read_packet())[:1] not in (b"\xfe", b"\xff"):
        found.append(column(body))
    if front.endpoint.kind == "mariadb":
        assert [each.name for each in found] == ["a", "b"]
    assert client.value("select 1") == "1"


def test_set_option_switches_multi_statements(front: Front) -> None:
    client = front.wire(database="transaction", without="MULTI_STATEMENTS")
    assert client.error("select 1; select 2").number == 1064
    client.send("SET_OPTION", struct.pack("<H", 0))
    assert client.read_packet()[:1] in (b"\xfe", b"\x00")
    assert len(client.query("select 1; select 2")) == 2
    client.send("SET_OPTION", struct.pack("<H", 1))
    assert client.read_packet()[:1] in (b"\xfe", b"\x00")
    assert client.error("select 1; select 2").number == 1064


def test_set_option_counts_in_a_transaction(front: Front) -> None:
    client = front.wire(database="transaction", without="MULTI_STATEMENTS")
    other = front.wire(database="transaction", without="MULTI_STATEMENTS")
    client.run("begin", "select 1")
    for option, count in ((0, 2), (1, 1), (0, 2)):
        client.send("SET_OPTION", struct.pack("<H", option))
        client.read_packet()
        assert len(client.query("select 1; select 2")) == count
    client.run("rollback")
    assert other.error("select 1; select 2").number == 1064


def test_set_option_of_one_client_is_not_anothers(front: Front) -> None:
    one, two = (front.wire(database="transaction", without="MULTI_STATEMENTS") for _ in "ab")
    one.send("SET_OPTION", struct.pack("<H", 0))
    one.read_packet()
    for _ in range(3):
        assert two.error("select 1; select 2").number == 1064
        assert len(one.query("select 1; select 2")) == 2


@pytest.mark.parametrize("number", [0, 5, 11, 15, 16, 29, 99, 200, 255])
def test_a_command_that_there_is_not(client: MysqlWire, number: int) -> None:
    """Answered as the server does it, and the client may go on."""
    got = client.ask(number, b"xyz")
    assert isinstance(got, Err)
    assert (got.number, got.state) == (1047, "08S01")
    assert client.value("select 1") == "1"


def test_quit_closes(client: MysqlWire) -> None:
    client.send("QUIT")
    assert client.is_closed()


def test_an_empty_packet_or_statement(front: Front) -> None:
    client = front.wire(database="transaction")
    assert client.error("").number == 1065
    assert client.error(";").number in (1065, 1064)
    assert client.value("select 1") == "1"


# Pipelines


def test_commands_in_one_write_are_answered_in_order(front: Front) -> None:
    client = front.wire(database="transaction")
    client.pipeline([
        client.command("QUERY", b"select 1"),
        client.command("PING"),
        client.command("QUERY", b"select nosuch"),
        client.command("QUERY", b"set @p = 7"),
        client.command("INIT_DB", b"warehouse"),
        client.command("QUERY", b"select @p, database()"),
    ])  # fmt: skip
    seen = []
    for _ in range(6):
        client.begin_answer()
        seen += client.read_answers()
    assert isinstance(seen[0], Rows)
    assert isinstance(seen[2], Err)
    assert [type(each) for each in seen] == [Rows, Ok, Err, Ok, Ok, Rows]
    assert seen[5].rows == [("7", "warehouse")]


def test_a_pipeline_of_prepared_statements(front: Front) -> None:
    client = front.wire(database="transaction")
    statement = client.prepared("select ? + 1")
    client.pipeline(
        [client.command("STMT_EXECUTE", client.execution(statement.id, (n,))) for n in range(50)]
    )
    for n in range(50):
        client.begin_answer()
        (got,) = client.read_answers(binary=True)
        assert isinstance(got, Rows)
        assert got.rows == [(n + 1,)]


def test_a_pipeline_larger_than_any_buffer(front: Front) -> None:
    client = front.wire(database="transaction")
    texts = [f"select {n}, '{'x' * 3000}'".encode() for n in range(200)]
    client.pipeline([client.command("QUERY", text) for text in texts])
    for n in range(200):
        client.begin_answer()
        (got,) = client.read_answers()
        assert isinstance(got, Rows)
        assert got.rows[0][0] == str(n)


# Files


def test_a_local_file_in_many_packets(client: MysqlWire) -> None:
    client.run("create table loaded (n int)")
    (asked,) = client.query("load data local infile 'some name' into table loaded")
    assert asked == Infile("some name")
    done = ok(client.upload(b"".join(b"%d\n" % n for n in range(20000)), part=1000))
    assert done.affected == 20000
    assert client.value("select sum(n) from loaded") == str(sum(range(20000)))


def test_a_local_file_that_the_client_does_not_have(client: MysqlWire) -> None:
    client.run("create table loaded (n int)")
    assert isinstance(client.query("load data local infile 'nosuch' into table loaded")[0], Infile)
    assert ok(client.upload(b"")).affected == 0
    assert client.value("select count(*) from loaded") == "0"


def test_a_client_without_the_capability_is_never_asked_for_a_file(front: Front) -> None:
    client = front.wire(database="transaction", without="LOCAL_FILES")
    client.run("create table loaded (n int)")
    assert client.error("load data local infile 'x' into table loaded").number in (1148, 4166, 3948)


# Session tracking


def test_changes_are_told_to_who_asked_for_them(front: Front) -> None:
    told = front.wire(database="transaction", with_="SESSION_TRACK")
    told.run(
        "use warehouse", "set autocommit = 0", "set autocommit = 1", "set time_zone = '+05:00'"
    )
    assert ("schema", "warehouse") in told.tracked
    assert ("variable", "autocommit", "OFF") in told.tracked
    assert ("variable", "time_zone", "+05:00") in told.tracked


def test_changes_that_a_client_did_not_ask_for_are_not_told(front: Front) -> None:
    """What maitred has servers report for its own use stays with it."""
    client = front.wire(database="transaction", with_="SESSION_TRACK")
    before = len(client.tracked)
    client.run("set sort_buffer_size = 65536", "set @x = 1", "begin", "commit")
    kinds = {each[:2] for each in client.tracked[before:]}
    assert ("variable", "sort_buffer_size") not in kinds
    assert not {kind for kind, *_ in kinds} & {"changed", "characteristics"}


def test_a_client_chooses_what_is_tracked(front: Front) -> None:
    client = front.wire(database="transaction", with_="SESSION_TRACK")
    client.run("set session_track_system_variables = 'sort_buffer_size'")
    before = len(client.tracked)
    client.run("set sort_buffer_size = 65536", "set autocommit = 0", "set autocommit = 1")
    assert ("variable", "sort_buffer_size", "65536") in client.tracked[before:]
    assert not [each for each in client.tracked[before:] if "autocommit" in each]
    # It is its own choice, and a new session has made none.
    other = front.wire(database="transaction", with_="SESSION_TRACK")
    for told in (other, client):
        before = len(told.tracked)
        told.run("set autocommit = 0", "set autocommit = 1")
        changes = [("variable", "autocommit", value) for value in ("OFF", "ON")]
        assert [each for each in told.tracked[before:] if "autocommit" in each] == (
            changes if told is other else []
        )
    assert client.value("select @@session_track_system_variables") == "sort_buffer_size"
    client.expect_ok("RESET_CONNECTION")
    assert "autocommit" in str(client.value("select @@session_track_system_variables"))
    before = len(client.tracked)
    client.run("set autocommit = 0")
    assert ("variable", "autocommit", "OFF") in client.tracked[before:]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("off", set()),
        ("STATE", {"transaction"}),
        ("CHARACTERISTICS", {"transaction", "characteristics"}),
    ],
)
def test_a_client_chooses_what_it_hears_of_transactions(
    front: Front, choice: str, told: set[str]
) -> None:
    client = front.wire(database="transaction", with_="SESSION_TRACK DEPRECATE_EOF")
    client.run(f"set session_track_transaction_info = '{choice}'")
    for _ in range(2):
        before = len(client.tracked)
        client.run("start transaction read only", "select 1", "commit")
        kinds = {kind for kind, *_ in client.tracked[before:]}
        assert kinds & {"transaction", "characteristics"} == told
    assert client.value("select @@session_track_transaction_info") == choice.upper()


def test_a_client_chooses_to_hear_that_something_changed(front: Front) -> None:
    client = front.wire(database="transaction", with_="SESSION_TRACK DEPRECATE_EOF")
    client.run("set session_track_state_change = on")
    before = len(client.tracked)
    client.run("set sort_buffer_size = 65536")
    assert ("changed", "1") in client.tracked[before:]
    assert client.value("select @@session_track_state_change") == "1"


def test_what_a_client_does_not_want_to_hear_its_server_tells_us(front: Front) -> None:
    """A choice leaves no server blind: neither in a transaction, nor when its client leaves."""
    for blind in (
        "set session_track_system_variables = ''",
        "set session session_track_system_variables = '', session_track_schema = off",
        "set session_track_system_variables = null, session_track_schema = 0",
    ):
        client = front.wire(database="transaction", with_="SESSION_TRACK")
        client.run("begin", "select 1")
        client.query(blind)
        client.run(
            "set sql_mode = 'ANSI'", "use warehouse", "set @@session.lc_time_names = 'de_DE'"
        )
        client.run("commit")
        others = [front.wire(database="transaction") for _ in range(5)]
        for other in others:
            other.run("begin")
            assert "ANSI" not in str(other.value("select @@sql_mode"))
            assert other.value("select database()") == "served"
            assert other.value("select @@lc_time_names") == "en_US"
        for other in others:
            other.run("rollback")
        assert "ANSI" in str(client.value("select @@sql_mode"))
        assert client.value("select database()") == "warehouse"
        assert client.value("select @@lc_time_names") == "de_DE"
        client.close()


# Flags that change what statements mean


def test_found_rows_counts_matched_rows(front: Front) -> None:
    counts, matched = (
        front.wire(database="transaction"),
        front.wire(database="transaction", with_="FOUND_ROWS"),
    )
    counts.run("create table flagged (n int)", "insert into flagged values (1), (2)")
    for _ in range(3):
        assert ok(counts.query("update flagged set n = n")).affected == 0
        assert ok(matched.query("update flagged set n = n")).affected == 2


def test_ignore_space_is_a_clients_own(front: Front) -> None:
    plain = front.wire(database="transaction")
    spaced = front.wire(database="transaction", with_="IGNORE_SPACE")
    for _ in range(3):
        assert plain.error("select count (*) from dual").number in (1630, 1305, 1064)
        assert spaced.value("select count (*) from dual") == "1"


def test_connection_attributes_are_accepted(front: Front) -> None:
    client = front.wire(
        database="transaction", attributes={"program_name": "tester", "_pid": "1", "x" * 30: ""}
    )
    assert client.value("select 1") == "1"


def test_connection_ids_are_those_of_the_greeting(front: Front) -> None:
    clients = [front.wire(database="transaction") for _ in range(8)]
    threads = [client.greeting.thread for client in clients]
    assert len(set(threads)) == 8
    assert all(threads)


# Packets that make no sense


@pytest.mark.parametrize("bad", ["sequence", "length", "execute", "fetch", "field list"])
def test_a_malformed_packet_harms_nobody_else(front: Front, bad: str) -> None:
    """The server's own answers are 1835 or 1047 (or 1243 for a statement that there is not)."""
    one, two = front.wire(database="transaction"), front.wire(database="transaction")
    two.run("begin")
    if bad == "sequence":
        one.send_raw(b"\x09\0\0\x07\x03select 1")
    elif bad == "length":
        one.send_raw(b"\x00\0\0\0")
    elif bad == "execute":
        statement = one.prepared("select ?")
        one.send("STMT_EXECUTE", struct.pack("<IBI", statement.id, 0, 1))
    elif bad == "fetch":
        one.send("STMT_FETCH", b"\1")
    else:
        one.send("FIELD_LIST", b"no zero")
    one.timeout_s = 5
    one.socket.settimeout(5)
    try:
        body = one.read_packet()
        assert body[:1] == b"\xff"
        assert int.from_bytes(body[1:3], "little") in (
            1835,
            1047,
            1156,
            1243,
            1210,
            1105,
            1065,
            1046,
            1146,
        )
    except (MysqlClosed, AssertionError, TimeoutError):
        # Why: a wrong sequence number may end a connection at once; what counts is the other one.
        pass
    assert two.in_transaction
    assert two.value("select 1") == "1"
    two.run("commit")
    assert front.wire(database="transaction").value("select 2") == "2"
