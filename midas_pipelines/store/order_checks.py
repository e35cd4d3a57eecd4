"""Questions about all imported orders."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.schema import order_items, orders


def order_count(database: Database) -> int:
    """How many marketplace orders have been imported."""
    query = sa.select(sa.func.count()).where(marketplace_orders.c.local_order_id.is_not(None))
    with database.reading() as connection:
        return connection.scalar(query) or 0


def unbalanced_orders(database: Database) -> list[dict[str, Any]]:
    """Orders whose total is not the sum of their items + shipping + tax - discount, to the cent."""
    table = marketplace_orders.c
    lines = (
        sa.select(order_items.c.order_id, sa.func.sum(order_items.c.total_price).label("goods"))
        .group_by(order_items.c.order_id)
        .subquery("lines")
    )
    goods = sa.func.coalesce(lines.c.goods, 0)
    expected = goods + table.shipping_cost + table.tax - table.discount
    query = (
        sa.select(
            table.marketplace_order_id,
            orders.c.order_number,
            orders.c.total_amount,
            sa.func.round(expected, 2).label("items_and_extras"),
            table.currency,
        )
        .join(orders, orders.c.id == table.local_order_id)
        .outerjoin(lines, lines.c.order_id == orders.c.id)
        # SQLite adds money as floating point: half a cent is the finest difference that can mean anything.
        .where(sa.func.abs(orders.c.total_amount - expected) > 0.005)
        .order_by(table.id.desc())
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
