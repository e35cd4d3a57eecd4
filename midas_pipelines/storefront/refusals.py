"""Locks on rows that the shop locks too, and what a database refuses in a batch: one row, locked rows, or everything.

Locks are taken in one order always, by id, products first; many rows are locked without waiting, so that no deadlock
arises. A trigger of the shop's may raise any SQLSTATE for one row, also that of a full disk: so an error counts as that
of a row as soon as another row can be written.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.bulk import any_of, update_rows
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import product_variants, products

NO_WAIT = "midas_no_wait"
"""The option of a connection that does not wait for locked rows; others wait as long as their session's `lock_timeout`."""


class RowsBusy(sa.exc.OperationalError):
    """Other sessions hold rows that the transaction needs: roll it back and try again."""

    def __init__(self, table: str, ids: Collection[int]) -> None:
        super().__init__(None, None, Exception(f"Another session holds rows of {table}; try again."))
        self.table = table
        self.ids = frozenset(ids)
        self.orders: set[str] = set()  # the sales that need them, where known


def lock(
    connection: sa.Connection, query: sa.Select[Any], key: sa.Column[int], ids: Collection[int]
) -> list[sa.Row[Any]]:
    """The rows of the query with these ids, by id, each locked as an UPDATE would until the transaction ends.

    Args:
        connection: in a writing transaction.
        query: selects `key` among others.
        key: the id of the table to lock.
        ids: those wanted; of rows that do not exist nothing is returned.

    Raises:
        RowsBusy: others hold some of them, and the connection does not wait.
        sqlalchemy.exc.OperationalError: others hold some of them for too long.
    """
    if not ids:
        return []
    skip = bool(connection.get_execution_options().get(NO_WAIT))
    wanted = query.where(any_of(connection, key, sorted(ids))).order_by(key)
    rows = connection.execute(wanted.with_for_update(key_share=True, skip_locked=skip, of=key.table)).all()
    missing = set(ids) - {row.id for row in rows}
    if skip and missing:  # held by others, or gone
        held = connection.scalars(sa.select(key).where(any_of(connection, key, sorted(missing)))).all()
        if held:
            raise RowsBusy(key.table.name, held)
    return list(rows)


def lock_stock(connection: sa.Connection, keys: Collection[ItemKey]) -> dict[ItemKey, int]:
    """The stock on hand of these items, locked until the transaction ends; items that are gone are left out.

    Locked as an UPDATE would (FOR NO KEY UPDATE): two sales of one item may both have written their order lines,
    which hold the item's key, and must not wait for one another.

    Raises:
        RowsBusy: others hold some of them.
    """
    found: dict[ItemKey, int] = {}
    product_ids = sorted(product for product, variant in keys if variant is None)
    variant_ids = sorted(variant for _, variant in keys if variant is not None)
    query = sa.select(products.c.id, products.c.stock_quantity)
    for row in lock(connection, query, products.c.id, product_ids):
        found[(row.id, None)] = row.stock_quantity
    columns = product_variants.c
    of_variants = sa.select(columns.id, columns.product_id, columns.stock_quantity)
    for row in lock(connection, of_variants, columns.id, variant_ids):
        found[(row.product_id, row.id)] = row.stock_quantity
    return found


def set_stock(connection: sa.Connection, quantities: Mapping[ItemKey, int]) -> None:
    """Sets the stock on hand of items that `lock_stock` has locked; their ledger rows must be written before."""
    plain = [{"id": p, "stock_quantity": q} for (p, v), q in quantities.items() if v is None]
    variants = [{"id": v, "stock_quantity": q} for (_, v), q in quantities.items() if v is not None]
    update_rows(connection, products, plain)
    update_rows(connection, product_variants, variants)


log = logging.getLogger(__name__)

ONCE = "marketplace_orders_once"
DEADLOCK, SERIALIZATION, LOCKED, RAISED = "40P01", "40001", "55P03", "P0001"
OF_A_ROW = ("22", "23", "44", "P0")
"""Classes of SQLSTATE caused by the data written."""

OF_THE_SERVER = ("08", "53", "58", "57P")
"""Classes of SQLSTATE that mostly affect every statement: no connection, no memory or disk, shutting down."""

SHORTEST_PERSONAL = 3
MANY_DOUBTFUL = 20
"""Rows tried alone without one success after which the database itself counts as the cause."""


class Cause(Enum):
    """The cause of a failed write."""

    ROW = auto()  # a row that is written
    BUSY = auto()  # a row that it needs is locked
    SERVER = auto()  # the server, or a trigger that says so
    SESSION = auto()  # the session ended during it, perhaps by a timeout
    DATABASE = auto()  # nothing can be written now
    UNKNOWN = auto()  # a row, if others can be written

    @property
    def of_all(self) -> bool:
        """Whether no single row can be at fault."""
        return self in (Cause.SESSION, Cause.DATABASE)


