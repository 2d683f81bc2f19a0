"""Files and URLs to configurations, and every mistake with its line.

Files are written to pytest's folder; nothing else is touched. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maitred.config import load
from maitred.config.load import Layer
from maitred.errors import ConfigInvalid
from maitred.model import Address, Config, Listener

GOOD = """\
[databases.shop]
url = "postgres://app:secret@db1:5432/shop"
[users.app]
password = "hello"
"""

MYSQL = GOOD.replace("postgres://app:secret@db1:5432", "mysql://app:secret@db1:3306")

Read = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str, *layers: Layer) -> Config:
        path = tmp_path / "maitred.toml"
        path.write_text(text)
        return load.from_file(path, layers)

    return read


def problems(read: Read, text: str, *layers: Layer) -> list[tuple[int | None, str]]:
    with pytest.raises(ConfigInvalid) as refused:
        read(text, *layers)
    return [(problem.line, problem.text) for problem in refused.value.problems]


def only(read: Read, text: str) -> tuple[int | None, str]:
    found = problems(read, text)
    assert len(found) == 1, found
    return found[0]


def test_a_short_file_is_enough(read: Read) -> None:
    config = read(GOOD)
    assert config.listeners == (Listener("postgres", Address(host="127.0.0.1", port=6432)),)
    assert config.admin == Address(host="127.0.0.1", port=9127)
    database = config.databases[0]
    assert (database.name, database.remote_name, database.user) == ("shop", "shop", "app")
    assert database.password is not None
    assert database.password.reveal() == "secret"
    assert database.pool["size"] == 20
    assert config.endpoints[0].name == "db1:5432"
    assert config.endpoints[0].tls.mode == "prefer"


def test_the_nearest_value_wins(read: Read) -> None:
    config = read(
        "pool.size = 7\npool.mode = 'session'\n"
        + GOOD
        + "pool.mode = 'statement'\n[databases.other]\nurl = 'postgres://db1/o'\npool.size = 9\n"
    )
    shop, other = config.databases
    assert (shop.pool["size"], other.pool["size"]) == (7, 9)
    assert shop.pool["mode"] == other.pool["mode"] == "session"
    assert dict(config.users[0].pool) == {"mode": "statement"}


def test_functions_with_state_are_named_for_all_or_for_one_database(read: Read) -> None:
    config = read(
        "[pool.stateful_functions]\n'app.login' = ['app.tenant', 'role']\ntake = 'advisory lock'\n"
        + GOOD.replace("[users.app]", "[databases.shop.pool.stateful_functions]\n"
        "take = 'any setting'\napp.other = ['work_mem']\n[users.app]")
        + "[databases.plain]\nurl = 'postgres://db1/plain'\n"
    )  # fmt: skip
    shop, plain = config.databases
    login = ("app.login", ("app.tenant", "role"))
    assert plain.stateful_functions == (login, ("take", ("advisory lock",)))
    own = (login, ("take", ("any setting",)), ("app.other", ("work_mem",)))
    assert shop.stateful_functions == own
    shown = {one.name: one.value for one in config.effective}
    assert shown["pool.stateful_functions.take"] == "advisory lock"
    assert shown["databases.shop.pool.stateful_functions.app.other"] == "work_mem"
    assert not any("FUNCTION" in name for name in shown)


@pytest.mark.parametrize("value", ["['a lock']", "[]", "5", "['app.']"])
def test_what_a_function_touches_must_be_known(read: Read, value: str) -> None:
    line, text = only(read, f"[pool.stateful_functions]\ntake = {value}\n" + GOOD)
    assert line == 2
    assert text.startswith("pool.stateful_functions.take must")


def test_tables_with_state_are_named_as_functions_are(read: Read) -> None:
    config = read(
        "[pool.stateful_tables]\n'*' = 'routine'\n"
        + GOOD.replace("[users.app]", "[databases.shop.pool.stateful_tables]\n"
        "'shop.orders' = ['routine', 'user variable']\n[users.app]")
        + "[databases.plain]\nurl = 'postgres://db1/plain'\n"
    )  # fmt: skip
    shop, plain = config.databases
    assert plain.stateful_tables == (("*", ("routine",)),)
    own = ("shop.orders", ("routine", "user variable"))
    assert shop.stateful_tables == (("*", ("routine",)), own)
    assert not shop.stateful_functions
    shown = {one.name: one.value for one in config.effective}
    assert shown["pool.stateful_tables.*"] == "routine"
    assert shown["databases.shop.pool.stateful_tables.shop.orders"] == "routine, user variable"
    assert not any("TABLE" in name for name in shown)


def test_functions_belong_to_no_user(read: Read) -> None:
    _, text = only(read, GOOD + "pool.stateful_functions.take = ['role']\n")
    assert "users.app.pool.stateful_functions.take" in text


def test_layers_win_over_the_file(read: Read) -> None:
    config = read("[pool]\nsize = 7\n" + GOOD, Layer("here", {("pool", "size"): 8}))
    assert config.databases[0].pool["size"] == 8


def test_a_problem_in_a_layer_names_its_origin(read: Read) -> None:
    layer = Layer("console", {("pool", "size"): 0})
    with pytest.raises(ConfigInvalid, match=r"^console: pool\.size must be at least 1"):
        read(GOOD, layer)


def test_all_mistakes_are_told_at_once_with_their_lines(read: Read) -> None:
    found = problems(
        read,
        """\
