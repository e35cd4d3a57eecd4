"""Where the units of an order line are: allocated, shipped or returned. Pure.

Of a line's quantity, `allocated` units were allocated and `released` went back to stock, `returned` of these after shipping;
`shipped` units left. A line without an item allocates nothing, but can be shipped.
"""

from __future__ import annotations

from typing import Any, Protocol


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
