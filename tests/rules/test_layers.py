"""The layer rule of the Python side: who may import whom.

Reads source as text and runs none of it. Run by pytest; the rule itself is in ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "maitred"

BOTTOM = {"model", "errors", "secret", "event", "log"}
BOXES = {"config", "auth", "routing", "health", "admin", "gateway", "metrics", "apptier"}
TOP = {"supervisor", "revisions", "prepare", "report", "watch"}
DOORS = {"cli", "reference", "demo", "doctor", "__main__", "__init__"}
SIDEWAYS = {("gateway", "apptier")}

MODULES = sorted(path for path in SOURCE.rglob("*.py") if "__pycache__" not in path.parts)


def box(name: str) -> str:
    """The first word below `maitred` of a dotted name; `__init__` for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[str]:
    """Dotted names below `maitred` that a module imports, anywhere in it."""
    package = ["maitred", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("maitred"))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "maitred":
                yield from (_of_package(alias.name) for alias in node.names)
            elif module.startswith("maitred."):
                yield module


def _of_package(name: str) -> str:
    is_module = (SOURCE / f"{name}.py").exists() or (SOURCE / name).is_dir()
    return f"maitred.{name}" if is_module or name == "_engine" else "maitred"


def may(user: str, used: str) -> bool:
    """The rule."""
    if used in (user, "__init__") or user in DOORS:
        return True
    if user in BOTTOM:
        return used in BOTTOM
    if user == "engine":
        return used in BOTTOM
    if user in BOXES:
        return used in BOTTOM | {"engine"} or (user, used) in SIDEWAYS
    return user in TOP and used in BOTTOM | BOXES | TOP | {"engine"}


def test_the_walk_found_the_modules() -> None:
    found = {path.relative_to(SOURCE).as_posix() for path in MODULES}
    assert {"supervisor.py", "config/schema.py", "engine.py"} <= found
    assert {"maitred.auth.store", "maitred.config"} <= set(imports(SOURCE / "prepare.py"))
    assert "maitred._engine" in set(imports(SOURCE / "engine.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    user = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert user in BOTTOM | BOXES | TOP | DOORS | {"engine"}, f"{user} has no place in the layers"
    for name in imports(path):
        if box(name) == "_engine":
            assert path == SOURCE / "engine.py", "only engine.py may import the native module"
            continue
        assert may(user, box(name)), f"{user} may not import {name}"


def test_the_rule_can_fail() -> None:
    assert not may("config", "auth")
    assert not may("model", "config")
    assert not may("engine", "supervisor")
    assert not may("apptier", "gateway")
    assert may("gateway", "apptier")
