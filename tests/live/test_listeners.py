"""How a client may reach maitred and maitred a database: TCP, IPv6, Unix sockets, PROXY headers.

Run by pytest.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_processes import free_ports, has_ipv6
from fix_wire import Wire

NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 here")


def asks(address: tuple[str, int] | str, **options: object) -> str | None:
    with Wire(address, **options) as client:
        client.login()
        return client.value("select 'reached'")


def test_several_listeners_of_every_kind(make_maitred: object) -> None:
    one = make_maitred(start=False)
    ports = free_ports(2)
    wanted = [f"127.0.0.1:{port}" for port in ports] + [f"unix:{one.folder}:{ports[0]}"]
    if has_ipv6():
        wanted.append(f"[::1]:{ports[1]}")
    one.port = ports[0]
    one.config["listen"]["postgres"] = wanted
    one.write()
    one.start()
    assert asks(("127.0.0.1", ports[0])) == "reached"
    assert asks(("127.0.0.1", ports[1])) == "reached"
    assert asks(f"{one.folder}/.s.PGSQL.{ports[0]}") == "reached"
    if has_ipv6():
        assert asks(("::1", ports[1])) == "reached"


def test_libpq_finds_the_unix_socket(make_maitred: object, postgres: Postgres) -> None:
    one = make_maitred(start=False)
    one.config["listen"]["postgres"] = [f"127.0.0.1:{one.port}", f"unix:{one.folder}:{one.port}"]
    one.config["listen"]["unix_mode"] = "0700"
    one.write()
    one.start()
    with one.connect(host=str(one.folder)) as client:
        assert client.execute("select 1").fetchone() == (1,)
    path = one.folder / f".s.PGSQL.{one.port}"
    assert path.stat().st_mode & 0o777 == 0o700
    one.stop()
    assert not path.exists(), "the socket file was left behind"


def test_stale_socket_file_is_replaced(make_maitred: object) -> None:
    one = make_maitred(start=False)
    one.config["listen"]["postgres"] = [f"127.0.0.1:{one.port}", f"unix:{one.folder}:{one.port}"]
    one.write()
    one.start()
    one.kill()
    assert Path(f"{one.folder}/.s.PGSQL.{one.port}").exists()
    one.start()
    assert asks(f"{one.folder}/.s.PGSQL.{one.port}") == "reached"


def test_second_maitred_on_the_same_port_says_so(make_maitred: object) -> None:
    one = make_maitred()
    two = make_maitred(start=False)
    two.config["listen"]["postgres"] = f"127.0.0.1:{one.port}"
    two.write()
    with pytest.raises(pytest.fail.Exception, match=str(one.port)):
        two.port = two.admin_port  # Why: else it is taken for ready by the first one's port.
        two.start()
    two.process = None
    assert asks(one.address) == "reached"


@NEEDS_IPV6
def test_database_by_ipv6(make_maitred: object, postgres: Postgres) -> None:
    one = make_maitred(
        {"databases": {"shop": {"url": f"postgres://app@[::1]:{postgres.port}/shop"}}}
    )
    with one.wire() as client:
        assert client.value("select inet_server_addr()") in ("::1", "::1/128")


def test_database_by_unix_socket(make_maitred: object, postgres: Postgres) -> None:
    folder = str(postgres.sockets).replace("/", "%2F")
    url = f"postgres://app@{folder}:{postgres.port}/shop"
    one = make_maitred({"databases": {"shop": {"url": url}}})
    with one.wire() as client:
        assert client.value("select inet_server_addr()") is None


def test_database_by_name(make_maitred: object, postgres: Postgres) -> None:
    url = f"postgres://app@localhost:{postgres.port}/shop"
    one = make_maitred({"databases": {"shop": {"url": url}}})
    with one.wire() as client:
        assert client.value("select 1") == "1"


def proxied(make_maitred: object) -> Maitred:
    return make_maitred({"listen": {"proxy_protocol": True}})


def header_v2(command: int, family: int, addresses: bytes) -> bytes:
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    return signature + struct.pack("!BBH", 0x20 | command, family, len(addresses)) + addresses


V1 = b"PROXY TCP4 192.0.2.7 198.51.100.9 5151 5432\r\n"
V2 = header_v2(
    1, 0x11, socket.inet_aton("192.0.2.8") + socket.inet_aton("198.51.100.9") + b"\x14\x20\x15\x38"
)
V2_SIX = header_v2(
    1,
    0x21,
    socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 5154, 5432),
)
V2_WITH_MORE = V2[:15] + bytes([12 + 7]) + V2[16:] + b"\x04\0\4abcd"


@pytest.mark.parametrize(
    ("header", "address", "port"),
    [
        (V1, "192.0.2.7", "5151"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 5153 5432\r\n", "2001:db8::9", "5153"),
        (V2, "192.0.2.8", "5152"),
        (V2_SIX, "2001:db8::7", "5154"),
        (V2_WITH_MORE, "192.0.2.8", "5152"),
    ],
    ids=["v1", "v1 six", "v2", "v2 six", "v2 with more"],
)
def test_address_in_a_proxy_header_is_believed(
    make_maitred: object, header: bytes, address: str, port: str
) -> None:
    one = proxied(make_maitred)
    with Wire(one.address, preamble=header) as client, Wire(one.address, preamble=V1) as operator:
        client.login(application_name="proxied")
        assert client.value("select 1") == "1"
        operator.login("postgres", "maitred")
        seen = operator.query("SHOW CLIENTS")
        names = next(got.columns for got in seen if got.tag == "T")
        rows = [dict(zip(names, got.values, strict=True)) for got in seen if got.tag == "D"]
        (ours,) = [row for row in rows if row["database"] == "shop"]
        assert (ours["addr"], ours["port"]) == (address, port)


@pytest.mark.parametrize(
    "header",
    [b"PROXY UNKNOWN\r\n", header_v2(0, 0, b"")],
    ids=["v1 unknown", "v2 local"],
)
def test_proxy_header_without_an_address_is_accepted(make_maitred: object, header: bytes) -> None:
    one = proxied(make_maitred)
    assert asks(one.address, preamble=header) == "reached"


@pytest.mark.parametrize("pieces", [1, 3])
def test_proxy_header_in_pieces(make_maitred: object, pieces: int) -> None:
    one = proxied(make_maitred)
    for header in (V1, V2_WITH_MORE):
        with Wire(one.address) as client:
            for at in range(0, len(header), pieces):
                client.send(header[at : at + pieces])
            client.login()
            assert client.value("select 1") == "1"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"PROXY TCP4 not-an-address 198.51.100.9 5151 5432\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        header_v2(1, 0x11, b"\x01"),
        header_v2(15, 0x11, V2[16:]),
    ],
    ids=["missing", "bad address", "endless", "too short", "bad command"],
)
def test_bad_proxy_header_closes_that_connection_only(make_maitred: object, header: bytes) -> None:
    one = proxied(make_maitred)
    with Wire(one.address, preamble=V1) as bystander, Wire(one.address, preamble=header) as client:
        bystander.login()
        # No login: without a header a startup message is garbage to this listener.
        client.send(b"\0\0\0\x12\0\3\0\0user\0app\0\0\0")
        assert client.is_closed()
        assert bystander.value("select 1") == "1"
