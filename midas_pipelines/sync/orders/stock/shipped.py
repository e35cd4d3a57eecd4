"""Whether an order has shipped, in part or in full."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.sync.orders.model.state_machine import ENDED, SHIPPED_STATES
from midas_pipelines.sync.orders.model.units import accounted
from midas_pipelines.sync.orders.stock.release import order_lines


def shipments_on_record(connection: sa.Connection, local_id: int | None) -> bool:
    """Whether a shipment of the shop's order is on record, booked or not."""
    parcel = sa.select(order_shipments.c.id).where(order_shipments.c.order_id == local_id)
    return connection.execute(parcel.limit(1)).first() is not None


def units_shipped(connection: sa.Connection, order: sa.Row[Any], shop: str | None) -> dict[int, int]:
    """The shipped units by line: from the shipments, or all of them where there are none and a status says shipped."""
    lines = order_lines(connection, order.id)
    if (shop in SHIPPED_STATES or order.status in SHIPPED_STATES) and not shipments_on_record(
        connection, order.local_order_id
    ):
        return {line.line: line.quantity for line in lines}
    return {line.line: line.shipped for line in lines}


def shipped_after_end(connection: sa.Connection, order: sa.Row[Any], shop: str | None) -> bool:
    """Whether more units have shipped than the order holds stock for."""
    shipped = units_shipped(connection, order, shop)
    return any(shipped[line.line] > accounted(line) for line in order_lines(connection, order.id))


def has_shipped(connection: sa.Connection, row: sa.Row[Any], shop: str | None) -> bool:
    """Whether goods have shipped, by either side's status or by a shipment on record."""
    if shop in SHIPPED_STATES or row.status in SHIPPED_STATES:
        return True
    return shipments_on_record(connection, row.local_order_id)


def is_fully_shipped(connection: sa.Connection, row: sa.Row[Any], shop: str | None) -> bool:
    """Whether everything has shipped without a shipment on record: by either side's status, or because the order has
    ended and what it still holds can only have shipped."""
    known = shop in SHIPPED_STATES or row.status in SHIPPED_STATES or row.status in ENDED
    return known and not shipments_on_record(connection, row.local_order_id)
