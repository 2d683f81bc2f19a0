"""Learn by which version a MySQL server greets, so that our clients are greeted the same.

Logs in nowhere and sends nothing: a MySQL server speaks first. Called by `revisions` at a start and
at a reload.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from maitred import log
from maitred.model import Address, Config

UNKNOWN = "8.0.0-maitred"
"""What clients are greeted with while no server has said its version."""

WITHIN_S = 1.0
"""How long a start waits for all the endpoints together."""

# Spec: MySQL, "Protocol::HandshakeV10": the version begins the packet and is seldom above 60 bytes.
_MOST_BYTES = 4 + 1 + 255


class NoGreeting(ValueError):
    """What answered is no MySQL server, or does not let us in; the text is its own."""


async def learn(config: Config, before: str = UNKNOWN) -> str:
    """Return the version that clients of `config` are greeted with.

    Args:
        config: its setting wins; else the first of its MySQL endpoints that answers within
            `WITHIN_S` says it.
        before: what was learned earlier; it stays where nobody answers.
    """
    written = str(config.limits["mysql_version"])
    if written or not config.speaks("mysql"):
        return written or UNKNOWN
    places = [one.address for one in config.endpoints if one.dialect == "mysql"]
    try:
        place, version = await asyncio.wait_for(_first(places), WITHIN_S)
    except (NoGreeting, TimeoutError) as error:
        version = before
        log.write(
            logging.WARNING,
            "no MySQL endpoint said its version; clients are greeted with another until a reload",
            version=version,
            cause=str(error) or f"no answer within {WITHIN_S:.0f} s",
            hint="set listen.mysql_version to be independent of it",
        )
        return version
    if version != before:
        log.write(logging.INFO, "MySQL version learned", version=version, endpoint=str(place))
    return version


async def _first(places: Iterable[Address]) -> tuple[Address, str]:
    causes: list[str] = []
    for place in places:
        try:
            return place, await version_of(place)
        except (OSError, NoGreeting) as error:
            causes.append(f"{place}: {getattr(error, 'strerror', None) or error}")
    raise NoGreeting("; ".join(causes) or "no MySQL endpoint is configured")


async def version_of(place: Address) -> str:
    """Return the version that the server at `place` greets with.

    Raises:
        OSError: it cannot be reached.
        NoGreeting: it says something else.
    """
    if place.path:
        reader, writer = await asyncio.open_unix_connection(place.path)
    else:
        reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        head = await reader.readexactly(4)
        length = min(int.from_bytes(head[:3], "little"), _MOST_BYTES)
        return read_version(await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        raise NoGreeting("the connection was closed without a greeting") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def read_version(packet: bytes) -> str:
    """Return the version out of the body of a greeting.

    Raises:
        NoGreeting: it is none, or an error (too many connections, host blocked).
    """
    if packet[:1] == b"\xff":
        # Spec: MySQL, "ERR_Packet": number, and no SQLSTATE before the capabilities are known.
        number, text = int.from_bytes(packet[1:3], "little"), packet[3:].decode(errors="replace")
        raise NoGreeting(f"the server refused: {number} {text}")
    version, end, _ = packet[1:].partition(b"\0")
    if packet[:1] != b"\x0a" or not end or not version.isascii() or not version:
        raise NoGreeting("the answer is not that of a MySQL server")
    return version.decode()
