"""Whether goods of an order have left, and whether all of them have."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.sync.orders.model.state_machine import ENDED, SHIPPED_STATES
from midas_pipelines.sync.orders.model.units import accounted
from midas_pipelines.sync.orders.stock.release import order_lines


def shipments_on_record(connection: sa.Connection, local_id: int | None) -> bool:
    """Whether a parcel of the shop's order is on record, counted or not."""
    parcel = sa.select(order_shipments.c.id).where(order_shipments.c.order_id == local_id)
    return connection.execute(parcel.limit(1)).first() is not None


def units_shipped(connection: sa.Connection, order: sa.Row[Any], shop: str | None) -> dict[int, int]:
    """The units that have left, by line: what the parcels say, and without any everything where a status says so."""
    lines = order_lines(connection, order.id)
    if (shop in SHIPPED_STATES or order.status in SHIPPED_STATES) and not shipments_on_record(
        connection, order.local_order_id
    ):
        return {line.line: line.quantity for line in lines}
    return {line.line: line.shipped for line in lines}


def shipped_after_end(connection: sa.Connection, order: sa.Row[Any], shop: str | None) -> bool:
    """Whether something has left for which the order has given its stock back, or never took any."""
    shipped = units_shipped(connection, order, shop)
    return any(shipped[line.line] > accounted(line) for line in order_lines(connection, order.id))


def has_shipped(connection: sa.Connection, row: sa.Row[Any], shop: str | None) -> bool:
    """Whether goods have left, by either side's status or by a parcel on record."""
    if shop in SHIPPED_STATES or row.status in SHIPPED_STATES:
        return True
    return shipments_on_record(connection, row.local_order_id)


def is_fully_shipped(connection: sa.Connection, row: sa.Row[Any], shop: str | None) -> bool:
    """Whether everything has left without a parcel that says what: by either side's status, or because what an ended
    order still has can be nowhere else."""
    known = shop in SHIPPED_STATES or row.status in SHIPPED_STATES or row.status in ENDED
    return known and not shipments_on_record(connection, row.local_order_id)
