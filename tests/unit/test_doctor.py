"""The doctor's judgement of databases that leak, lose and keep, played by dictionaries.

Nothing is connected to. Run by pytest.
"""

from __future__ import annotations

import itertools

import pytest

from maitred import cli
from maitred.doctor.isolation import examine, report
from maitred.doctor.mysql_routes import MYSQL_ROUTES
from maitred.doctor.routes import ROUTES, Route
from maitred.doctor.session import DoctorError

ROUTE = Route("a mark", ("leave",), "look", ("undo",))
NUMBERS = itertools.count()


class Played:
    """A database of one server; what is left on it is seen by whoever `sees`."""

    def __init__(self, sees: str) -> None:
        self.sees = sees
        self.left: dict[int, str] = {}
        self.last = ""

    def connect(self) -> PlayedSession:
        return PlayedSession(self)


class PlayedSession:
    def __init__(self, database: Played) -> None:
        self.database = database
        self.number = next(NUMBERS)

    def ask(self, sql: str) -> str | None:
        played = self.database
        if sql == "leave":
            played.left[self.number] = played.last = "mark"
        elif sql == "undo":
            played.left.pop(self.number, None)
            played.last = ""
        elif sql == "fail":
            raise DoctorError("fail: no right")
        elif played.sees == "everybody":
            return played.last
        elif played.sees == "owner until others come":
            owner = self.number in played.left
            if not owner:
                played.left.clear()
            return "mark" if owner else ""
        else:
            return played.left.get(self.number, "")
        return None

    def close(self) -> None:
        if self.database.sees != "everybody":
            self.database.left.pop(self.number, None)


def found(sees: str, route: Route = ROUTE) -> tuple[bool, bool, bool, bool]:
    (finding,) = examine(Played(sees).connect, [route])
    return finding.seen, finding.seen_after, finding.kept, finding.is_good


def test_what_only_its_owner_sees_is_good() -> None:
    assert found("owner") == (False, False, True, True)


def test_a_leak_is_seen_before_and_after() -> None:
    assert found("everybody") == (True, True, True, False)


def test_what_its_owner_loses_is_not_good() -> None:
    assert found("owner until others come") == (False, False, False, False)


def test_what_is_documented_is_told_and_forgiven() -> None:
    route = Route("a mark", ("leave",), "look", ("undo",), "not carried")
    findings = examine(Played("everybody").connect, [route])
    assert findings[0].is_good
    assert "YES" in report(findings)
    assert "(not carried)" in report(findings)


def test_what_cannot_be_tried_is_said_and_not_good() -> None:
    (finding,) = examine(Played("owner").connect, [Route("r", ("fail",), "look")])
    assert not finding.is_good
    assert "not tried: fail: no right" in report([finding])
    (finding,) = examine(Played("owner").connect, [Route("r", ("undo",), "look")])
    assert finding.trouble == "the statements left no state"


def test_the_routes_have_names_of_their_own() -> None:
    for routes in (ROUTES, MYSQL_ROUTES):
        assert len({route.name for route in routes}) == len(routes)


def test_an_error_may_say_that_there_is_nothing() -> None:
    class Fails:
        def ask(self, sql: str) -> str | None:
            if sql == "look":
                raise DoctorError("look: Unknown mark")
            return None

        def close(self) -> None:
            pass

    (finding,) = examine(Fails, [Route("a mark", (), "look", without="Unknown mark")])
    assert finding.trouble == "the statements left no state"
    (finding,) = examine(Fails, [Route("a mark", (), "look")])
    assert finding.trouble == "look: Unknown mark"


def test_a_url_that_cannot_be_read_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "isolation", "oracle://x"]) == 2
    assert "the URL" in capsys.readouterr().err
