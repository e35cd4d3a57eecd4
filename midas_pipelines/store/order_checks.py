"""Questions about all imported orders."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.tables import (
    inventory_changes,
    marketplace_order_lines,
    marketplace_orders,
    sync_logs,
)
from midas_pipelines.storefront.schema import order_items, orders, product_variants, products
from midas_pipelines.storefront.types import utc_now

DAY = 86_400
_ORDERS, _LINES = marketplace_orders.c, marketplace_order_lines.c


def order_count(
    database: Database, placed_from: datetime | None = None, placed_to: datetime | None = None
) -> int:
    """How many marketplace orders have been imported; those placed from one moment to before another."""
    query = sa.select(sa.func.count()).where(_ORDERS.local_order_id.is_not(None))
    if placed_from is not None:
        query = query.where(_ORDERS.placed_at >= placed_from)
    if placed_to is not None:
        query = query.where(_ORDERS.placed_at < placed_to)
    with database.reading() as connection:
        return connection.scalar(query) or 0


def unbalanced_orders(database: Database) -> list[dict[str, Any]]:
    """Orders whose total is not the sum of their items + shipping + tax - discount, to the cent."""
    lines = (
        sa.select(order_items.c.order_id, sa.func.sum(order_items.c.total_price).label("goods"))
        .group_by(order_items.c.order_id)
        .subquery("lines")
    )
    goods = sa.func.coalesce(lines.c.goods, 0)
    expected = goods + _ORDERS.shipping_cost + _ORDERS.tax - _ORDERS.discount
    query = (
        sa.select(
            _ORDERS.marketplace_order_id,
            orders.c.order_number,
            orders.c.total_amount,
            sa.func.round(expected, 2).label("items_and_extras"),
            _ORDERS.currency,
        )
        .join(orders, orders.c.id == _ORDERS.local_order_id)
        .outerjoin(lines, lines.c.order_id == orders.c.id)
        # SQLite adds money as floating point: half a cent is the finest difference that can mean anything.
        .where(sa.func.abs(orders.c.total_amount - expected) > 0.005)
        .order_by(_ORDERS.id.desc())
    )
    return _rows(database, query)


def unpaired_orders(database: Database) -> list[dict[str, Any]]:
    """Orders that break the pairing of one shop order with one marketplace order.

    A shop order of ours without a row, an imported row without a shop order number of its own, or two rows of one
    marketplace order under different channels' words.
    """
    stray = (
        sa.select(
            sa.null().label("marketplace_order_id"),
            orders.c.order_number,
            sa.literal("a shop order that no marketplace order explains").label("problem"),
        )
        .outerjoin(marketplace_orders, _ORDERS.local_order_id == orders.c.id)
        .where(orders.c.order_number.startswith("4S-"), _ORDERS.id.is_(None))
    )
    lost = sa.select(
        _ORDERS.marketplace_order_id,
        sa.null().label("order_number"),
        sa.literal("imported, but tied to no shop order").label("problem"),
    ).where(_ORDERS.outcome == "imported", _ORDERS.local_order_id.is_(None))
    return _rows(database, stray.union_all(lost))


def unexplained_deductions(database: Database) -> list[dict[str, Any]]:
    """Items whose order lines took other units than the ledger says their orders did, the widest apart first."""
    item = [_LINES.product_id, sa.func.coalesce(_LINES.variant_id, 0).label("variant")]
    taken = (
        sa.select(*item, sa.func.sum(_LINES.taken - _LINES.given_back).label("units"))
        .where(_LINES.product_id.is_not(None))
        .group_by(*item)
        .subquery("taken")
    )
    rows = inventory_changes.c
    key = [rows.product_id, sa.func.coalesce(rows.variant_id, 0).label("variant")]
    ledger = (
        sa.select(*key, sa.func.sum(-rows.delta).label("units"))
        .where(rows.reference.startswith("fourseller:", autoescape=True))
        .group_by(*key)
        .subquery("ledger")
    )
    same = sa.and_(ledger.c.product_id == taken.c.product_id, ledger.c.variant == taken.c.variant)
    booked = sa.func.coalesce(ledger.c.units, 0)
    query = (
        sa.select(
            sa.func.coalesce(product_variants.c.sku, products.c.sku).label("sku"),
            taken.c.product_id,
            sa.func.nullif(taken.c.variant, 0).label("variant_id"),
            taken.c.units.label("lines_hold"),
            booked.label("ledger_says"),
        )
        .select_from(
            taken.outerjoin(ledger, same)
            .outerjoin(products, products.c.id == taken.c.product_id)
            .outerjoin(product_variants, product_variants.c.id == taken.c.variant)
        )
        .where(taken.c.units != booked)
        .order_by(sa.func.abs(taken.c.units - booked).desc())
    )
    return _rows(database, query)


def stale_orders(database: Database, days: int) -> list[dict[str, Any]]:
    """Orders that are pending or processing still, so many days after they were placed; the oldest first."""
    query = (
        sa.select(_ORDERS.marketplace_order_id, _ORDERS.sales_channel, _ORDERS.status, _ORDERS.placed_at)
        .where(
            _ORDERS.status.in_(["pending", "processing"]),
            _ORDERS.local_order_id.is_not(None),
            _ORDERS.placed_at < utc_now(-days * DAY),
        )
        .order_by(_ORDERS.placed_at)
    )
    return _rows(database, query)


def last_import(database: Database) -> datetime | None:
    """When orders were last read without failing; None when never."""
    query = sa.select(sa.func.max(sync_logs.c.started_at, type_=sync_logs.c.started_at.type)).where(
        sync_logs.c.kind == "orders", sync_logs.c.outcome.in_(["done", "partial"])
    )
    with database.reading() as connection:
        last: datetime | None = connection.scalar(query)
    return last


def open_work(database: Database) -> dict[str, int]:
    """What orders still ask of the shop: counts for the fulfilment asset."""
    open_status = _ORDERS.status.in_(["pending", "processing"])
    count = sa.func.count()
    queries = {
        "open_orders": sa.select(count).where(open_status, _ORDERS.local_order_id.is_not(None)),
        "units_owed": sa.select(sa.func.coalesce(sa.func.sum(_LINES.owed), 0)).where(_LINES.owed > 0),
        "unmapped_lines": sa.select(count).where(_LINES.exception == "unmapped"),
        "conflicts": sa.select(count).where(_ORDERS.exception.contains("conflict")),
    }
    with database.reading() as connection:
        return {name: int(connection.scalar(query) or 0) for name, query in queries.items()}


def _rows(database: Database, query: sa.Select[Any] | sa.CompoundSelect[Any]) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
