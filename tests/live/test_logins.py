"""Logging in: every method on both sides, and what is said to those who are not let in.

Run by pytest; certificates as a method stand in `test_tls_clients`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import threading
from collections.abc import Callable
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import pytest

from fix_maitred import Maitred, refusal, trouble
from fix_postgres import PASSWORD, Postgres
from fix_wire import Closed, Wire, message, startup, text

pytestmark = pytest.mark.one_backend


def scram_secret(password: str, iterations: int = 4096) -> str:
    """As in pg_authid."""
    salt = b"sixteen bytes..."
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = base64.b64encode(hashlib.sha256(client).digest()).decode()
    server = base64.b64encode(hmac.digest(salted, b"Server Key", "sha256")).decode()
    return f"SCRAM-SHA-256${iterations}:{base64.b64encode(salt).decode()}${stored}:{server}"


def md5_secret(user: str, password: str) -> str:
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


SECRETS = {
    "plain": lambda user: PASSWORD,
    "md5": lambda user: md5_secret(user, PASSWORD),
    "scram": lambda user: scram_secret(PASSWORD),
}
WORKS = [
    ("password", "plain"),
    ("password", "md5"),
    ("password", "scram"),
    ("md5", "plain"),
    ("md5", "md5"),
    ("md5", "scram"),  # answered with SCRAM, as PostgreSQL does
    ("scram-sha-256", "plain"),
    ("scram-sha-256", "scram"),
]


def asking(make_maitred: Callable[..., Maitred], method: str, secret: str, **more: Any) -> Maitred:
    users = {"app": {"password": secret}, "other": {"password": secret}, "silent": {}}
    return make_maitred({"auth": {"method": method}, "users": users} | more)


@pytest.mark.parametrize(("method", "stored"), WORKS)
def test_right_password_is_accepted_and_others_are_not(
    make_maitred: Callable[..., Maitred], method: str, stored: str
) -> None:
    maitred = asking(make_maitred, method, SECRETS[stored]("app"))
    with maitred.wire(password=PASSWORD) as client:
        assert client.value("select 1") == "1"
    for wrong in ("", "Opensesame", PASSWORD + " ", "x" * 1000):
        found = refusal(maitred, password=wrong)
        assert (found["C"], found["S"]) == ("28P01", "FATAL")
        # Spec: to an empty password the database says just that.
        assert "app" in found["M"] or not wrong
    with maitred.wire(password=PASSWORD) as client:
        assert client.value("select 1") == "1"


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_unknown_user_looks_like_a_wrong_password(
    make_maitred: Callable[..., Maitred], method: str
) -> None:
    # So that nobody can find out which users there are: same questions, same words.
    maitred = asking(make_maitred, method, PASSWORD)
    answers = []
    for user in ("app", "nobody"):
        with pytest.raises(Closed) as closed:
            maitred.wire(user, password="wrong")
        seen = closed.value.seen
        words = {key: value.replace(user, "USER") for key, value in seen[-1].fields.items()}
        answers.append(([got.tag for got in seen], words))
    assert answers[0] == answers[1]
    assert answers[0][1]["C"] == "28P01"


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_user_without_a_password_cannot_log_in(
    make_maitred: Callable[..., Maitred], method: str
) -> None:
    maitred = asking(make_maitred, method, PASSWORD)
    for attempt in ("", "x"):
        assert refusal(maitred, "silent", password=attempt)["C"].startswith("28")


def test_unknown_database_is_named(make_maitred: Callable[..., Maitred]) -> None:
    maitred = asking(make_maitred, "scram-sha-256", PASSWORD)
    found = refusal(maitred, "app", "warehouse", password=PASSWORD)
    assert found["C"] == "3D000"
    assert "warehouse" in found["M"]


def test_trust_lets_anybody_in(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire("never heard of") as client:
        assert client.value("select current_user") == "app"


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_drivers_log_in(make_maitred: Callable[..., Maitred], method: str) -> None:
    maitred = asking(make_maitred, method, PASSWORD)
    with maitred.connect(password=PASSWORD) as client:
        assert client.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="app"):
        maitred.connect(password="wrong")

    async def body() -> None:
        place = {"host": "127.0.0.1", "port": maitred.port, "user": "app", "database": "shop"}
        client = await asyncpg.connect(**place, password=PASSWORD)
        assert await client.fetchval("select 1") == 1
        await client.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(**place, password="wrong")

    asyncio.run(body())
    other = pg8000.native.Connection(
        "other", host="127.0.0.1", port=maitred.port, database="shop", password=PASSWORD
    )
    assert other.run("select 1") == [[1]]
    other.close()


def test_password_with_letters_that_are_prepared(make_maitred: Callable[..., Maitred]) -> None:
    # Spec: RFC 4013; both spellings are the same password to SCRAM.
    maitred = asking(
        make_maitred, "scram-sha-256", "pass\N{NO-BREAK SPACE}w\N{FULLWIDTH LATIN SMALL LETTER O}rd"
    )
    with maitred.connect(password="pass word") as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_password_from_a_file_and_from_a_userlist(
    make_maitred: Callable[..., Maitred], tmp_path: Any
) -> None:
    tmp_path.joinpath("secret").write_text(f"{PASSWORD}\n")
    tmp_path.joinpath("userlist.txt").write_text(
        f'"reader" "{PASSWORD}"\n; a comment\n"other" "{md5_secret("other", PASSWORD)}"\n'
    )
    maitred = make_maitred(
        {
            "auth": {"method": "md5", "userlist": tmp_path / "userlist.txt"},
            "users": {"app": {"password": f"file:{tmp_path}/secret"}},
        }
    )
    for user in ("app", "reader", "other"):
        with maitred.wire(user, password=PASSWORD) as client:
            assert client.value("select 1") == "1"
        assert refusal(maitred, user, password="wrong")["C"] == "28P01"


@pytest.mark.parametrize(
    "messages",
    [
        message("p", text("SCRAM-SHA-512") + b"\0\0\0\4n,,n"),
        message("p", text("SCRAM-SHA-256") + b"\xff\xff\xff\xff"),
        message("p", text("SCRAM-SHA-256") + b"\0\0\0\x0dp=tls-unique,"),
        message("p", b"no end"),
        message("p", b""),
        message("Q", text("select 1")),
        message("X"),
    ],
    ids=["method", "empty", "binding", "unterminated", "nothing", "query", "quit"],
)
def test_odd_answers_to_the_question_are_refused(
    make_maitred: Callable[..., Maitred], messages: bytes
) -> None:
    maitred = asking(make_maitred, "scram-sha-256", PASSWORD)
    with Wire(maitred.address) as client:
        client.send(startup(user="app", database="shop"))
        client.read()
        client.send(messages)
        # Why a loop: an empty first message is allowed; the next one must then be refused.
        seen = []
        try:
            while True:
                seen.append(client.read())
                if seen[-1].tag == "R":
                    client.send(message("p", b"nonsense"))
        except Closed:
            pass
        assert "Z" not in [got.tag for got in seen]
    with maitred.wire(password=PASSWORD) as client:
        assert client.value("select 1") == "1"


# Logging in to the database.


def to_database(
    make_maitred: Callable[..., Maitred], port: int, user: str, password: str | None
) -> Maitred:
    secret = f":{password}" if password else ""
    url = f"postgres://{user}{secret}@127.0.0.1:{port}/shop"
    return make_maitred(
        {"databases": {"shop": {"url": url}}, "pool": {"queue_timeout": "3s", "size": 2}}
    )


@pytest.mark.parametrize("user", ["app_password", "app_md5", "app_scram"])
def test_method_of_the_database(
    make_maitred: Callable[..., Maitred], postgres: Postgres, user: str
) -> None:
    maitred = to_database(make_maitred, postgres.port, user, PASSWORD)
    with maitred.wire() as client:
        assert client.value("select current_user") == user


@pytest.mark.parametrize("user", ["app_password", "app_md5", "app_scram"])
@pytest.mark.parametrize("password", ["wrong", None], ids=["wrong", "none"])
def test_client_is_told_why_the_database_refuses(
    make_maitred: Callable[..., Maitred], postgres: Postgres, user: str, password: str | None
) -> None:
    maitred = to_database(make_maitred, postgres.port, user, password)
    told = " ".join(trouble(maitred).values()).lower()
    assert "password" in told, told
    assert user in told, told


def test_user_rejected_by_the_database(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = to_database(make_maitred, postgres.port, "refused", None)
    assert "pg_hba.conf" in " ".join(trouble(maitred).values())


def test_every_user_has_servers_of_its_own_without_a_user_in_the_url(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    url = f"postgres://127.0.0.1:{postgres.port}/shop"
    maitred = make_maitred(
        {
            "databases": {"shop": {"url": url}},
            "auth": {"method": "scram-sha-256"},
            "users": {
                "app_scram": {"password": PASSWORD},
                "app_md5": {"password": PASSWORD},
                "app": {"password": PASSWORD},
            },
        }
    )
    for user in ("app_scram", "app_md5", "app"):
        with maitred.wire(user, password=PASSWORD) as client:
            assert client.value("select current_user") == user
            assert client.value("select session_user") == user


def test_many_logins_at_once(make_maitred: Callable[..., Maitred]) -> None:
    maitred = asking(make_maitred, "scram-sha-256", scram_secret(PASSWORD), limits={"logins": 4})
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            password = PASSWORD if number % 3 else "wrong"
            try:
                with maitred.wire(password=password) as client:
                    assert client.value(f"select {number}") == str(number)
                assert number % 3
            except Closed as closed:
                assert number % 3 == 0
                assert closed.seen[-1].code == "28P01"
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


def test_secrets_are_in_no_log(make_maitred: Callable[..., Maitred], postgres: Postgres) -> None:
    maitred = make_maitred(
        {
            "auth": {"method": "scram-sha-256"},
            "users": {"app": {"password": "hush-hush"}},
            "databases": {
                "shop": {"url": f"postgres://app_scram:{PASSWORD}@127.0.0.1:{postgres.port}/shop"}
            },
            "log": {"level": "debug", "connections": True, "slow_query": "1ms"},
        }
    )
    with maitred.wire(password="hush-hush") as client:
        client.query("select pg_sleep(0.05), 'literal-of-the-query'")
    refusal(maitred, password="a-wrong-secret")
    maitred.stop()
    for secret in (PASSWORD, "hush-hush", "a-wrong-secret", "literal-of-the-query"):
        assert secret not in maitred.log_text()


@pytest.mark.parametrize("said", ["latin1", "LATIN1", "iso-8859-1"])
def test_startup_settings_are_told_as_the_server_spells_them(
    make_maitred: Callable[..., Maitred], said: str
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    for _ in range(2):
        with maitred.wire(client_encoding=said, options="-c intervalstyle=ISO_8601") as client:
            assert client.parameters["client_encoding"] == "LATIN1"
            assert client.parameters["IntervalStyle"] == "iso_8601"
            assert client.value("show client_encoding") == "LATIN1"
