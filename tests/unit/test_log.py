"""Log lines as text and JSON, without secrets and within limits.

The logger is put back as it was. Run by pytest.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from maitred import log
from maitred.event import LoginFailed, SlowQuery
from maitred.report import Reporter


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    yield io.StringIO()
    log.LOGGER.handlers.clear()
    log.LOGGER.propagate = True


def test_a_text_line_has_time_level_text_and_facts(stream: io.StringIO) -> None:
    log.set_up(level="info", form="text", stream=stream)
    log.write(logging.WARNING, "login failed", user="a b", database="shop", detail=None)
    line = stream.getvalue()
    assert line.endswith('Z WARNING login failed  user="a b" database=shop\n')


def test_a_json_line_is_one_object(stream: io.StringIO) -> None:
    log.set_up(level="info", form="json", stream=stream)
    log.write(logging.INFO, "ready\nnow", workers=2)
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["text"], found["level"], found["workers"]) == ("ready\nnow", "info", 2)


def test_less_severe_lines_are_left_out(stream: io.StringIO) -> None:
    log.set_up(level="warning", form="text", stream=stream)
    log.write(logging.INFO, "nothing")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_holds_a_secret(stream: io.StringIO, form: str) -> None:
    log.set_up(level="info", form=form, stream=stream)
    log.write(logging.INFO, "postgres://a:hush@h/x", detail="password=hush", other="md5" + "0" * 32)
    try:
        raise ValueError("cannot reach postgres://a:hush@h/x")
    except ValueError:
        log.LOGGER.exception("failed")
    assert "hush" not in stream.getvalue()
    assert "0" * 32 not in stream.getvalue()
    assert stream.getvalue().count("***") >= 4


def test_the_limiter_counts_what_it_leaves_out() -> None:
    now = [0.0]
    limiter = log.Limiter(2, clock=lambda: now[0])
    assert [limiter.admit("x")[0] for _ in range(5)] == [True, True, False, False, False]
    assert limiter.admit("y") == (True, 0)
    now[0] = 1.0
    assert limiter.admit("x") == (True, 3)
    assert limiter.admit("x") == (True, 0)


def test_events_become_lines(stream: io.StringIO) -> None:
    log.set_up(level="info", form="json", stream=stream)
    reporter = Reporter()
    reporter.on_event(SlowQuery(1500, 250, "shop", "app", "select ?", 7))
    found = json.loads(stream.getvalue())
    assert found["text"] == "slow query"
    assert (found["duration_ms"], found["wait_ms"], found["shape"]) == (1.5, 0.25, "select ?")


def test_a_flood_of_events_is_cut_and_told(stream: io.StringIO) -> None:
    log.set_up(level="info", form="text", stream=stream)
    now = [0.0]
    reporter = Reporter(log.Limiter(3, clock=lambda: now[0]))
    for _ in range(10):
        reporter.on_event(LoginFailed("a", "b", "c", "d"))
    now[0] = 1.0
    reporter.on_event(LoginFailed("a", "b", "c", "d"))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert "7 more lines were left out" in lines[3]
