"""The command line: exit statuses, and what `serve`'s arguments mean.

Nothing is started. Run by pytest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from maitred import cli
from maitred.auth.store import Verifiers
from maitred.config.schema import SETTINGS
from maitred.errors import ConfigInvalid
from maitred.prepare import Source, prepare

TEXT = "[databases.shop]\nurl = 'postgres://a:hush@h/x'\n[users.a]\npassword = 'hush'\n"


def serve(*arguments: str) -> Source:
    return cli.source_of(cli.parser().parse_args(["serve", *arguments]))


def test_serve_takes_a_url() -> None:
    assert serve("postgres://h/x") == Source(url="postgres://h/x")


def test_serve_takes_a_file_and_what_wins_over_it() -> None:
    source = serve(
        "-c", "x.toml", "--listen", "a:1", "--listen", "b:2", "--admin", "", "--workers", "2",
        "--backend", "epoll", "--log-format", "json", "--log-level", "debug",
    )  # fmt: skip
    assert source.file == Path("x.toml")
    assert source.layers[0].values == {
        ("listen", "postgres"): ["a:1", "b:2"],
        ("listen", "admin"): "",
        ("engine", "workers"): 2,
        ("engine", "backend"): "epoll",
        ("log", "format"): "json",
        ("log", "level"): "debug",
    }


@pytest.mark.parametrize("arguments", [[], ["postgres://h/x", "-c", "x.toml"]])
def test_serve_wants_one_of_url_and_file(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", *arguments]) == 2
    assert "either a URL or -c FILE" in capsys.readouterr().err


def test_serve_with_a_bad_argument_tells_it() -> None:
    with pytest.raises(ConfigInvalid, match=r"command line: engine\.workers must be a whole"):
        prepare(serve("postgres://a:hush@h/x", "--workers", "many"), Verifiers())


def test_check_of_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "maitred.toml"
    path.write_text(TEXT)
    assert cli.main(["check", "-c", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: good; 1 database\n"


def test_check_lists_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "maitred.toml"
    path.write_text("pool.size = 0\npool.mod = 1\n" + TEXT)
    assert cli.main(["check", "-c", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:1", f"{path}:2"]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m maitred config | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in {"141", "0"}


def test_check_shows_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "maitred.toml"
    path.write_text("pool.size = 30\n" + TEXT)
    assert cli.main(["check", "--show", "-c", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"pool.size = 30  # {path}:1\n" in out
    assert "pool.mode = transaction\n" in out
    assert "hush" not in out


def test_config_prints_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config"]) == 0
    out = capsys.readouterr().out
    for name in SETTINGS:
        assert f"`{name}`" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("maitred ")


@pytest.mark.parametrize("arguments", [[], ["frob"], ["check"], ["serve", "--backend", "x"]])
def test_bad_usage_ends_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
