"""Lists marketplace orders: filtered, by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.schema import orders

SHOWN = (
    "id",
    "marketplace_order_id",
    "local_order_id",
    "sales_channel",
    "status",
    "outcome",
    "exception",
    "reason",
    "currency",
    "total",
    "placed_at",
    "imported_at",
)

table = marketplace_orders.c


@dataclass(frozen=True)
class Filters:
    """A filter on orders; None for any."""

    status: str | None = None
    sales_channel: str | None = None
    exception: bool | None = None
    placed_from: datetime | None = None
    placed_to: datetime | None = None


def page_of_orders(
    connection: sa.Connection, filters: Filters, *, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """The newest orders that fit, or those before a row's id; nothing that says who bought."""
    query = sa.select(*(table[name] for name in SHOWN), orders.c.order_number).outerjoin(
        orders, orders.c.id == table.local_order_id
    )
    query = query.where(*_conditions(filters)).order_by(table.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.id < before)
    return [dict(row) for row in connection.execute(query).mappings()]


def _conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if filters.status is not None:
        found.append(table.status == filters.status)
    if filters.sales_channel is not None:
        found.append(table.sales_channel == filters.sales_channel)
    if filters.exception is not None:
        found.append(table.exception.is_not(None) if filters.exception else table.exception.is_(None))
    if filters.placed_from is not None:
        found.append(table.placed_at >= filters.placed_from)
    if filters.placed_to is not None:
        found.append(table.placed_at < filters.placed_to)
    return found
