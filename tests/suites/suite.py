"""One published suite as `suites.toml` describes it.

Pure data; fetches and runs nothing.
Called by every other module here.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Suite:
    """Where a suite comes from, what it needs, and how it is told where the database is."""

    name: str
    title: str
    version: str
    source: dict[str, str]
    requirements: list[str]
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    setup: dict[str, list[str]] = field(default_factory=dict)
    # What stands behind it: postgres or mariadb.
    database: str = "postgres"
    # What runs its tests: pytest, or node, for which each file is one test.
    runner: str = "pytest"
    # MariaDB only: who may log in to maitred, with which password.
    users: dict[str, str] = field(default_factory=dict)
    # MariaDB only: its settings by their names on the command line.
    settings: dict[str, str] = field(default_factory=dict)
    # MariaDB only: where the source keeps the certificate of whom it trusts; replaced by ours.
    trusts: str = ""
    # Files that the suite reads its settings from, by their place in the source.
    files: dict[str, str] = field(default_factory=dict)
    # Extensions that must exist but may be empty.
    stand_ins: list[str] = field(default_factory=list)
    # Beginnings of ids of tests that are left out on a single server.
    two_servers: list[str] = field(default_factory=list)
    # The parts of the source tree that are unpacked; empty: all of it.
    keep: list[str] = field(default_factory=list)

    def pytest_arguments(self, port: int, servers: int = 0) -> list[str]:
        """What pytest is called with; `servers`: how many there are, 0 for as many as one likes."""
        given = [_at(port, each) for each in self.arguments]
        return given + [f"--deselect={each}" for each in self.two_servers if servers == 1]

    def is_tried(self, test: str, servers: int) -> bool:
        return servers != 1 or not test.startswith(tuple(self.two_servers))

    def variables(self, port: int) -> dict[str, str]:
        return {name: _at(port, value) for name, value in self.environment.items()}

    def place_files(self, source: Path, port: int) -> None:
        """Write what the suite reads its settings from into its source."""
        for name, text in self.files.items():
            (source / name).write_text(_at(port, text))

    def takes(self, proxy: str) -> bool:
        """Whether a proxy can stand in front of its database."""
        return proxy != "pgbouncer" or self.database == "postgres"


def _at(port: int, text: str) -> str:
    return text.replace("{port}", str(port))


def all_suites() -> dict[str, Suite]:
    """Every suite by its name, in the order of the file."""
    with (HERE / "suites.toml").open("rb") as file:
        return {name: Suite(name=name, **table) for name, table in tomllib.load(file).items()}
