"""psql and its sister programs through maitred, as people use them.

Also physical replication, which those programs speak. Run by pytest.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import Wire, query

pytestmark = pytest.mark.one_backend


def psql(
    postgres: Postgres, maitred: Maitred, database: str, *arguments: str, **run: str
) -> subprocess.CompletedProcess[str]:
    dsn = maitred.dsn(database=database)
    return postgres.tool("psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", dsn, *arguments, **run)


def test_one_command(_shared_postgres: Postgres, served: Maitred, mode: str) -> None:
    done = psql(_shared_postgres, served, mode, "-Atc", "select 6 * 7")
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_script_with_copy_and_prepare(
    _shared_postgres: Postgres, served: Maitred, mode: str, tmp_path: Path
) -> None:
    table = f"scripted_{mode}_{served.backend}"
    out = tmp_path / "out.csv"
    script = f"""
        drop table if exists {table};
        create table {table} (n int, t text);
        \\copy {table} from stdin csv
1,one
2,two
\\.
        insert into {table} values (3, $q$three$q$) returning n;
        \\copy (select * from {table} order by n) to '{out}' csv
        select n from {table} order by n \\gset last_
        \\echo last is :last_n
        drop table {table};
    """.replace(" \\gset", " desc limit 1 \\gset")
    done = psql(_shared_postgres, served, mode, "-At", input=script)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == "1,one\n2,two\n3,three\n"
    assert "last is 3" in done.stdout


def test_extended_query_commands(_shared_postgres: Postgres, served: Maitred, mode: str) -> None:
    script = """
        select $1::int + $2::int \\bind 40 2 \\g
        \\startpipeline
        select $1 \\bind first \\sendpipeline
        select $1 \\bind second \\sendpipeline
        \\endpipeline
    """
    done = psql(_shared_postgres, served, mode, "-At", input=script)
    assert (done.returncode, done.stdout.split()) == (0, ["42", "first", "second"]), done.stderr


def test_describing_commands(_shared_postgres: Postgres, served: Maitred, mode: str) -> None:
    done = psql(_shared_postgres, served, mode, "-c", "\\l", "-c", "\\du", "-c", "\\conninfo")
    assert done.returncode == 0, done.stderr
    assert "served" in done.stdout


def test_error_exits_with_its_status(
    _shared_postgres: Postgres, served: Maitred, mode: str
) -> None:
    done = psql(_shared_postgres, served, mode, "-c", "select 1/0")
    assert done.returncode == 1
    assert "division by zero" in done.stderr


def test_fetch_count_and_single_transaction(_shared_postgres: Postgres, served: Maitred) -> None:
    arguments = ["-At", "-1", "-v", "FETCH_COUNT=10", "-c", "select generate_series(1, 95)"]
    done = psql(_shared_postgres, served, "transaction", *arguments)
    assert done.stdout.split() == [str(number) for number in range(1, 96)], done.stderr


def test_pgbench_in_every_protocol(_shared_postgres: Postgres, served: Maitred, mode: str) -> None:
    scale = ["-i", "-q", "-s", "1"]
    port = ["-h", "127.0.0.1", "-U", "app"]
    ready = _shared_postgres.tool(
        "pgbench", *scale, *port, "-p", str(_shared_postgres.port), "served"
    )
    assert ready.returncode == 0, ready.stderr
    for protocol in ("simple", "extended", "prepared"):
        done = _shared_postgres.tool(
            "pgbench", "-n", "-S", "-c", "4", "-j", "2", "-t", "50", "-M", protocol,
            *port, "-p", str(served.port), mode,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "number of failed transactions: 0" in done.stdout


def test_pgbench_with_transactions(_shared_postgres: Postgres, served: Maitred) -> None:
    place = ["-h", "127.0.0.1", "-U", "app", "-p", str(served.port)]
    ready = _shared_postgres.tool("pgbench", "-i", "-q", "-s", "1", *place, "session")
    assert ready.returncode == 0, ready.stderr
    for protocol in ("simple", "extended", "prepared"):
        # Why a thread for each client: pgbench waits for PREPARE with its whole thread, other
        # clients of that thread would sit in their transactions meanwhile.
        done = _shared_postgres.tool(
            "pgbench", "-n", "-c", "8", "-j", "8", "-t", "20", "-M", protocol, *place, "transaction"
        )
        assert done.returncode == 0, done.stderr
        assert "number of failed transactions: 0" in done.stdout


def replicating(url_port: int) -> dict[str, object]:
    return {"databases": {"shop": {"url": f"postgres://127.0.0.1:{url_port}/shop"}}}


def test_replication_commands_pass_through(postgres: Postgres, make_maitred: object) -> None:
    maitred = make_maitred(replicating(postgres.port))
    with (
        maitred.wire("replicator", replication="database") as client,
        Wire(("127.0.0.1", postgres.port)) as direct,
    ):
        direct.login("replicator", "shop", replication="database")
        ours, theirs = client.query("IDENTIFY_SYSTEM"), direct.query("IDENTIFY_SYSTEM")
        assert [got.values[:2] for got in ours if got.tag == "D"] == [
            got.values[:2] for got in theirs if got.tag == "D"
        ]
        assert client.value("select 1") == "1"
        client.query("CREATE_REPLICATION_SLOT passing TEMPORARY LOGICAL test_decoding")
        # The database streams on its own from here on, in both directions.
        client.query("select 1")
    # The server was the client's own: it goes with the client, and so does its slot.
    eventually(
        lambda: not postgres.rows("select 1 from pg_stat_activity where usename = 'replicator'"),
        because="the replication connection stayed open after its client had left",
    )


def test_replication_starts_streaming(postgres: Postgres, make_maitred: object) -> None:
    maitred = make_maitred(replicating(postgres.port))
    start = postgres.value("select pg_current_wal_lsn()::text")
    with maitred.wire("replicator", replication="true") as client:
        client.send(query(f"START_REPLICATION PHYSICAL {start}"))
        assert client.read_until("W")[-1].tag == "W"
        postgres.rows("create table streamed_away (n int)")
        postgres.rows("drop table streamed_away")
        assert client.read_until("d")[-1].tag == "d"


def test_base_backup(postgres: Postgres, make_maitred: object, tmp_path: Path) -> None:
    maitred = make_maitred(replicating(postgres.port))
    target = tmp_path / "backup"
    done = postgres.tool(
        "pg_basebackup", "-D", str(target), "-X", "stream", "--checkpoint=fast", "--no-sync",
        "-d", maitred.dsn("replicator"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + maitred.log_text()
    assert (target / "PG_VERSION").read_text().strip() == "18"


def test_receiving_the_log(postgres: Postgres, make_maitred: object, tmp_path: Path) -> None:
    maitred = make_maitred(replicating(postgres.port))
    receiver = subprocess.Popen(
        [str(postgres.bin / "pg_receivewal"), "-D", str(tmp_path), "--no-loop", "--no-sync",
         "-d", maitred.dsn("replicator")],
        stderr=subprocess.PIPE,
    )  # fmt: skip

    def has_log() -> bool:
        assert receiver.stderr is not None
        if receiver.poll() is not None:
            pytest.fail(f"pg_receivewal ended: {receiver.stderr.read().decode()}")
        # Why: an empty segment has nothing to be received.
        postgres.rows("select pg_logical_emit_message(false, 'test', repeat('x', 10000))")
        return bool(list(tmp_path.glob("*.partial")))

    try:
        eventually(has_log, because="no log arrived")
        (name,) = postgres.rows(
            "select application_name from pg_stat_activity where usename = 'replicator'"
        )
        # Why it matters: synchronous_standby_names goes by this name.
        assert name == ("pg_receivewal",)
    finally:
        receiver.terminate()
        receiver.wait(20)
        receiver.stderr.close()


@pytest.mark.parametrize("program", ["pg_dump", "pg_isready"])
def test_other_programs(_shared_postgres: Postgres, served: Maitred, program: str) -> None:
    place = ["-h", "127.0.0.1", "-p", str(served.port), "-U", "app", "-d", "transaction"]
    more = ["--schema-only"] if program == "pg_dump" else []
    done = _shared_postgres.tool(program, *place, *more)
    assert done.returncode == 0, done.stdout + done.stderr
