"""Users in the engine's shape, from sections and from a userlist.

Files are written to pytest's folder. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maitred.auth import userlist
from maitred.auth.store import Directory, Verifiers, gather
from maitred.auth.verifier import derive_scram
from maitred.config import load
from maitred.errors import ConfigInvalid

BASE = "[databases.shop]\nurl = 'postgres://app:x@db1/shop'\n"
SALT = b"0123456789abcdef"

Gather = Callable[..., Directory]


@pytest.fixture
def gathered(tmp_path: Path) -> Gather:
    def gathered(text: str, users: str = "", verifiers: Verifiers | None = None) -> Directory:
        (tmp_path / "userlist.txt").write_text(users)
        (tmp_path / "maitred.toml").write_text(BASE + text)
        config = load.from_file(tmp_path / "maitred.toml")
        return gather(config, verifiers or Verifiers(lambda: SALT))

    return gathered


def test_a_plain_password_gets_a_verifier(gathered: Gather) -> None:
    user = gathered("[users.a]\npassword = 'pw'\nmax_clients = 3\npool.size = 4\n").listed[0]
    assert user == {
        "name": "a",
        "plain": "pw",
        "md5": None,
        "scram": derive_scram("pw", SALT),
        "mysql_native": None,
        "mysql_sha2": None,
        "mysql_ed25519": None,
        "pool": {"size": 4},
        "max_clients": 3,
        "max_servers": 0,
        "admin": False,
        "stats": False,
    }


def test_a_verifier_stays_itself(gathered: Gather) -> None:
    verifier = derive_scram("pw", b"other")
    user = gathered(f"[users.a]\npassword = '{verifier}'\n").listed[0]
    assert (user["plain"], user["scram"]) == (None, verifier)


def test_what_mysql_stores_reaches_the_engine(gathered: Gather) -> None:
    native, ed25519 = "*" + "0a" * 20, "Z" * 43
    users = gathered(
        f"[users.a]\npassword = '{native}'\n[users.b]\npassword = 'ed25519${ed25519}'\n"
    ).listed
    assert (users[0]["mysql_native"], users[0]["plain"], users[0]["scram"]) == (
        native.upper(), None, None,
    )  # fmt: skip
    assert users[1]["mysql_ed25519"] == ed25519


def test_an_unchanged_user_stays_unchanged_over_reloads(gathered: Gather) -> None:
    verifiers = Verifiers()
    text = "[users.a]\npassword = 'pw'\n"
    before = gathered(text, verifiers=verifiers).listed
    assert gathered(text, verifiers=verifiers).listed == before
    changed = gathered(text.replace("pw", "new"), verifiers=verifiers).listed
    assert changed[0]["scram"] != before[0]["scram"]
    again = gathered(text, verifiers=verifiers).listed
    assert again[0]["scram"] != before[0]["scram"], "a forgotten password must not be remembered"


LISTED = '"plain" "pw"\n"ha""sh" "md5{}"\n; comment\n\n"none" ""\n'.format("0" * 32)
WITH_LIST = "[auth]\nmethod = 'md5'\nuserlist = 'userlist.txt'\n"


def test_a_userlist_is_read(gathered: Gather) -> None:
    directory = gathered(WITH_LIST, LISTED)
    assert [user["name"] for user in directory.listed] == ['ha"sh']
    assert directory.ask_unknown


def test_plain_users_of_a_list_are_told_when_asked(gathered: Gather) -> None:
    directory = gathered(WITH_LIST, LISTED)
    user = directory.answer("plain")
    assert user is not None
    assert (user["plain"], user["scram"], user["max_clients"]) == (
        "pw",
        derive_scram("pw", SALT),
        0,
    )
    assert directory.answer("nobody") is None
    assert directory.answer("none") is None


def test_a_section_adds_to_the_list(gathered: Gather) -> None:
    directory = gathered(WITH_LIST + "[users.plain]\nadmin = true\n", LISTED)
    user = next(one for one in directory.listed if one["name"] == "plain")
    assert (user["plain"], user["admin"]) == ("pw", True)
    assert not directory.ask_unknown


def test_a_section_without_a_password_anywhere_is_a_warning(gathered: Gather) -> None:
    directory = gathered(WITH_LIST + "[users.other]\nadmin = true\n", LISTED)
    (warning,) = directory.warnings
    assert warning.startswith("users.other has no password")


def test_every_bad_line_of_a_list_is_told(gathered: Gather) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        gathered(WITH_LIST, '"a" "x"\nb c\n"a" "y"\n"c\n')
    assert [problem.line for problem in refused.value.problems] == [2, 3, 4]
    assert "stands already on line 1" in str(refused.value)


def test_a_damaged_verifier_is_told_with_its_line(gathered: Gather) -> None:
    with pytest.raises(ConfigInvalid, match=r"userlist\.txt:2: the password of b is not a SCRAM"):
        gathered(WITH_LIST, '"a" "x"\n"b" "SCRAM-SHA-256$1"\n')


def test_a_damaged_form_of_mysql_is_told_with_its_line(gathered: Gather) -> None:
    with pytest.raises(ConfigInvalid, match=r"the password of a is not a caching_sha2_password"):
        gathered("[users.a]\npassword = '$A$005$short'\n")


def test_a_missing_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="userlist cannot be read: No such file"):
        userlist.read(tmp_path / "none.txt")
