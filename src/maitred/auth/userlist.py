"""Read PgBouncer's `userlist.txt`: `"user" "password"` a line.

Only the format; what a password means is said by `verifier`.
Called by `store`.
"""

from __future__ import annotations

import re
from pathlib import Path

from maitred.errors import ConfigInvalid, Problem
from maitred.model import Place
from maitred.secret import Secret

# Spec: PgBouncer manual, "Authentication file format": a double quote is doubled inside quotes,
# anything after the second field is ignored.
_LINE = re.compile(r'^\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"')


def read(path: Path) -> dict[str, tuple[Secret, Place]]:
    """Return passwords by user.

    Raises:
        ConfigInvalid: with every line that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        problem = Problem(str(path), None, f"the userlist cannot be read: {error.strerror}")
        raise ConfigInvalid([problem]) from None
    except UnicodeDecodeError:
        raise ConfigInvalid([Problem(str(path), None, "the userlist is not UTF-8 text")]) from None
    users: dict[str, tuple[Secret, Place]] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith((";", "#")):
            continue
        match = _LINE.match(line)
        if not match:
            text = 'write "user" "password", both in double quotes'
            problems.append(Problem(str(path), number, text))
            continue
        name, password = (group.replace('""', '"') for group in match.groups())
        if name in users:
            first = users[name][1].line
            text = f'user "{name}" stands already on line {first}; remove one'
            problems.append(Problem(str(path), number, text))
            continue
        # Why: PgBouncer writes an empty password for users that may not log in with one.
        if password:
            users[name] = (Secret(password), Place(str(path), number))
    if problems:
        raise ConfigInvalid(problems)
    return users
