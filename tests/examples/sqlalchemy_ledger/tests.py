"""What the ledger relies on: migrations under a lock, row locks, savepoints, streams, two drivers.

Asks PostgreSQL, never a pooler. Run by the tests, and by you:

    DATABASE_URL=postgresql://app@127.0.0.1:6432/shop pytest tests.py
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, delete, func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlalchemy_ledger.ledger import Account, Transfer, transfer

URL = os.environ["DATABASE_URL"]
PSYCOPG = URL.replace("postgresql://", "postgresql+psycopg://")
ASYNCPG = URL.replace("postgresql://", "postgresql+asyncpg://")


def migrate(*order: str) -> None:
    """`alembic upgrade head` or `alembic downgrade base`, as a deployment runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *order],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        env={**os.environ, "DATABASE_URL": URL}, timeout=15,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def tables() -> Iterator[None]:
    migrate("upgrade", "head")
    yield
    migrate("downgrade", "base")


@pytest.fixture
def engine(tables: None) -> Iterator[Engine]:
    made = create_engine(PSYCOPG, pool_size=8)
    with Session(made) as session, session.begin():
        session.execute(delete(Transfer))
        session.execute(delete(Account).where(Account.name != "bank"))
        session.add_all([Account(name="Ana", balance=100), Account(name="Rui", balance=100)])
    yield made
    made.dispose()


def balances(engine: Engine) -> dict[str, Decimal]:
    with Session(engine) as session:
        found = session.scalars(select(Account).where(Account.name != "bank"))
        return {account.name: account.balance for account in found}


def test_migrators_that_start_at_once_wait_for_each_other() -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate, ["upgrade"] * 4, ["head"] * 4))
    engine = create_engine(PSYCOPG)
    assert {"account", "transfer"} <= set(inspect(engine).get_table_names())
    with engine.connect() as connection:
        held = "select count(*) from pg_locks where locktype = 'advisory'"
        assert connection.scalar(text(held)) == 0
        assert connection.scalar(text("select balance from account")) == 1_000_000
    engine.dispose()


def test_money_neither_appears_nor_vanishes(engine: Engine) -> None:
    def clerk(number: int) -> None:
        names = ("Ana", "Rui") if number % 2 else ("Rui", "Ana")
        for _ in range(10):
            with Session(engine) as session, session.begin():
                transfer(session, *names, Decimal(number + 1))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(clerk, range(6)))
    assert sum(balances(engine).values()) == 200
    with Session(engine) as session:
        assert session.scalar(select(func.count(Transfer.id))) == 60


def test_a_refused_transfer_is_written_down(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        assert transfer(session, "Ana", "Rui", Decimal(500)).refused
        assert not transfer(session, "Ana", "Rui", Decimal(1)).refused
    assert balances(engine) == {"Ana": 99, "Rui": 101}


def test_rows_stream_from_a_server_side_cursor(engine: Engine) -> None:
    numbers = text("select n from generate_series(1, 2000) as n")
    with engine.connect().execution_options(stream_results=True, yield_per=100) as connection:
        assert sum(connection.scalars(numbers)) == 2001000


def test_each_connection_keeps_its_search_path(engine: Engine) -> None:
    with engine.connect() as one, engine.connect() as two:
        one.execute(text("set search_path = nowhere, public"))
        one.commit()
        assert two.scalar(text("show search_path")) == '"$user", public'
        two.commit()
        assert one.scalar(text("show search_path")) == "nowhere, public"


async def test_asyncpg_moves_money_too(engine: Engine) -> None:
    # Why of another size than the servers behind a pooler: its prepared statements must not care.
    driver = create_async_engine(ASYNCPG, pool_size=8)

    async def clerk(amount: int) -> None:
        async with AsyncSession(driver) as session, session.begin():
            await session.run_sync(transfer, "Ana", "Rui", Decimal(amount))

    await asyncio.gather(*(clerk(1) for _ in range(20)))
    await driver.dispose()
    assert balances(engine) == {"Ana": 80, "Rui": 120}
