"""A later message of an order over what is known: its lines paired with ours, and what it leaves out as it was. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Address
from midas_pipelines.sync.orders.model.amounts import ZERO, extras, sound
from midas_pipelines.sync.orders.model.lines import OrderException, SoldLine, read_exceptions
from midas_pipelines.sync.orders.model.sale import Sale, SaleLine

NAMES = ("sku", "fourseller_product_id")
"""What a line says of itself."""


def said_over(known: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """A buyer or an address, updated from a later message: fields that it lacks stay, unless it has another street, which
    makes it another address."""
    news = {name: value for name, value in said.items() if value is not None}
    if news.get("line1", known.get("line1")) != known.get("line1"):
        news = {name: said.get(name) for name in Address.model_fields} | news
    return known | news


def line_over(known: Any, line: SaleLine, *, needs_review: bool) -> SaleLine:
    """The line of a later message with what it leaves out as it was.

    Args:
        known: the same line of an earlier sale, or our row of it.
        line: of the later message.
        needs_review: whether the known quantity needs a person.
    """
    kept = {name: getattr(known, name) for name in line.unsaid}
    kept |= {name: getattr(known, name) for name in NAMES if getattr(line, name) is None}
    whole = replace(
        line, **kept, needs_review=needs_review if "quantity" in line.unsaid else line.needs_review
    )
    return replace(whole, total=sound(whole.price * max(0, whole.quantity)) or ZERO)


def agree(one: Any, other: Any) -> bool:
    """Whether two lines may be the same: what is missing contradicts nothing."""
    pairs = ((getattr(one, name), getattr(other, name)) for name in NAMES)
    return all(first is None or second is None or first == second for first, second in pairs)


def amounts_over(known: Any, sale: Sale, goods: Decimal) -> Sale:
    """The sale of a later message with the amounts that it leaves out as they were.

    Args:
        known: an earlier sale, or our row of the order.
        sale: of the later message.
        goods: what its lines cost.
    """
    shipping = sale.shipping_cost if sale.says_shipping else known.shipping_cost or ZERO
    currency = sale.currency or known.currency
    total = None if sale.content.amounts is None else sale.total
    tax, discount = extras(sale.raw, total=total, currency=currency, goods=goods, shipping=shipping)
    if total is None:
        total = sound(goods + shipping + tax - discount) or ZERO
    given = replace(sale, currency=currency, lines_total=goods, shipping_cost=shipping, total=total)
    now = replace(given, tax=tax, discount=discount)
    before = replace(given, tax=known.tax or ZERO, discount=known.discount or ZERO)
    return before if before.adds_up and not now.adds_up else now


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
        now = [*(sold for sold, _ in self.kept), *self.added]
        return sound(sum((sold.line.total for sold in now), Decimal(0))) or ZERO

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
    found.dropped = [
        row for row in free.values() if row.quantity != 0 or row.allocated > row.released or row.backordered
    ]
    for line, row in found.kept:
        line.number, line.order_item_id = row.line, row.order_item_id
        line.line = line_over(
            row, line.line, needs_review=OrderException.QUANTITY.value in read_exceptions(row.exception)
        )
    last = max((row.line for row in existing), default=0)
    for number, line in enumerate(found.added, start=last + 1):
        line.number = number
    return found


def _same_words_and_place(sold: SoldLine, row: sa.Row[Any]) -> bool:
    return _same_words(sold, row) and sold.line.line == row.line


def _same_words(sold: SoldLine, row: sa.Row[Any]) -> bool:
    return sold.line.named == (row.fourseller_product_id, row.sku)


def _same_item(sold: SoldLine, row: sa.Row[Any]) -> bool:
    return row.product_id is not None and sold.item == (row.product_id, row.variant_id)


def _same_place_and_part(sold: SoldLine, row: sa.Row[Any]) -> bool:
    """Whether it is the same line with identifiers added: it names no other item than before."""
    same = sold.line.line == row.line and agree(sold.line, row)
    return same and (row.product_id is None or sold.item is None)
