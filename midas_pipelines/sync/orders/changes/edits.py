"""Applies edits of an imported order's lines and amounts by the marketplace.

Edits are applied until goods have left; after that they raise an exception. What a later message leaves out stays as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OPEN, OrderStatus
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import update_order, update_order_items
from midas_pipelines.storefront.schema import order_items
from midas_pipelines.storefront.types import ZERO, sound, to_cents, utc_now
from midas_pipelines.storefront.writing import by_row, insert_columns, reserve_ids
from midas_pipelines.sync.orders.model.amounts import extras
from midas_pipelines.sync.orders.model.lines import (
    CHANNEL,
    SAID,
    OrderException,
    SoldLine,
    match_lines,
    our_lines,
    read_exceptions,
    reference,
    sale_exceptions,
    sale_moves,
    shop_lines,
)
from midas_pipelines.sync.orders.model.order_log import StoredOrder, set_line
from midas_pipelines.sync.orders.model.sale import Sale, write_content
from midas_pipelines.sync.orders.stock import units

AMOUNTS = ("total", "shipping_cost", "tax", "discount")
NAMES = ("sku", "fourseller_product_id")
"""What a line says of itself."""
NUMBERS = ("id", "quantity", "price", "total_price")
"""The columns of a shop's line that an edit changes."""


@dataclass
class LinePairing:
    """The lines of an edited order, paired with ours."""

    kept: list[tuple[SoldLine, sa.Row[Any]]] = field(default_factory=list)
    added: list[SoldLine] = field(default_factory=list)
    dropped: list[sa.Row[Any]] = field(default_factory=list)

    @property
    def now(self) -> list[SoldLine]:
        """The lines of the edited order."""
        return [*(sold for sold, _ in self.kept), *self.added]

    def changes(self) -> list[str]:
        """Each line with a different quantity, price or item than before, in words."""
        found = []
        for sold, row in self.kept:
            before, now = (f"{one.quantity} at {one.price}" for one in (row, sold.line))
            if (sold.line.quantity, sold.line.price) != (row.quantity, row.price):
                found.append(f"line {row.line} from {before} to {now}")
            if row.product_id is None and not row.allocated and sold.item is not None:
                found.append(f"line {row.line} is {sold.line.sku or sold.line.title} now")
        found += [f"line {row.line} ({row.sku or row.title}) is gone" for row in self.dropped]
        for sold in self.added:
            of = f"{sold.line.quantity} of {sold.line.sku or sold.line.title} at {sold.line.price}"
            found.append(f"line {sold.number} is new: {of}")
        return found


def pair(sold: Sequence[SoldLine], existing: Sequence[sa.Row[Any]]) -> LinePairing:
    """Pairs the lines of an edited order with ours: by identifiers, by item, then by position. Pure.

    A line may have moved, or gained the SKU or the product id that it lacked; a line of another item is another line.
    """
    free = {row.line: row for row in existing}
    found = LinePairing(added=list(sold))
    for likeness in range(4):
        for line in list(found.added):
            row = next((row for row in free.values() if _likeness(line, row) == likeness), None)
            if row is not None:
                found.kept.append((line, free.pop(row.line)))
                found.added.remove(line)
    found.dropped = [
        row for row in free.values() if row.quantity != 0 or row.allocated > row.released or row.backordered
    ]
    for line, row in found.kept:
        line.number, line.order_item_id = row.line, row.order_item_id
        missing = line.line.unsaid | {name for name in NAMES if getattr(line.line, name) is None}
        kept: dict[str, Any] = {name: getattr(row, name) for name in missing}
        if "quantity" in missing:
            kept["needs_review"] = OrderException.QUANTITY in read_exceptions(row.exception)
        whole = replace(line.line, **kept)
        line.line = replace(whole, total=sound(whole.price * max(0, whole.quantity)) or ZERO)
    for number, line in enumerate(found.added, start=1 + max((row.line for row in existing), default=0)):
        line.number = number
    return found


def _likeness(sold: SoldLine, row: sa.Row[Any]) -> int | None:
    """How the line is one of ours, 0 the surest: by identifiers and position, by identifiers, by item, by position with
    identifiers added; None when it is another."""
    line, place = sold.line, sold.line.line == row.line
    if line.named == (row.fourseller_product_id, row.sku):
        return 0 if place else 1
    if row.product_id is not None and sold.item == units.item_of(row):
        return 2
    pairs = [(getattr(line, name), getattr(row, name)) for name in NAMES]
    agree = all(first is None or second is None or first == second for first, second in pairs)
    return 3 if place and agree and (row.product_id is None or sold.item is None) else None


