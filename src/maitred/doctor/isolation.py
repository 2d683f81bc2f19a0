"""Two clients of one pool try to see each other's session state, by every route known.

It must not change anything that outlasts its sessions, and trusts nothing but what the database
answers. Called by the package's door; `connect` is given, so that tests can play the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .mysql_routes import MYSQL_ROUTES
from .routes import ROUTES, Route
from .session import Connect, DoctorError, Session, connector


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one route."""

    route: Route
    seen: bool
    """Another client met the state while its owner was connected."""
    seen_after: bool
    """Another client met it after its owner had left."""
    kept: bool
    """The owner still had it after others had been served."""
    trouble: str = ""
    """Why it could not be tried."""

    @property
    def is_good(self) -> bool:
        """Whether it went as it should, or as documented."""
        bad = self.seen or self.seen_after or not self.kept
        return not self.trouble and (not bad or bool(self.route.documented))


def examine(
    connect: Connect, routes: Sequence[Route] = ROUTES, *, lookers: int = 4
) -> list[Finding]:
    """Try each route: one client leaves state, `lookers` others look for it.

    The others come one after the other, so that one server is enough; with more servers in the
    pool, as many lookers as servers see most of them.
    """
    return [_try(connect, route, lookers) for route in routes]


def _try(connect: Connect, route: Route, lookers: int) -> Finding:
    try:
        owner = connect()
        before = _look(owner, route)
        for statement in route.leave:
            owner.ask(statement)
        mark = _look(owner, route)
        if mark == before:
            return Finding(route, False, False, False, "the statements left no state")
        seen = _is_seen(connect, route, mark, lookers)
        kept = _look(owner, route) == mark
        for statement in route.undo:
            owner.ask(statement)
        for statement in route.leave:
            owner.ask(statement)
        owner.close()
        seen_after = _is_seen(connect, route, mark, lookers)
        return Finding(route, seen, seen_after, kept)
    except DoctorError as error:
        return Finding(route, False, False, False, str(error))


def _look(session: Session, route: Route) -> str | None:
    try:
        return session.ask(route.look)
    except DoctorError as error:
        if route.without and route.without in str(error):
            return None
        raise


def _is_seen(connect: Connect, route: Route, mark: str | None, lookers: int) -> bool:
    found = False
    for _ in range(lookers):
        try:
            other = connect()
        except DoctorError:
            # As below: what its driver says first needs a server, too.
            return found
        try:
            found |= _look(other, route) == mark
        except DoctorError:
            # Kept away, because the owner keeps the only server: nothing was seen, nor will it be.
            return found
        finally:
            other.close()
    return found


def report(findings: Sequence[Finding]) -> str:
    """A table of all findings, worst words where they belong."""
    width = max(len(finding.route.name) for finding in findings)
    lines = [f"{'route':{width}}  others see it  seen after leaving  kept by its client"]
    for finding in findings:
        name = f"{finding.route.name:{width}}"
        if finding.trouble:
            lines.append(f"{name}  not tried: {finding.trouble}")
            continue
        words = (_word(finding.seen), _word(finding.seen_after), "yes" if finding.kept else "NO")
        note = f"  ({finding.route.documented})" if finding.route.documented else ""
        lines.append(f"{name}  {words[0]:13}  {words[1]:18}  {words[2]}{note}")
    good = sum(finding.is_good for finding in findings)
    lines.append(f"{good} of {len(findings)} as they should be")
    return "\n".join(lines)


def _word(seen: bool) -> str:
    return "YES" if seen else "no"


def examine_url(url: str, *, lookers: int = 4) -> list[Finding]:
    """Examine the instance at `url`, once a client could log in there.

    Raises:
        DoctorError: the URL cannot be read, the driver is missing, nobody answers.
    """
    dialect, connect = connector(url)
    connect().close()
    routes = ROUTES if dialect == "postgres" else MYSQL_ROUTES
    return examine(connect, routes, lookers=lookers)
