"""Accounts; later steps must not change this one. Run by Alembic."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """The table, and the bank itself."""
    op.create_table(
        "account",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("balance", sa.Numeric(12, 2), nullable=False),
        sa.CheckConstraint("balance >= 0", name="balance_not_negative"),
    )
    op.execute("insert into account values ('bank', 1000000)")


def downgrade() -> None:
    """Gone again."""
    op.drop_table("account")
