"""The version that MySQL clients are greeted with, learned from servers played by sockets.

Listens on loopback only. Run by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from maitred.config import load
from maitred.config.load import Layer
from maitred.health import greeting
from maitred.health.greeting import NoGreeting, learn, read_version
from maitred.model import Config


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


GREETING = b"\x0a10.11.6-MariaDB-1\0" + b"\x05\0\0\0saltsalt\0\xff\xff"
REFUSAL = b"\xff\x10\x04Too many connections"


@asynccontextmanager
async def server(says: bytes | None) -> AsyncIterator[int]:
    """A server that says one packet and waits; None: nothing."""

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if says is not None:
            writer.write(says)
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(on_client, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def config(*ports: int, version: str = "") -> Config:
    values: dict[tuple[str, ...], object] = {("listen", "mysql_version"): version}
    for port in ports[1:]:
        values["databases", f"d{port}", "url"] = f"mysql://a:b@127.0.0.1:{port}/x"
    return load.from_url(f"mysql://a:b@127.0.0.1:{ports[0]}/shop", [Layer("test", values)])


async def test_the_first_server_that_answers_says_the_version() -> None:
    async with server(packet(REFUSAL)) as refusing, server(packet(GREETING)) as good:
        assert await learn(config(refusing, good)) == "10.11.6-MariaDB-1"


async def test_a_setting_wins() -> None:
    async with server(packet(GREETING)) as port:
        assert await learn(config(port, version="8.4.0")) == "8.4.0"


async def test_nobody_waits_long_for_a_silent_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(greeting, "WITHIN_S", 0.05)
    async with server(None) as port:
        assert await learn(config(port)) == greeting.UNKNOWN
        assert await learn(config(port), "9.0.0") == "9.0.0"
    assert "no MySQL endpoint said its version" in caplog.text


async def test_a_closed_port_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with server(None) as port:
        pass
    assert await learn(config(port)) == greeting.UNKNOWN
    (record,) = caplog.records
    assert f"127.0.0.1:{port}: " in record.__dict__["facts"]["cause"]


async def test_nobody_is_asked_where_no_mysql_client_can_come() -> None:
    assert await learn(load.from_url("postgres://a:b@127.0.0.1:1/x")) == greeting.UNKNOWN


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (REFUSAL, "1040 Too many connections"),
        (b"SSH-2.0-OpenSSH", "not that of a MySQL server"),
        (b"\x0a" + b"8" * 300, "not that of a MySQL server"),
        (b"\x0a\0", "not that of a MySQL server"),
        (b"", "not that of a MySQL server"),
    ],
)
def test_what_is_no_greeting_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(NoGreeting, match=told):
        read_version(body)
