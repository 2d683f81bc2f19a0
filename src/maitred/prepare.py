"""From where a configuration is to what the engine takes: load, gather users, number.

Starts nothing and changes nothing; `check` is this and no more.
Called by `revisions` and `cli`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maitred.auth.store import Directory, Verifiers, gather
from maitred.config import load, snapshot
from maitred.config.load import Layer
from maitred.health import greeting
from maitred.model import Config


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration is: a file, or one database's URL, with what wins over it."""

    file: Path | None = None
    url: str | None = None
    layers: tuple[Layer, ...] = ()

    def under(self, layer: Layer) -> Source:
        """Return the same source with `layer` on top."""
        return replace(self, layers=(*self.layers, layer))

    def __str__(self) -> str:
        """Name it for logs, without secrets."""
        return str(self.file) if self.file else "the URL of the command line"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked configuration with its users."""

    config: Config
    directory: Directory

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but may surprise."""
        return (*self.config.warnings, *self.directory.warnings)

    def snapshot(
        self, number: int, disabled: Collection[str] = (), *, mysql_version: str = greeting.UNKNOWN
    ) -> dict[str, Any]:
        """Return what the engine takes."""
        return snapshot.build(
            self.config,
            self.directory.listed,
            number=number,
            ask_unknown=self.directory.ask_unknown,
            disabled=disabled,
            mysql_version=mysql_version,
        )


def prepare(source: Source, verifiers: Verifiers) -> Prepared:
    """Read and check everything; may take some milliseconds per plain password.

    Raises:
        ConfigInvalid: with every problem found.
    """
    if source.file is not None:
        config = load.from_file(source.file, source.layers)
    else:
        config = load.from_url(source.url or "", source.layers)
    return Prepared(config, gather(config, verifiers))
