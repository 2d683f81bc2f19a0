"""What happens before a login: versions, their negotiation, requests for encryption, parameters.

Run by pytest; TLS itself stands in `test_tls_clients`.
"""

from __future__ import annotations

import struct

import psycopg
import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_wire import (
    GSS_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    Closed,
    Wire,
    startup,
    untagged,
)


def test_request_for_encryption_is_declined_politely(served: Maitred) -> None:
    with Wire(served.address) as client:
        for request in (GSS_REQUEST, SSL_REQUEST):
            client.send(untagged(struct.pack("!I", request)))
            assert client.take(1) == b"N"
        client.login(database="transaction")
        assert client.value("select 1") == "1"


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_libpq_modes_that_do_without_tls(served: Maitred, sslmode: str) -> None:
    with served.connect(database="transaction", sslmode=sslmode) as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_libpq_that_insists_on_tls_fails(served: Maitred) -> None:
    with pytest.raises(psycopg.OperationalError, match="SSL"):
        served.connect(database="transaction", sslmode="require")


def test_protocol_3_0_gets_a_key_of_four_bytes(served: Maitred) -> None:
    with served.wire(database="transaction") as client:
        assert len(client.secret) == 4


def test_protocol_3_2_gets_a_long_key(served: Maitred) -> None:
    with Wire(served.address) as client:
        seen = client.login(database="transaction", protocol=str(PROTOCOL_3_2))
        assert not [got for got in seen if got.tag == "v"], "3.2 was negotiated down"
        assert len(client.secret) > 4
        assert client.value("select 1") == "1"


@pytest.mark.parametrize("protocol", [PROTOCOL_3_2 + 1, PROTOCOL_3_0 + 9999])
def test_unknown_minor_version_is_negotiated(
    served: Maitred, _shared_postgres: Postgres, protocol: int
) -> None:
    answers = []
    for address, database in (
        (served.address, "transaction"),
        (("127.0.0.1", _shared_postgres.port), "served"),
    ):
        with Wire(address) as client:
            seen = client.login("app", database, protocol=str(protocol))
            answers.append([got.body for got in seen if got.tag == "v"])
            assert client.value("select 1") == "1"
    assert answers[0] == answers[1]


def test_unknown_protocol_option_is_named(served: Maitred) -> None:
    with Wire(served.address) as client:
        more = {"_pq_.unheard_of": "1"}
        seen = client.login(database="transaction", **more)
        (negotiated,) = [got.body for got in seen if got.tag == "v"]
        assert struct.unpack_from("!II", negotiated)[1] == 1
        assert negotiated[8:] == b"_pq_.unheard_of\0"
        assert client.value("select 1") == "1"


@pytest.mark.parametrize("protocol", [0, 1, 2 << 16, 4 << 16, 1234 << 16, 0xFFFFFFFF])
def test_other_major_version_is_refused(served: Maitred, protocol: int) -> None:
    with Wire(served.address) as client:
        client.send(startup(protocol, user="app", database="transaction"))
        # Why only the tag: to versions before 3 the database answers in their own format.
        assert client.take(1) == b"E"
        assert client.is_closed()


def test_psql_with_protocol_3_2(served: Maitred, _shared_postgres: Postgres) -> None:
    dsn = served.dsn(database="transaction", max_protocol_version="3.2")
    done = _shared_postgres.tool("psql", "-XAtd", dsn, "-c", "select 6 * 7")
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    newest = served.dsn(
        database="transaction", min_protocol_version="3.2", max_protocol_version="latest"
    )
    done = _shared_postgres.tool("psql", "-XAtd", newest, "-c", "select 6 * 7")
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("application_name", "with spaces and 'quotes'"),
        ("extra_float_digits", "2"),
        ("search_path", "pg_catalog, public"),
        ("statement_timeout", "54321"),
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c work_mem=7MB -c geqo=off"),
        ("client_encoding", "LATIN1"),
        ("DateStyle", "German, DMY"),
    ],
)
def test_any_startup_parameter_is_accepted(
    served: Maitred, mode: str, name: str, value: str
) -> None:
    with served.wire(database=mode, **{name: value}) as client:
        assert client.value("select 'in'") == "in"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("application_name", "marked", "marked"),
        ("search_path", "pg_catalog, public", "pg_catalog, public"),
        ("TimeZone", "Asia/Tokyo", "Asia/Tokyo"),
        ("DateStyle", "German, DMY", "German, DMY"),
    ],
)
def test_startup_parameter_takes_effect_in_session_mode(
    served: Maitred, name: str, value: str, shown: str
) -> None:
    with (
        served.wire(database="session", **{name: value}) as client,
        served.wire(database="session") as other,
    ):
        assert client.value(f"show {name}") == shown
        assert other.value(f"show {name}") != shown


def test_database_defaults_to_the_name_of_the_user(
    make_maitred: object, postgres: Postgres
) -> None:
    url = f"postgres://app@127.0.0.1:{postgres.port}/shop"
    maitred = make_maitred({"databases": {"app": {"url": url}}})
    with Wire(maitred.address) as client:
        client.send(startup(PROTOCOL_3_0, user="app"))
        client.read_until("Z")
        assert client.value("select current_database()") == "shop"


def test_startup_without_a_user_is_refused(served: Maitred) -> None:
    with Wire(served.address) as client:
        client.send(startup(PROTOCOL_3_0, database="transaction"))
        seen = client.read_to_end()
        assert seen[-1].code in ("28000", "08P01")


def test_star_database_takes_the_clients_word(make_maitred: object, postgres: Postgres) -> None:
    maitred = make_maitred(
        {"databases": {"*": {"url": f"postgres://app@127.0.0.1:{postgres.port}"}}}
    )
    for name in ("shop", "warehouse"):
        with maitred.wire(database=name) as client:
            assert client.value("select current_database()") == name
    with pytest.raises(Closed) as closed, maitred.wire(database="nowhere") as client:
        client.query("select 1")
    assert closed.value.seen[-1].code == "3D000"
