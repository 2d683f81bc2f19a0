"""The snapshot and the settings have exactly the fields of the engine's structs.

Reads the Rust source as text. Run by pytest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maitred.auth.store import Verifiers
from maitred.config.load import Layer
from maitred.config.schema import LIMITS, LISTEN, POOL, SETTINGS
from maitred.config.setting import STATE_KINDS, Scope
from maitred.prepare import Source, prepare

SNAPSHOT = Path(__file__).parents[2] / "engine/relay/src/snapshot.rs"
EFFECTS = Path(__file__).parents[2] / "engine/wire/src/effects.rs"
TEXT = """\
[listen]
postgres = ["127.0.0.1:6432", "unix:/tmp:6432"]
[tls.client]
mode = "require"
certificate = "pair.crt"
key = "pair.key"
[databases.shop]
url = "postgres://app:x@db1/shop?sslmode=require&sslrootcert=pair.crt"
parameters.search_path = "a"
[users.a]
password = "x"
"""


def rust_fields(name: str) -> set[str]:
    """The fields of a struct in snapshot.rs."""
    found = re.search(rf"pub struct {name} \{{(.*?)\n\}}", SNAPSHOT.read_text(), re.DOTALL)
    assert found, f"snapshot.rs has no struct {name}"
    return set(re.findall(r"^    pub (\w+):", found[1], re.MULTILINE))


@pytest.fixture
def snapshot(tmp_path: Path, make_pair: Callable[..., None]) -> dict[str, Any]:
    make_pair(tmp_path, "pair")
    (tmp_path / "maitred.toml").write_text(TEXT)
    return prepare(Source(file=tmp_path / "maitred.toml"), Verifiers()).snapshot(7)


@pytest.mark.parametrize(
    ("struct", "path"),
    [
        ("Snapshot", ()),
        ("Listener", ("listeners", 0)),
        ("ClientTls", ("client_tls",)),
        ("Endpoint", ("endpoints", 0)),
        ("ServerTls", ("endpoints", 0, "tls")),
        ("Database", ("databases", 0)),
        ("PoolSettings", ("databases", 0, "pool")),
        ("User", ("users", 0)),
        ("Auth", ("auth",)),
        ("Limits", ("limits",)),
    ],
)
def test_every_field_of_the_struct_is_there(
    snapshot: dict[str, Any], struct: str, path: tuple[str | int, ...]
) -> None:
    part: Any = snapshot
    for step in path:
        part = part[step]
    assert set(part) == rust_fields(struct)


def test_kinds_of_state_are_the_words_of_the_engine() -> None:
    known = set(
        re.findall(r'^        \(Self::\w+, "([a-z ]+)"\),$', EFFECTS.read_text(), re.MULTILINE)
    )
    # Nobody can say beforehand that a function leaves too much.
    assert set(STATE_KINDS) - {"any setting"} == known - {"too much state"}
    assert set(SETTINGS["pool.pin_ignore"].choices) <= known


def rust_words(name: str, convention: str) -> set[str]:
    """The words of an enum, as serde spells its variants by `convention`."""
    text = SNAPSHOT.read_text()
    found = re.search(
        rf'rename_all = "{convention}"\)\]\npub enum {name} \{{(.*?)\n\}}', text, re.DOTALL
    )
    assert found, f"snapshot.rs has no enum {name} in {convention}"
    variants = re.findall(r"^    (\w+),", found[1], re.MULTILINE)
    joint = "-" if convention == "kebab-case" else ""
    return {re.sub(r"(?<=.)(?=[A-Z])", joint, one).lower() for one in variants}


@pytest.mark.parametrize(
    ("name", "enum", "convention"),
    [
        ("tls.client.mode", "SslMode", "kebab-case"),
        ("tls.server.mode", "SslMode", "kebab-case"),
        ("pool.mode", "PoolMode", "lowercase"),
        ("pool.when_down", "WhenDown", "lowercase"),
        ("pool.pinning", "Pinning", "lowercase"),
        ("pool.sequences", "SequenceScope", "lowercase"),
    ],
)
def test_choices_are_the_words_of_the_engine(name: str, enum: str, convention: str) -> None:
    assert set(SETTINGS[name].choices) == rust_words(enum, convention)


@pytest.mark.parametrize("method", SETTINGS["auth.method"].choices)
def test_a_method_arrives_in_the_engines_word(
    method: str, tmp_path: Path, make_pair: Callable[..., None]
) -> None:
    text = TEXT.replace('"require"', '"verify-full"\nca = "pair.crt"', 1)
    make_pair(tmp_path, "pair")
    (tmp_path / "maitred.toml").write_text(f'auth.method = "{method}"\n{text}')
    prepared = prepare(Source(file=tmp_path / "maitred.toml"), Verifiers())
    assert prepared.snapshot(1)["auth"]["method"] in rust_words("AuthMethod", "kebab-case")


def test_methods_of_mysql_are_the_words_of_the_engine() -> None:
    found = re.search(r"pub enum MysqlMethod \{(.*?)\n\}", SNAPSHOT.read_text(), re.DOTALL)
    assert found
    renamed = re.findall(r'rename = "(\w+)"\)\]\n    \w+,', found[1])
    plain = [one.lower() for one in re.findall(r"(?<!\]\n)^    (\w+),", found[1], re.MULTILINE)]
    assert set(SETTINGS["auth.mysql_method"].choices) == {*renamed, *plain}


def test_both_dialects_arrive_from_one_file(tmp_path: Path) -> None:
    (tmp_path / "maitred.toml").write_text(
        "[databases.shop]\nurl = 'postgres://a:b@db1/shop'\n"
        "[databases.till]\nurl = 'mysql://a:b@db2/till'\n[users.a]\npassword = 'b'\n"
    )
    prepared = prepare(Source(file=tmp_path / "maitred.toml"), Verifiers())
    snapshot = prepared.snapshot(1, mysql_version="8.4.0")
    assert [one["dialect"] for one in snapshot["listeners"]] == ["postgres", "mysql"]
    assert [one["dialect"] for one in snapshot["endpoints"]] == ["postgres", "mysql"]
    assert snapshot["endpoints"][1]["address"] == {"tcp": {"host": "db2", "port": 3306}}
    assert snapshot["limits"]["mysql_version"] == "8.4.0"


def test_values_arrive(snapshot: dict[str, Any], tmp_path: Path) -> None:
    assert snapshot["number"] == 7
    assert [one["address"] for one in snapshot["listeners"]] == [
        {"tcp": {"host": "127.0.0.1", "port": 6432}},
        {"unix": {"path": "/tmp/.s.PGSQL.6432"}},
    ]
    assert snapshot["client_tls"]["key_pem"] == (tmp_path / "pair.key").read_text()
    assert snapshot["databases"][0]["parameters"] == [["search_path", "a"]]
    # Spec: libpq, "require" with a root certificate behaves as "verify-ca".
    assert snapshot["endpoints"][0]["tls"]["mode"] == "verify-ca"
    assert snapshot["endpoints"][0]["tls"]["ca_pem"] == (tmp_path / "pair.crt").read_text()


def test_a_disabled_database_is_marked() -> None:
    prepared = prepare(Source(url="postgres://a:b@h/x"), Verifiers())
    assert prepared.snapshot(1)["databases"][0]["disabled"] is False
    assert prepared.snapshot(2, {"x"})["databases"][0]["disabled"] is True


def test_layers_reach_the_snapshot() -> None:
    layer = Layer("console", {("pool", "size"): 3})
    prepared = prepare(Source(url="postgres://a:b@h/x").under(layer), Verifiers())
    assert prepared.snapshot(1)["databases"][0]["pool"]["size"] == 3


def test_every_pool_setting_of_the_engine_has_a_row() -> None:
    assert {one.field for one in POOL} == rust_fields("PoolSettings")


def test_every_limit_of_the_engine_has_a_row() -> None:
    rows = {one.field for one in (*LIMITS, *LISTEN) if one.field}
    assert rows - {"proxy_protocol", "unix_mode"} == rust_fields("Limits")


def test_what_a_user_may_set_is_what_the_engine_takes_from_users() -> None:
    of_users = {one.field for one in POOL if Scope.USER in one.scopes}
    assert of_users == rust_fields("PoolOverrides")
