"""URLs of databases, with libpq's names.

No host is looked up. Run by pytest.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maitred.config import url
from maitred.config.units import BadValue
from maitred.model import Address


def test_every_part_is_taken() -> None:
    target = url.parse(
        "postgres://app:s%40cret@db1:5433/shop?sslmode=verify-full&sslrootcert=/ca.pem"
        "&application_name=x%20y&connect_timeout=3&options=-c%20a%3Db"
    )
    assert target.address == Address(host="db1", port=5433)
    assert (target.user, target.password, target.database) == ("app", "s@cret", "shop")
    assert target.tls == {"mode": "verify-full", "ca": "/ca.pem"}
    assert target.parameters == [("application_name", "x y"), ("options", "-c a=b")]
    assert target.connect_timeout_s == 3


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("postgresql://h/x", Address(host="h", port=5432)),
        ("postgres:///x", Address(host="localhost", port=5432)),
        ("postgres://[::1]:6000/x", Address(host="::1", port=6000)),
        ("postgres://[::1]/x", Address(host="::1", port=5432)),
        ("postgres://%2Frun%2Fpg/x", Address(path="/run/pg/.s.PGSQL.5432")),
        ("postgres:///x?host=/run/pg&port=6000", Address(path="/run/pg/.s.PGSQL.6000")),
        ("postgres://u@%2Frun%2Fpg:6001/x", Address(path="/run/pg/.s.PGSQL.6001")),
        ("postgres://h/x?hostaddr=10.0.0.1", Address(host="10.0.0.1", port=5432)),
    ],
)
def test_places(text: str, address: Address) -> None:
    assert url.parse(text).address == address


def test_every_part_of_a_mysql_url_is_taken() -> None:
    target = url.parse(
        "mysql://app:s%40cret@db1:3307/shop?ssl-mode=VERIFY_IDENTITY&ssl-ca=/ca.pem"
        "&ssl_cert=/c.pem&sslKey=/k.pem&tls-version=TLSv1.3&connect_timeout=3"
    )
    assert (target.dialect, target.address) == ("mysql", Address(host="db1", port=3307))
    assert (target.user, target.password, target.database) == ("app", "s@cret", "shop")
    assert target.tls == {
        "mode": "verify-full", "ca": "/ca.pem", "certificate": "/c.pem", "key": "/k.pem",
        "minimum": "1.3",
    }  # fmt: skip
    assert target.connect_timeout_s == 3


@pytest.mark.parametrize(
    ("mode", "ours"),
    [
        ("DISABLED", "disable"),
        ("PREFERRED", "prefer"),
        ("REQUIRED", "require"),
        ("VERIFY_CA", "verify-ca"),
        ("verify-identity", "verify-full"),
        ("require", "require"),
    ],
)
@pytest.mark.parametrize("name", ["ssl-mode", "ssl_mode", "sslMode", "sslmode"])
def test_mysqls_names_of_modes(name: str, mode: str, ours: str) -> None:
    assert url.parse(f"mysql://h/x?{name}={mode}").tls == {"mode": ours}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mysql://h", Address(host="h", port=3306)),
        ("mariadb:///x", Address(host="localhost", port=3306)),
        ("mysql://u:p@[::1]/x", Address(host="::1", port=3306)),
        ("mysql://%2Frun%2Fmysqld.sock/x", Address(path="/run/mysqld.sock")),
        ("mysql://u@localhost/x?unix_socket=/run/m.sock", Address(path="/run/m.sock")),
    ],
)
def test_places_of_mysql(text: str, address: Address) -> None:
    assert url.parse(text).address == address


def test_what_is_not_said_is_none() -> None:
    target = url.parse("postgres://h")
    assert (target.user, target.password, target.database) == (None, None, None)


def test_options_win_over_the_path() -> None:
    target = url.parse("postgres://a:b@h/x?user=c&password=d&dbname=y")
    assert (target.user, target.password, target.database) == ("c", "d", "y")


def test_system_authorities_are_no_file() -> None:
    assert url.parse("postgres://h/x?sslrootcert=system").tls == {"ca": ""}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("oracle://h/x", "must begin with"),
        ("postgres://a,b/x", "several hosts"),
        ("postgres://h/x?host=a,b", "several hosts"),
        ("postgres://h:abc/x", "where a port"),
        ("postgres://h:0/x", "where a port"),
        ("postgres://::1:5432/x", "brackets"),
        ("postgres://[::1/x", "closing bracket"),
        ("postgres://h/x?sslmod=require", 'did you mean "sslmode"'),
        ("postgres://h/x?sslmode=yes", "is one of"),
        ("postgres://h/x?sslmode", "without a value"),
        ("postgres://h/x?ssl_min_protocol_version=TLSv1.1", "TLSv1.2"),
        ("postgres://h/x?target_session_attrs=read-write", "cannot do"),
        ("postgres://h/x?keepalives_idle=3", "limits.keepalive_idle"),
        ("postgres://h/x?connect_timeout=soon", "whole seconds"),
        ("postgres://:pw@h/x", "no user"),
        ("postgres://u:p%zz@h/x", "%25"),
        ("postgres://u:%ff@h/x", "not UTF-8"),
        ("postgres://u:%00@h/x", "zero byte"),
        ("mysql://h:0/x", "where a port"),
        ("mysql://a,b/x", "several hosts"),
        ("mysql://::1:3306/x", "mysql://"),
        ("mysql://h/x?ssl-mode=maybe", "VERIFY_IDENTITY"),
        ("mysql://h/x?ssl-mod=REQUIRED", 'did you mean "ssl-mode"'),
        ("mysql://h/x?charset=utf8mb4", "its own character set"),
        ("mysql://h/x?tls-version=TLSv1.1", "oldest TLS"),
        ("mysql://h/x?tls-version=new", "TLSv1.3 or both"),
        ("mysql://h/x?connect_timeout=5s", "whole seconds"),
        ("mysql://h/x?socket=run.sock", 'begins with "/"'),
        ("mysql://h:3306/x?socket=/run.sock", "leave one out"),
        ("mysql://:pw@h/x", "no user"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_change(text: str, told: str) -> None:
    with pytest.raises(BadValue, match=told):
        url.parse(text)


@pytest.mark.parametrize(
    "text",
    ["postgres://u:hush/hush@h/x", "postgres://u:hush@hush/@h/x?x=1", "postgres://u:hush@h:hush/x"],
)
def test_a_refusal_never_holds_the_password(text: str) -> None:
    with pytest.raises(BadValue) as refused:
        url.parse(text.replace(":hush/x", ":port/x"))
    assert "hush" not in str(refused.value)


@given(
    st.text(min_size=1).filter(lambda text: "\0" not in text),
    st.text(min_size=1).filter(lambda text: "\0" not in text),
    st.text(min_size=1).filter(lambda text: "\0" not in text),
)
def test_any_encoded_text_comes_back(user: str, password: str, database: str) -> None:
    parts = [quote(part.encode(errors="replace"), safe="") for part in (user, password, database)]
    target = url.parse("postgres://{}:{}@h:1/{}".format(*parts))
    expected = [part.encode(errors="replace").decode() for part in (user, password, database)]
    assert [target.user, target.password, target.database] == expected
