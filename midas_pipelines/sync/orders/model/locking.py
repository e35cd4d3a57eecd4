"""Every lock on orders, in one order, so that nobody waits for one another in a ring: the shop's order, ours, then stock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.orders import lock_orders
from midas_pipelines.storefront.row_locks import lock

_ORDERS = marketplace_orders.c


def lock_order(connection: sa.Connection, order_row: int) -> sa.Row[Any]:
    """Our row of an order, held until the transaction ends, with the shop's."""
    (row,) = lock_rows(connection, [order_row])
    return row


def lock_rows(connection: sa.Connection, order_rows: Collection[int]) -> Sequence[sa.Row[Any]]:
    """Our rows of these orders as they are now, held until the transaction ends, with the shop's; by id.

    The stock of what they sold is to be locked after them, by `storefront.stock.lock_stock`.

    Raises:
        RowsBusy: others hold some of them.
    """
    if not order_rows:
        return []
    wanted = sorted(order_rows)
    local = connection.scalars(
        sa.select(_ORDERS.local_order_id).where(_ORDERS.id.in_(wanted), _ORDERS.local_order_id.is_not(None))
    )
    lock_orders(connection, list(local))
    return lock(connection, sa.select(marketplace_orders), _ORDERS.id, wanted)
