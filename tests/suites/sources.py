"""Bring a suite's published source and the virtual environment that it runs in.

Takes nothing but the pinned version: a tarball by its sha256, a repository by its commit.
Called by `run`, once per suite; what was brought stays in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from suites.suite import Suite

ROOT = Path(__file__).parents[2]
_READY = "complete"


class SourceError(Exception):
    """A source could not be had, or is not the pinned one; the text says what to do."""


def bring(suite: Suite, cache: Path, offered: Path | None) -> Path:
    """The unpacked source of `suite`.

    A suite of node's has its dependencies installed into it, as its own lock file pins them.

    Args:
        cache: Where it is kept between runs.
        offered: A folder with tarballs (`asyncpg-0.32.0.tar.gz`) and bare git repositories
            (`psycopg/psycopg`, `psycopg+psycopg/repo` or `psycopg.git`), looked at first.

    Raises:
        SourceError: Not to be had, or another than the pinned one.
    """
    if "folder" in suite.source:
        return ROOT / suite.source["folder"]
    folder = cache / f"{suite.name}-{suite.version}"
    if not (folder / _READY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if "sdist" in suite.source:
            _unpack(_tarball(suite, cache, offered), folder, suite.keep)
        else:
            _check_out(suite, folder, offered)
        if suite.runner == "node":
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
        (folder / _READY).touch()
    return folder


def environment(suite: Suite, cache: Path) -> Path:
    """The python of the suite's virtual environment, made when its requirements have changed."""
    if not suite.requirements:
        return Path(sys.executable)
    folder = cache / f"venv-{suite.name}"
    python, wanted = folder / "bin/python", "\n".join(suite.requirements)
    made = folder / "requirements.txt"
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        # Why not ours: the lock of this repository pins other versions of the same packages.
        free = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        _run([str(python), "-m", "pip", "install", "--quiet", *suite.requirements], env=free)
        made.write_text(wanted)
    return python


def _tarball(suite: Suite, cache: Path, offered: Path | None) -> Path:
    name = f"{suite.source['sdist']}-{suite.version}.tar.gz"
    found = offered / name if offered and (offered / name).exists() else cache / name
    if not found.exists():
        package = f"{suite.source['sdist']}=={suite.version}"
        free = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        _run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--no-binary", ":all:", "--dest", str(cache), package],
            env=free,
        )  # fmt: skip
    seen = hashlib.sha256(found.read_bytes()).hexdigest()
    if seen != suite.source["sha256"]:
        raise SourceError(
            f"{found} has sha256 {seen}, suites.toml wants {suite.source['sha256']}: remove it"
        )
    return found


def _unpack(tarball: Path, folder: Path, keep: list[str]) -> None:
    with tarfile.open(tarball) as archive:
        for member in archive.getmembers():
            _, _, inner = member.name.partition("/")
            if inner and (not keep or inner.split("/")[0] in keep):
                member.name = inner
                archive.extract(member, folder, filter="data")


def _check_out(suite: Suite, folder: Path, offered: Path | None) -> None:
    commit, url = suite.source["commit"], suite.source["git"]
    repository = _offered_repository(url, offered)
    if repository is None:
        repository = folder / ".git"
        _run(["git", "init", "--quiet", "--bare", str(repository)])
        _run(["git", f"--git-dir={repository}", "fetch", "--quiet", "--depth=1", url, commit])
    archived = subprocess.run(
        ["git", f"--git-dir={repository}", "archive", "--format=tar", commit],
        capture_output=True, check=False,
    )  # fmt: skip
    if archived.returncode:
        raise SourceError(
            f"{repository} does not hold {commit} ({suite.title} {suite.version}):"
            f" {archived.stderr.decode().strip()}"
        )
    _run(["tar", "-x", "-C", str(folder)], input=archived.stdout)


def _offered_repository(url: str, offered: Path | None) -> Path | None:
    owner, name = url.rstrip("/").split("/")[-2:]
    for guess in (f"{owner}/{name}", f"{owner}+{name}/repo", f"{name}.git", name):
        if offered and (offered / guess).is_dir():
            return offered / guess
    return None


def _run(command: list[str], **options: object) -> None:
    done = subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise SourceError(f"{' '.join(command)} failed: {said[-1000:]}")