def blame(error: Exception) -> Cause:
    """The cause of an error in a transaction."""
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
        return Cause.ROW
    if isinstance(error, UnicodeError | OverflowError):
        return Cause.ROW
    if not isinstance(error, sa.exc.DBAPIError):
        if isinstance(error, sa.exc.StatementError):  # a value that could not be made ready for the database
            return blame(error.orig) if isinstance(error.orig, Exception) else Cause.UNKNOWN
        return Cause.DATABASE if isinstance(error, sa.exc.SQLAlchemyError) else Cause.UNKNOWN
    if isinstance(error, RowsBusy):
        return Cause.BUSY
    if error.connection_invalidated:
        return Cause.SESSION
    state = _state(error)
    if state in (DEADLOCK, SERIALIZATION, LOCKED):
        return Cause.BUSY
    if state is None:
        code = getattr(error.orig, "sqlite_errorcode", None)
        broad = (
            code != sqlite3.SQLITE_ERROR
        )  # what a function in a trigger raises, such as for malformed JSON
        return Cause.DATABASE if isinstance(error, sa.exc.OperationalError) and broad else Cause.UNKNOWN
    if state.startswith(OF_THE_SERVER):
        return Cause.SERVER
    return Cause.ROW if state.startswith(OF_A_ROW) else Cause.UNKNOWN


def write_each(
    connection: sa.Connection,
    rows: Sequence[Any],
    write: Callable[[Sequence[Any]], object],
    on_bad: Callable[[Any, Exception], object] | None = None,
) -> None:
    """Writes the rows together; what the database refuses is halved until only the bad rows are left out.

    Args:
        connection: a writing transaction.
        rows: in any form that `write` knows.
        write: writes some of them; may raise anything that the database or its driver says of a row.
        on_bad: is given each row that cannot be written and the reason, and may write something in its place.

    Raises:
        sqlalchemy.exc.StatementError: no row can be written, or the session has ended.
    """
    halving = _Halving(connection, write)
    halving.write(rows)
    if halving.refused and not halving.written and blame(halving.refused[0][1]) is not Cause.ROW:
        raise halving.refused[0][1]
    for row, error in halving.refused:
        log.warning("A row cannot be written: %s", in_short(error))
        if on_bad is not None:
            with set_aside("What is written in its place"), connection.begin_nested():
                on_bad(row, error)


@dataclass
class _Halving:
    connection: sa.Connection
    put: Callable[[Sequence[Any]], object]
    written: bool = False
    refused: list[tuple[Any, Exception]] = field(default_factory=list)

    def write(self, rows: Sequence[Any]) -> None:
        if not rows:
            return
        try:
            with self.connection.begin_nested():
                self.put(rows)
            self.written = True
        except (sa.exc.StatementError, ValueError, ArithmeticError) as error:
            if self.connection.invalidated or blame(error).of_all:
                raise
            if len(rows) > 1:
                middle = len(rows) // 2
                self.write(rows[:middle])
                self.write(rows[middle:])
                return
            self.refused.append((rows[0], error))
            if not self.written and len(self.refused) >= MANY_DOUBTFUL and blame(error) is not Cause.ROW:
                raise


@contextmanager
def set_aside(what: str) -> Iterator[None]:
    """Lets the block fail alone, with a log line, so that others of its kind go on.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the session has ended, or nothing can be written.
    """
    try:
        yield
    except (sa.exc.StatementError, ValueError, ArithmeticError) as error:
        if blame(error).of_all:
            raise
        log.warning("%s cannot be written now: %s", what, in_short(error))


def in_short(error: Exception) -> str:
    """The kind of a database's error, without the row that it may quote."""
    return type(getattr(error, "orig", None) or error).__name__


def was_overtaken(error: sa.exc.DBAPIError) -> bool:
    """Whether another importer wrote one of the orders first, or PostgreSQL ended a deadlock."""
    if _state(error) in (DEADLOCK, SERIALIZATION):
        return True
    return bool(getattr(getattr(error.orig, "diag", None), "constraint_name", None) == ONCE)


def in_words(error: Exception, raw: Any) -> str:
    """The error for a person: its kind, and the message of the shop's trigger, without personal data."""
    orig = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    kind = type(orig).__name__
    said = ""
    if isinstance(error, sa.exc.DBAPIError) and _state(error) == RAISED:
        said = str(getattr(getattr(orig, "diag", None), "message_primary", "") or "")
    elif getattr(orig, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER":
        said = str(orig)
    for personal in sorted(_personal(raw), key=len, reverse=True):
        said = said.replace(personal, "...")
    return f"{kind}: '{said[:200]}'." if said else f"{kind}."


def _personal(raw: Any) -> Iterator[str]:
    """The texts of the buyer and the delivery address."""
    for name in ("customer", "shipping_address"):
        part = raw.get(name) if isinstance(raw, dict) else None
        for value in part.values() if isinstance(part, dict) else ():
            if isinstance(value, str) and len(value) >= SHORTEST_PERSONAL:
                yield value


def _state(error: sa.exc.DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None
