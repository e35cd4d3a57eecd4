"""Applies edits of an imported order's lines and amounts by the marketplace until goods have left; after that they raise an
exception. What a later message leaves out stays as it was."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OPEN, OrderStatus
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.orders import update_order, update_order_items
from midas_pipelines.storefront.types import ZERO, sound, to_cents, utc_now
from midas_pipelines.storefront.writing import by_row, update_rows
from midas_pipelines.sync.orders.model import lines
from midas_pipelines.sync.orders.model.amounts import extras
from midas_pipelines.sync.orders.model.lines import OrderException, SoldLine, read_exceptions
from midas_pipelines.sync.orders.model.order_log import StoredOrder
from midas_pipelines.sync.orders.model.sale import Sale, SaleLine, write_content
from midas_pipelines.sync.orders.stock import units

AMOUNTS = ("total", "shipping_cost", "tax", "discount")
NAMES = ("sku", "fourseller_product_id")
"""What a line says of itself."""
GONE = 0
"""The place in the message of a line that the message no longer has."""

Pair = tuple[SoldLine, sa.Row[Any] | None]
"""A line of an edited order, with no units where it is gone, and our row of it, None where it is new."""


def pair(sale: Sale, sold: Sequence[SoldLine], existing: Sequence[sa.Row[Any]]) -> list[Pair]:
    """Pairs the lines of an edited order with ours: by identifiers, by item, then by position. Pure. A line may have moved, or
    gained the SKU or the product id that it lacked; a line of another item is another line."""
    free, added, found = {row.line: row for row in existing}, list(sold), list[tuple[SoldLine, sa.Row[Any]]]()
    for likeness in range(4):
        for line in list(added):
            row = next((row for row in free.values() if _likeness(line, row) == likeness), None)
            if row is not None:
                line.line = _said_over(line.line, free.pop(row.line))
                found.append((line, row))
                added.remove(line)
    for row in free.values():
        if row.quantity != 0 or row.allocated > row.released or row.backordered:
            names = {name: getattr(row, name) for name in (*NAMES, "title", "price")}
            gone = SaleLine(line=GONE, quantity=0, needs_review=False, total=ZERO, **names)
            found.append((SoldLine(sale, gone, None), row))
    for line, row in found:
        line.number, line.order_item_id = row.line, row.order_item_id
    for number, line in enumerate(added, start=1 + max((row.line for row in existing), default=0)):
        line.number = number
    return [*found, *((line, None) for line in added)]


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


def _said_over(line: SaleLine, row: sa.Row[Any]) -> SaleLine:
    """The line with what its message leaves out as it was."""
    missing = {*line.unsaid, *(name for name in NAMES if getattr(line, name) is None)}
    kept: dict[str, Any] = {name: getattr(row, name) for name in missing}
    if "quantity" in missing:
        kept["needs_review"] = OrderException.QUANTITY in read_exceptions(row.exception)
    whole = replace(line, **kept)
    return replace(whole, total=sound(whole.price * max(0, whole.quantity)) or ZERO)


def changed_lines(pairs: Sequence[Pair]) -> list[str]:
    """Each line with a different quantity, price or item than before, in words."""
    found = []
    for sold, row in pairs:
        named, now = sold.line.sku or sold.line.title, f"{sold.line.quantity} at {sold.line.price}"
        if row is None:
            found.append(f"line {sold.number} is new: {sold.line.quantity} of {named} at {sold.line.price}")
        elif sold.line.line == GONE:
            found.append(f"line {row.line} ({named}) is gone")
        elif (sold.line.quantity, sold.line.price) != (row.quantity, row.price):
            found.append(f"line {row.line} from {row.quantity} at {row.price} to {now}")
        if row is not None and row.product_id is None and not row.allocated and sold.item is not None:
            found.append(f"line {row.line} is {named} now")
    return found


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


def shift(wanted: int, allocated: int, released: int, backordered: int, shipped: int = 0) -> tuple[int, int]:
    """How a line reaches `wanted` units: the units to allocate (negative: to release), and the units less to backorder. Pure.
    Backordered units go first, then allocated ones, never shipped ones."""
    has = allocated - released
    missing = wanted - has - backordered
    if missing >= 0:
        return missing, 0
    less = min(backordered, -missing)
    return -min(-missing - less, has - shipped), less


def apply_edit(order: StoredOrder, sale: Sale, parts: Collection[str], *, shipped: bool) -> bool:
    """Applies the marketplace's edit of these parts to the shop's order, but for buyer and address; True when it did."""
    parts, existing, both = set(parts), order.lines(), {"lines", "amounts"}
    if "lines" in parts and "amounts" not in order.content:  # then the total is that of the lines
        parts.add("amounts")
    if both & parts:  # one of them may come from an earlier edit that was not applied
        parts |= both & sale.content.keys()
    first = not existing and "lines" not in order.content  # then it is no edit, even after shipping
    over = order.resolution == "cancelled"  # by a person, whatever 4Seller still says
    moves_stock = first or (order.status in OPEN and not shipped and not over)
    if first:  # the order's status decides whether its lines take stock
        shipped_as = sale.shipped_as or (OrderStatus.SHIPPED if shipped else None)
        status = OrderStatus.CANCELLED if over else OrderStatus(order.status)
        sale = replace(sale, status=status, shipped_as=shipped_as)
    pairs, goods = list[Pair](), order.lines_total or ZERO
    if "lines" in parts:
        pairs = pair(sale, lines.match_lines(order.connection, [sale]), existing)
        goods = sound(sum((sold.line.total for sold, _ in pairs), Decimal(0))) or ZERO
    if both & parts:
        sale = _amounts_over(order, sale, goods)
    changes = changed_lines(pairs)
    applied = not changes or moves_stock
    if not applied:
        when = "an operator cancelled it" if over else "goods have left"
        what = f"to {len(sale.lines)} lines, {sale.priced}, after {when}"
        raise_edit_conflict(order, f"The marketplace changed the order {what}.")
    else:
        _change_lines(order, pairs, changes, moves_stock=moves_stock)
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
    if order.log("edited", detail, once=True):
        order.set_exceptions(add=(OrderException.EDITED,))


def _change_lines(order: StoredOrder, pairs: list[Pair], changes: list[str], *, moves_stock: bool) -> None:
    known = [(sold, row) for sold, row in pairs if row is not None]
    for sold, row in known:
        _resize(order, sold, row, moves_stock=moves_stock)
    if order.local_order_id is not None:
        shop = lines.shop_lines([sold for sold, _ in known], ())
        numbers = by_row({name: shop[name] for name in ("id", "quantity", "price", "total_price")})
        mapped = [sold for sold, row in known if sold.item and row.product_id is None]
        ids = [sold.order_item_id for sold in mapped]
        for rows in (numbers, by_row({"id": ids, **lines.columns_of_items(mapped)})):
            update_order_items(order.connection, order.local_order_id, rows)
    added = [sold for sold, row in pairs if row is None]
    local_ids = [] if order.local_order_id is None else [order.local_order_id] * len(added)
    units.write_lines(order.connection, added, [order.id] * len(added), shop=bool(local_ids))
    units.allocate_lines(order.connection, added, local_ids)
    if changes:
        order.log("edited", f"The marketplace changed the order: {'; '.join(changes)}.")
    for sold, _ in pairs:
        for exception, words in sold.exceptions.items():
            order.log(exception.value, words, once=True)
    units.raise_oversold_alerts(order.connection, [sold for sold, _ in pairs])
    units.clear_oversold_alert(order.connection, {units.item_of(row) for _, row in known if row.backordered})


def _resize(order: StoredOrder, sold: SoldLine, row: sa.Row[Any], *, moves_stock: bool) -> None:
    """Writes our row of the line, and moves its stock to the units that it wants now."""
    unmapped = None if row.allocated else sold.item
    sold.name(unmapped if row.product_id is None else units.item_of(row))
    values = {name: getattr(sold.line, name) for name in lines.SAID}
    values["product_id"], values["variant_id"] = sold.item or (None, None)
    if not moves_stock:  # only the texts have changed
        sold.wanted = sold.allocated = units.on_order(row)
    else:
        has = {name: getattr(row, name) for name in ("allocated", "released", "backordered", "shipped")}
        take, less = shift(wanted=sold.wanted, **has)
        moved = 0
        if take and sold.item is not None:
            name = lines.reference(order.marketplace_order_id, row.line, row.allocated + row.released)
            move = StockMove(sold.item, -take, lines.CHANNEL, "edited", name)
            moved = -move_stock(order.connection, [move])[0]
        allocated, released = row.allocated + max(0, moved), row.released + max(0, -moved)
        sold.allocated = allocated - released
        values |= {"allocated": allocated, "released": released}
        values["exception"] = lines.exception_text(sold.exceptions)
        values["backordered"] = row.backordered - less + max(0, take - moved)
    update_rows(order.connection, marketplace_order_lines, [{"id": row.id, **values}])


def _change_amounts(order: StoredOrder, sale: Sale, parts: Collection[str]) -> None:
    if "lines" in parts:
        order.set(lines_total=sale.lines_total)
    if "amounts" not in parts:
        return
    amounts = {name: getattr(sale, name) for name in AMOUNTS}
    order.set(**amounts)
    news = {name: value for name, value in amounts.items() if (getattr(order, name) or ZERO) != value}
    changed = [f"{name.replace('_', ' ')} {getattr(order, name)} -> {value}" for name, value in news.items()]
    if changed:
        said = f"{', '.join(changed)} {order.currency or ''}".rstrip()
        order.log("edited", f"The marketplace changed the amounts: {said}.")
        if order.local_order_id is not None:
            total, shipping = to_cents(sale.total), to_cents(sale.shipping_cost)
            update_order(order.connection, order.local_order_id, total_amount=total, shipping_cost=shipping)


def update_exceptions(order: StoredOrder, sale: Sale, parts: Collection[str]) -> None:
    """Updates the order's exceptions from its lines and amounts; other exceptions stay."""
    if "lines" in parts:
        order.match_exceptions(OrderException.QUANTITY)
    if {"lines", "amounts"} & set(parts):
        now = order.again()  # a message may lack some amounts
        amounts: dict[str, Any] = {name: getattr(now, name) or ZERO for name in ("lines_total", *AMOUNTS)}
        existing = replace(sale, currency=now.currency or sale.currency, **amounts)
        order.set_exceptions(**{"drop" if existing.adds_up else "add": (OrderException.TOTAL,)})
        if not existing.adds_up:
            order.log(OrderException.TOTAL, lines.sale_exceptions(existing)[OrderException.TOTAL], once=True)
