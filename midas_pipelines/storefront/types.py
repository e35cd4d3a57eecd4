"""Column types that mean the same on SQLite and PostgreSQL: money, and moments in UTC; the database's clock, and waits by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from midas_pipelines.text import writable

CENT, ZERO = Decimal("0.01"), Decimal("0.00")
LARGEST_AMOUNT = Decimal(10) ** 8
"""The shop's amounts are DECIMAL(10,2): below a hundred million."""
MINOR_UNITS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "XAF", "XOF"), 0
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""Digits after the point of currencies that do not have two, by ISO 4217."""


def to_cents(amount: Decimal) -> Decimal:
    """The amount rounded half-up to whole cents, as the shop rounds its selling prices."""
    return amount if amount.same_quantum(CENT) else amount.quantize(CENT, ROUND_HALF_UP)


class Money(sa.types.TypeDecorator[Decimal]):
    """DECIMAL(10,2) that is a Decimal in Python on both databases; SQLite keeps it as a number. A value that is not one is
    read as NaN: one such row must not stop the reading of the others."""

    impl = sa.Numeric(10, 2)
    cache_ok = True
    digits = (10, 2)

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        as_it_is = sa.Numeric(*self.digits, asdecimal=False)
        return dialect.type_descriptor(as_it_is if dialect.name == "sqlite" else sa.Numeric(*self.digits))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Decimal | None:
        return value if value is None or isinstance(value, Decimal) else _number(value, to_cents)


class Amount(Money):
    """DECIMAL(18,4): money in a marketplace's currency, which may have a thousandth; read with two digits after the point,
    and more only where they are not zero."""

    cache_ok = True
    digits = (18, 4)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Decimal | None:
        return None if value is None else _number(value, shortest)


def _number(value: Any, rounded: Callable[[Decimal], Decimal]) -> Decimal:
    try:
        return rounded(Decimal(str(value)))
    except ArithmeticError:  # SQLite lets any text into a number column
        return Decimal("NaN")


def shortest(amount: Decimal) -> Decimal:
    """The amount to four digits after the point, without zeros at its end beyond the cents."""
    exact = amount.quantize(Decimal("0.0001"), ROUND_HALF_UP)
    cents = to_cents(exact)
    return cents if cents == exact else exact.normalize()


def sound(amount: Decimal) -> Decimal | None:
    """The amount to four digits after the point; None for one that the shop's tables cannot hold."""
    if not amount:
        return ZERO
    if amount.same_quantum(CENT) and -LARGEST_AMOUNT < amount < LARGEST_AMOUNT:  # as most are
        return amount
    if amount.adjusted() < 8:  # first: `quantize` fails on a larger amount
        cents = amount.quantize(CENT, ROUND_HALF_UP)
        if abs(cents) < LARGEST_AMOUNT:
            return cents if cents == amount else shortest(amount)
    return None


def same_amount(amount: Decimal, other: Decimal, currency: str | None) -> bool:
    """Whether two amounts are one when rounded half-up to the smallest unit of their currency; to cents while that is
    unknown."""
    if amount == other:
        return True
    unit = Decimal(1).scaleb(-MINOR_UNITS.get(currency or "", 2))
    return amount.quantize(unit, ROUND_HALF_UP) == other.quantize(unit, ROUND_HALF_UP)


class Words(sa.types.TypeDecorator[str]):
    """Text for a person, often from outside: made storable, and cut to the column's length if it has one."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        super().__init__()
        self.length = length

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return sa.Text() if self.length is None else sa.String(self.length)

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else writable(value)[: self.length]


def unfit(column: sa.Column[Any], value: str | Decimal) -> str | None:
    """Why the column cannot hold the id or the amount, as the end of a sentence; None where it can."""
    if isinstance(value, str):
        longest = getattr(column.type, "length", None)
        if writable(value) != value:
            return "holds a character that no database stores"
        return f"is longer than {longest} characters" if longest and len(value) > longest else None
    assert isinstance(column.type, Money)
    precision, scale = column.type.digits
    most = Decimal(10) ** (precision - scale)
    return None if abs(value) < most else f"is not below {most:,}"


class Json(sa.types.TypeDecorator[Any]):
    """JSON, as PostgreSQL indexes it; its dialect, which takes long to load, is loaded only for that database."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name != "postgresql":
            return super().load_dialect_impl(dialect)
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment: aware and in UTC in Python; TIMESTAMPTZ in PostgreSQL, ISO text in SQLite."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; moments are stored in UTC")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class utc_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's own clock, optionally moved by whole seconds; one clock for all processes."""

    type = UtcDateTime()
    inherit_cache = True
    name = "utc_now"

    def __init__(self, offset_seconds: int = 0) -> None:
        super().__init__(sa.literal_column(str(int(offset_seconds))))  # a compiled statement is kept by it
        self.offset_seconds = int(offset_seconds)


@compiles(utc_now, "postgresql")
def _utc_now_postgresql(element: utc_now, compiler: SQLCompiler, **_: Any) -> str:
    # a moment that has passed is what columns are compared with, and an index serves only a clock that stops meanwhile
    clock = "statement_timestamp()" if element.offset_seconds < 0 else "clock_timestamp()"
    return f"({clock} + interval '{element.offset_seconds} seconds')"


@compiles(utc_now, "sqlite")
def _utc_now_sqlite(element: utc_now, compiler: SQLCompiler, **_: Any) -> str:
    return SQLITE_NOW.replace("'now'", f"'now', '{element.offset_seconds:+d} seconds'")


SQLITE_NOW = "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
"""SQLite's clock in the text form that SQLAlchemy reads back: six digits after the second."""


SLACK_SECONDS = 5
"""How far ahead of its longest a wait may seem to end, such as one that another process has just begun."""


@dataclass(frozen=True)
class Backoff:
    """How many seconds something waits after it failed."""

    first: float  # after the first failure that costs a wait; twice as many after each more
    longest: float = 1800  # below an hour: a clock that is set back by one holds nothing up
    free: int = 0  # failures in a row that cost no wait

    def seconds(self, attempts: int) -> float:
        """The wait after the `attempts`-th failure in a row."""
        doublings = min(attempts - self.free - 1, 30)
        return 0.0 if doublings < 0 else min(self.longest, self.first * 2**doublings)

    def is_due(self, moment: sa.ColumnElement[datetime | None]) -> sa.ColumnElement[bool]:
        """Whether a wait is over by the database's clock, as `is_due` below."""
        return is_due(moment, round(self.longest) + SLACK_SECONDS)


def is_due(moment: sa.ColumnElement[datetime | None], longest_seconds: int) -> sa.ColumnElement[bool]:
    """Whether a wait is over by the database's clock: there is none, its end has come, or its end is further ahead than
    any wait lasts, for the clock has been set back since."""
    return sa.or_(moment.is_(None), moment <= utc_now(), moment > utc_now(longest_seconds))
