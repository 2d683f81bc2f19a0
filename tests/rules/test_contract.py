"""The native module is what its stub promises, and all parts have one version.

Needs the built module; starts nothing. Run by pytest.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import maitred
from maitred import _engine

ROOT = Path(__file__).parents[2]
STUB = ast.parse((ROOT / "src/maitred/_engine.pyi").read_text())
ENGINE = next(one for one in STUB.body if isinstance(one, ast.ClassDef) and one.name == "Engine")
METHODS = [one for one in ENGINE.body if isinstance(one, ast.FunctionDef)]


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_a_method_of_the_stub_is_in_the_module(method: ast.FunctionDef) -> None:
    found = getattr(_engine.Engine, method.name)
    is_property = any(
        isinstance(one, ast.Name) and one.id == "property" for one in method.decorator_list
    )
    if is_property or method.name == "__init__":
        return
    text = getattr(found, "__text_signature__", None)
    assert text, f"{method.name} tells no signature"
    names = [one for one in re.findall(r"\w+", re.sub(r"=[^,)]+", "", text)) if one != "self"]
    assert names == [one.arg for one in method.args.args if one.arg != "self"]


def test_nothing_is_in_the_module_that_the_stub_does_not_promise() -> None:
    promised = {method.name for method in METHODS}
    found = {name for name in vars(_engine.Engine) if not name.startswith("__")}
    assert found <= promised


def test_errors_are_exceptions() -> None:
    assert issubclass(_engine.EngineError, Exception)


def test_all_parts_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cargo = tomllib.loads((ROOT / "engine/Cargo.toml").read_text())["workspace"]["package"][
        "version"
    ]
    assert project == cargo == maitred.__version__ == _engine.__version__
