"""Locks on orders, always in the same order to avoid deadlocks: the shop's order, our row, then stock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.orders import lock_orders
from midas_pipelines.storefront.row_locks import lock

_ORDERS = marketplace_orders.c


def lock_order(connection: sa.Connection, order_row: int) -> sa.Row[Any]:
    """Locks an order's row, ours and the shop's, until the transaction ends; returns ours."""
    (row,) = lock_rows(connection, [order_row])
    return row


def lock_rows(connection: sa.Connection, order_rows: Collection[int]) -> Sequence[sa.Row[Any]]:
    """Locks the rows of these orders, ours and the shop's, until the transaction ends; returns ours, by id.

    Lock the stock of their items afterwards, with `storefront.row_locks.lock_stock`.

    Raises:
        RowsBusy: another transaction holds some of them.
    """
    if not order_rows:
        return []
    wanted = sorted(order_rows)
    local = connection.scalars(
        sa.select(_ORDERS.local_order_id).where(_ORDERS.id.in_(wanted), _ORDERS.local_order_id.is_not(None))
    )
    lock_orders(connection, list(local))
    return lock(connection, sa.select(marketplace_orders), _ORDERS.id, wanted)
