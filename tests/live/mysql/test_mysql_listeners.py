"""Both protocols from one file and one process: listeners, sockets, PROXY headers, early TLS, what
clients are greeted with, and what operators see of it.

Asks maitred itself, so none of it runs with `--direct`. Run by pytest.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import pymysql
import pytest

from fix_certificates import Authority
from fix_maitred import Maitred
from fix_mariadb import PASSWORD, MariaDB
from fix_mysql_front import Front
from fix_mysql_packets import CAPABILITIES
from fix_mysql_wire import MysqlError, MysqlWire
from fix_postgres import Postgres
from fix_processes import eventually, free_port

pytestmark = [pytest.mark.one_backend, pytest.mark.flavour("mariadb")]


@pytest.fixture
def both(
    make_maitred: Callable[..., Maitred], mariadb: MariaDB, postgres: Postgres
) -> Callable[..., Maitred]:
    """Start a maitred with the database `shop` of PostgreSQL and `till` of MariaDB's."""

    def make(more: dict[str, Any] | None = None) -> Maitred:
        url = f"mysql://app:{PASSWORD}@127.0.0.1:{mariadb.port}/shop"
        config: dict[str, Any] = {
            "databases": {"till": {"url": url}},
            "auth": {"mysql_method": "trust"},
        }
        return make_maitred(config | (more or {}))

    return make


def by_mysql(maitred: Maitred, user: str = "app", database: str | None = "till") -> MysqlWire:
    client = MysqlWire(maitred.mysql_address)
    client.login(user, database)
    return client


def test_one_process_serves_both_protocols(both: Callable[..., Maitred]) -> None:
    maitred = both()
    with maitred.wire() as one, by_mysql(maitred) as other:
        assert one.value("select 1") == other.value("select 1") == "1"
        pools = {row["database"]: row["protocol"] for row in maitred.console("SHOW POOLS")}
        assert pools == {"shop": "postgres", "till": "mysql"}
        clients = {row["database"]: row["protocol"] for row in maitred.console("SHOW CLIENTS")}
        assert (clients["shop"], clients["till"]) == ("postgres", "mysql")
        servers = {row["database"]: row["protocol"] for row in maitred.console("SHOW SERVERS")}
        assert servers == {"shop": "postgres", "till": "mysql"}
        shown = {row["name"]: row["protocol"] for row in maitred.console("SHOW DATABASES")}
        assert shown == {"shop": "postgres", "till": "mysql"}
        told = [name for name in maitred.metrics() if 'database="till"' in name]
        assert any('protocol="mysql"' in name for name in told)


def test_a_database_is_unknown_to_clients_of_the_other_protocol(
    both: Callable[..., Maitred],
) -> None:
    maitred = both()
    with pytest.raises(MysqlError) as refused:
        by_mysql(maitred, database="shop")
    assert (refused.value.number, refused.value.state) == (1049, "42000")
    with pytest.raises(Exception, match="till"):
        maitred.connect(database="till")


def test_a_client_that_names_no_database_gets_the_only_one(both: Callable[..., Maitred]) -> None:
    with by_mysql(both(), database=None) as client:
        assert client.value("select database()") == "shop"


