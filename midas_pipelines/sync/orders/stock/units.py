"""Where the units of an order line are: allocated, shipped or returned. Pure.

Of a line's quantity, `allocated` units were allocated and `released` went back to stock, `returned` of these after shipping;
`shipped` units left. A line without an item allocates nothing, but can be shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.sync.orders.model.state_machine import ENDED, SHIPPED_STATES

_LINES = marketplace_order_lines.c


class Line(Protocol):
    """A row of `marketplace_order_lines`."""

    @property
    def quantity(self) -> int: ...
    @property
    def product_id(self) -> Any: ...
    @property
    def allocated(self) -> int: ...
    @property
    def released(self) -> int: ...
    @property
    def returned(self) -> int: ...
    @property
    def shipped(self) -> int: ...


def on_order(line: Line) -> int:
    """The units that the line holds: allocated on the shelf, or with the customer."""
    return line.allocated - line.released


def on_shelf(line: Line, *, all_shipped: bool = False) -> int:
    """The units allocated to the line that have not shipped.

    Args:
        line: its current row.
        all_shipped: whether the whole order has shipped, with or without a shipment on record.
    """
    if all_shipped:
        return 0
    return max(0, min(on_order(line), line.allocated - (line.released - line.returned) - line.shipped))


def accounted(line: Line) -> int:
    """The units that came from stock: held now, or returned after shipping."""
    return on_order(line) + line.returned


def away(line: Line, *, all_shipped: bool = False) -> int:
    """The allocated units that shipped and have not been returned."""
    return max(0, on_order(line) - on_shelf(line, all_shipped=all_shipped))


def left_to_ship(line: Line) -> int:
    """The units that can still be shipped."""
    if line.product_id is None and not line.allocated:
        return max(0, line.quantity - line.shipped)
    return on_shelf(line)


def order_lines(connection: sa.Connection, order_row: int) -> Sequence[sa.Row[Any]]:
    """Our rows of an order's lines, by number."""
    query = sa.select(marketplace_order_lines).where(_LINES.order_id == order_row)
    return connection.execute(query.order_by(_LINES.line)).all()


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
