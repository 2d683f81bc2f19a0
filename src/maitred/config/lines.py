"""Find the line on which a TOML key was written; tomllib tells values but not places.

Not a parser: it is only asked about text that tomllib has accepted, and answers with lines.
Called by `load`.
"""

from __future__ import annotations

import re

KeyPath = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LITERAL = re.compile(r"'([^']*)'")


class Lines:
    """Lines of keys, by path."""

    def __init__(self, text: str) -> None:
        """Scan `text`, which must be valid TOML."""
        self._lines: dict[KeyPath, int] = {}
        self._scan(text)

    def find(self, path: KeyPath) -> int | None:
        """Return the line of `path`, or of the nearest table or inline table around it."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    def _note(self, path: KeyPath, line: int) -> None:
        # Why: a dotted key may open a table; the first mention is what people look for.
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _scan(self, text: str) -> None:
        table: KeyPath = ()
        position, line = 0, 1
        while position < len(text):
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            stripped = text[position:end].strip()
            if stripped.startswith("["):
                table = _keys(stripped.lstrip("["), 0)[0]
                self._lines[table] = line
            elif stripped and not stripped.startswith("#"):
                start = position + (len(text[position:end]) - len(text[position:end].lstrip()))
                path, value_at = _keys(text, start)
                self._note(table + path, line)
                end = _value_end(text, value_at)
            line += text.count("\n", position, end) + 1
            position = end + 1


def _keys(text: str, position: int) -> tuple[KeyPath, int]:
    """Read a dotted key; return it and where it ends."""
    path: list[str] = []
    while True:
        while text[position : position + 1] in (" ", "\t"):
            position += 1
        for pattern in (_BARE, _BASIC, _LITERAL):
            match = pattern.match(text, position)
            if match:
                break
        else:
            return tuple(path), position
        word = match[1] if match.re is not _BARE else match[0]
        path.append(_unescape(word) if match.re is _BASIC else word)
        position = match.end()
        while text[position : position + 1] in (" ", "\t"):
            position += 1
        if text[position : position + 1] != ".":
            return tuple(path), position
        position += 1


def _unescape(word: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "uU":
            return chr(int(code[1:], 16))
        return {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}.get(code, code)

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", character, word)


_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?!")|\'\'\'.*?\'\'\'(?!\')|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]|\n',
    re.DOTALL,
)


def _value_end(text: str, position: int) -> int:
    """Return where the newline after the value is: outside all quotes and brackets."""
    depth = 0
    for match in _TOKEN.finditer(text, position):
        sign = match[0]
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "\n" and depth == 0:
            return match.start()
    return len(text)
