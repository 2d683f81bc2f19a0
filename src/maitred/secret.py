"""Secrets: a text that does not show itself, where it comes from, and its removal from messages.

Never logs, and never keeps a secret longer than its caller does.
Called by `config`, `auth`, `log` and `model`; depends on nothing of the package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

HIDDEN = "***"


class Secret:
    """A text whose repr and str are `***`; `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Hide `text`."""
        self._text = text

    def reveal(self) -> str:
        """Return the hidden text."""
        return self._text

    def __repr__(self) -> str:
        """Never the text."""
        return HIDDEN

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Equal by text, so that a changed password is noticed by `diff`."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        """Hash by text."""
        return hash(self._text)


class SecretMissing(ValueError):
    """A reference to a secret leads nowhere; the text says what to change."""


def resolve(text: str, *, folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Follow `env:NAME` or `file:PATH`; any other text is the secret itself.

    Args:
        text: what the configuration says.
        folder: relative paths start here.
        environ: the environment; the process's own when None.

    Raises:
        SecretMissing: the variable or file is missing, unreadable or empty.
    """
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        value = (os.environ if environ is None else environ).get(name)
        if not value:
            raise SecretMissing(f"the environment variable {name} is not set or empty")
        return value
    if text.startswith("file:"):
        path = folder / text.removeprefix("file:")
        try:
            value = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SecretMissing(f"cannot read the secret file {path}: {reason}") from None
        # Why: editors and `echo` end a file with a newline that is no part of the password.
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise SecretMissing(f"the secret file {path} is empty")
        return value
    return text


def secret_file(text: str, *, folder: Path) -> Path | None:
    """Return the file that `text` refers to, if it is a `file:` reference."""
    return folder / text.removeprefix("file:") if text.startswith("file:") else None


MYSQL_FORMS = ("native", "sha2", "ed25519")

_FORMS = {
    "scram": re.compile(r"SCRAM-SHA-256\$"),
    "md5": re.compile(r"md5[0-9a-f]{32}\Z"),
    # Spec: what mysql.user holds for mysql_native_password: "*" and SHA1(SHA1(password)).
    "native": re.compile(r"\*[0-9A-Fa-f]{40}\Z"),
    # Spec: for caching_sha2_password: $A$, rounds, $; as text, or in hex as SHOW CREATE USER has it
    # under print_identified_with_as_hex.
    "sha2": re.compile(r"\$A\$[0-9A-F]{3}\$|0x244124"),
    "ed25519": re.compile(r"ed25519\$"),
}


def form(text: str) -> str:
    """Tell in which form a password is: plain, scram, md5, or one of `MYSQL_FORMS`."""
    return next((name for name, pattern in _FORMS.items() if pattern.match(text)), "plain")


# Why: the password of a URL may itself hold `@` or `/` when somebody forgot to encode it, so the
# greedy match runs to the last `@` before white space or a quote.
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@'\"]*):[^\s'\"]*@", re.IGNORECASE)
_KEYWORD = re.compile(
    r"(\b(?:\w*password|passwd|pwd|secret|sslpassword)\b['\"]?\s*[=:]\s*)"
    r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,;&}]+)",
    re.IGNORECASE,
)
_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$[^\s'\",]+|\bmd5[0-9a-fA-F]{32}\b|\*[0-9a-fA-F]{40}\b"
    r"|\$A\$[0-9A-F]{3}\$[^'\"]{63}|\b0x244124[0-9a-fA-F]+|\bed25519\$[A-Za-z0-9+/]{43}"
)
_SQL_PASSWORD = re.compile(
    r"(\b(?:PASSWORD|IDENTIFIED\s+(?:(?:WITH|VIA)\s+\w+\s+)?(?:BY|AS|USING))\s+)(?:[EeUu]?&?'(?:[^'\\]|\\.|'')*'|\$(\w*)\$.*?\$\2\$)",
    re.IGNORECASE | re.DOTALL,
)


def redact(text: str) -> str:
    """Return `text` without passwords: of URLs, of `password=…`, of SQL, verifiers and hashes."""
    text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _VERIFIER.sub(HIDDEN, text)
    text = _SQL_PASSWORD.sub(rf"\1{HIDDEN}", text)
    return _KEYWORD.sub(rf"\1{HIDDEN}", text)