def test_mysql_clients_come_by_a_socket_file(
    make_front: Callable[..., Front], mariadb: MariaDB
) -> None:
    front = make_front({"listen": {"mysql": "unix:/tmp/maitred-my-test.sock"}})
    connection = pymysql.connect(
        unix_socket="/tmp/maitred-my-test.sock", user="app", password=PASSWORD, database="shop"
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("select 1")
        assert cursor.fetchall() == ((1,),)
    assert [row["addr"] for row in front.operated.console("SHOW SERVERS")] == ["127.0.0.1"]


def test_a_server_is_reached_by_its_socket_file(
    make_front: Callable[..., Front], mariadb: MariaDB
) -> None:
    url = f"mysql://app:{PASSWORD}@localhost/shop?socket={mariadb.socket}"
    front = make_front({"databases": {"shop": {"url": url}}})
    assert front.wire().value("select 1") == "1"


def test_a_proxy_header_comes_before_the_greeting(make_front: Callable[..., Front]) -> None:
    front = make_front({"listen": {"proxy_protocol": True, "postgres": []}})
    client = MysqlWire(front.address)
    client.socket.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.9 5151 3306\r\n")
    client.login("app", "shop")
    assert client.value("select 1") == "1"
    client.close()


def test_tls_may_begin_in_the_same_write_as_the_request_for_it(
    make_front: Callable[..., Front], authority: Authority
) -> None:
    shown = authority.server()
    tls = {"mode": "prefer", "certificate": shown.certificate, "key": shown.key}
    front = make_front({"tls": {"client": tls}})
    with socket.create_connection(front.address, timeout=10) as client:
        assert client.recv(4096)[4] == 10, "a greeting"
        names = ("PROTOCOL_41", "SECURE_CONNECTION", "PLUGIN_AUTH", "CONNECT_WITH_DB", "SSL")
        head = struct.pack("<IIB23x", sum(CAPABILITIES[name] for name in names), 1 << 24, 45)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = authority.client_context()
        encrypted = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            encrypted.do_handshake()
        client.sendall(packet(1, head) + outgoing.read())
        step(client, encrypted.do_handshake, incoming, outgoing)
        encrypted.write(packet(2, head + b"app\0\0shop\0mysql_native_password\0"))
        answer = step(client, lambda: encrypted.read(4096), incoming, outgoing)
        assert answer[4] == 0x00, f"no OK: {answer}"
        rows = front.operated.console("SHOW CLIENTS")
    assert [row["tls"] for row in rows if row["protocol"] == "mysql"] == ["1"]


def packet(sequence: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([sequence]) + body


def step(
    client: socket.socket, act: Callable[[], Any], incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
) -> Any:
    """Do `act` of a TLS object in memory, carrying its bytes to and fro."""
    while True:
        try:
            done = act()
        except ssl.SSLWantReadError:
            client.sendall(outgoing.read())
            got = client.recv(65536)
            assert got, "closed in the middle of TLS"
            incoming.write(got)
        else:
            client.sendall(outgoing.read())
            return done


def test_clients_are_greeted_with_the_version_of_the_server(
    make_front: Callable[..., Front], mariadb: MariaDB
) -> None:
    front = make_front()
    version = mariadb.value("select version()")
    greeted = MysqlWire(front.address).read_greeting().version
    assert greeted.removeprefix("5.5.5-") == version
    maitred = front.operated
    assert "MySQL version learned" in maitred.log_text()
    maitred.config["listen"]["mysql_version"] = "8.4.0"
    maitred.reload()
    eventually(lambda: MysqlWire(front.address).read_greeting().version == "8.4.0")


def test_a_server_that_is_down_keeps_nobody_from_starting(
    make_front: Callable[..., Front],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        front = make_front(port=port)
        assert MysqlWire(front.address).read_greeting().version == "8.0.0-maitred"
    assert "no MySQL endpoint said its version" in front.operated.log_text()


def test_a_reload_brings_and_takes_the_listener(both: Callable[..., Maitred]) -> None:
    maitred = both()
    with by_mysql(maitred) as client:
        listen = maitred.config["listen"]
        old, listen["mysql"] = listen["mysql"], f"127.0.0.1:{free_port()}"
        maitred.reload()
        eventually(lambda: is_refused(maitred.mysql_port))
        assert client.value("select 2") == "2", "who is in stays in"
        listen["mysql"] = old
        maitred.reload()
        eventually(lambda: not is_refused(maitred.mysql_port))


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_servers_are_opened_with_the_variables_of_their_database(
    make_front: Callable[..., Front],
) -> None:
    values = {"sql_mode": "ANSI_QUOTES", "lock_wait_timeout": "7", "range_alloc_block_size": "8192"}
    front = make_front({"databases": {"shop": {"parameters": values}}, "pool": {"size": 1}})
    client = front.wire()
    assert client.value("select @@sql_mode") == "ANSI_QUOTES"
    assert client.value("select @@lock_wait_timeout") == "7"
    client.run("set session lock_wait_timeout = 9, range_alloc_block_size = 16384")
    other = front.wire()
    assert other.value("select @@lock_wait_timeout") == "7"
    assert other.value("select @@range_alloc_block_size") == "8192"
    assert client.value("select @@range_alloc_block_size") == "16384"
