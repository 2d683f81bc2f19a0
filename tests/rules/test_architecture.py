"""The promises of the engine's shape: six files for a query, neutral words, where unsafe may be.

Reads source as text. Run by pytest.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WALK = [
    "engine/reactor/src/worker.rs",
    "engine/relay/src/client.rs",
    "engine/wire/src/postgres/intent.rs",
    "engine/relay/src/pool.rs",
    "engine/relay/src/server.rs",
    "engine/wire/src/postgres/progress.rs",
]


def _walk_section() -> str:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found = re.search(r"^## [^\n]*six files[^\n]*\n(.*?)(?=^## |\Z)", text, re.S | re.M | re.I)
    assert found, 'ARCHITECTURE.md has no section "… six files"'
    return found[1]


def test_the_walk_names_exactly_its_six_files_in_order() -> None:
    named = re.findall(r"engine/[\w/]+\.rs", _walk_section())
    assert list(dict.fromkeys(named)) == WALK


@pytest.mark.parametrize("name", WALK)
def test_a_file_of_the_walk_exists(name: str) -> None:
    assert (ROOT / name).is_file()


def _code(path: Path) -> str:
    """Rust without comments and without the tests at its foot."""
    text = path.read_text().partition("#[cfg(test)]")[0]
    return re.sub(r"//[^\n]*", "", text)


def _rust(*crates: str) -> list[Path]:
    """Sources of `crates`, without the simulator, which is compiled for tests alone."""
    found = [path for crate in crates for path in (ROOT / "engine" / crate / "src").rglob("*.rs")]
    return sorted(path for path in found if "sim" not in (path.stem, *path.parent.parts))


def test_the_simulator_is_compiled_for_tests_alone() -> None:
    text = (ROOT / "engine/relay/src/lib.rs").read_text()
    assert re.search(r"#\[cfg\((any\()?test[^\n]*\]\n(?:pub )?mod sim;", text)
    for crate in ("reactor", "binding"):
        manifest = (ROOT / "engine" / crate / "Cargo.toml").read_text().partition("[dev-")[0]
        assert '"sim"' not in manifest


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", _rust("relay", "reactor"), ids=_name)
def test_relay_and_reactor_do_not_know_the_dialect(path: Path) -> None:
    # Why: choosing a dialect by its name in the neutral enum is not speaking it, nor is reading a
    # setting that bears its name.
    code = re.sub(r"\b(Dialect|Method|MysqlMethod)::\w+", "", _code(path))
    code = re.sub(r"\b(MysqlMethod|mysql_(method|version|native|sha2|ed25519))\b", "", code)
    if path.name == "snapshot.rs":
        code = re.sub(r'rename = "\w+"', "", code)
    found = re.search(r"postgres|mysql", code, re.IGNORECASE)
    assert not found, f"{found and found[0]!r}: a dialect's words belong into wire"


@pytest.mark.parametrize("path", _rust("wire", "relay", "binding"), ids=_name)
def test_only_the_reactor_has_unsafe_code(path: Path) -> None:
    assert not re.search(r"\bunsafe\s*(\{|fn|impl)", _code(path))


@pytest.mark.parametrize("path", _rust("reactor"), ids=_name)
def test_unsafe_code_says_why_it_is_safe(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.search(r"\bunsafe\s*(\{|impl)", line.partition("//")[0]):
            before = "\n".join(lines[max(0, number - 6) : number + 1])
            assert "SAFETY:" in before, f"line {number + 1}: write // SAFETY: above it"


@pytest.mark.parametrize("path", _rust("wire", "relay"), ids=_name)
def test_wire_and_relay_touch_neither_clock_nor_socket(path: Path) -> None:
    banned = (
        r"std::net::(Tcp|Udp|ToSocket)|std::thread|std::fs|Instant::now|SystemTime|std::os::fd|pyo3"
    )
    found = re.search(banned, _code(path))
    assert not found, f"{found and found[0]}: time and bytes are arguments here"
