"""Cut console text into words and statements, the way SQL quotes them.

Knows no command. A word in double or single quotes is taken as it stands.
Called by `console`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maitred.errors import ConsoleSyntax

_TOKEN = re.compile(
    r"""\s+ | --[^\n]* | /\*.*?\*/
      | (?P<single>'(?:[^']|'')*') | (?P<double>"(?:[^"]|"")*")
      | (?P<sign>[;=(),]) | (?P<word>[^\s;=(),'"]+) | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word; `quoted` ones are never keywords."""

    text: str
    quoted: bool = False


def statements(text: str) -> list[list[Word]]:
    """Cut `text` at its semicolons; empty statements are left out.

    Raises:
        ConsoleSyntax: a quote is not closed.
    """
    found: list[list[Word]] = [[]]
    for match in _TOKEN.finditer(text):
        sort, piece = match.lastgroup, match[0]
        if sort is None:
            continue
        if sort == "bad":
            raise ConsoleSyntax(
                f"the quote {piece} is not closed", hint="Close it, or leave it out."
            )
        if sort == "sign" and piece == ";":
            found.append([])
        elif sort in ("single", "double"):
            inner = piece[1:-1].replace(piece[0] * 2, piece[0])
            found[-1].append(Word(inner, quoted=True))
        else:
            found[-1].append(Word(piece))
    return [words for words in found if words]
