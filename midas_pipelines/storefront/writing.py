"""Writing to the shop's database: bulk statements, locks, and what the database refuses of a batch.

Locks are taken in one order always, by id, products first; many rows are locked without waiting, so that no deadlock
arises. A trigger of the shop's may raise any SQLSTATE for one row, also that of a full disk: so an error counts as that
of a row as soon as another row can be written.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from midas_pipelines.storefront.bulk import insert_sql, texts, update_sql

if TYPE_CHECKING:  # each takes long to load, and one of the two is used
    from sqlalchemy.dialects import postgresql, sqlite


Row = Mapping[str, Any]
Columns = Mapping[str, Sequence[Any]]
"""The values of rows by column, which is how the most rows are made and sent: as many values in each."""


def insert_columns(connection: sa.Connection, table: sa.Table, columns: Columns) -> None:
    """Inserts rows. Raises IntegrityError or DataError of SQLAlchemy where one of them breaks a rule of the table."""
    if not any(columns.values()):
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(insert_sql(table, tuple(columns)), texts(table, columns))
    else:
        connection.execute(sa.insert(table), by_row(columns))


def by_column(rows: Sequence[Row]) -> Columns:
    """The rows, which all have the same columns, by column."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def by_row(columns: Columns) -> list[dict[str, Any]]:
    """The rows of these columns."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def insert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """The database's own INSERT, which knows ON CONFLICT."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def upsert(connection: sa.Connection, table: sa.Table, key: Row, values: Row) -> None:
    """Sets the columns of the row with this key, which is added where there is none."""
    adding = insert(connection, table).values({**key, **values})
    connection.execute(adding.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Row], key: str) -> set[Any]:
    """Inserts the rows that violate no unique key; returns the `key` of each inserted row. Of two transactions that insert the
    same row one waits for the other's end: in the order of `rows`, which must therefore be sorted alike everywhere."""
    if not rows:
        return set()
    if connection.dialect.name == "postgresql":
        statement = f"{insert_sql(table, tuple(rows[0]))} ON CONFLICT DO NOTHING RETURNING {key}"
        return set(connection.exec_driver_sql(statement, texts(table, by_column(rows))).scalars().all())
    statement_ = insert(connection, table).on_conflict_do_nothing().returning(table.c[key])
    return set(connection.execute(statement_, [dict(row) for row in rows]).scalars())


