"""Where the shop's tables differ from `schema.py`: a column that was dropped, or became of another kind."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.schema import NEEDED, shop

OPTIONAL = {"products.status", "products.is_featured", "products.is_new"}
"""Columns that the integration does without."""

AS_WELL: dict[type, set[type]] = {datetime: {str}, dict: {str}, bool: {int}, Decimal: {float, int}}
"""What SQLite keeps these as just as well: it has no such kinds."""


def differing_columns(connection: sa.Connection) -> list[dict[str, str]]:
    """The columns that are missing or of another kind, each with what is expected and what was found."""
    found = sa.inspect(connection).get_multi_columns(filter_names=NEEDED)
    present = {
        f"{table}.{column['name']}": column["type"]
        for (_, table), columns in found.items()
        for column in columns
    }
    rows = []
    for column in (column for name in NEEDED for column in shop.tables[name].columns):
        name, wanted = f"{column.table.name}.{column.name}", _plain(column.type)
        if name in present:
            kind = _kind(_plain(present[name]))
            spared = AS_WELL.get(_kind(wanted), set()) if connection.dialect.name == "sqlite" else set()
            if kind is not _kind(wanted) and kind not in spared:
                rows.append({"column": name, "expected": str(wanted), "found": str(present[name])})
        elif name not in OPTIONAL:
            rows.append({"column": name, "expected": str(wanted), "found": "no column"})
    return rows


def _plain(of: Any) -> Any:
    """The type that a type of ours, or a domain of PostgreSQL, is made of."""
    return of.impl_instance if isinstance(of, sa.types.TypeDecorator) else getattr(of, "data_type", of)


def _kind(of: Any) -> type:
    """What a value of that type is in Python; `object` where nothing is known of it."""
    try:
        kind: type = of.python_type
    except NotImplementedError:
        return object
    return kind