def _amounts_over(order: StoredOrder, sale: Sale, goods: Decimal) -> Sale:
    """The sale of a later message with the amounts that it leaves out as they were; `goods` is what its lines cost."""
    shipping = sale.shipping_cost if sale.says_shipping else order.shipping_cost or ZERO
    currency = sale.currency or order.currency
    total = sale.total if "amounts" in sale.content else None
    tax, discount = extras(sale.raw, total=total, currency=currency, goods=goods, shipping=shipping)
    if total is None:
        total = sound(goods + shipping + tax - discount) or ZERO
    given = replace(sale, currency=currency, lines_total=goods, shipping_cost=shipping, total=total)
    now = replace(given, tax=tax, discount=discount)
    before = replace(given, tax=order.tax or ZERO, discount=order.discount or ZERO)
    return before if before.adds_up and not now.adds_up else now


def shift(
    *, wanted: int, allocated: int, released: int, backordered: int, shipped: int = 0
) -> tuple[int, int]:
    """How a line reaches `wanted` units: backordered units go first, then allocated ones, never shipped ones. Pure.

    Returns:
        The units to allocate (negative: to release), and the units less to backorder.
    """
    has = allocated - released
    missing = wanted - has - backordered
    if missing >= 0:
        return missing, 0
    less = min(backordered, -missing)
    return -min(-missing - less, has - shipped), less


def apply_edit(order: StoredOrder, sale: Sale, parts: Collection[str], *, shipped: bool) -> bool:
    """Applies the marketplace's edit of these parts to the shop's order, but for buyer and address; True when it did."""
    parts, existing = set(parts), order.lines()
    if {"lines", "amounts"} & parts:  # one of them may come from an earlier edit that was not applied
        if "lines" in parts and "amounts" not in order.content:  # then the total is that of the lines
            parts.add("amounts")
        parts |= {"lines", "amounts"} & sale.content.keys()
    open_still = OrderStatus(order.status) in OPEN and not shipped
    first = not existing and "lines" not in order.content  # then it is no edit, even after shipping
    if first:  # the order's status decides whether its lines take stock
        shipped_as = sale.shipped_as or (OrderStatus.SHIPPED if shipped else None)
        sale = replace(sale, status=OrderStatus(order.status), shipped_as=shipped_as)
    pairing, goods = LinePairing(), order.lines_total or ZERO
    if "lines" in parts:
        pairing = pair(match_lines(order.connection, [sale]), existing)
        goods = sound(sum((sold.line.total for sold in pairing.now), Decimal(0))) or ZERO
    if {"lines", "amounts"} & parts:
        sale = _amounts_over(order, sale, goods)
    changes = pairing.changes()
    applied = not changes or open_still or first
    if not applied:
        what = f"to {len(sale.lines)} lines, {sale.priced}, after goods have left"
        raise_edit_conflict(order, f"The marketplace changed the order {what}.")
    elif "lines" in parts:
        _change_lines(order, pairing, changes, move_stock_too=open_still or first)
    if applied:
        _change_amounts(order, sale, parts)
    whole = order.content | sale.content
    order.set(content_hash=write_content(whole), content_at=utc_now())
    if sale.content == whole:  # the message has the whole order
        order.set(payload=sale.sealed or order.context.vault.seal(sale.raw))
    if applied:
        update_exceptions(order, sale, parts)
    return applied


def raise_edit_conflict(order: StoredOrder, why: str) -> None:
    """Marks an order whose edit cannot be applied."""
    detail = f"{why} Compare the two by hand; `midas orders dismiss` when you have."
    if order.log_once("edited", detail):
        order.set_exceptions(add=(OrderException.EDITED,))


def _change_lines(
    order: StoredOrder, pairing: LinePairing, changes: Sequence[str], *, move_stock_too: bool
) -> None:
    connection = order.connection
    for line in pairing.dropped:
        _book(order, line, None if line.product_id is None else units.item_of(line), wanted=0)
        set_line(connection, line.id, quantity=0, exception=None)
    for sold, line in pairing.kept:
        _resize(order, sold, line, move_stock_too=move_stock_too)
    if order.local_order_id is not None:
        kept = shop_lines([sold for sold, _ in pairing.kept], ())
        numbers = by_row({name: kept[name] for name in NUMBERS})
        for line in pairing.dropped:
            values = (line.order_item_id, 0, to_cents(line.price), to_cents(ZERO))
            numbers.append(dict(zip(NUMBERS, values, strict=True)))
        mapped = [
            {"id": sold.order_item_id, "product_id": sold.item[0], "variant_id": sold.item[1]}
            for sold, line in pairing.kept
            if sold.item and line.product_id is None
        ]
        for rows in (numbers, mapped):
            update_order_items(connection, order.local_order_id, rows)
    _add_lines(order, pairing.added)
    if changes:
        order.log("edited", f"The marketplace changed the order: {'; '.join(changes)}.")
    for sold in pairing.now:
        for exception, words in sold.exceptions.items():
            order.log_once(exception.value, words)
    units.raise_oversold_alerts(connection, pairing.now)
    before = [*pairing.dropped, *(line for _, line in pairing.kept)]
    units.clear_oversold_alert(connection, {units.item_of(line) for line in before if line.backordered})


