"""Whether goods of an order have left, and whether all of them have."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.shipment_tables import order_shipments
from midas_pipelines.sync.orders.giving_back import order_lines
from midas_pipelines.sync.orders.statuses import ENDED, GOODS_LEFT
from midas_pipelines.sync.orders.units import accounted


def parcels_on_record(connection: sa.Connection, local_id: int | None) -> bool:
    """Whether a parcel of the shop's order is on record, counted or not."""
    parcel = sa.select(order_shipments.c.id).where(order_shipments.c.order_id == local_id)
    return connection.execute(parcel.limit(1)).first() is not None


def units_left(connection: sa.Connection, order: sa.Row[Any], shop: str | None) -> dict[int, int]:
    """The units that have left, by line: what the parcels say, and without any everything where a status says so."""
    lines = order_lines(connection, order.id)
    if (shop in GOODS_LEFT or order.status in GOODS_LEFT) and not parcels_on_record(
        connection, order.local_order_id
    ):
        return {line.line: line.quantity for line in lines}
    return {line.line: line.shipped for line in lines}


def left_after_the_end(connection: sa.Connection, order: sa.Row[Any], shop: str | None) -> bool:
    """Whether something has left for which the order has given its stock back, or never took any."""
    left = units_left(connection, order, shop)
    return any(left[line.line] > accounted(line) for line in order_lines(connection, order.id))


def goods_have_left(connection: sa.Connection, row: sa.Row[Any], shop: str | None) -> bool:
    """Whether goods have left, by either side's status or by a parcel on record."""
    if shop in GOODS_LEFT or row.status in GOODS_LEFT:
        return True
    return parcels_on_record(connection, row.local_order_id)


def all_has_left(connection: sa.Connection, row: sa.Row[Any], shop: str | None) -> bool:
    """Whether everything has left without a parcel that says what: by either side's status, or because what an ended
    order still has can be nowhere else."""
    known = shop in GOODS_LEFT or row.status in GOODS_LEFT or row.status in ENDED
    return known and not parcels_on_record(connection, row.local_order_id)
