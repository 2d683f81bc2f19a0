"""Values as people write them: durations, sizes, addresses.

No files and no sockets. Run by pytest.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.config import units
from maitred.config.units import BadValue
from maitred.model import Address


@pytest.mark.parametrize(
    ("text", "value_ms"),
    [
        ("30s", 30_000),
        ("500ms", 500),
        ("2h", 7_200_000),
        ("1.5s", 1500),
        ("10min", 600_000),
        ("10m", 600_000),
        ("1d", 86_400_000),
        ("5000us", 5),
        (" 3 s ", 3000),
        ("off", 0),
        ("0", 0),
        (0, 0),
    ],
)
def test_duration_is_read_with_its_unit(text: object, value_ms: int) -> None:
    assert units.duration_ms(text) == value_ms


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (30, 'write "30s"'),
        (1.5, 'write "1.5s"'),
        ("30", "has no unit"),
        ("30 sec", 'unknown unit "sec"'),
        ("-3s", 'not "-3s"'),
        ("soon", "a duration with its unit"),
        (True, "a duration with its unit"),
        ([1], "a duration with its unit"),
        ("100us", "finer than a millisecond"),
    ],
)
def test_duration_without_sense_is_refused_with_what_to_write(value: object, told: str) -> None:
    with pytest.raises(BadValue, match=told.replace("(", r"\(")):
        units.duration_ms(value)


@pytest.mark.parametrize(
    ("text", "value"), [("64KiB", 65536), ("1MB", 1_000_000), ("1GiB", 2**30), ("7B", 7), (0, 0)]
)
def test_size_is_read_with_its_unit(text: object, value: int) -> None:
    assert units.size_bytes(text) == value


def test_size_without_unit_is_refused() -> None:
    with pytest.raises(BadValue, match='write "65536KiB"'):
        units.size_bytes(65536)


@given(st.integers(min_value=0, max_value=10**12))
def test_written_duration_is_read_back_unchanged(value_ms: int) -> None:
    assert units.duration_ms(units.duration_text(value_ms)) == value_ms


@given(st.integers(min_value=0, max_value=2**50))
def test_written_size_is_read_back_unchanged(value: int) -> None:
    assert units.size_bytes(units.size_text(value)) == value


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6432", Address(host="127.0.0.1", port=6432)),
        ("[::1]:6432", Address(host="::1", port=6432)),
        ("*:6432", Address(host="", port=6432)),
        (":6432", Address(host="", port=6432)),
        ("db.example:0", Address(host="db.example", port=0)),
        ("unix:/run/x.sock", Address(path="/run/x.sock")),
        ("unix:/run/maitred:6432", Address(path="/run/maitred/.s.PGSQL.6432")),
        ("unix:/run/maitred/:6432", Address(path="/run/maitred/.s.PGSQL.6432")),
    ],
)
def test_address_is_read(text: str, address: Address) -> None:
    assert units.address(text) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("6432x", "host:port"),
        ("localhost", "host:port"),
        ("::1:6432", "in brackets"),
        ("host:70000", "not a port"),
        ("host:", "not a port"),
        ("unix:relative", 'begins with "/"'),
        ("unix:/" + "x" * 110, "at most 107"),
        ("", "empty"),
        ("[::1:6432", "host:port"),
    ],
)
def test_bad_address_is_refused_with_what_to_write(text: str, told: str) -> None:
    with pytest.raises(BadValue, match=told):
        units.address(text)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        (Address(host="127.0.0.9", port=1), True),
        (Address(host="::1", port=1), True),
        (Address(host="localhost", port=1), True),
        (Address(path="/x"), True),
        (Address(host="", port=1), False),
        (Address(host="10.0.0.1", port=1), False),
    ],
)
def test_only_loopback_and_sockets_are_local(address: Address, is_local: bool) -> None:
    assert address.is_local is is_local


@pytest.mark.parametrize(("value", "bits"), [("0770", 0o770), ("770", 0o770), (0o600, 0o600)])
def test_mode_bits_are_octal(value: object, bits: int) -> None:
    assert units.mode_bits(value) == bits


@pytest.mark.parametrize("value", [770, "0888", "rwx", True])
def test_mode_bits_that_are_not_octal_are_refused(value: object) -> None:
    with pytest.raises(BadValue, match="octal"):
        units.mode_bits(value)
