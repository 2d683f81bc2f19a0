"""Bring the tables up to date, one migrator at a time, however many start at once.

The session's advisory lock is held around all steps, each of which commits by itself.
Run by Alembic.
"""

import os

from alembic import context
from sqlalchemy import create_engine, text

LOCK = 20_240_607

URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")

engine = create_engine(URL)
with engine.connect() as connection:
    connection.execute(text("select pg_advisory_lock(:key)"), {"key": LOCK})
    connection.commit()
    try:
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock(:key)"), {"key": LOCK})
        connection.commit()
engine.dispose()
