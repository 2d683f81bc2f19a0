"""TLS between maitred and databases: libpq's sslmode words, client certificates, direct TLS.

The database is a plain one behind `TlsFront`, which ends TLS for it. Run by pytest.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from fix_certificates import Authority
from fix_maitred import Maitred
from fix_network import TlsFront
from fix_postgres import Postgres
from fix_wire import Closed


def behind(
    make_maitred: Callable[..., Maitred], front: TlsFront, host: str = "localhost", **server: Any
) -> Maitred:
    url = f"postgres://app@{host}:{front.port}/shop"
    return make_maitred(
        {
            "databases": {"shop": {"url": url}},
            "tls": {"server": server},
            "pool": {"queue_timeout": "1s"},
        }
    )


def works(maitred: Maitred) -> bool:
    try:
        with maitred.wire(timeout_s=40) as client:
            return not [got for got in client.query("select 1") if got.tag == "E"]
    except Closed:
        return False


MATRIX = [
    # sslmode, does the database speak TLS, host, authority known; works, encrypted
    ("disable", True, "localhost", True, True, False),
    ("allow", True, "localhost", False, True, False),
    ("prefer", True, "localhost", False, True, True),
    ("prefer", False, "localhost", False, True, False),
    ("require", True, "localhost", False, True, True),
    ("require", False, "localhost", False, False, False),
    ("verify-ca", True, "localhost", True, True, True),
    ("verify-ca", True, "127.0.0.2", True, True, True),
    ("verify-ca", True, "localhost", False, False, False),
    ("verify-full", True, "localhost", True, True, True),
    ("verify-full", True, "127.0.0.1", True, True, True),
    ("verify-full", True, "127.0.0.2", True, False, False),
    ("verify-full", False, "localhost", True, False, False),
]


@pytest.mark.parametrize("row", MATRIX, ids=str)
def test_matrix_of_modes(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    authority: Authority,
    new_authority: Callable[[str], Authority],
    tls_front: Callable[..., TlsFront],
    row: tuple[str, bool, str, bool, bool, bool],
) -> None:
    mode, speaks, host, known, good, encrypted = row
    context = authority.server_context(authority.server()) if speaks else None
    front = tls_front(postgres.port, context, "0.0.0.0")
    trusted = authority if known else new_authority("unrelated")
    given = {"ca": trusted.certificate} if mode.startswith("verify") else {}
    maitred = behind(make_maitred, front, host, mode=mode, **given)
    assert works(maitred) is good
    if good:
        assert bool(front.handshakes) is encrypted
    else:
        assert not front.finished, "a connection that should be refused was used"


def test_refusal_says_why(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    tls_front: Callable[..., TlsFront],
) -> None:
    maitred = behind(make_maitred, tls_front(postgres.port, None), mode="require")
    with pytest.raises(psycopg.Error, match=r"(?i)tls|ssl"), maitred.connect() as client:
        client.execute("select 1")


def test_client_certificate_is_shown_to_the_database(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    authority: Authority,
    tls_front: Callable[..., TlsFront],
) -> None:
    front = tls_front(postgres.port, authority.server_context(authority.server(), ask_client=True))
    ours = authority.issue("maitred", stem="maitred-client")
    maitred = behind(
        make_maitred, front, mode="verify-full", ca=authority.certificate,
        certificate=ours.certificate, key=ours.key,
    )  # fmt: skip
    assert works(maitred)
    assert "maitred" in str(front.client_certificates[0])


def test_direct_tls(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    authority: Authority,
    tls_front: Callable[..., TlsFront],
) -> None:
    front = tls_front(postgres.port, authority.server_context(authority.server()))
    maitred = behind(make_maitred, front, mode="verify-full", ca=authority.certificate, direct=True)
    assert works(maitred)
    assert front.alpn == ["postgresql"]
    assert front.asked == 0


def test_url_parameters_win(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    authority: Authority,
    tls_front: Callable[..., TlsFront],
) -> None:
    front = tls_front(postgres.port, authority.server_context(authority.server()))
    url = (
        f"postgres://app@localhost:{front.port}/shop?sslmode=verify-full"
        f"&sslrootcert={authority.certificate}"
    )
    maitred = make_maitred(
        {"databases": {"shop": {"url": url}}, "tls": {"server": {"mode": "disable"}}}
    )
    assert works(maitred)
    assert front.handshakes == 1


def test_minimum_version(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    authority: Authority,
    tls_front: Callable[..., TlsFront],
) -> None:
    context = authority.server_context(authority.server())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    front = tls_front(postgres.port, context)
    assert works(behind(make_maitred, front, mode="require"))
    assert not works(behind(make_maitred, front, mode="require", minimum="1.3"))


def test_cancel_and_large_results_through_tls(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    authority: Authority,
    tls_front: Callable[..., TlsFront],
) -> None:
    front = tls_front(postgres.port, authority.server_context(authority.server()))
    maitred = behind(make_maitred, front, mode="require")
    with maitred.connect() as client:
        size = 20 << 20
        assert client.execute("select length(%s::text)", ["x" * size]).fetchone() == (size,)
        (text,) = client.execute(f"select repeat('y', {size})").fetchone()
        assert text == "y" * size
        timer = threading.Timer(0.5, client.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(60)")
        timer.join()
    assert front.plain == 0, "a cancel request or a login went out in clear text"
