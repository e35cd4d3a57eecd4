"""How many rows are spelled for PostgreSQL at once.

It takes each column as one text, which it splits (`string_to_array`, `unnest`): a parameter for a column
whatever the number of rows, and an ordinary INSERT or UPDATE, so that the shop's triggers, defaults and row security hold
as ever.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.types import Json, UtcDateTime
from midas_pipelines.text import spell_moment, to_json, writable

BETWEEN, NOTHING = f"\x1e{secrets.token_hex(4)}", f"\x1d{secrets.token_hex(4)}"
"""What separates the values of a column, and means NULL: no text from outside can know them."""


def texts(table: sa.Table, columns: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Each column as one text, in characters that every database holds; a separator precedes each value."""
    texts: dict[int, str] = {}  # the same list may be two columns
    for name, values in columns.items():
        if id(values) not in texts:
            spelled = values
            if isinstance(table.c[name].type, Json):
                spelled = [None if value is None else to_json(value) for value in values]
            elif isinstance(table.c[name].type, UtcDateTime):
                spelled = [None if value is None else spell_moment(value) for value in values]
            try:
                text = BETWEEN.join(["", *spelled])  # texts already
            except TypeError:
                text = BETWEEN.join(["", *[NOTHING if one is None else str(one) for one in spelled]])
            texts[id(values)] = writable(text)
    return tuple(texts[id(values)] for values in columns.values())


@lru_cache(maxsize=200)
def insert_sql(table: sa.Table, names: tuple[str, ...]) -> str:
    """An INSERT of `texts`."""
    listed = ", ".join(names)
    return f"INSERT INTO {table.name} ({listed}) SELECT {listed} FROM {_given(table, names)}"


@lru_cache(maxsize=200)
def update_sql(table: sa.Table, names: tuple[str, ...]) -> str:
    """An UPDATE with `texts` of the rows with these ids."""
    changes = ", ".join(f"{name} = given.{name}" for name in names if name != "id")
    return f"UPDATE {table.name} SET {changes} FROM {_given(table, names)} WHERE {table.name}.id = given.id"


def _given(table: sa.Table, names: tuple[str, ...]) -> str:
    from sqlalchemy.dialects import postgresql

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    kinds = {name: str(table.c[name].type.compile(dialect=dialect)) for name in names}
    typed = ", ".join(  # a text stays one: a cast would cut what is too long for its column
        name if kind.startswith(("VARCHAR", "TEXT")) else f"CAST({name} AS {kind}) AS {name}"
        for name, kind in kinds.items()
    )
    # In FROM they would all be kept before the first row is made. The first row is what precedes the first separator.
    listed = ", ".join(f"unnest(string_to_array(%s, '{BETWEEN}', '{NOTHING}')) AS {name}" for name in names)
    return f"(SELECT {typed} FROM (SELECT {listed} OFFSET 1) AS texts) AS given"
