"""Secrets stay hidden, and messages lose theirs.

No real secret is used. Run by pytest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.secret import Secret, SecretMissing, redact, resolve


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hush")
    assert "hush" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "hush"


def test_equal_secrets_are_equal() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgres://app:hush@db1:5432/shop?x=1",
        "POSTGRESQL://app:hush@db1 and mysql://root:hush@h/x",
        "postgres://app:hu@hush@db1/x",
        "postgres://app:hush/hush@db1/x",
        "host=h password=hush dbname=x",
        "password = 'hush hush' user=x",
        '{"password": "hush", "user": "x"}',
        "server_password=hush",
        "ALTER USER app PASSWORD 'hush'",
        "create role a with encrypted password E'hu''hush'",
        "CREATE USER a PASSWORD $x$hush$x$",
        "stored SCRAM-SHA-256$4096:hush$hush:hush=",
        "CREATE USER a IDENTIFIED BY 'hush'",
        "alter user a identified with caching_sha2_password by 'hush'",
        "CREATE USER a IDENTIFIED VIA ed25519 USING 'hush'",
        "cannot use mysql://app:hush@db1/shop",
    ],
)
def test_a_message_loses_its_password(text: str) -> None:
    shown = redact(text)
    assert "hush" not in shown
    assert "***" in shown


def test_an_md5_hash_is_removed() -> None:
    stored = "md5" + "0123456789abcdef" * 2
    assert redact(f"user app {stored} refused") == "user app *** refused"


@pytest.mark.parametrize(
    "stored",
    [
        "*" + "0123456789ABCDEF0123" * 2,
        "$A$005$" + "s" * 20 + "h" * 43,
        "0x244124303035247F",
        "ed25519$" + "Z" * 43,
    ],
)
def test_what_mysql_stores_of_a_password_is_removed(stored: str) -> None:
    assert redact(f"user app {stored} refused") == "user app *** refused"


@pytest.mark.parametrize(
    "text",
    [
        "postgres://app@db1:5432/shop",
        "http://127.0.0.1:9127/metrics",
        "127.0.0.1:6432 is in use",
        "password authentication failed for user app",
        "select * from t where passwords > 3",
    ],
)
def test_what_holds_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(alphabet=st.characters(exclude_characters="@ '\"", exclude_categories=["Z", "C"])))
def test_any_password_of_a_url_is_removed(password: str) -> None:
    marked = f"qqHUSHqq{password}"
    assert "HUSH" not in redact(f"cannot reach postgres://app:{marked}@db1/shop")


def test_plain_text_is_the_secret_itself(tmp_path: Path) -> None:
    assert resolve("hush", folder=tmp_path) == "hush"


def test_the_environment_is_asked(tmp_path: Path) -> None:
    assert resolve("env:X", folder=tmp_path, environ={"X": "hush"}) == "hush"
    with pytest.raises(SecretMissing, match="variable X is not set or empty"):
        resolve("env:X", folder=tmp_path, environ={"X": ""})


def test_a_file_loses_one_newline_only(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("hush \n\n")
    assert resolve("file:pw", folder=tmp_path) == "hush \n"
    assert resolve(f"file:{tmp_path}/pw", folder=Path("/")) == "hush \n"


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "empty"), (b"\n", "empty"), (b"\xff", "UTF-8")]
)
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "pw").write_bytes(content)
    with pytest.raises(SecretMissing, match=told):
        resolve("file:pw", folder=tmp_path)
