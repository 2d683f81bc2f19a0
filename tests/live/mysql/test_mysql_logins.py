"""Logging in by MySQL's protocol: every method on both sides, TLS on both sides, refusals.

Asks maitred itself, so none of it runs with `--direct`. Run by pytest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import mysql.connector
import pymysql
import pytest

from fix_certificates import Authority
from fix_mariadb import PASSWORD, MariaDB
from fix_mysql_front import Front
from fix_mysql_packets import Err
from fix_mysql_stream import MysqlClosed
from fix_mysql_wire import MysqlError, MysqlWire

pytestmark = pytest.mark.one_backend

METHODS = {
    "mysql_native_password": "mysql_native_password",
    "caching_sha2_password": "caching_sha2_password",
    "ed25519": "client_ed25519",
}


def native_secret(password: str) -> str:
    """As in mysql.user."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


def asking(
    make_front: Callable[..., Front], method: str, secret: str = PASSWORD, **more: Any
) -> Front:
    users = {"app": {"password": secret}, "other": {"password": secret}, "silent": {}}
    front = make_front({"auth": {"mysql_method": method}, "users": users} | more)
    front.operated  # noqa: B018
    return front


def refused(front: Front, user: str = "app", database: str | None = "shop", **login: Any) -> Err:
    with pytest.raises(MysqlError) as caught:
        front.wire(user, database, **login)
    return caught.value.answer


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("method", METHODS)
def test_right_password_is_accepted_and_others_are_not(
    make_front: Callable[..., Front], method: str
) -> None:
    front = asking(make_front, method)
    client = front.wire()
    assert client.value("select 1") == "1"
    assert METHODS[method] in [client.greeting.plugin, *client.asked]
    for wrong in ("", "Opensesame", PASSWORD + " ", "x" * 200):
        error = refused(front, password=wrong)
        assert (error.number, error.state) == (1045, "28000")
        assert "app" in error.text
    assert front.wire().value("select 1") == "1"


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("begins", [*METHODS.values(), "mysql_clear_password", "nosuch_plugin"])
def test_a_client_that_begins_with_another_method_is_switched(
    make_front: Callable[..., Front], method: str, begins: str
) -> None:
    front = asking(make_front, method)
    assert front.wire(plugin=begins).value("select 1") == "1"


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("method", METHODS)
def test_unknown_user_looks_like_a_wrong_password(
    make_front: Callable[..., Front], method: str
) -> None:
    front = asking(make_front, method)
    seen = []
    for user in ("app", "nobody", "silent"):
        client = MysqlWire(front.address)
        with pytest.raises(MysqlError) as caught:
            client.login(user, "shop", "wrong")
        error = caught.value.answer
        seen.append((client.asked, error.number, error.state, error.text.replace(user, "USER")))
        client.close()
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.flavour("mariadb")
def test_caching_sha2_walks_the_full_path_once(make_front: Callable[..., Front]) -> None:
    front = asking(make_front, "caching_sha2_password")
    first = front.wire()
    again = front.wire()
    assert again.asked in (["fast"], [])
    assert first.value("select 1") == again.value("select 1") == "1"


