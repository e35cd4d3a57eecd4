"""Where the units of an order are: allocated, shipped or returned.

Of a line's quantity, `allocated` units were allocated and `released` went back to stock, `returned` of these after shipping;
`shipped` units left. A line without an item allocates nothing, but can be shipped. A `line` is a row of
`marketplace_order_lines`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.sync.orders.model.order_log import StoredOrder
from midas_pipelines.sync.orders.model.state_machine import ENDED, SHIPPED_STATES


def on_order(line: Any) -> int:
    """The units that the line holds: allocated on the shelf, or with the customer."""
    return int(line.allocated - line.released)


def on_shelf(line: Any, *, all_shipped: bool = False) -> int:
    """The units allocated to the line that have not shipped.

    Args:
        line: its current row.
        all_shipped: whether the whole order has shipped, with or without a shipment on record.
    """
    if all_shipped:
        return 0
    return max(0, min(on_order(line), int(line.allocated - (line.released - line.returned) - line.shipped)))


def accounted(line: Any) -> int:
    """The units that came from stock: held now, or returned after shipping."""
    return on_order(line) + int(line.returned)


def away(line: Any, *, all_shipped: bool = False) -> int:
    """The allocated units that shipped and have not been returned."""
    return max(0, on_order(line) - on_shelf(line, all_shipped=all_shipped))


def left_to_ship(line: Any) -> int:
    """The units that can still be shipped."""
    if line.product_id is None and not line.allocated:
        return max(0, int(line.quantity - line.shipped))
    return on_shelf(line)


def shipments_on_record(order: StoredOrder) -> bool:
    """Whether a shipment of the shop's order is on record, booked or not."""
    parcel = sa.select(order_shipments.c.id).where(order_shipments.c.order_id == order.local_order_id)
    return order.connection.execute(parcel.limit(1)).first() is not None


def units_shipped(order: StoredOrder, shop: str | None) -> dict[int, int]:
    """The shipped units by line: from the shipments, or all of them where there are none and a status says shipped."""
    by_status = shop in SHIPPED_STATES or order.status in SHIPPED_STATES
    everything = by_status and not shipments_on_record(order)
    return {line.line: line.quantity if everything else line.shipped for line in order.lines()}


def shipped_after_end(order: StoredOrder, shop: str | None) -> bool:
    """Whether more units have shipped than the order holds stock for."""
    shipped = units_shipped(order, shop)
    return any(shipped[line.line] > accounted(line) for line in order.lines())


def has_shipped(order: StoredOrder, shop: str | None) -> bool:
    """Whether goods have shipped, by either side's status or by a shipment on record."""
    return shop in SHIPPED_STATES or order.status in SHIPPED_STATES or shipments_on_record(order)


def is_fully_shipped(order: StoredOrder, shop: str | None) -> bool:
    """Whether everything has shipped without a shipment on record: by either side's status, or because the order has
    ended and what it still holds can only have shipped."""
    known = shop in SHIPPED_STATES or order.status in SHIPPED_STATES or order.status in ENDED
    return known and not shipments_on_record(order)
