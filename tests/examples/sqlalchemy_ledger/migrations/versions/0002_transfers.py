"""Transfers and an index to find them by; knows only the step before. Run by Alembic."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """The table and its index."""
    op.create_table(
        "transfer",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("source", sa.String, sa.ForeignKey("account.name"), nullable=False),
        sa.Column("target", sa.String, sa.ForeignKey("account.name"), nullable=False),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("refused", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("made_at", sa.DateTime, nullable=False, server_default=sa.func.now()),
    )
    # Why not built concurrently: that would wait for the migrators that wait for us.
    op.create_index("transfer_source", "transfer", ["source"])


def downgrade() -> None:
    """Gone again."""
    op.drop_table("transfer")
