"""An order that the marketplace changed after it was imported: lines, amounts, address.

While nothing has left the shop the change is carried out; afterwards a person has to see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.bulk import insert_rows, reserve_ids
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import (
    insert_order_items,
    order_status,
    update_order,
    update_order_items,
)
from midas_pipelines.storefront.schema import order_items
from midas_pipelines.sync.orders import rows
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.conflicts import shop_has_shipped
from midas_pipelines.sync.orders.flaws import Flaw, sale_flaws
from midas_pipelines.sync.orders.lines import CHANNEL, SoldLine, match_lines, reference
from midas_pipelines.sync.orders.oversold import sound_alarm
from midas_pipelines.sync.orders.sales import Sale
from midas_pipelines.sync.orders.statuses import OPEN

_LINES = marketplace_order_lines.c
_BY_LINE = {
    Flaw.UNMAPPED.value,
    Flaw.OVERSOLD.value,
    Flaw.QUANTITY.value,
    Flaw.TOTAL.value,
    Flaw.STATUS.value,
}


@dataclass(frozen=True, slots=True)
class Shift:
    """What an edit does to one line: units to take (or give back, when negative) and units it stops owing."""

    take: int = 0
    owe_less: int = 0


def shift(*, wanted: int, taken: int, given_back: int, owed: int, shipped: int = 0) -> Shift:
    """How a line comes to hold `wanted` units: what it still owes goes first, then what it took, never what left."""
    held = taken - given_back
    missing = wanted - held - owed
    if missing >= 0:
        return Shift(take=missing)
    owe_less = min(owed, -missing)
    return Shift(take=-min(-missing - owe_less, held - shipped), owe_less=owe_less)


def apply_edit(connection: sa.Connection, row: sa.Row[Any], sale: Sale, clerk: Clerk) -> bool:
    """Brings the shop's order to what the marketplace says now; True when it did.

    Args:
        connection: holds the rows of the order and the stock of its items.
        row: our row of the order.
        sale: newer than what is on record.
    """
    standing = {
        line.line: line
        for line in connection.execute(
            sa.select(marketplace_order_lines).where(_LINES.order_id == row.id).order_by(_LINES.line)
        )
    }
    left = shop_has_shipped(connection, row.id, order_status(connection, row.local_order_id))
    open_still = OrderStatus(row.status) in OPEN and not left
    swapped = [line.line for line in sale.lines if _swapped(standing.get(line.line), line)]
    same_lines = _facts(sale) == {number: (line.quantity, line.price) for number, line in standing.items()}
    if (not open_still and not same_lines) or swapped:
        _leave_to_a_person(connection, row, sale, clerk)
        return False
    if not same_lines:
        _change_lines(connection, row, sale, standing, clerk)
    _change_order(connection, row, sale, clerk, with_address=open_still)
    return True


def _facts(sale: Sale) -> dict[int, tuple[int, Any]]:
    return {line.line: (line.quantity, line.price) for line in sale.lines}


def _swapped(row: sa.Row[Any] | None, line: Any) -> bool:
    """Whether the line sells something else now."""
    if row is None:
        return False
    return (row.sku, row.fourseller_product_id) != (line.sku, line.fourseller_product_id)


def _leave_to_a_person(connection: sa.Connection, row: sa.Row[Any], sale: Sale, clerk: Clerk) -> None:
    detail = (
        f"The marketplace changed the order to {len(sale.lines)} lines, {sale.total} {sale.currency}, in a way that "
        "cannot be carried out here: goods have left, or a line sells another item now. Compare the two by hand."
    )
    clerk.log_once(connection, row.marketplace_order_id, "edited", detail)
    mark(connection, row.id, add=(Flaw.EDITED.value,))
    _note_content(connection, row, sale, clerk, {})


def _change_lines(
    connection: sa.Connection, row: sa.Row[Any], sale: Sale, standing: dict[int, sa.Row[Any]], clerk: Clerk
) -> None:
    sold = {line.line.line: line for line in match_lines(connection, [sale])}
    _drop_lines(connection, row, [line for number, line in standing.items() if number not in sold], clerk)
    kept = [(sold[number], line) for number, line in standing.items() if number in sold]
    _resize_lines(connection, row, kept)
    added = [line for number, line in sold.items() if number not in standing]
    _add_lines(connection, row, added)
    before = ", ".join(f"{line.line}: {line.quantity}" for line in standing.values())
    after = ", ".join(f"{line.line}: {line.quantity}" for line in sale.lines)
    clerk.log(
        connection,
        row.marketplace_order_id,
        "edited",
        f"The marketplace changed the lines from ({before}) to ({after}).",
    )
    sound_alarm(connection, [line for line in sold.values() if line.owed and line.taken >= 0])


def _drop_lines(
    connection: sa.Connection, row: sa.Row[Any], lines: Sequence[sa.Row[Any]], clerk: Clerk
) -> None:
    del clerk
    for line in lines:
        _book(connection, row, line, item=_item(line), wanted=0)
    gone = [line.id for line in lines]
    values = {"quantity": 0, "exception": None}
    connection.execute(sa.update(marketplace_order_lines).where(_LINES.id.in_(gone)).values(values))
    update_order_items(
        connection, [{"id": line.order_item_id, "quantity": 0, "total_price": "0.00"} for line in lines]
    )


def _resize_lines(
    connection: sa.Connection, row: sa.Row[Any], lines: Sequence[tuple[SoldLine, sa.Row[Any]]]
) -> None:
    for sold, line in lines:
        item = _item(line)
        sold.name(item or sold.item)
        wanted = sold.wanted if item is not None else 0
        sold.taken = _book(connection, row, line, item=item, wanted=wanted) if item is not None else 0
        flaw = sold.flaw.value if sold.flaw and (item is not None or sold.line.odd) else line.exception
        values = {"quantity": sold.line.quantity, "price": sold.line.price, "exception": flaw}
        connection.execute(sa.update(marketplace_order_lines).where(_LINES.id == line.id).values(values))
    changes = [
        {
            "id": line.order_item_id,
            "quantity": sold.line.quantity,
            "price": sold.line.price,
            "total_price": sold.line.total,
        }
        for sold, line in lines
    ]
    update_order_items(connection, changes)


def _add_lines(connection: sa.Connection, row: sa.Row[Any], lines: Sequence[SoldLine]) -> None:
    for line, item_id in zip(lines, reserve_ids(connection, order_items, len(lines)), strict=True):
        line.order_item_id = item_id
    insert_order_items(connection, [rows.shop_item(line, row.local_order_id) for line in lines])
    taking = [line for line in lines if line.wanted]
    moves = [
        StockMove(
            line.item, -line.wanted, CHANNEL, "sale", reference(row.marketplace_order_id, line.line.line)
        )
        for line in taking
        if line.item is not None
    ]
    for line, delta in zip(taking, move_stock(connection, moves), strict=True):
        line.taken = -delta
    insert_rows(connection, marketplace_order_lines, [rows.marketplace_line(line, row.id) for line in lines])


def _item(line: sa.Row[Any]) -> ItemKey | None:
    return None if line.product_id is None else (line.product_id, line.variant_id)


def _book(
    connection: sa.Connection, row: sa.Row[Any], line: sa.Row[Any], *, item: ItemKey | None, wanted: int
) -> int:
    """Moves the stock of one line to `wanted` units; returns the units that it holds then."""
    change = shift(
        wanted=wanted, taken=line.taken, given_back=line.given_back, owed=line.owed, shipped=line.shipped
    )
    moved = 0
    if change.take and item is not None:
        name = reference(row.marketplace_order_id, line.line, line.taken + line.given_back)
        moved = -move_stock(connection, [StockMove(item, -change.take, CHANNEL, "edited", name)])[0]
    taken, given_back = line.taken + max(0, moved), line.given_back + max(0, -moved)
    owed = line.owed - change.owe_less + max(0, change.take - moved)
    values = {"taken": taken, "given_back": given_back, "owed": owed}
    connection.execute(sa.update(marketplace_order_lines).where(_LINES.id == line.id).values(values))
    return int(taken - given_back)


def _change_order(
    connection: sa.Connection, row: sa.Row[Any], sale: Sale, clerk: Clerk, *, with_address: bool
) -> None:
    columns: dict[str, Any] = {"total_amount": sale.total, "shipping_cost": sale.shipping_cost}
    if with_address:
        columns |= {"shipping_address": sale.address, "billing_address": sale.address}
    update_order(connection, row.local_order_id, **columns)
    amounts = ("total", "lines_total", "shipping_cost", "tax", "discount")
    _note_content(connection, row, sale, clerk, {name: getattr(sale, name) for name in amounts})
    found = connection.scalars(
        sa.select(_LINES.exception).where(_LINES.order_id == row.id, _LINES.exception.is_not(None))
    )
    flaws = {*found, *(flaw.value for flaw in sale_flaws(sale))}
    mark(connection, row.id, drop=tuple(_BY_LINE - flaws), add=tuple(flaws))


def _note_content(
    connection: sa.Connection, row: sa.Row[Any], sale: Sale, clerk: Clerk, amounts: dict[str, Any]
) -> None:
    values = {
        "content_hash": sale.content_hash,
        "payload": clerk.vault.seal(sale.raw),
        "source_updated_at": sale.updated_at,
        **amounts,
    }
    connection.execute(sa.update(marketplace_orders).where(marketplace_orders.c.id == row.id).values(values))
