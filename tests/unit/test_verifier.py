"""Stored forms of passwords, against the RFC and against libpq.

No server is contacted. Run by pytest.
"""

from __future__ import annotations

import base64

import pytest
from psycopg import pq

from maitred.auth.verifier import BadStored, Stored, derive_scram, recognise, saslprep

# Spec: RFC 7677 section 3: user "user", password "pencil".
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_STORED = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
RFC_SERVER = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="


def test_the_verifier_of_the_rfc() -> None:
    expected = f"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${RFC_STORED}:{RFC_SERVER}"
    assert derive_scram("pencil", RFC_SALT) == expected


@pytest.mark.parametrize(
    "password",
    [
        "pencil",
        "naïve café",
        "ﬁ ligature",
        "I\u00adX",
        "\u00aa",
        "a\u00a0b",
        "пароль",
        "\u0627\u0031x",
    ],
)
def test_the_verifier_is_the_one_that_libpq_makes(password: str) -> None:
    # Why: libpq encrypts without a server, but wants a connection object; this one leads nowhere.
    connection = pq.PGconn.connect_start(b"host=/nonexistent")
    theirs = connection.encrypt_password(password.encode(), b"app", b"scram-sha-256").decode()
    salt = base64.b64decode(theirs.split("$")[1].split(":")[1])
    assert derive_scram(password, salt) == theirs


# Spec: RFC 4013 section 3.
@pytest.mark.parametrize(
    ("raw", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", "\u0007"),
        ("\u0627\u0031", "\u0627\u0031"),
    ],
)
def test_saslprep_examples_of_the_rfc(raw: str, prepared: str) -> None:
    # The last two are errors in the RFC; PostgreSQL then takes the bytes as they are.
    assert saslprep(raw) == prepared


def test_forms_are_recognised() -> None:
    scram = derive_scram("x", b"salt")
    assert recognise(scram) == Stored(scram=scram)
    assert recognise("md5" + "0" * 32) == Stored(md5="md5" + "0" * 32)
    assert recognise("hello") == Stored(plain="hello")
    assert recognise("md5 is my password") == Stored(plain="md5 is my password")


# As MySQL 9.7 shows one by SHOW CREATE USER, as text and with print_identified_with_as_hex.
SALT, HASH = "\x07d>Jb`k7z]m_A,\x1bqP3&", "3pZ1bXCFxGMQAp5gNQtWXiEPKF0Pq.kqtY2bQMD2FY5"
SHA2 = f"$A$005${SALT:\x01<20}{HASH}"


def test_forms_of_mysql_are_recognised() -> None:
    native = "*2470c0c06dee42fd1618bb99005adca2ec9d1e19"
    assert recognise(native) == Stored(native=native.upper())
    assert recognise(SHA2) == Stored(sha2=SHA2)
    in_hex = "0x" + SHA2.encode().hex().upper()
    assert recognise(in_hex) == Stored(sha2=in_hex)
    assert recognise("ed25519$" + "Z" * 43) == Stored(ed25519="Z" * 43)
    assert recognise("*star") == Stored(plain="*star")


@pytest.mark.parametrize(
    "text", [SHA2[:-1], SHA2 + "x", "0x24412430303524", "0x244124303", "ed25519$Z", "$A$005$x"]
)
def test_a_damaged_form_of_mysql_is_refused(text: str) -> None:
    with pytest.raises(BadStored, match=r"copy|hex is damaged"):
        recognise(text)


@pytest.mark.parametrize(
    "text",
    [
        "SCRAM-SHA-256$4096",
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$4096:A$A:A",
        derive_scram("x", b"salt")[:-2],
        derive_scram("x", b"salt").replace("4096", "0"),
    ],
)
def test_a_damaged_verifier_is_refused(text: str) -> None:
    with pytest.raises(BadStored, match="copy"):
        recognise(text)
