"""Accounts and transfers: the tables, and moving money in one transaction.

Opens no connection; it is given sessions. Called by the tests, as request handlers would.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Numeric, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Table(DeclarativeBase):
    """What all tables have in common: their catalogue."""


class Account(Table):
    """Somebody's money."""

    __tablename__ = "account"
    __table_args__ = (CheckConstraint("balance >= 0", name="balance_not_negative"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[Decimal] = mapped_column(Numeric(12, 2))


class Transfer(Table):
    """Money that moved, or was refused."""

    __tablename__ = "transfer"

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(ForeignKey("account.name"))
    target: Mapped[str] = mapped_column(ForeignKey("account.name"))
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    refused: Mapped[bool] = mapped_column(default=False)
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())


def transfer(session: Session, source: str, target: str, amount: Decimal) -> Transfer:
    """Move money; a transfer that the source cannot pay is written down as refused.

    Why a savepoint: the refusal must be kept, so only the movement may roll back.
    """
    accounts = select(Account).where(Account.name.in_([source, target]))
    # Why ordered, and before anything else: two transfers the other way round would lock each
    # other out.
    locked = {
        each.name: each
        for each in session.scalars(accounts.order_by(Account.name).with_for_update())
    }
    made = Transfer(source=source, target=target, amount=amount)
    session.add(made)
    try:
        with session.begin_nested():
            locked[source].balance -= amount
            locked[target].balance += amount
    except IntegrityError:
        made.refused = True
    return made
