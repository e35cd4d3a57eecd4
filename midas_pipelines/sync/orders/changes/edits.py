"""Applies edits of an imported order by the marketplace: lines, amounts, buyer, address.

Edits are applied until goods have left; after that they raise an exception.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.schema.tables import marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.bulk import insert_rows, reserve_ids
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import (
    order_address,
    update_order,
    update_order_items,
)
from midas_pipelines.storefront.schema import order_items
from midas_pipelines.storefront.types import to_cents, utc_now
from midas_pipelines.sync.orders.model import rows
from midas_pipelines.sync.orders.model.amounts import ZERO
from midas_pipelines.sync.orders.model.lines import (
    CHANNEL,
    OrderException,
    SoldLine,
    explain_sale,
    match_lines,
    read_exceptions,
    reference,
    sale_moves,
)
from midas_pipelines.sync.orders.model.merge import LinePairing, amounts_over, pair, said_over, shift
from midas_pipelines.sync.orders.model.order_log import StoredOrder, set_line
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.model.state_machine import OPEN
from midas_pipelines.sync.orders.stock.backorders import clear_oversold_alert, raise_oversold_alert
from midas_pipelines.sync.orders.stock.units import has_shipped, on_order

_LINES = marketplace_order_lines.c
AMOUNTS = ("total", "shipping_cost", "tax", "discount")
_FOLLOWS_LINES: set[str] = {OrderException.UNMAPPED, OrderException.OVERSOLD, OrderException.QUANTITY}


def apply_edit(order: StoredOrder, sale: Sale, parts: Collection[str]) -> bool:
    """Applies the marketplace's edit to the shop's order; True when it did.

    Args:
        sale: the new state.
        parts: which of lines, amounts, buyer and address change.
    """
    parts = _with_what_belongs(order, sale, parts)
    shop = order.shop_status()
    open_still = OrderStatus(order.status) in OPEN and not has_shipped(order, shop)
    existing = order.lines()
    first = not existing and "lines" in order.content.missing  # then it is no edit, even after shipping
    if first:
        shipped_as = sale.shipped_as or (OrderStatus.SHIPPED if has_shipped(order, shop) else None)
        # The order's status decides whether its lines take stock.
        sale = replace(sale, status=OrderStatus(order.status), shipped_as=shipped_as)
    pairing = pair(match_lines(order.connection, [sale]), existing) if "lines" in parts else LinePairing()
    if {"lines", "amounts"} & parts:
        sale = amounts_over(order, sale, pairing.goods if "lines" in parts else order.lines_total or ZERO)
    of_address = parts if open_still else parts & order.content.missing
    _change_address(order, sale, of_address)
    if pairing.changes and not (open_still or first):
        what = f"to {len(sale.lines)} lines, {sale.priced}, after goods have left"
        raise_edit_conflict(order, f"The marketplace changed the order {what}.")
        _note_content(order, sale)
        return False
    if "lines" in parts:
        _change_lines(order, pairing, move_stock_too=open_still or first)
    _change_amounts(order, sale, parts)
    _note_content(order, sale)
    update_exceptions(order, sale, parts)
    return True


def _with_what_belongs(order: StoredOrder, sale: Sale, parts: Collection[str]) -> frozenset[str]:
    """Adds lines to amounts and amounts to lines: one of them may come from an earlier edit that was not applied.

    An order that never had a total gets that of its lines.
    """
    if not {"lines", "amounts"} & set(parts):
        return frozenset(parts)
    reported = {part for part in ("lines", "amounts") if getattr(sale.content, part) is not None}
    if "lines" in parts and order.content.amounts is None:
        reported.add("amounts")
    return frozenset(parts) | reported


def raise_edit_conflict(order: StoredOrder, why: str) -> None:
    """Marks an order whose edit cannot be applied."""
    detail = f"{why} Compare the two by hand; `midas orders dismiss` when you have."
    if order.log_once("edited", detail):
        order.set_exceptions(add=(OrderException.EDITED,))


def _change_lines(order: StoredOrder, pairing: LinePairing, *, move_stock_too: bool) -> None:
    for line in pairing.dropped:
        _book(order, line, _item(line), wanted=0)
    gone = [line.id for line in pairing.dropped]
    values = {"quantity": 0, "exception": None}
    order.connection.execute(sa.update(marketplace_order_lines).where(_LINES.id.in_(gone)).values(values))
    for sold, line in pairing.kept:
        _resize(order, sold, line, move_stock_too=move_stock_too)
    if order.local_order_id is not None:
        kept = [
            {
                "id": sold.order_item_id,
                "quantity": sold.line.quantity,
                "price": to_cents(sold.line.price),
                "total_price": to_cents(sold.line.total),
            }
            for sold, _ in pairing.kept
        ]
        mapped = [
            {"id": sold.order_item_id, "product_id": sold.item[0], "variant_id": sold.item[1]}
            for sold, line in pairing.kept
            if sold.item and line.product_id is None
        ]
        dropped = [
            {"id": line.order_item_id, "quantity": 0, "total_price": "0.00"} for line in pairing.dropped
        ]
        for changes in (kept, mapped, dropped):
            update_order_items(order.connection, order.local_order_id, changes)
    _add_lines(order, pairing.added)
    if pairing.changes:
        order.log("edited", _describe_edit(pairing))
    now = [*(sold for sold, _ in pairing.kept), *pairing.added]
    for sold in now:
        for exception in sold.exceptions:
            order.log_once(exception.value, sold.explain(exception))
    raise_oversold_alert(order.connection, filter(None, (sold.short for sold in now)))
    before = [line for line in [*pairing.dropped, *(line for _, line in pairing.kept)] if line.backordered]
    clear_oversold_alert(order.connection, {(line.product_id, line.variant_id) for line in before})


def _describe_edit(pairing: LinePairing) -> str:
    parts = [
        f"line {row.line} from {row.quantity} at {row.price} to {sold.line.quantity} at {sold.line.price}"
        for sold, row in pairing.kept
        if (sold.line.quantity, sold.line.price) != (row.quantity, row.price)
    ]
    parts += [
        f"line {row.line} is {sold.line.sku or sold.line.title} now"
        for sold, row in pairing.kept
        if row.product_id is None and not row.allocated and sold.item is not None
    ]
    parts += [f"line {row.line} ({row.sku or row.title}) is gone" for row in pairing.dropped]
    parts += [
        f"line {sold.number} is new: {sold.line.quantity} of {sold.line.sku or sold.line.title} at {sold.line.price}"
        for sold in pairing.added
    ]
    return f"The marketplace changed the order: {'; '.join(parts)}."


def _resize(order: StoredOrder, sold: SoldLine, line: sa.Row[Any], *, move_stock_too: bool) -> None:
    item = _item(line) or (sold.item if not line.allocated else None)
    sold.name(item)
    if not move_stock_too:  # only the texts have changed
        sold.wanted = sold.allocated = on_order(line)
    elif item is not None:
        sold.allocated = _book(order, line, item, wanted=sold.wanted)
    values = {
        "sku": sold.line.sku or line.sku,
        "fourseller_product_id": sold.line.fourseller_product_id or line.fourseller_product_id,
        "title": sold.line.title,
        "quantity": sold.line.quantity,
        "price": sold.line.price,
        "product_id": item[0] if item else None,
        "variant_id": item[1] if item else None,
        "exception": sold.exception if move_stock_too else line.exception,
    }
    set_line(order.connection, line.id, **values)


def _add_lines(order: StoredOrder, lines: Sequence[SoldLine]) -> None:
    if order.local_order_id is not None:
        item_ids = reserve_ids(order.connection, order_items, len(lines))
        for line, item_id in zip(lines, item_ids, strict=True):
            line.order_item_id = item_id
        insert_rows(
            order.connection, order_items, [rows.shop_item(line, order.local_order_id) for line in lines]
        )
    taking = [line for line in lines if line.wanted]
    for line, delta in zip(taking, move_stock(order.connection, sale_moves(taking)), strict=True):
        line.allocated = -delta
    insert_rows(
        order.connection, marketplace_order_lines, [rows.marketplace_line(line, order.id) for line in lines]
    )


def _item(line: sa.Row[Any]) -> ItemKey | None:
    return None if line.product_id is None else (line.product_id, line.variant_id)


def _book(order: StoredOrder, line: sa.Row[Any], item: ItemKey | None, *, wanted: int) -> int:
    """Moves the stock of one line to `wanted` units; returns the units it then holds."""
    change = shift(
        wanted=wanted,
        allocated=line.allocated,
        released=line.released,
        backordered=line.backordered,
        shipped=line.shipped,
    )
    moved = 0
    if change.take and item is not None:
        name = reference(order.marketplace_order_id, line.line, line.allocated + line.released)
        moved = -move_stock(order.connection, [StockMove(item, -change.take, CHANNEL, "edited", name)])[0]
    allocated, released = line.allocated + max(0, moved), line.released + max(0, -moved)
    backordered = line.backordered - change.reduce_backorder + max(0, change.take - moved)
    values = {"allocated": allocated, "released": released, "backordered": backordered}
    set_line(order.connection, line.id, **values)
    return int(allocated - released)


def _change_amounts(order: StoredOrder, sale: Sale, parts: Collection[str]) -> None:
    values: dict[str, Any] = {"lines_total": sale.lines_total} if "lines" in parts else {}
    if "amounts" in parts:
        values |= {name: getattr(sale, name) for name in AMOUNTS}
        changed = [
            f"{name.replace('_', ' ')} {getattr(order, name)} -> {value}"
            for name, value in values.items()
            if name in AMOUNTS and (getattr(order, name) or ZERO) != value
        ]
        if changed:
            amounts = f"{', '.join(changed)} {order.currency or ''}".rstrip()
            order.log("edited", f"The marketplace changed the amounts: {amounts}.")
        if changed and order.local_order_id is not None:
            total, shipping = to_cents(sale.total), to_cents(sale.shipping_cost)
            update_order(order.connection, order.local_order_id, total_amount=total, shipping_cost=shipping)
    if values:
        order.set(**values)


def _change_address(order: StoredOrder, sale: Sale, parts: Collection[str]) -> None:
    """Updates buyer and address as far as the message has them; an erased buyer stays erased."""
    if order.erased_at is not None:
        return
    reported = (sale.buyer if "buyer" in parts else {}) | (sale.ship_to if "address" in parts else {})
    known = order_address(order.connection, order.local_order_id) if reported else None
    if known is None:
        return
    address = said_over(known, reported)
    if address != known:
        update_order(
            order.connection, order.local_order_id, shipping_address=address, billing_address=address
        )
        what = " and ".join(part for part in ("buyer", "address") if part in parts)
        order.log("edited", f"The marketplace changed the {what}.")


def _note_content(order: StoredOrder, sale: Sale) -> None:
    whole = sale.content.over(order.content)
    values: dict[str, Any] = {"content_hash": whole.written(), "content_at": utc_now()}
    if sale.content == whole:  # the message has the whole order
        values["payload"] = sale.sealed or order.context.vault.seal(sale.raw)
    order.set(**values)


def update_exceptions(order: StoredOrder, sale: Sale, parts: Collection[str]) -> None:
    """Updates the order's exceptions from its lines and amounts; other exceptions stay."""
    add: set[str] = set()
    drop: set[str] = set()
    if "lines" in parts:
        of_lines = sa.select(_LINES.exception).where(
            _LINES.order_id == order.id, _LINES.exception.is_not(None)
        )
        add = set().union(*(read_exceptions(found) for found in order.connection.scalars(of_lines)))
        drop = _FOLLOWS_LINES - add
    if {"lines", "amounts"} & set(parts):
        now = order.again()  # a message may lack some amounts
        amounts: dict[str, Any] = {name: getattr(now, name) or ZERO for name in ("lines_total", *AMOUNTS)}
        existing = replace(sale, currency=now.currency or sale.currency, **amounts)
        if existing.adds_up:
            drop |= {OrderException.TOTAL}
        else:
            add |= {OrderException.TOTAL}
            order.log_once(OrderException.TOTAL, explain_sale(existing, OrderException.TOTAL))
    order.set_exceptions(add=add, drop=drop)
