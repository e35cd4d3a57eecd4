"""Where the units of an order's line are: on the shelf, on their way, back again. Pure.

A line took `taken` units from stock and gave `released` of them back; `returned` of those had left before. Of what it
took, `shipped` left. A line without an item of the shop's took nothing, and can be shipped all the same.
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
    def taken(self) -> int: ...
    @property
    def released(self) -> int: ...
    @property
    def returned(self) -> int: ...
    @property
    def shipped(self) -> int: ...


def on_order(line: Line) -> int:
    """The units that the order has: on the shelf for it, or with the customer."""
    return line.taken - line.released


def on_shelf(line: Line, *, all_left: bool = False) -> int:
    """The units that were taken for the order and have not left.

    Args:
        line: as it stands.
        all_left: whether the whole order is known to have left, with or without a parcel on record.
    """
    if all_left:
        return 0
    return max(0, min(on_order(line), line.taken - (line.released - line.returned) - line.shipped))


def accounted(line: Line) -> int:
    """The units of which it is known where they came from: held, or held until they came back."""
    return on_order(line) + line.returned


def away(line: Line, *, all_left: bool = False) -> int:
    """The units that left and have not come back, of those that were taken from stock."""
    return max(0, on_order(line) - on_shelf(line, all_left=all_left))


def left_to_ship(line: Line) -> int:
    """The units that are there and may go into a parcel."""
    if line.product_id is None and not line.taken:
        return max(0, line.quantity - line.shipped)
    return on_shelf(line)
