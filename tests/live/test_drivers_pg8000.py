"""pg8000 through maitred, in every pool mode: a driver without libpq, written in Python.

Its extended queries send Flush between messages and close statements as they go.
Run by pytest.
"""

from __future__ import annotations

import io

import pg8000.dbapi
import pg8000.native
import pytest

from fix_maitred import Maitred

WITH_TRANSACTIONS = pytest.mark.parametrize("mode", ["transaction", "session"], indirect=True)


def native(served: Maitred, mode: str) -> pg8000.native.Connection:
    return pg8000.native.Connection("app", host="127.0.0.1", port=served.port, database=mode)


def test_parameters_and_rows(served: Maitred, mode: str) -> None:
    client = native(served, mode)
    found = client.run("select :n::int4, :t::text, :b::bytea", n=5, t="Zoë", b=b"\0\xff")
    assert [list(row) for row in found] == [[5, "Zoë", b"\0\xff"]]
    client.close()


def test_prepared_statement_runs_repeatedly(served: Maitred, mode: str) -> None:
    client = native(served, mode)
    statement = client.prepare("select :n::int4 + 1")
    assert [statement.run(n=n)[0][0] for n in range(20)] == list(range(1, 21))
    statement.close()
    client.close()


def test_error_leaves_the_connection_usable(served: Maitred, mode: str) -> None:
    client = native(served, mode)
    with pytest.raises(pg8000.native.DatabaseError) as caught:
        client.run("select 1/0")
    assert caught.value.args[0]["C"] == "22012"
    assert client.run("select 1") == [[1]]
    client.close()


def test_copy_from_and_to_a_stream(served: Maitred, mode: str) -> None:
    table = f"streamed_{mode}_{served.backend}"
    client = native(served, mode)
    client.run(f"drop table if exists {table}")
    client.run(f"create table {table} (n int)")
    text = "".join(f"{n}\n" for n in range(2000))
    client.run(f"copy {table} from stdin", stream=io.StringIO(text))
    out = io.StringIO()
    client.run(f"copy (select n from {table} order by n) to stdout", stream=out)
    assert out.getvalue() == text
    client.run(f"drop table {table}")
    client.close()


@WITH_TRANSACTIONS
def test_dbapi_commits_and_rolls_back(served: Maitred, mode: str) -> None:
    table = f"booked_{mode}_{served.backend}"
    with pg8000.dbapi.connect("app", host="127.0.0.1", port=served.port, database=mode) as client:
        cursor = client.cursor()
        cursor.execute(f"drop table if exists {table}")
        cursor.execute(f"create table {table} (n int)")
        client.commit()
        cursor.execute(f"insert into {table} values (%s)", (1,))
        client.rollback()
        cursor.executemany(f"insert into {table} values (%s)", [(2,), (3,)])
        client.commit()
        cursor.execute(f"select n from {table} order by n")
        assert [n for (n,) in cursor.fetchall()] == [2, 3]
        cursor.execute(f"drop table {table}")
        client.commit()


def test_parameter_status_arrives_at_login(served: Maitred, mode: str) -> None:
    client = native(served, mode)
    known = {
        name.decode() if isinstance(name, bytes) else name
        for name in dict(client.parameter_statuses)
    }
    assert {"server_version", "client_encoding", "DateStyle", "TimeZone"} <= known
    client.close()
