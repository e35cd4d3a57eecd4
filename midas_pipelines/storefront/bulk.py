"""Bulk statements: one for a table and a batch, on both databases.

PostgreSQL takes each column as one text, which it splits (`string_to_array`, `unnest`): a parameter for a column
whatever the number of rows, and an ordinary INSERT or UPDATE, so that the shop's triggers, defaults and row security hold
as ever. SQLite prepares the statement once and runs it for each row, which costs it no round trip.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

from midas_pipelines.text import to_json, writable

Row = Mapping[str, Any]
BETWEEN, NOTHING = f"\x1e{secrets.token_hex(4)}", f"\x1d{secrets.token_hex(4)}"
"""What separates the values of a column, and stands for NULL: no text from outside can know them."""
_POSTGRESQL = postgresql_dialect()  # type: ignore[no-untyped-call]


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Inserts the rows, which all have the same columns.

    Raises:
        sqlalchemy.exc.IntegrityError, sqlalchemy.exc.DataError: one of them breaks a rule of the table.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_insert_sql(table, tuple(rows[0])), _columns(table, rows))
    else:
        connection.execute(sa.insert(table), [dict(row) for row in rows])


def insert(connection: sa.Connection, table: sa.Table) -> PostgresqlInsert | SqliteInsert:
    """The database's own INSERT, which knows ON CONFLICT."""
    return PostgresqlInsert(table) if connection.dialect.name == "postgresql" else SqliteInsert(table)


def upsert(connection: sa.Connection, table: sa.Table, key: Row, values: Row) -> None:
    """Sets the columns of the row with this key, which is added where there is none."""
    adding = insert(connection, table).values({**key, **values})
    connection.execute(adding.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Row], key: str) -> set[Any]:
    """Inserts the rows that violate no unique key; returns the `key` of each inserted row.

    Of two transactions that insert the same row one waits for the other's end, and then finds it there. They wait in
    the order of `rows`, which must therefore be sorted alike everywhere.
    """
    if not rows:
        return set()
    if connection.dialect.name == "postgresql":
        statement = f"{_insert_sql(table, tuple(rows[0]))} ON CONFLICT DO NOTHING RETURNING {key}"
        return set(connection.exec_driver_sql(statement, _columns(table, rows)).scalars().all())
    statement_ = insert(connection, table).on_conflict_do_nothing().returning(table.c[key])
    return set(connection.execute(statement_, [dict(row) for row in rows]).scalars())


def update_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Row], key: str = "id") -> None:
    """Sets the other columns of the rows that `key` names."""
    if not rows:
        return
    names = tuple(rows[0])
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_update_sql(table, names, key), _columns(table, rows))
        return
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in names if name != key}
    statement = sa.update(table).where(table.c[key] == sa.bindparam("row_key")).values(values)
    parameters = [
        {"row_key": row[key]} | {f"new_{name}": row[name] for name in names if name != key} for row in rows
    ]
    connection.execute(statement, parameters)


def reserve_ids(connection: sa.Connection, table: sa.Table, number: int, *, above: int = 0) -> list[int]:
    """Ids that rows of this table may be given, so that rows that refer to them can be written at the same time.

    Args:
        connection: in a writing transaction.
        number: how many.
        above: ids up to this one are taken too (SQLite gives the id of a deleted last row again).
    """
    if connection.dialect.name == "postgresql":
        return reserve_ids_of(connection, {table: number})[table]
    last = connection.scalar(sa.select(sa.func.max(table.c.id))) or 0 if number else 0
    start = max(last, above) + 1
    return list(range(start, start + number))


def reserve_ids_of(connection: sa.Connection, numbers: Mapping[sa.Table, int]) -> dict[sa.Table, list[int]]:
    """As `reserve_ids`, for several tables in one query, with a number for each."""
    if connection.dialect.name != "postgresql":
        return {table: reserve_ids(connection, table, number) for table, number in numbers.items()}
    parts, parameters = [], []
    for table, number in numbers.items():
        parts.append(
            "(SELECT array_agg(nextval(ids.name)) "
            "FROM (SELECT CAST(pg_get_serial_sequence(%s, 'id') AS regclass) AS name OFFSET 0) AS ids, "
            "generate_series(1, %s))"
        )
        parameters += [table.name, number]
    found = connection.exec_driver_sql(f"SELECT {', '.join(parts)}", tuple(parameters)).one()
    return {table: list(ids or ()) for table, ids in zip(numbers, found, strict=True)}


def any_of(
    connection: sa.Connection, column: sa.ColumnElement[Any], values: Collection[Any]
) -> sa.ColumnElement[bool]:
    """Whether the column is one of the values, which go to the database as one parameter however many there are."""
    if connection.dialect.name == "postgresql":
        listed = sa.bindparam(None, list(values), type_=ARRAY(column.type))
        return column == sa.any_(listed)
    listed_json = sa.func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(sa.select(listed_json.c.value))


def _columns(table: sa.Table, rows: Sequence[Row]) -> tuple[str, ...]:
    """Each column of the rows as one text, in characters that every database holds; a separator precedes each value."""
    columns = []
    for name in rows[0]:
        if isinstance(table.c[name].type, sa.JSON):
            texts = [NOTHING if row[name] is None else to_json(row[name]) for row in rows]
        else:
            texts = [NOTHING if (value := row[name]) is None else str(value) for row in rows]
        columns.append(writable(BETWEEN.join(["", *texts])))
    return tuple(columns)


@lru_cache(maxsize=200)
def _insert_sql(table: sa.Table, names: tuple[str, ...]) -> str:
    listed = ", ".join(names)
    return f"INSERT INTO {table.name} ({listed}) SELECT {listed} FROM {_given(table, names)}"


@lru_cache(maxsize=200)
def _update_sql(table: sa.Table, names: tuple[str, ...], key: str) -> str:
    changes = ", ".join(f"{name} = given.{name}" for name in names if name != key)
    return f"UPDATE {table.name} SET {changes} FROM {_given(table, names)} WHERE {table.name}.{key} = given.{key}"


def _given(table: sa.Table, names: tuple[str, ...]) -> str:
    kinds = {name: str(table.c[name].type.compile(dialect=_POSTGRESQL)) for name in names}
    typed = ", ".join(  # a text stays one: a cast would cut what is too long for its column
        name if kind.startswith(("VARCHAR", "TEXT")) else f"CAST({name} AS {kind}) AS {name}"
        for name, kind in kinds.items()
    )
    parts = ", ".join(f"(string_to_array(%s, '{BETWEEN}', '{NOTHING}'))[2:]" for _ in names)
    return f"(SELECT {typed} FROM unnest({parts}) AS texts({', '.join(names)})) AS given"
