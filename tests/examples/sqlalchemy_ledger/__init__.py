"""An SQLAlchemy application with Alembic migrations: accounts, and money that moves between them.

It knows nothing of maitred. Its tests run under pytest; see `tests`.
"""
