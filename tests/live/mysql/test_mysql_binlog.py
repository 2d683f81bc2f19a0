"""The binary log, read by a replica through maitred: passed through on a server of its own.

Plays the replica itself, and lets MariaDB's own tool play it. Run by pytest.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from contextlib import closing

import pytest

from fix_mariadb import PASSWORD, program
from fix_mysql_front import Front
from fix_mysql_wire import MysqlWire

pytestmark = pytest.mark.one_backend

_NON_BLOCK = 1


@pytest.fixture
def front(make_front: Callable[..., Front]) -> Front:
    """Servers log in as their client, as a replica's must."""
    made = make_front(
        {
            "users": {"replicator": {"password": PASSWORD}},
            "databases": {"shop": {"user": "replicator", "password": PASSWORD}},
        }
    )
    made.endpoint.rows("create table shop.logged (word varchar(40))")
    made.endpoint.rows("insert into shop.logged values ('in the binary log')")
    return made


def last_log(front: Front) -> str:
    return front.endpoint.rows("show binary logs")[-1][0]


def dump(client: MysqlWire, log: str) -> bytes:
    """All events of a log, up to its end."""
    client.run("set @master_binlog_checksum = @@global.binlog_checksum")
    client.run("set @source_binlog_checksum = @@global.binlog_checksum")
    client.send("BINLOG_DUMP", struct.pack("<IHI", 4, _NON_BLOCK, 77) + log.encode())
    events = b""
    while (body := client.read_packet())[:1] == b"\x00":
        events += body[1:]
    assert body[:1] == b"\xfe", body
    return events


def test_a_dump_is_passed_through(front: Front) -> None:
    replica = front.wire("replicator", None if front.maitred is None else "shop")
    assert b"in the binary log" in dump(replica, last_log(front))


def test_others_work_meanwhile_and_afterwards(front: Front) -> None:
    named = None if front.maitred is None else "shop"
    other = front.wire("replicator", named)
    log = last_log(front)
    for _ in range(7):
        # Why a new one each time: the database closes behind a dump.
        replica = front.wire("replicator", named)
        dump(replica, log)
        assert other.value("select 1") == "1"
        replica.close()
    assert other.value("select 1") == "1"


def tool_reads(address: tuple[str, int], log: str) -> bytes:
    """What MariaDB's own tool makes of a log. Bytes: a log holds statements of any encoding."""
    host, port = address
    done = subprocess.run(
        [program("mariadb-binlog"), "--no-defaults", "--read-from-remote-server", f"--host={host}",
         f"--port={port}", "--user=replicator", f"--password={PASSWORD}", "--skip-ssl", log],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.flavour("mariadb")
def test_mariadb_binlog_reads_through_maitred_what_it_reads_directly(front: Front) -> None:
    # Why latin1: what is sent as the byte 0xff stands so in the log.
    with closing(front.endpoint.connect(charset="latin1")) as direct, direct.cursor() as cursor:
        cursor.execute("insert into shop.logged /* ÿ */ values ('seen')")
    log = last_log(front)
    read = tool_reads(front.address, log)
    assert b"\xff" in read
    assert read == tool_reads(("127.0.0.1", front.endpoint.port), log)