[listen]
mysql = "127.0.0.1:6033"
http = "127.0.0.1:8080"
[pool]
sise = 3
queue_timeout = 30
[databases.shop]
url = "postgres://db1/shop?sslmode=maybe"
pool.min_size = 50
[databases.none]
[users.app]
pool.when_down = "fail"
password = "x"
[limits.clients]
x = 1
""",
    )
    assert [line for line, _ in found] == [3, 5, 6, 8, 9, 10, 12, 15]
    texts = " | ".join(text for _, text in found)
    for told in (
        "listen.http cannot be used",
        "did you mean pool.size?",
        'write "30s"',
        "sslmode=maybe",
        "pool.min_size (50) is more than pool.size (20)",
        "databases.none has no url",
        "cannot be set here; pool.when_down can be set for all or [databases.NAME]",
    ):
        assert told in texts


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", None, "names no database"),
        ("pool = 5\n" + GOOD, 1, "is a section: write [pool]"),
        ("databases = 5\n", 1, "must hold sections"),
        ("[databases]\nshop = 'postgres://h/x'\n[users.a]\npassword='x'", 2, "must be a section"),
        ("[nonsense]\nx = 1\n" + GOOD, 2, "nonsense.x is not a setting"),
        ("[pool\n", 1, "not valid TOML"),
        ("x = 1\nx = 2\n", 2, "not valid TOML"),
        (GOOD.replace("hello", "md5" + "0" * 32), 4, "scram-sha-256 cannot be spoken"),
        (GOOD.replace("hello", "env:MAITRED_NOT_THERE"), 4, "MAITRED_NOT_THERE is not set"),
        (GOOD.replace("hello", "file:none.txt"), 4, "No such file"),
        ("[databases.maitred]\nurl = 'postgres://h/x'\n" + GOOD, 1, "name of the console"),
        ("[listen]\nadmin = '127.0.0.1:6432'\n" + GOOD, 2, "which listen.postgres has already"),
        ("[listen]\npostgres = []\n" + GOOD, 2, "names no address"),
        ("[listen]\npostgres = ['a:1', 'a:1']\n" + GOOD, 2, "twice"),
        ("[listen]\npostgres = 'db1:5432'\n" + GOOD, 4, "where maitred itself listens"),
        ("[tls.client]\nmode='verify-full'\ncertificate='a'\nkey='b'\n" + GOOD, 2, "tls.client.ca"),
        ("[auth]\nmethod = 'cert'\n" + GOOD, 2, "needs tls.client.mode"),
        ("[tls.client]\ncertificate = 'x'\n" + GOOD, 2, "has no effect"),
        ("[pool]\nlogin_retry = '10s'\n" + GOOD, 2, "is more than pool.login_retry_max"),
        (GOOD + "[endpoints.'db9:5432']\nmax_servers = 3", 5, "endpoint of no database"),
        (GOOD.replace("app:secret@", "") .replace("[users", "password='x'\n[users"), 3,
         "has no user to go with"),
        (GOOD.replace("[users", "parameters.user='x'\n[users"), 3, "belongs into the url"),
        (GOOD.replace("[users", "tls.direct=true\n[users"), 3, "asks for TLS at once"),
        (GOOD.replace("[users", "tls.ca='none.pem'\n[users"), 3, "cannot read"),
        ("[pool]\nsize = 20\nsize.x = 3", 3, "not valid TOML"),
        ("[listen]\nmysql = []\n" + MYSQL, 2, "names no address"),
        ("[listen]\nmysql = 'unix:/run:3306'\n" + MYSQL, 2, "a MySQL socket is a file"),
        ("[listen]\nmysql = 'db1:3306'\n" + MYSQL, 4, "where maitred itself listens"),
        ("[listen]\nmysql = '127.0.0.1:6432'\n" + GOOD, 2, "names 127.0.0.1:6432 twice"),
        ("[listen]\nmysql = 'a:1'\nadmin = 'a:1'\n" + MYSQL, 3, "which listen.mysql has already"),
        ("[auth]\nmysql_method = 'cert'\n" + MYSQL, 2, "needs tls.client.mode"),
        ("[auth]\nmysql_method = 'password'\n" + MYSQL, 2, "over TLS only"),
        ("[auth]\nmysql_method = 'md5'\n" + MYSQL, 2, "one of"),
        (MYSQL.replace("[users", "parameters.'a b'='y'\n[users"), 3, "is no session variable"),
        (MYSQL.replace("[users", "tls.direct=true\n[users"), 3, "for PostgreSQL only"),
        (MYSQL.replace("3306/shop", "3306/shop?ssl-mode=SOME"), 2, "VERIFY_IDENTITY"),
        (MYSQL + "[databases.b]\nurl='postgres://db1:3306/b'", 6, "says that a mysql:// server"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(
    read: Read, text: str, line: int | None, told: str
) -> None:
    found = problems(read, text)
    assert any(one == line and told in text for one, text in found), found


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="No such file"):
        load.from_file(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="not UTF-8"):
        load.from_file(path)


def test_secrets_are_followed(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", "postgres://app:fromenv@db1/shop")
    (tmp_path / "pw").write_text("fromfile\n")
    config = read(
        "[databases.shop]\nurl = 'env:SHOP_URL'\n[users.app]\npassword = 'file:pw'\n"
        "[databases.two]\nurl = 'postgres://a@h/x'\npassword = 'file:pw'\n"
    )
    passwords = [database.password.reveal() for database in config.databases if database.password]
    assert passwords == ["fromenv", "fromfile"]
    assert config.users[0].password is not None
    assert config.users[0].password.reveal() == "fromfile"
    assert tmp_path / "pw" in config.files
    assert tmp_path / "maitred.toml" in config.files


def test_one_endpoint_serves_all_databases_that_speak_alike(read: Read) -> None:
    config = read(
        GOOD
        + "[databases.b]\nurl = 'postgres://db1/b'\n"
        + "[databases.c]\nurl = 'postgres://db1/c?sslmode=disable'\n"
        + "[endpoints.'db1:5432']\nmax_servers = 40\n"
    )
    assert [one.endpoint for one in config.databases] == ["db1:5432", "db1:5432", "db1:5432 (c)"]
    assert {one.max_servers for one in config.endpoints} == {40}


def test_limits_for_all_reach_endpoints_and_the_engine(read: Read) -> None:
    config = read("[limits]\nservers_per_endpoint = 9\nclients_per_user = 5\n" + GOOD)
    assert config.endpoints[0].max_servers == 9
    # Of users the engine counts itself: it also knows those that nobody listed.
    assert (config.limits["clients_per_user"], config.users[0].max_clients) == (5, 0)


def test_effective_settings_tell_values_places_and_no_secret(read: Read) -> None:
    config = read("pool.size = 7\n" + GOOD)
    shown = {one.name: one for one in config.effective}
    assert (shown["pool.size"].value, shown["pool.size"].default) == ("7", "20")
    assert shown["pool.size"].place is not None
    assert shown["pool.size"].place.line == 1
    assert shown["pool.queue_timeout"].place is None
    assert shown["databases.shop.url"].value == "postgres://app:***@db1:5432/shop"
    assert shown["users.app.password"].value == "***"
    assert "secret" not in repr(config)
    assert "hello" not in repr(config)


def test_what_surprises_is_a_warning(read: Read) -> None:
    config = read(
        "[listen]\npostgres = '0.0.0.0:6432'\nadmin = '0.0.0.0:9127'\n[auth]\nmethod = 'trust'\n"
        "[pool]\nqueue_timeout = 0\nmin_size = 1\n[databases.x]\nurl = 'postgres://h/x'\n"
    )
    told = " | ".join(config.warnings)
    assert len(config.warnings) == 4
    for part in ("anybody may log in", "metrics are readable", "wait for ever", "pool.min_size"):
        assert part in told


def test_a_user_without_a_password_is_a_warning(read: Read) -> None:
    config = read(GOOD + "[users.other]\nadmin = true\n")
    assert config.warnings == ("users.other has no password, so nobody can log in by that name",)


def test_a_url_alone_is_a_configuration() -> None:
    config = load.from_url("postgres://app:pw@db1/shop")
    assert config.databases[0].name == "shop"
    assert config.auth_method == "scram-sha-256"
    user = config.users[0]
    assert (user.name, user.admin) == ("app", True)
    assert user.password is not None
    assert user.password.reveal() == "pw"


def test_a_url_without_a_name_serves_any() -> None:
    database = load.from_url("postgres://app:pw@db1").databases[0]
    assert (database.name, database.remote_name) == ("*", None)


def test_a_url_without_a_password_trusts_this_machine_only() -> None:
    assert load.from_url("postgres://app@db1/shop").auth_method == "trust"
    layer = Layer("command line", {("listen", "postgres"): ["0.0.0.0:6432"]})
    with pytest.raises(ConfigInvalid, match="open to the network"):
        load.from_url("postgres://app@db1/shop", [layer])


def places(config: Config) -> list[str]:
    return [f"{one.dialect} {one.address}" for one in config.listeners]


def test_a_listener_is_open_where_a_database_speaks_its_dialect(read: Read) -> None:
    both = GOOD + "[databases.my]\nurl = 'mariadb://a:b@db2/my'\n"
    assert places(read(GOOD)) == ["postgres 127.0.0.1:6432"]
    assert places(read(MYSQL)) == ["mysql 127.0.0.1:6033"]
    assert places(read(both)) == ["postgres 127.0.0.1:6432", "mysql 127.0.0.1:6033"]
    assert [one.dialect for one in read(both).databases] == ["postgres", "mysql"]
    written = "[listen]\nmysql = ['*:3306', 'unix:/run/m.sock']\npostgres = []\n" + MYSQL
    assert places(read(written)) == ["mysql :3306", "mysql /run/m.sock"]


def test_a_listener_that_nobody_can_use_is_a_warning(read: Read) -> None:
    (warning,) = read("[listen]\nmysql = '127.0.0.1:3306'\n" + GOOD).warnings
    assert warning == "listen.mysql is set, but no database is mysql://"


def test_methods_are_asked_of_the_clients_they_are_for(read: Read) -> None:
    # Nobody could log in by PostgreSQL here, and nobody has to.
    config = read("[auth]\nmethod = 'cert'\nmysql_method = 'trust'\n" + MYSQL)
    assert (config.method_of("mysql"), config.warnings) == ("trust", ())
    (warning,) = read(MYSQL.replace("hello", "md5" + "0" * 32)).warnings
    assert "only postgres clients can be checked with" in warning
    (warning,) = read(GOOD.replace("hello", "*" + "0" * 40)).warnings
    assert "only mysql clients can be checked with" in warning


def test_a_host_limits_whichever_database_is_there(read: Read) -> None:
    both = GOOD + "[databases.my]\nurl = 'mysql://a:b@db1/my'\n"
    config = read(both + "[endpoints.db1]\nmax_servers = 7\n")
    assert [one.max_servers for one in config.endpoints] == [7, 7]


def test_mysql_sessions_are_reset_by_the_protocol_unless_told_otherwise(read: Read) -> None:
    assert read(MYSQL).databases[0].pool["reset_query"] == "RESET CONNECTION"
    assert read(GOOD).databases[0].pool["reset_query"] == "DISCARD ALL"
    own = read("pool.reset_query = 'ROLLBACK'\n" + MYSQL)
    assert own.databases[0].pool["reset_query"] == "ROLLBACK"


def test_direct_tls_for_all_is_not_for_mysql(read: Read) -> None:
    text = "[tls.server]\nmode = 'require'\ndirect = true\n"
    assert read(text + GOOD).endpoints[0].tls.direct
    assert not read(text + MYSQL).endpoints[0].tls.direct


def test_the_url_of_a_mysql_server_is_a_configuration() -> None:
    config = load.from_url("mysql://app:pw@db1/shop")
    assert places(config) == ["mysql 127.0.0.1:6033"]
    assert config.mysql_method == "caching_sha2_password"
    config = load.from_url("mysql://app@db1/shop")
    assert (config.mysql_method, config.auth_method) == ("trust", "scram-sha-256")
    layer = Layer("command line", {("listen", "mysql"): ["0.0.0.0:6033"]})
    with pytest.raises(ConfigInvalid, match="open to the network"):
        load.from_url("mysql://app@db1/shop", [layer])


def test_a_bad_url_is_told_without_its_password() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load.from_url("postgres://app:hush@db1/shop?sslmode=maybe")
    assert "hush" not in str(refused.value)
