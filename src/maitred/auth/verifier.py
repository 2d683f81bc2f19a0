"""Stored forms of a password: what PostgreSQL and MySQL keep of one, recognised and derived.

Pure but for the salt's randomness; keeps nothing.
Called by `store`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from dataclasses import dataclass

from maitred.secret import form

# Spec: RFC 7677 recommends at least 4096; PostgreSQL's scram_iterations has the same default.
ITERATIONS = 4096

_SCRAM = re.compile(
    r"^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$"
)
# Spec: MySQL, sha2_password.cc: 3 hex digits of thousands of rounds, 20 bytes of salt, 43 of
# crypt's base64. The salt is any byte but 0 and $, which is why the server shows it in hex.
_SHA2 = re.compile(r"\$A\$([0-9A-F]{3})\$([^\0$]{20})([A-Za-z0-9./]{43})", re.DOTALL)
_ED25519 = re.compile(r"ed25519\$([A-Za-z0-9+/]{43})")


class BadStored(ValueError):
    """A text that begins like a stored form but is not one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A password in the one form that was given; the others are None."""

    plain: str | None = None
    md5: str | None = None
    scram: str | None = None
    native: str | None = None
    sha2: str | None = None
    ed25519: str | None = None


def recognise(text: str) -> Stored:
    """Tell which form `text` is.

    Raises:
        BadStored: it begins like a stored form but is damaged.
    """
    match form(text):
        case "scram":
            _check_scram(text)
            return Stored(scram=text)
        case "md5":
            return Stored(md5=text)
        case "native":
            return Stored(native=text.upper())
        case "sha2":
            return Stored(sha2=_sha2(text))
        case "ed25519":
            return Stored(ed25519=_ed25519(text))
        case _:
            return Stored(plain=text)


def _sha2(text: str) -> str:
    plain = text
    if text.startswith("0x"):
        try:
            # Why latin-1: the salt is bytes, of which each must become one character.
            plain = bytes.fromhex(text[2:]).decode("latin-1")
        except ValueError:
            raise BadStored("is a caching_sha2_password hash whose hex is damaged") from None
    if not _SHA2.fullmatch(plain):
        raise BadStored(
            "is not a caching_sha2_password hash of the form $A$005$ and 63 characters; copy it"
            " from SHOW CREATE USER after SET print_identified_with_as_hex = ON, as 0x244124…"
        )
    return text


def _ed25519(text: str) -> str:
    found = _ED25519.fullmatch(text)
    if not found:
        raise BadStored(
            "is not ed25519$ and the 43 characters that SHOW CREATE USER has after USING; copy it"
            " again"
        )
    return found[1]


def _check_scram(text: str) -> None:
    match = _SCRAM.match(text)
    shape = "SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY"
    if not match:
        raise BadStored(
            f"is not a SCRAM verifier of the form {shape}; copy it whole from pg_authid"
        )
    try:
        salt, stored, server = (
            base64.b64decode(part, validate=True) for part in match.groups()[1:]
        )
    except binascii.Error:
        raise BadStored("is a SCRAM verifier whose base64 is damaged; copy it again") from None
    if len(stored) != 32 or len(server) != 32 or not salt or int(match[1]) < 1:
        raise BadStored("is a SCRAM verifier of the wrong length; copy it again")


def derive_scram(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Derive a verifier as PostgreSQL stores it; some milliseconds of CPU.

    Spec: RFC 5802 section 3; SASLprep as PostgreSQL applies it.
    """
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(one).decode() for one in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)


def saslprep(password: str) -> str:
    """Normalise a password; a text that SASLprep forbids is returned as it is.

    Spec: RFC 4013. PostgreSQL falls back to the raw bytes in the same way.
    """
    if password.isascii():
        # Why: ASCII is unchanged by SASLprep unless it holds control characters, which PostgreSQL
        # then takes raw: the same text either way.
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(one) else one
        for one in password
        if not stringprep.in_table_b1(one)
    )
    result = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    return password if not result or _is_prohibited(result) else result


_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
    stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7,
    stringprep.in_table_c8, stringprep.in_table_c9, stringprep.in_table_a1,
)  # fmt: skip


def _is_prohibited(text: str) -> bool:
    if any(test(one) for test in _PROHIBITED for one in text):
        return True
    # Spec: RFC 3454 section 6: right-to-left text stands alone and at both ends.
    if not any(stringprep.in_table_d1(one) for one in text):
        return False
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return not ends or any(stringprep.in_table_d2(one) for one in text)
