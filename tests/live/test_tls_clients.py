"""TLS between clients and maitred: every mode, client certificates, direct TLS, new certificates.

Run by pytest; TLS towards databases stands in `test_tls_servers`.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import pytest

from fix_certificates import Authority, Certificate
from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import Wire, query


def speaking_tls(
    make_maitred: Callable[..., Maitred],
    authority: Authority,
    mode: str = "require",
    certificate: Certificate | None = None,
    **more: Any,
) -> Maitred:
    shown = certificate or authority.server()
    files = {} if mode == "disable" else {"certificate": shown.certificate, "key": shown.key}
    client = {"mode": mode} | files
    if mode.startswith("verify"):
        client["ca"] = authority.certificate
    return make_maitred({"tls": {"client": client | more}})


MATRIX = [
    # maitred's mode, libpq's sslmode, does it work, is it encrypted
    ("disable", "disable", True, False),
    ("disable", "prefer", True, False),
    ("disable", "require", False, False),
    ("allow", "disable", True, False),
    ("allow", "require", True, True),
    ("prefer", "disable", True, False),
    ("prefer", "prefer", True, True),
    ("prefer", "verify-full", True, True),
    ("require", "disable", False, False),
    ("require", "allow", True, True),
    ("require", "prefer", True, True),
    ("require", "verify-ca", True, True),
    ("require", "verify-full", True, True),
]


@pytest.mark.parametrize(("ours", "theirs", "works", "encrypted"), MATRIX)
def test_matrix_of_modes(
    make_maitred: Callable[..., Maitred],
    authority: Authority,
    ours: str,
    theirs: str,
    works: bool,
    encrypted: bool,
) -> None:
    maitred = speaking_tls(make_maitred, authority, ours)
    place = {"sslmode": theirs, "sslrootcert": str(authority.certificate)}
    if not works:
        with pytest.raises(psycopg.OperationalError):
            maitred.connect(**place)
        return
    with maitred.connect(**place) as client:
        assert client.execute("select 1").fetchone() == (1,)
        assert client.pgconn.ssl_in_use is encrypted


def test_clear_text_is_refused_with_a_reason(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    maitred = speaking_tls(make_maitred, authority, "require")
    with pytest.raises(psycopg.OperationalError, match=r"(?i)tls|ssl"):
        maitred.connect(sslmode="disable")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_client_certificate_is_required(
    make_maitred: Callable[..., Maitred],
    authority: Authority,
    new_authority: Callable[[str], Authority],
    mode: str,
) -> None:
    maitred = speaking_tls(make_maitred, authority, mode)
    ours = authority.issue("app", stem="app-client")
    strange = new_authority("stranger").issue("app", stem="strange-client")
    place = {"sslmode": "require", "sslrootcert": str(authority.certificate)}
    with maitred.connect(**place, sslcert=str(ours.certificate), sslkey=str(ours.key)) as client:
        assert client.execute("select 1").fetchone() == (1,)
    for shown in ({"sslcert": "none"}, {"sslcert": strange.certificate, "sslkey": strange.key}):
        with pytest.raises(psycopg.OperationalError):
            maitred.connect(**place, **{key: str(value) for key, value in shown.items()})


def test_certificate_names_the_user_with_method_cert(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    shown = authority.server()
    maitred = make_maitred(
        {
            "auth": {"method": "cert"},
            "tls": {
                "client": {
                    "mode": "verify-full",
                    "certificate": shown.certificate,
                    "key": shown.key,
                    "ca": authority.certificate,
                }
            },
        }
    )
    ours = authority.issue("app", stem="cert-app")
    other = authority.issue("other", stem="cert-other")
    for certificate, works in ((ours, True), (other, False)):
        with Wire(maitred.address) as client:
            client.start_tls(authority.client_context(certificate))
            client.send(b"\0\0\0\x20\0\3\0\0user\0app\0database\0shop\0\0")
            seen = client.read_until("Z", "E")
            assert (seen[-1].tag == "Z") is works
            if not works:
                assert seen[-1].code.startswith("28")


def test_direct_tls_needs_its_alpn(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    maitred = speaking_tls(make_maitred, authority)
    context = authority.client_context()
    context.set_alpn_protocols(["postgresql"])
    with Wire(maitred.address) as client:
        client.wrap_tls(context)
        assert client.socket.selected_alpn_protocol() == "postgresql"
        client.login()
        assert client.value("select 1") == "1"
    # Spec: without ALPN a server must reject direct TLS (protection against ALPACA).
    with (
        Wire(maitred.address) as client,
        pytest.raises((ssl.SSLError, ConnectionError, AssertionError)),
    ):
        client.wrap_tls(authority.client_context())
        assert not client.is_closed()


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="libpq is older than 17")
def test_direct_tls_by_libpq(make_maitred: Callable[..., Maitred], authority: Authority) -> None:
    maitred = speaking_tls(make_maitred, authority)
    with maitred.connect(
        sslmode="verify-full", sslnegotiation="direct", sslrootcert=str(authority.certificate)
    ) as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_minimum_version(make_maitred: Callable[..., Maitred], authority: Authority) -> None:
    maitred = speaking_tls(make_maitred, authority, minimum="1.3")
    context = authority.client_context()
    with Wire(maitred.address) as client:
        client.start_tls(context)
        assert client.socket.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Wire(maitred.address) as client, pytest.raises((ssl.SSLError, ConnectionError)):
        client.start_tls(context)


def test_cancel_over_tls(
    make_maitred: Callable[..., Maitred], authority: Authority, postgres: Postgres
) -> None:
    maitred = speaking_tls(make_maitred, authority)
    with maitred.connect(sslmode="require") as client:
        timer = threading.Timer(0.5, client.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(60)")
        timer.join()


def test_asyncpg_over_tls(make_maitred: Callable[..., Maitred], authority: Authority) -> None:
    maitred = speaking_tls(make_maitred, authority)

    async def body() -> None:
        client = await asyncpg.connect(
            host="localhost", port=maitred.port, user="app", database="shop",
            ssl=authority.client_context(),
        )  # fmt: skip
        rows = await client.fetch("select generate_series(1, 1000)")
        assert len(rows) == 1000
        await client.close()

    asyncio.run(body())


def test_large_messages_over_tls(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    maitred = speaking_tls(make_maitred, authority)
    size = 20 << 20
    with maitred.connect(sslmode="require") as client:
        assert client.execute("select %s::text", ["x" * size]).fetchone() == ("x" * size,)


def test_any_split_of_tls_records(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    maitred = speaking_tls(make_maitred, authority)
    plain = socket.create_connection(maitred.address)
    plain.settimeout(30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
    assert plain.recv(1) == b"S"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def carry(step: Callable[[], Any]) -> Any:
        while True:
            try:
                done, result = True, step()
            except ssl.SSLWantReadError:
                done, result = False, None
            for byte in outgoing.read():
                plain.sendall(bytes([byte]))
            if done:
                return result
            incoming.write(plain.recv(3))

    carry(session.do_handshake)
    carry(lambda: session.write(b"\0\0\0\x20\0\3\0\0user\0app\0database\0shop\0\0"))
    found = b""
    while not found.endswith(b"Z\0\0\0\5I"):
        found += carry(lambda: session.read(4096))
    carry(lambda: session.write(query("select 'split'")))
    found = b""
    while not found.endswith(b"Z\0\0\0\5I"):
        found += carry(lambda: session.read(4096))
    assert b"split" in found
    plain.close()


def test_garbage_instead_of_a_handshake_hurts_nobody_else(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    maitred = speaking_tls(make_maitred, authority)
    with maitred.connect(sslmode="require") as bystander:
        for garbage in (
            b"\x16\x03\x01\x00\x05hello",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16" + b"\xff" * 60,
        ):
            with Wire(maitred.address) as client:
                client.send(b"\0\0\0\x08\x04\xd2\x16\x2f")
                assert client.take(1) == b"S"
                client.send(garbage)
                assert client.is_closed()
        assert bystander.execute("select 1").fetchone() == (1,)


def test_bytes_before_the_handshake_are_not_taken_for_the_clients(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    # CVE-2021-23214: what was sent in clear text behind SSLRequest must not be believed.
    maitred = speaking_tls(make_maitred, authority, "prefer")
    with Wire(maitred.address) as client:
        client.send(
            b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x20\0\3\0\0user\0app\0database\0shop\0\0"
        )
        try:
            answer = client.take(1)
        except Exception:
            return
        if answer == b"S":
            with pytest.raises((ssl.SSLError, ConnectionError, TimeoutError)):
                client.wrap_tls(authority.client_context())


def test_new_certificate_is_taken_up_without_dropping_anyone(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    first = authority.server("rotating")
    maitred = speaking_tls(make_maitred, authority, certificate=first)

    def serial() -> int:
        with Wire(maitred.address) as client:
            client.start_tls(authority.client_context())
            return int(client.socket.getpeercert()["serialNumber"], 16)

    with maitred.connect(sslmode="require") as bystander:
        assert serial() == first.serial
        second = authority.server("rotated")
        # As certbot and cert-manager do: new files are moved over the old ones.
        shutil.move(second.key, first.key)
        shutil.move(second.certificate, first.certificate)
        eventually(lambda: serial() == second.serial, because="the old certificate is still shown")
        assert bystander.execute("select 1").fetchone() == (1,)


def test_bad_new_certificate_keeps_the_old_one(
    make_maitred: Callable[..., Maitred], authority: Authority
) -> None:
    shown = authority.server("spoiled")
    maitred = speaking_tls(make_maitred, authority, certificate=shown)
    shown.certificate.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    maitred.reload()
    eventually(lambda: "spoiled" in maitred.log_text(), because="nothing was logged")
    with maitred.connect(sslmode="verify-full", sslrootcert=str(authority.certificate)) as client:
        assert client.execute("select 1").fetchone() == (1,)
