"""Pairs the lines of an edited order with ours, and decides how each reaches its new quantity. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.exceptions import OrderException
from midas_pipelines.sync.orders.model.lines import SoldLine
from midas_pipelines.sync.orders.model.merge import agree, line_over, sum_of
from midas_pipelines.sync.orders.model.units import on_order


@dataclass(frozen=True, slots=True)
class LineShift:
    """What an edit does to one line: units to allocate (negative: to release), and units less to backorder."""

    take: int = 0
    reduce_backorder: int = 0


def shift(*, wanted: int, allocated: int, released: int, backordered: int, shipped: int = 0) -> LineShift:
    """How a line reaches `wanted` units: backordered units go first, then allocated ones, never shipped ones."""
    has = allocated - released
    missing = wanted - has - backordered
    if missing >= 0:
        return LineShift(take=missing)
    reduce_backorder = min(backordered, -missing)
    return LineShift(take=-min(-missing - reduce_backorder, has - shipped), reduce_backorder=reduce_backorder)


@dataclass
class LinePairing:
    """The lines of an edited order, paired with ours."""

    kept: list[tuple[SoldLine, sa.Row[Any]]] = field(default_factory=list)
    added: list[SoldLine] = field(default_factory=list)
    dropped: list[sa.Row[Any]] = field(default_factory=list)

    @property
    def goods(self) -> Decimal:
        """What the lines of the edited order cost."""
        return sum_of(sold.line for sold in [*(sold for sold, _ in self.kept), *self.added])

    @property
    def changes(self) -> bool:
        """Whether any line has a different quantity, price or item than before."""
        return bool(self.added or self.dropped) or any(
            (sold.line.quantity, sold.line.price) != (row.quantity, row.price)
            or (row.product_id is None and not row.allocated and sold.item is not None)
            for sold, row in self.kept
        )


def pair(sold: Sequence[SoldLine], existing: Sequence[sa.Row[Any]]) -> LinePairing:
    """Pairs the lines of an edited order with ours: by identifiers, by item, then by position.

    A line may have moved, or gained the SKU or the product id that it lacked; a line of another item is another line.
    """
    free = {row.line: row for row in existing}
    shipped = list(sold)
    found = LinePairing()
    for same in (_same_words_and_place, _same_words, _same_item, _same_place_and_part):
        for line in list(shipped):
            row = next((row for row in free.values() if same(line, row)), None)
            if row is not None:
                found.kept.append((line, free.pop(row.line)))
                shipped.remove(line)
    found.added = shipped
    found.dropped = [row for row in free.values() if row.quantity != 0 or on_order(row) or row.backordered]
    for line, row in found.kept:
        line.number, line.order_item_id = row.line, row.order_item_id
        line.line = line_over(
            row, line.line, needs_review=OrderException.QUANTITY.value in exceptions.read(row.exception)
        )
    last = max((row.line for row in existing), default=0)
    for number, line in enumerate(found.added, start=last + 1):
        line.number = number
    return found


def _same_words_and_place(sold: SoldLine, row: sa.Row[Any]) -> bool:
    return _same_words(sold, row) and sold.line.line == row.line


def _same_words(sold: SoldLine, row: sa.Row[Any]) -> bool:
    return sold.named == (row.fourseller_product_id, row.sku)


def _same_item(sold: SoldLine, row: sa.Row[Any]) -> bool:
    return row.product_id is not None and sold.item == (row.product_id, row.variant_id)


def _same_place_and_part(sold: SoldLine, row: sa.Row[Any]) -> bool:
    """Whether it is the same line with identifiers added: it names no other item than before."""
    same = sold.line.line == row.line and agree(sold.line, row)
    return same and (row.product_id is None or sold.item is None)