@pytest.mark.flavour("mysql")
def test_caching_sha2_from_the_databases_own_hash(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    """By RSA without TLS, then from memory."""
    secret = endpoint.value(
        "select hex(authentication_string) from mysql.user where user = 'app'", database="mysql"
    )
    front = asking(make_front, "caching_sha2_password", f"0x{secret}")
    first = front.wire()
    assert first.asked == ["full", "key"]
    assert first.value("select 1") == "1"
    assert front.wire().asked == ["fast"]
    assert refused(front, password="wrong").number == 1045
    assert front.wire().value("select 1") == "1"


@pytest.mark.flavour("mariadb")
def test_native_password_from_the_databases_own_hash(make_front: Callable[..., Front]) -> None:
    front = asking(make_front, "mysql_native_password", native_secret(PASSWORD))
    assert front.wire().value("select 1") == "1"
    assert refused(front, password="wrong").number == 1045


@pytest.mark.flavour("mariadb")
def test_ed25519_from_the_databases_own_hash(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    secret = endpoint.value(
        "select json_value(priv, '$.authentication_string') from mysql.global_priv "
        "where user = 'app_ed25519'",
        database="mysql",
    )
    front = asking(make_front, "ed25519", f"ed25519${secret}")
    assert front.wire().value("select 1") == "1"
    assert refused(front, password="wrong").number == 1045


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("method", METHODS)
def test_another_user_proves_itself(make_front: Callable[..., Front], method: str) -> None:
    front = asking(make_front, method)
    plugin = METHODS[method]
    client = front.wire()
    client.change_user("other", "shop", plugin=plugin)
    assert client.value("select 1") == "1"
    with pytest.raises(MysqlError) as caught:
        client.change_user("app", "shop", "wrong", plugin=plugin)
    assert caught.value.answer.number == 1045
    assert "'app'@" in caught.value.answer.text
    with pytest.raises(MysqlError):
        front.wire().change_user("silent", "shop", plugin=plugin)


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("method", METHODS)
def test_drivers_log_in(make_front: Callable[..., Front], method: str) -> None:
    front = asking(make_front, method)
    with front.connect() as client, client.cursor() as cursor:
        cursor.execute("select 1")
        assert cursor.fetchone() == (1,)
    with pytest.raises(pymysql.err.OperationalError) as caught:
        front.connect(password="wrong")
    assert caught.value.args[0] == 1045
    if method != "ed25519":
        made = mysql.connector.connect(**front.place(), use_pure=True, ssl_disabled=True)
        made.close()


@pytest.mark.flavour("mariadb")
def test_trust_lets_anybody_in(make_front: Callable[..., Front]) -> None:
    front = make_front()
    front.operated  # noqa: B018
    for password in ("", "whatever"):
        client = front.wire("never_heard_of", password=password)
        assert client.value("select current_user()") == "app@%"


def test_unknown_database_is_named(make_front: Callable[..., Front]) -> None:
    front = make_front()
    front.operated  # noqa: B018
    error = refused(front, database="nosuch")
    assert (error.number, error.state) == (1049, "42000")
    assert "nosuch" in error.text


def test_no_database_named_at_login(make_front: Callable[..., Front]) -> None:
    front = make_front()
    front.operated  # noqa: B018
    assert front.wire(database=None).value("select 1") == "1"


def test_too_many_clients(make_front: Callable[..., Front]) -> None:
    front = make_front({"limits": {"clients": 2}})
    front.operated  # noqa: B018
    kept = [front.wire(), front.wire()]
    with pytest.raises(MysqlError) as caught:
        front.wire()
    assert caught.value.number == 1040
    assert "limits.clients" in str(caught.value)
    assert kept[0].value("select 1") == "1"


def test_waiting_longer_than_the_queue_allows(make_front: Callable[..., Front]) -> None:
    front = make_front({"pool": {"size": 1, "queue_timeout": "300ms"}})
    front.operated  # noqa: B018
    holder, waiter = front.wire(), front.wire()
    holder.run("begin", "select 1")
    error = waiter.error("select 1")
    assert error.number in (1203, 1205, 1040)
    assert "pool.queue_timeout" in error.text or "pool.size" in error.text
    holder.run("commit")
    assert waiter.value("select 1") == "1"


# Towards the server


def _url(endpoint: MariaDB, user: str, password: str = PASSWORD) -> str:
    secret = f":{password}" if password else ""
    return f"mysql://{user}{secret}@127.0.0.1:{endpoint.port}/shop"


@pytest.mark.parametrize(
    "user", ["app", "app_native", "app_ed25519", "app_empty", "app_sha2", "app_tls"]
)
def test_every_method_towards_the_server(
    make_front: Callable[..., Front], endpoint: MariaDB, user: str
) -> None:
    if user not in endpoint.users():
        pytest.skip(f"{endpoint.kind} has no such method")
    password = "" if user == "app_empty" else PASSWORD
    front = make_front({"databases": {"shop": {"url": _url(endpoint, user, password)}}})
    front.operated  # noqa: B018
    assert front.wire().value("select current_user()") == f"{user}@%"


@pytest.mark.flavour("mysql")
@pytest.mark.parametrize("mode", ["disable", "require"])
def test_the_full_path_of_caching_sha2_towards_the_server(
    make_front: Callable[..., Front], endpoint: MariaDB, mode: str
) -> None:
    """By RSA where there is no TLS; then by the server's memory."""
    front = make_front(
        {
            "databases": {"shop": {"url": _url(endpoint, "app_sha2")}},
            "tls": {"server": {"mode": mode}},
            "pool": {"size": 3},
        }
    )
    front.operated  # noqa: B018
    endpoint.rows("flush privileges")
    clients = [front.wire() for _ in range(3)]
    for client in clients:
        client.run("begin")
        assert client.value("select current_user()") == "app_sha2@%"


def test_a_wrong_password_towards_the_server_is_told(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    front = make_front(
        {
            "databases": {"shop": {"url": _url(endpoint, "app", "wrong")}},
            "pool": {"queue_timeout": "1s"},
        }
    )
    front.operated  # noqa: B018
    try:
        answer = front.wire().query("select 1")[-1]
    except MysqlError as caught:
        answer = caught.answer
    assert isinstance(answer, Err)
    assert "denied" in answer.text or "1045" in answer.text


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca", "verify-full"])
def test_tls_towards_the_server(
    make_front: Callable[..., Front], endpoint: MariaDB, mode: str
) -> None:
    given = {"ca": endpoint.authority} if mode.startswith("verify") else {}
    front = make_front({"tls": {"server": {"mode": mode} | given}})
    front.operated  # noqa: B018
    ((_, cipher),) = front.wire().rows("show session status like 'Ssl_cipher'")
    assert bool(cipher) is (mode != "disable")


def test_a_stranger_as_the_server_is_not_trusted(
    make_front: Callable[..., Front], authority: Authority
) -> None:
    front = make_front(
        {
            "tls": {"server": {"mode": "verify-full", "ca": authority.certificate}},
            "pool": {"queue_timeout": "1s"},
        }
    )
    front.operated  # noqa: B018
    with pytest.raises(MysqlError):
        front.wire().rows("select 1")


def test_a_certificate_towards_the_server(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    tls = endpoint.folder / "tls"
    server = {"mode": "require", "certificate": tls / "client.crt", "key": tls / "client.key"}
    front = make_front(
        {"databases": {"shop": {"url": _url(endpoint, "app_x509")}}, "tls": {"server": server}}
    )
    front.operated  # noqa: B018
    assert front.wire().value("select current_user()") == "app_x509@%"


# TLS of clients


def speaking_tls(
    make_front: Callable[..., Front], authority: Authority, mode: str = "require", **more: Any
) -> Front:
    shown = authority.server()
    client = {"mode": mode, "certificate": shown.certificate, "key": shown.key}
    if mode.startswith("verify"):
        client["ca"] = authority.certificate
    front = make_front({"tls": {"client": client}} | more)
    front.operated  # noqa: B018
    return front


@pytest.mark.flavour("mariadb")
def test_clients_over_tls(make_front: Callable[..., Front], authority: Authority) -> None:
    front = speaking_tls(make_front, authority)
    client = front.wire(tls=authority.client_context())
    size = 17 << 20
    assert len(client.value(f"select repeat('x', {size})")) == size
    assert client.value("select length('" + "y" * size + "')") == str(size)
    with pytest.raises((MysqlError, MysqlClosed)):
        front.wire()


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("mode", ["allow", "prefer"])
def test_tls_where_it_may_be_left_out(
    make_front: Callable[..., Front], authority: Authority, mode: str
) -> None:
    front = speaking_tls(make_front, authority, mode)
    assert front.wire(tls=authority.client_context()).value("select 1") == "1"
    assert front.wire().value("select 1") == "1"


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("form", ["COMPRESS", "ZSTD DEPRECATE_EOF"])
def test_compression_inside_tls(
    make_front: Callable[..., Front], authority: Authority, form: str
) -> None:
    front = speaking_tls(make_front, authority)
    client = front.wire(tls=authority.client_context(), with_=form)
    assert client.value("select repeat('x', 100000)") == "x" * 100000


@pytest.mark.flavour("mariadb")
def test_clear_text_password_over_tls_alone(
    make_front: Callable[..., Front], authority: Authority
) -> None:
    front = speaking_tls(
        make_front,
        authority,
        "prefer",
        auth={"mysql_method": "password"},
        users={"app": {"password": PASSWORD}},
    )
    client = front.wire(tls=authority.client_context())
    assert client.value("select 1") == "1"
    assert "mysql_clear_password" in [client.greeting.plugin, *client.asked]
    with pytest.raises((MysqlError, MysqlClosed)):
        front.wire()


@pytest.mark.flavour("mariadb")
def test_caching_sha2_over_tls(make_front: Callable[..., Front], authority: Authority) -> None:
    front = speaking_tls(
        make_front,
        authority,
        auth={"mysql_method": "caching_sha2_password"},
        users={"app": {"password": PASSWORD}},
    )
    assert front.wire(tls=authority.client_context()).value("select 1") == "1"
    with pytest.raises(MysqlError):
        front.wire(tls=authority.client_context(), password="wrong")


@pytest.mark.flavour("mariadb")
def test_a_certificate_as_the_login(make_front: Callable[..., Front], authority: Authority) -> None:
    front = speaking_tls(make_front, authority, "verify-full", auth={"mysql_method": "cert"})
    shown = authority.issue("app", stem="app_certificate")
    client = front.wire("app", tls=authority.client_context(shown), password="")
    assert client.value("select 1") == "1"
    with pytest.raises((MysqlError, MysqlClosed)):
        front.wire("other", tls=authority.client_context(shown), password="")


@pytest.mark.flavour("mariadb")
def test_drivers_over_tls(make_front: Callable[..., Front], authority: Authority) -> None:
    front = speaking_tls(make_front, authority)
    with front.connect(ssl={"ca": str(authority.certificate)}) as client, client.cursor() as cursor:
        cursor.execute("select 1")
        assert cursor.fetchone() == (1,)
    made = mysql.connector.connect(
        **front.place(), use_pure=True, ssl_ca=str(authority.certificate), ssl_verify_cert=True
    )
    made.close()
