"""Locks rows that the shop locks too, and sets its stock under such locks; always in one order, by id, products first.

Many rows are locked without waiting, so that no deadlock arises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
