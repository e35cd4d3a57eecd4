"""Classifies why a batch of sales cannot be written: a sale, locked rows, or the database itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.row_locks import RowsBusy

ONCE = "marketplace_orders_once"
DEADLOCK, SERIALIZATION, LOCKED, RAISED = "40P01", "40001", "55P03", "P0001"
OF_A_ROW = ("22", "23", "44", "P0")
"""Classes of SQLSTATE caused by the data written."""

OF_THE_SERVER = ("08", "53", "58", "57P")
"""Classes of SQLSTATE that affect every statement: no connection, no memory or disk, shutting down."""

SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
SHORTEST_PERSONAL = 3


class Cause(Enum):
    """The cause of a failed write."""

    SALE = auto()  # one of its sales
    BUSY = auto()  # a row that it needs is locked
    SESSION = auto()  # the session ended during it, perhaps by a timeout
    DATABASE = auto()  # nothing can be written now
    UNKNOWN = auto()  # a sale, if others can be written


def blame(error: Exception) -> Cause:
    """The cause of an error in a batch's transaction."""
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
        return Cause.SALE
    if not isinstance(error, sa.exc.DBAPIError):
        return Cause.DATABASE if isinstance(error, sa.exc.SQLAlchemyError) else Cause.UNKNOWN
    if isinstance(error, RowsBusy):
        return Cause.BUSY
    if error.connection_invalidated:
        return Cause.SESSION
    state = _state(error)
    if state in (DEADLOCK, SERIALIZATION, LOCKED) or _sqlite_code(error) in SQLITE_BUSY:
        return Cause.BUSY
    if state is None:
        return Cause.DATABASE if isinstance(error, sa.exc.OperationalError) else Cause.UNKNOWN
    if state.startswith(OF_THE_SERVER):
        return Cause.DATABASE
    return Cause.SALE if state.startswith(OF_A_ROW) else Cause.UNKNOWN


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


def _sqlite_code(error: sa.exc.DBAPIError) -> int | None:
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