def update_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Sets the other columns of the rows with these ids; returns how many rows the database changed."""
    if not rows:
        return 0
    names = tuple(rows[0])
    if connection.dialect.name == "postgresql":
        return connection.exec_driver_sql(update_sql(table, names), texts(table, by_column(rows))).rowcount
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in names if name != "id"}
    statement = sa.update(table).where(table.c.id == sa.bindparam("new_id")).values(values)
    return connection.execute(
        statement, [{f"new_{name}": row[name] for name in names} for row in rows]
    ).rowcount


def reserve_ids(
    connection: sa.Connection, numbers: Mapping[sa.Table, int], above: Mapping[sa.Table, int]
) -> dict[sa.Table, list[int]]:
    """As many ids as each table is to get rows, so that rows that refer to them can be written at the same time, in a writing
    transaction. Ids up to those in `above` are taken too: SQLite gives the id of a deleted last row again."""
    if connection.dialect.name != "postgresql":
        last = {table: connection.scalar(sa.select(sa.func.max(table.c.id))) or 0 for table in numbers}
        starts = {table: max(last[table], above.get(table, 0)) + 1 for table in numbers}
        return {table: list(range(starts[table], starts[table] + count)) for table, count in numbers.items()}
    part = (
        "(SELECT array_agg(nextval(ids.name)) "
        "FROM (SELECT CAST(pg_get_serial_sequence(%s, 'id') AS regclass) AS name OFFSET 0) AS ids, "
        "generate_series(1, %s))"
    )
    parameters = tuple(one for table, number in numbers.items() for one in (table.name, number))
    found = connection.exec_driver_sql(f"SELECT {', '.join([part] * len(numbers))}", parameters).one()
    return {table: list(ids or ()) for table, ids in zip(numbers, found, strict=True)}


def any_of(
    connection: sa.Connection, column: sa.ColumnElement[Any], values: Collection[Any]
) -> sa.ColumnElement[bool]:
    """Whether the column is one of the values, which go to the database as one parameter however many there are."""
    if connection.dialect.name == "postgresql":
        listed = sa.bindparam(None, list(values), type_=sa.ARRAY(column.type))
        return column == sa.any_(listed)
    listed_json = sa.func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(sa.select(listed_json.c.value))


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
    """The rows of the query, which selects the id `key` of the table to lock, with those of these ids that exist, by id, each
    locked as an UPDATE would. Raises RowsBusy where others hold some, OperationalError where they do for too long."""
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


log = logging.getLogger(__name__)

ONCE = "marketplace_orders_once"
OVERTAKEN = ("40P01", "40001")
"""SQLSTATEs of a deadlock and of a serialization failure."""

OF_LOCKS = (*OVERTAKEN, "55P03")
RAISED, TOO_LONG = "P0001", "57014"
REFUSED = (sa.exc.StatementError, ValueError, ArithmeticError)
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
    SLOW = auto()  # a statement took longer than it may
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
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError | UnicodeError | OverflowError):
        return Cause.ROW
    if isinstance(error, sa.exc.DBAPIError):
        return _blame_database(error)
    if isinstance(error, sa.exc.StatementError):  # a value that could not be made ready for the database
        return blame(error.orig) if isinstance(error.orig, Exception) else Cause.UNKNOWN
    return Cause.DATABASE if isinstance(error, sa.exc.SQLAlchemyError) else Cause.UNKNOWN


def _blame_database(error: sa.exc.DBAPIError) -> Cause:
    state = _state(error)
    if isinstance(error, RowsBusy):
        return Cause.BUSY
    if error.connection_invalidated:
        return Cause.SESSION
    if state is None:  # SQLite; SQLITE_ERROR is what a function in a trigger raises, as for malformed JSON
        broad = getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
        return Cause.DATABASE if isinstance(error, sa.exc.OperationalError) and broad else Cause.UNKNOWN
    if state in OF_LOCKS:
        return Cause.BUSY
    if state == TOO_LONG:
        return Cause.SLOW
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

    `write` writes some of them; `on_bad` is given each row that cannot be written and the reason, and may write something in
    its place. Raises StatementError of SQLAlchemy where no row can be written, or the session has ended.
    """
    refused, written, parts = list[tuple[Any, Exception]](), False, [rows] if rows else []
    while parts:
        part = parts.pop()
        try:
            with connection.begin_nested():
                write(part)
            written = True
        except REFUSED as error:
            if connection.invalidated or blame(error).of_all:
                raise
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                continue
            refused.append((part[0], error))
            if not written and len(refused) >= MANY_DOUBTFUL and blame(error) is not Cause.ROW:
                raise
    if refused and not written and blame(refused[0][1]) is not Cause.ROW:
        raise refused[0][1]
    for row, why in refused:
        log.warning("A row cannot be written: %s", in_short(why))
        if on_bad is not None:
            with set_aside("What is written in its place"), connection.begin_nested():
                on_bad(row, why)


@contextmanager
def set_aside(what: str) -> Iterator[None]:
    """Lets the block fail alone, with a log line, so that others of its kind go on; raises where nothing can be written."""
    try:
        yield
    except REFUSED as error:
        if blame(error).of_all:
            raise
        log.warning("%s cannot be written now: %s", what, in_short(error))


def in_short(error: Exception) -> str:
    """The kind of a database's error, without the row that it may quote."""
    return type(getattr(error, "orig", None) or error).__name__


def was_overtaken(error: sa.exc.DBAPIError) -> bool:
    """Whether another importer wrote one of the orders first, or PostgreSQL ended a deadlock."""
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    return _state(error) in OVERTAKEN or bool(constraint == ONCE)


def in_words(error: Exception, raw: Any) -> str:
    """The error for a person: its kind, and the message of the shop's trigger, without personal data."""
    orig = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    kind = type(orig).__name__
    said = ""
    if isinstance(error, sa.exc.DBAPIError) and _state(error) == RAISED:
        said = str(getattr(getattr(orig, "diag", None), "message_primary", "") or "")
    elif getattr(orig, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER":
        said = str(orig)
    parts = [raw.get(name) for name in ("customer", "shipping_address")] if isinstance(raw, dict) else []
    texts = [value for part in parts if isinstance(part, dict) for value in part.values()]
    personal = [one for one in texts if isinstance(one, str) and len(one) >= SHORTEST_PERSONAL]
    for one in sorted(personal, key=len, reverse=True):
        said = said.replace(one, "...")
    return f"{kind}: '{said[:200]}'." if said else f"{kind}."


def _state(error: sa.exc.DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None