def _resize(order: StoredOrder, sold: SoldLine, line: sa.Row[Any], *, move_stock_too: bool) -> None:
    mapped, item = line.product_id is not None, sold.item if not line.allocated else None
    sold.name(units.item_of(line) if mapped else item)
    if not move_stock_too:  # only the texts have changed
        sold.wanted = sold.allocated = units.on_order(line)
    elif sold.item is not None:
        sold.allocated = _book(order, line, sold.item, wanted=sold.wanted)
    values = {name: getattr(sold.line, name) for name in SAID}
    values["product_id"], values["variant_id"] = sold.item or (None, None)
    exception = sold.exception if move_stock_too else line.exception
    set_line(order.connection, line.id, exception=exception, **values)


def _add_lines(order: StoredOrder, lines: Sequence[SoldLine]) -> None:
    if order.local_order_id is not None:
        for line, item_id in zip(lines, reserve_ids(order.connection, order_items, len(lines)), strict=True):
            line.order_item_id = item_id
        shop_items = shop_lines(lines, [order.local_order_id] * len(lines))
        insert_columns(order.connection, order_items, shop_items)
    taking = [line for line in lines if line.wanted]
    for line, delta in zip(taking, move_stock(order.connection, sale_moves(taking)), strict=True):
        line.allocated = -delta
    insert_columns(order.connection, marketplace_order_lines, our_lines(lines, [order.id] * len(lines)))


def _book(order: StoredOrder, line: sa.Row[Any], item: ItemKey | None, *, wanted: int) -> int:
    """Moves the stock of one line to `wanted` units; returns the units it then holds."""
    names = ("allocated", "released", "backordered", "shipped")
    take, less = shift(wanted=wanted, **{name: getattr(line, name) for name in names})
    moved = 0
    if take and item is not None:
        name = reference(order.marketplace_order_id, line.line, line.allocated + line.released)
        moved = -move_stock(order.connection, [StockMove(item, -take, CHANNEL, "edited", name)])[0]
    allocated, released = line.allocated + max(0, moved), line.released + max(0, -moved)
    backordered = line.backordered - less + max(0, take - moved)
    set_line(order.connection, line.id, allocated=allocated, released=released, backordered=backordered)
    return int(allocated - released)


def _change_amounts(order: StoredOrder, sale: Sale, parts: Collection[str]) -> None:
    if "lines" in parts:
        order.set(lines_total=sale.lines_total)
    if "amounts" not in parts:
        return
    amounts = {name: getattr(sale, name) for name in AMOUNTS}
    order.set(**amounts)
    changed = [
        f"{name.replace('_', ' ')} {getattr(order, name)} -> {value}"
        for name, value in amounts.items()
        if (getattr(order, name) or ZERO) != value
    ]
    if changed:
        said = f"{', '.join(changed)} {order.currency or ''}".rstrip()
        order.log("edited", f"The marketplace changed the amounts: {said}.")
        if order.local_order_id is not None:
            total, shipping = to_cents(sale.total), to_cents(sale.shipping_cost)
            update_order(order.connection, order.local_order_id, total_amount=total, shipping_cost=shipping)


def update_exceptions(order: StoredOrder, sale: Sale, parts: Collection[str]) -> None:
    """Updates the order's exceptions from its lines and amounts; other exceptions stay."""
    add: set[str] = set()
    drop: set[str] = set()
    if "lines" in parts:
        add = set().union(*(read_exceptions(line.exception) for line in order.lines()))
        drop.update({OrderException.UNMAPPED, OrderException.OVERSOLD, OrderException.QUANTITY} - add)
    if {"lines", "amounts"} & set(parts):
        now = order.again()  # a message may lack some amounts
        amounts: dict[str, Any] = {name: getattr(now, name) or ZERO for name in ("lines_total", *AMOUNTS)}
        existing = replace(sale, currency=now.currency or sale.currency, **amounts)
        (drop if existing.adds_up else add).add(OrderException.TOTAL)
        if not existing.adds_up:
            order.log_once(OrderException.TOTAL, sale_exceptions(existing)[OrderException.TOTAL])
    order.set_exceptions(add=add, drop=drop)
