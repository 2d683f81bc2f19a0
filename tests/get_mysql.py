"""Fetches a MySQL server for the tests: Debian unstable's packages, unpacked into a folder.

Installs nothing and needs no rights: stable Debian carries MariaDB alone, so the packages that
`mysql-server-core` needs, its C library among them, lie beside each other in a root of their own.
Called by `make mysql`: `python tests/get_mysql.py FOLDER`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = "mysql-server-core"
SUITE = "sid"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def mirror() -> str:
    """The Debian archive that this machine's own apt uses.

    Raises:
        SystemExit: there is none.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        sys.exit("get_mysql: needs Debian's apt-get and dpkg-deb")
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)",
         "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for line in told.splitlines():
        origin, codename, address = line.split("|", 2)
        if origin == "Debian" and "-" not in codename:
            return address
    sys.exit("get_mysql: apt knows no Debian archive here; run apt-get update first")


def fetch(folder: Path) -> Path:
    """Download the packages and unpack them; the folder they are unpacked in."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("state/lists/partial", "cache/archives/partial", "root.new"):
        (folder / part).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYS}] {mirror()} {SUITE} main\n")
    settings = folder / "apt.conf"
    settings.write_text(
        f'Dir::State "{folder}/state";\n'
        # Why: as if nothing were installed, so that everything that it needs is fetched.
        'Dir::State::status "/dev/null";\n'
        f'Dir::Cache "{folder}/cache";\n'
        f'Dir::Etc::SourceList "{sources}";\n'
        'Dir::Etc::SourceParts "/dev/null";\n'
        'Dir::Etc::Preferences "/dev/null";\n'
        'Dir::Etc::PreferencesParts "/dev/null";\n'
        'Acquire::Languages "none";\n'
        'APT::Sandbox::User "";\n'
        'Debug::NoLocking "true";\n'
    )
    told = os.environ | {"APT_CONFIG": str(settings)}
    for action in (
        ["update"],
        ["install", "-y", "--download-only", "--no-install-recommends", PACKAGE],
    ):
        subprocess.run(["apt-get", "-q", *action], env=told, check=True)
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root.new")], check=True)
    for rest in ("cache", "state"):
        shutil.rmtree(folder / rest)
    # Why last: a root of that name is a whole one.
    return (folder / "root.new").rename(folder / "root")


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1]).resolve()))
