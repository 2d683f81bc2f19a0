"""Certificates and keys that are damaged, of the wrong sort, or of different pairs.

Made anew for each test; nothing listens. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maitred.config import load
from maitred.config.diff import between
from maitred.errors import ConfigInvalid
from maitred.model import Config

Read = Callable[[], Config]
MakePair = Callable[..., None]


@pytest.fixture
def read(tmp_path: Path, make_pair: MakePair) -> Read:
    make_pair(tmp_path, "ours")
    make_pair(tmp_path, "other")
    (tmp_path / "maitred.toml").write_text(
        "[tls.client]\nmode = 'verify-full'\ncertificate = 'ours.crt'\nkey = 'ours.key'\n"
        "ca = 'other.crt'\n[databases.shop]\nurl = 'postgres://a:b@h/x'\n"
        "[users.a]\npassword = 'b'\n"
    )
    return lambda: load.from_file(tmp_path / "maitred.toml")


def problem(read: Read) -> tuple[int | None, str]:
    with pytest.raises(ConfigInvalid) as refused:
        read()
    (found,) = refused.value.problems
    return found.line, found.text


def test_a_good_pair_is_taken(read: Read, tmp_path: Path) -> None:
    config = read()
    assert config.client_tls is not None
    assert config.client_tls.certificate_pem == (tmp_path / "ours.crt").read_text()
    assert {tmp_path / name for name in ("ours.crt", "ours.key", "other.crt")} <= config.files
    assert "PRIVATE KEY" not in repr(config)


def test_a_key_of_another_certificate_is_told(read: Read, tmp_path: Path) -> None:
    (tmp_path / "other.key").replace(tmp_path / "ours.key")
    line, text = problem(read)
    assert line == 3
    assert "ours.crt" in text
    assert "key values mismatch" in text


@pytest.mark.parametrize(
    ("name", "content", "line", "told"),
    [
        ("ours.crt", "-----BEGIN CERTIFICATE-----\nnonsense\n", 3, "cannot be used together"),
        ("ours.crt", "nonsense", 3, "no certificate in PEM"),
        (
            "ours.key",
            "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
            3,
            "ours.key",
        ),
        ("ours.key", "nonsense", 4, "no private key in PEM"),
        ("other.crt", "-----BEGIN CERTIFICATE-----\nnonsense\n", 5, "no good certificate"),
    ],
)
def test_a_damaged_file_is_told_by_name(
    read: Read, tmp_path: Path, name: str, content: str, line: int, told: str
) -> None:
    (tmp_path / name).write_text(content)
    found = problem(read)
    assert found[0] == line
    assert name in found[1]
    assert told in found[1]


def test_binary_is_told(read: Read, tmp_path: Path) -> None:
    (tmp_path / "ours.crt").write_bytes(b"\x30\x82\xff")
    assert "perhaps DER" in problem(read)[1]


def test_an_encrypted_key_is_told(read: Read, tmp_path: Path, make_pair: MakePair) -> None:
    make_pair(tmp_path, "ours", b"passphrase")
    assert "without a passphrase" in problem(read)[1]


def test_a_new_certificate_behind_the_same_path_is_a_difference(
    read: Read, tmp_path: Path, make_pair: MakePair
) -> None:
    before = read()
    make_pair(tmp_path, "ours")
    told = between(before, read()).live
    assert told == ("tls.client: certificate, key or authorities changed",)
