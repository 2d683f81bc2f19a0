"""Match each difference with the explanation that somebody wrote for it in `explained.toml`.

Invents none: what no pattern matches is unexplained, and a pattern without a match is stale.
Called by `page`, by `__main__` and by the rules ring.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from suites.record import Record
from suites.suite import HERE


@dataclass(frozen=True)
class Explanation:
    """Why some tests end otherwise: the text, and which tests of which suites, on which routes."""

    name: str
    text: str
    # Patterns of test ids by suite; `*` stands for anything.
    tests: dict[str, list[str]]
    # Empty: every route.
    routes: tuple[str, ...] = ()
    # Only for tests that end as directly when they run alone.
    in_company: bool = False

    def is_judged(self, record: Record | None) -> bool:
        """Whether the suite has been run on a route that it speaks of."""
        return record is not None and (
            not self.routes or bool(set(self.routes) & set(record.counts))
        )

    def matching(self, suite: str, route: str, test: str, alone_same: bool) -> str | None:
        """The pattern that explains this difference, if one does."""
        if (self.routes and route not in self.routes) or (self.in_company and not alone_same):
            return None
        for pattern in self.tests.get(suite, []):
            if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), test, re.DOTALL):
                return pattern
        return None


@dataclass(frozen=True)
class Judged:
    """The differences of all records, sorted by whether and how they are explained."""

    # (suite, pattern) with the (route, test) that it matches, by the name of the explanation.
    explained: dict[str, dict[tuple[str, str], list[tuple[str, str]]]]
    unexplained: list[tuple[str, str, str]]
    # (explanation, suite, pattern) that match no difference.
    stale: list[tuple[str, str, str]]


def all_explanations() -> list[Explanation]:
    """The file, in its order; the first that matches counts."""
    with (HERE / "explained.toml").open("rb") as file:
        return [
            Explanation(
                name, " ".join(table["text"].split()), table["tests"],
                tuple(table.get("routes", ())), table.get("in_company", False),
            )
            for name, table in tomllib.load(file).items()
        ]  # fmt: skip


def judge(records: dict[str, Record], explanations: list[Explanation]) -> Judged:
    """Sort every difference through maitred; PgBouncer's are counted, not explained."""
    explained: dict[str, dict[tuple[str, str], list[tuple[str, str]]]] = {
        each.name: {} for each in explanations
    }
    unexplained: list[tuple[str, str, str]] = []
    for suite, record in records.items():
        for route, tests in record.differences.items():
            if not route.startswith("maitred"):
                continue
            for test, seen in tests.items():
                for each in explanations:
                    pattern = each.matching(suite, route, test, seen.alone == seen.direct)
                    if pattern is not None:
                        found = explained[each.name].setdefault((suite, pattern), [])
                        found.append((route, test))
                        break
                else:
                    unexplained.append((suite, route, test))
    stale = [
        (each.name, suite, pattern)
        for each in explanations
        for suite, patterns in each.tests.items()
        for pattern in patterns
        if (suite, pattern) not in explained[each.name] and each.is_judged(records.get(suite))
    ]
    return Judged(explained, unexplained, stale)
