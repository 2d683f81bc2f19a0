"""Values as people write them: durations, sizes, counts, addresses, to numbers and back.

Pure: text in, value out, or `BadValue` with a text that says what to write instead.
Called by `schema` for defaults and by `read` for what a file says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from maitred.model import Address

DURATIONS_MS = {"us": Decimal("0.001"), "ms": 1, "s": 1000, "min": 60_000, "m": 60_000,
                "h": 3_600_000, "d": 86_400_000}  # fmt: skip
SIZES = {"B": 1, "kB": 1000, "KB": 1000, "KiB": 1024, "MB": 1000**2, "MiB": 1024**2,
         "GB": 1000**3, "GiB": 1024**3}  # fmt: skip
_NUMBER_UNIT = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$")
_OFF = ("off", "none")


class BadValue(ValueError):
    """A value that cannot be used; the text says what to write."""


def duration_ms(value: object) -> int:
    """Read `"30s"`, `"500ms"`, `"2h"`; 0 and "off" mean zero.

    Raises:
        BadValue: no unit, an unknown unit, or finer than a millisecond.
    """
    result = _with_unit(value, DURATIONS_MS, 'a duration with its unit, such as "30s" or "500ms"')
    if result != int(result):
        raise BadValue(f"{value} is finer than a millisecond")
    return int(result)


def size_bytes(value: object) -> int:
    """Read `"64KiB"`, `"1MiB"`; 0 and "off" mean zero.

    Raises:
        BadValue: no unit, an unknown unit, or a fraction of a byte.
    """
    result = _with_unit(value, SIZES, 'a size with its unit, such as "64KiB" or "1MiB"')
    if result != int(result):
        raise BadValue(f"{value} is not a whole number of bytes")
    return int(result)


def _with_unit(value: object, units: Mapping[str, int | Decimal], want: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadValue(f"must be {want}")
    if isinstance(value, int | float):
        if value == 0:
            return Decimal(0)
        unit = "s" if "s" in units else "KiB"
        raise BadValue(
            f'must be {want}; {value} has no unit: write "{value}{unit}" if that is meant'
        )
    if value.strip() in _OFF:
        return Decimal(0)
    match = _NUMBER_UNIT.match(value)
    if not match:
        raise BadValue(f'must be {want}, not "{value}"')
    number, unit = Decimal(match[1].replace("_", "")), match[2]
    if unit in units:
        return number * units[unit]
    if not unit:
        if number == 0:
            return number
        raise BadValue(f'must be {want}; "{value}" has no unit')
    raise BadValue(f'must be {want}; unknown unit "{unit}" (there are {", ".join(units)})')


def duration_text(value_ms: int) -> str:
    """Write milliseconds as the longest unit that divides them; 0 as "0s"."""
    for unit in ("d", "h", "min", "s"):
        if value_ms and value_ms % int(DURATIONS_MS[unit]) == 0:
            return f"{value_ms // int(DURATIONS_MS[unit])}{unit}"
    return f"{value_ms}ms" if value_ms else "0s"


def size_text(value: int) -> str:
    """Write bytes as the largest binary unit that divides them."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % SIZES[unit] == 0:
            return f"{value // SIZES[unit]}{unit}"
    return f"{value}B"


def count(value: object) -> int:
    """Read a whole number.

    Raises:
        BadValue: anything else, a text of digits included.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue(f"must be a whole number without quotes, not {shown(value)}")
    return value


def mode_bits(value: object) -> int:
    """Read permission bits: "0770", or TOML's 0o770.

    Raises:
        BadValue: not octal, or more than 0777.
    """
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o777:
        return value
    raise BadValue(f'must be permission bits in octal, such as "0770", not {shown(value)}')


def address(text: str, *, default_port: int | None = None) -> Address:
    """Read `host:port`, `[v6]:port`, `unix:/path`, or `unix:/folder:port`.

    The last form is the socket that libpq looks for: `/folder/.s.PGSQL.port`. `*` and an
    empty host mean every interface. Only a host where `default_port` is given.

    Raises:
        BadValue: none of these.
    """
    want = 'must be "host:port", "[ipv6]:port" or "unix:/path"'
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise BadValue(f'{want}; a socket\'s path begins with "/", not "{path}"')
        folder, colon, port = path.rpartition(":")
        if colon and port.isdigit():
            path = f"{folder.rstrip('/')}/.s.PGSQL.{port}"
        # Spec: unix(7), sun_path holds 108 bytes with its final zero.
        if len(path.encode()) > 107:
            raise BadValue(f"the socket's path is {len(path.encode())} bytes long; at most 107 fit")
        return Address(path=path)
    host, port_text = _split_port(text, want)
    if port_text is None:
        if default_port is None:
            raise BadValue(f'{want}, not "{text}"')
        return Address(host=host, port=default_port)
    if not port_text.isdigit() or not 0 <= int(port_text) <= 65535:
        raise BadValue(f'{want}; "{port_text}" is not a port between 0 and 65535')
    return Address(host="" if host == "*" else host, port=int(port_text))


def _split_port(text: str, want: str) -> tuple[str, str | None]:
    if text.startswith("["):
        match = re.fullmatch(r"\[([0-9A-Fa-f:.%\w]+)\](?::(.*))?", text)
        if not match:
            raise BadValue(f'{want}, not "{text}"')
        return match[1], match[2]
    if text.count(":") > 1:
        raise BadValue(f'{want}; write an IPv6 address in brackets: "[::1]:6432", not "{text}"')
    host, colon, port = text.partition(":")
    if not host and not colon:
        raise BadValue(f"{want}, not an empty text")
    if re.search(r"[\s/@]", host):
        raise BadValue(f'{want}, not "{text}"')
    return host, port if colon else None


def shown(value: object) -> str:
    """Show a value as TOML writes it, for messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(item) for item in value) + "]"  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if isinstance(value, dict):
        return "a table"
    return str(value)
