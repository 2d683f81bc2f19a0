"""Random sequences of statements that change a session's state, by three clients on one or two
servers.

Each client must see what it would see alone on a connection of its own. Run by pytest; hypothesis
makes the sequences
and shortens one that fails to a script that `fix_parity.play` plays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from fix_parity import Parity
from fix_postgres import Postgres

VALUES = {
    "work_mem": ["'5MB'", "'6MB'", "'4MB'"],
    "lock_timeout": ["'1s'", "2000", "0"],
    "transaction_timeout": ["'1h'", "'2h'"],
    "app.x": ["'one'", "'two'"],
    "app.y": ["'1'"],
    "search_path": ["a, public", "''"],
    "TimeZone": ["'Europe/Rome'", "'Asia/Tokyo'", "'UTC'"],
    "DateStyle": ["'German'", "'SQL, DMY'"],
    "application_name": ["'me'", "'you'"],
    "default_transaction_isolation": ["'serializable'"],
}
NAMES = st.sampled_from(list(VALUES))
OWN = {
    "options": "-c work_mem=8MB -c app.x=own -c lock_timeout=7s",
    "DateStyle": "German, DMY",
    "TimeZone": "Europe/Lisbon",
}
# What a client is asked for to see its state; `true`: nobody may have set it on this server.
LOOK = (
    "select "
    + ", ".join(f"coalesce(current_setting('{name}', true), '')" for name in VALUES)
    + ", current_user, session_user, (select string_agg(name, ',' order by name)"
    " from pg_prepared_statements where from_sql)"
)


@st.composite
def changes_of_a_setting(draw: st.DrawFn) -> str:
    name = draw(NAMES)
    value = draw(st.sampled_from(VALUES[name]))
    word = value if value.startswith("'") else f"'{value}'"
    return draw(
        st.sampled_from(
            [
                f"set {name} = {value}",
                f"set session {name} to {value}",
                f"set local {name} = {value}",
                f"select set_config('{name}', {word}, false)",
                f"select set_config('{name}', {word}, true)",
                f"select set_config(lower('{name}'), {word}, false)",
                f"do $$ begin perform set_config('{name}', {word}, false); end $$",
                f"do $$ begin set {name} = {value}; end $$",
                f"reset {name}",
                f"set {name} to default",
            ]
        )
    )


CHANGES_OF_ALL = st.sampled_from(
    [
        "reset all",
        "set names 'latin1'",
        "set time zone default",
        "set session characteristics as transaction read only",
        "set transaction read only",
        "select 1/0",
        "set work_mem = 'much'",
        "set no_such_setting = 1",
        "set shared_buffers = '1GB'",
        "do $$ begin begin set work_mem = '7MB'; perform 1/0;"
        " exception when others then null; end; end $$",
        "select 1",
    ]
)
ROLES = st.sampled_from(
    [
        "set role painter",
        "set role printer",
        "set local role painter",
        "set role none",
        "reset role",
        "select set_config('role', 'printer', false)",
    ]
)
SESSIONS = st.sampled_from(
    [
        "set session authorization app",
        "set session authorization painter",
        "set local session authorization app",
        "reset session authorization",
        "set log_statement = 'mod'",
    ]
)
STATEMENTS = st.sampled_from(
    [
        "prepare p as select 'p'",
        "prepare q (int) as select $1 + 1",
        "prepare s as select set_config('app.x', 'by s', false)",
        "execute p",
        "execute q(1)",
        "execute s",
        "deallocate p",
        "deallocate all",
    ]
)
SAVEPOINTS = st.sampled_from(["savepoint s", "rollback to s", "release s"])
ENDS = st.sampled_from(["commit", "rollback", "commit and chain; rollback"])
ALONE = st.sampled_from(["discard all", "discard plans"])


def turns(as_superuser: bool) -> st.SearchStrategy[list[str]]:
    """What one client does before another has its turn: it ends outside of a transaction."""
    plain = changes_of_a_setting() | CHANGES_OF_ALL | ROLES
    if as_superuser:
        plain |= SESSIONS
    any_one = plain | STATEMENTS
    block = st.builds(
        lambda inner, end: ["begin", *inner, end],
        st.lists(any_one | SAVEPOINTS, min_size=1, max_size=5),
        ENDS,
    )
    # Why no statement prepared: among others in one request it keeps its client's server.
    one_request = st.builds("; ".join, st.lists(plain, min_size=2, max_size=4)).map(
        lambda sql: [sql]
    )
    pipeline = st.builds(
        lambda parts: [" | ".join(["pipeline " + parts[0], *parts[1:], "sync"])],
        st.lists(any_one | st.just("sync"), min_size=1, max_size=4),
    )
    return st.lists(any_one | ALONE, min_size=1, max_size=2) | block | one_request | pipeline


@st.composite
def scripts(draw: st.DrawFn) -> tuple[str, bool, str]:
    """A user, whether its first client began with settings of its own, and a script of three
    clients."""
    user = draw(st.sampled_from(["app", "postgres"]))
    lines: list[str] = []
    clients = st.sampled_from("abc")
    for client, turn, looking in draw(
        st.lists(
            st.tuples(clients, turns(user == "postgres"), st.sets(clients)), min_size=1, max_size=10
        )
    ):
        lines += [f"{client}: {statement}" for statement in turn]
        lines += [f"{each}: look" for each in sorted(looking)]
    # Why not: after `reset all; set TimeZone = 'UTC'` a client has what its server reports, its
    # own or not.
    is_plain = not any(";" in line and re.search("reset|default", line) for line in lines)
    has_own = is_plain and draw(st.booleans())
    return user, has_own, "\n".join([*lines, "a: look", "b: look", "c: look"])


@pytest.fixture(scope="module")
def _roles(_shared_postgres: Postgres) -> Iterator[None]:
    for sql in ("create role painter", "create role printer", "grant painter, printer to app"):
        _shared_postgres.rows(sql)
    yield
    _shared_postgres.terminate_all("served")
    for sql in ("drop role painter", "drop role printer"):
        _shared_postgres.rows(sql)


@pytest.mark.one_backend
@pytest.mark.deadline(1200)
@pytest.mark.usefixtures("_roles")
def test_clients_see_what_they_would_see_alone(
    request: pytest.FixtureRequest, parity: Parity
) -> None:
    is_long = request.config.getoption("--run-slow")
    count = int(os.environ.get("MAITRED_RANDOM_SESSIONS", "3000" if is_long else "120"))

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=not is_long,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts())
    def check(case: tuple[str, bool, str]) -> None:
        user, has_own, script = case
        note(f"as {user}, behind {parity.size} servers, a has its own: {has_own}\n{script}")
        # Newcomers, as many as there are servers, meet what was left behind.
        newcomers = [f"new{number}" for number in range(parity.size)]
        script += "".join(f"\n{name}: begin\n{name}: look" for name in newcomers)
        clients = {name: {"user": user} for name in ["a", "b", "c", *newcomers]}
        if has_own:
            clients["a"] |= OWN
        parity.check_script(script.replace("look", LOOK), strangers=False, **clients)

    check()
