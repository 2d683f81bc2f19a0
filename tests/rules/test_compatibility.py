"""The page on compatibility says what the last runs found, and leaves nothing unexplained.

Runs no suite. Run by pytest; mend a failure with `make test-suites SUITES_ARGS=--judge-only`.
"""

from __future__ import annotations

from suites import page
from suites.explain import all_explanations, judge
from suites.record import read_all
from suites.suite import all_suites


def test_the_page_is_what_the_records_say() -> None:
    assert page.PAGE.read_text() == page.page()


def test_every_suite_has_a_record_of_the_pinned_version() -> None:
    recorded = {name: record.version for name, record in read_all().items()}
    assert recorded == {name: suite.version for name, suite in all_suites().items()}


def test_every_difference_is_explained_and_nothing_else() -> None:
    judged = judge(read_all(), all_explanations())
    assert judged.unexplained == []
    assert judged.stale == []
