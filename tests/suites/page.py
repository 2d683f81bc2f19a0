"""Write `docs/reference/compatibility.md` out of the records and the explanations.

Only words and layout; every figure is counted from `results/`.
Called by `__main__` after a run and by the rules ring, which compares the page with this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from suites.explain import Explanation, Judged, all_explanations, judge
from suites.record import Record, read_all
from suites.routes import ROUTES
from suites.suite import Suite, all_suites

PAGE = Path(__file__).parents[2] / "docs/reference/compatibility.md"

_HEAD = """# Compatibility

<!-- Written by `make test-suites`; change tests/suites/ instead. -->

The published test suites of drivers and frameworks, and two example applications, run through
maitred in transaction mode, test by test compared with the same run directly on PostgreSQL or
MariaDB. Every test runs. What cannot run directly either (extensions that this PostgreSQL lacks,
what only MySQL has) is no difference. mysql2 counts files, each with several tests.
"""

_HOW = """
*Passed* counts tests; *differ* are tests that end otherwise than directly: failed instead of
passed, but also the other way round. A pool of five servers, or of one, serves each pair of
database and user. With one server, two clients cannot both have a transaction open: a test that
needs that fails, and so may those after it, until what it left open is closed. PgBouncer stands
beside it for PostgreSQL in transaction mode, with its defaults and
`ignore_startup_parameters = extra_float_digits, options`. A difference is tried once more alone:
in a process of its own, with nobody else there.
"""


def page() -> str:
    """The whole page."""
    records, suites, explanations = read_all(), all_suites(), all_explanations()
    judged = judge(records, explanations)
    lines = [
        _HEAD,
        *_table(records, suites),
        _HOW,
        *_programs(records),
        *_differences(judged, explanations, suites),
        *_untried(records, suites),
        *_unsteady(records, suites),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table(records: dict[str, Record], suites: dict[str, Suite]) -> Iterator[str]:
    routes = [
        route
        for route in ROUTES.values()
        if any(route.name in record.counts for record in records.values())
    ]
    yield f"| passed | tests | {' | '.join(route.title for route in routes)} |"
    yield f"| --- | ---: | {' | '.join('---:' for _ in routes)} |"
    for name, suite in suites.items():
        if record := records.get(name):
            cells = [_cell(record, route.name) for route in routes]
            yield f"| {suite.title} {record.version} | {record.tests()} | {' | '.join(cells)} |"


def _cell(record: Record, route: str) -> str:
    if route not in record.counts:
        return "–"
    passed = str(record.counts[route].get("passed", 0))
    if route == "direct":
        return passed
    notes = []
    if differ := len(record.differences.get(route, {})):
        notes.append(f"{differ} differ")
    if untried := record.tests() - sum(record.counts[route].values()):
        notes.append(f"{untried} not tried")
    return f"{passed} ({', '.join(notes) or 'same'})"


def _programs(records: dict[str, Record]) -> Iterator[str]:
    for programs in sorted({tuple(record.programs.values()) for record in records.values()}):
        yield f"Run with {', '.join(programs)}."


def _differences(
    judged: Judged, explanations: list[Explanation], suites: dict[str, Suite]
) -> Iterator[str]:
    yield from ("", "## Every difference, explained")
    for each in explanations:
        if found := judged.explained[each.name]:
            yield from ("", f"### {each.name}", "", each.text, "")
            for suite, pattern in sorted(found):
                yield _difference(suites[suite].title, pattern, found[suite, pattern])
    if judged.unexplained:
        yield from ("", "### Not explained yet", "")
        for suite, route, test in judged.unexplained:
            yield _difference(suites[suite].title, test, [(route, test)])


def _difference(title: str, pattern: str, found: list[tuple[str, str]]) -> str:
    by_route: dict[str, list[str]] = {}
    for route, test in found:
        by_route.setdefault(ROUTES[route].title, []).append(test)
    ways = [
        f"{route}: {len(tests)} tests" if len(tests) > 1 else route
        for route, tests in by_route.items()
    ]
    return f"- {title}: `{pattern}` ({'; '.join(ways)})"


def _untried(records: dict[str, Record], suites: dict[str, Suite]) -> Iterator[str]:
    found = [(suite.title, each) for suite in suites.values() for each in suite.two_servers]
    if found and records:
        yield from ("", "## Not tried with one server", "")
        yield from (
            "Hundreds of tests that would wait for a second server, one after the other, or would"
            " make those after them wait.",
            "",
        )
        yield from (f"- {title}: `{each}*`" for title, each in found)


def _unsteady(records: dict[str, Record], suites: dict[str, Suite]) -> Iterator[str]:
    found = [
        f"- {suites[name].title}: `{test}` ({' and '.join(both)})"
        for name, record in records.items()
        for test, both in record.unsteady.items()
    ]
    if found:
        yield from ("", "## Unsteady without any proxy", "")
        yield from ("Two direct runs disagreed about these, so nothing is compared with them.", "")
        yield from found


def write() -> None:
    """Put the page in its place."""
    PAGE.write_text(page())
