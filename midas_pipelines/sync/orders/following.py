"""What the marketplace reports of orders that are known already: moved on, edited, or nothing new."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.bulk import any_of
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.orders import lock_orders, order_status, set_order_status
from midas_pipelines.storefront.stock import lock_stock
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.confirmations import queue_mail
from midas_pipelines.sync.orders.conflicts import raise_conflict, shop_has_shipped
from midas_pipelines.sync.orders.edits import apply_edit
from midas_pipelines.sync.orders.giving_back import give_back
from midas_pipelines.sync.orders.lines import CHANNEL, find_items
from midas_pipelines.sync.orders.sales import Sale
from midas_pipelines.sync.orders.statuses import GOODS_LEFT, Step, local_status, step

_COLUMNS = [
    marketplace_orders.c[name]
    for name in (
        "id",
        "marketplace_order_id",
        "local_order_id",
        "sales_channel",
        "status",
        "content_hash",
        "placed_at",
        "source_updated_at",
    )
]


def follow_sales(
    connection: sa.Connection, sales: Sequence[Sale], clerk: Clerk, *, selling: Collection[ItemKey] = ()
) -> int:
    """Moves known orders to the status and the content that the marketplace reports; returns how many changed.

    Locks in one order, so that importers do not wait for one another in a ring: the shop's orders, ours, then the
    stock of all lines, together with that of the items that the caller is about to sell.
    """
    if not sales:
        return 0
    reported = {sale.order_id: sale for sale in sales}
    table = marketplace_orders.c
    mine = any_of(connection, table.marketplace_order_id, list(reported))
    query = sa.select(*_COLUMNS).where(table.channel == CHANNEL, mine, table.local_order_id.is_not(None))
    behind = [row for row in connection.execute(query) if _differs(row, reported[row.marketplace_order_id])]
    if not behind:
        return 0
    lock_orders(connection, [row.local_order_id for row in behind])
    ids = [row.id for row in behind]
    locked = sa.select(*_COLUMNS).where(table.id.in_(ids)).order_by(table.id)
    rows = connection.execute(locked.with_for_update(key_share=True)).all()
    changed = [reported[row.marketplace_order_id] for row in behind]
    named = set(find_items(connection, (line for sale in changed for line in sale.lines)).values())
    lock_stock(connection, {*selling, *named, *_items_taken(connection, ids)})
    return sum(_follow(connection, row, reported[row.marketplace_order_id], clerk) for row in rows)


def _differs(row: sa.Row[Any], sale: Sale) -> bool:
    return sale.status != row.status or _edited(row, sale)


def _edited(row: sa.Row[Any], sale: Sale) -> bool:
    """Whether the sale is newer than what is on record and says something else; an older one came late."""
    if row.content_hash is None or row.content_hash == sale.content_hash:
        return False
    known, given = row.source_updated_at, sale.updated_at
    return known is None or (given is not None and given >= known)


def _items_taken(connection: sa.Connection, order_rows: Sequence[int]) -> list[ItemKey]:
    """The items that these orders have taken and may give back."""
    table = marketplace_order_lines.c
    query = sa.select(table.product_id, table.variant_id).where(
        table.order_id.in_(order_rows), table.taken > table.given_back
    )
    return [(row.product_id, row.variant_id) for row in connection.execute(query)]


def _follow(connection: sa.Connection, row: sa.Row[Any], sale: Sale, clerk: Clerk) -> bool:
    edited = _edited(row, sale) and apply_edit(connection, row, sale, clerk)
    standing = OrderStatus(row.status)
    match step(standing, sale.status):
        case Step.FORWARD:
            return _advance(connection, row, standing, sale, clerk) or edited
        case Step.ILLEGAL:
            _refuse(connection, row, standing, sale.status, clerk)
        case Step.LATE:
            detail = f"4Seller reports {sale.status.value} again or late; the order stays {standing.value}."
            clerk.log_once(connection, row.marketplace_order_id, "late", detail)
    return edited


def _refuse(
    connection: sa.Connection, row: sa.Row[Any], standing: OrderStatus, reported: OrderStatus, clerk: Clerk
) -> None:
    detail = f"4Seller reports {reported.value}, but the order is {standing.value}: a person has to decide."
    new = clerk.log_once(connection, row.marketplace_order_id, "refused_transition", detail)
    if new and reported is OrderStatus.CANCELLED:  # it is on its way already
        raise_conflict(connection, row.id, row.marketplace_order_id, detail)


def _advance(
    connection: sa.Connection, row: sa.Row[Any], standing: OrderStatus, sale: Sale, clerk: Clerk
) -> bool:
    local = order_status(connection, row.local_order_id)
    cancelled = sale.status is OrderStatus.CANCELLED
    if cancelled and shop_has_shipped(connection, row.id, local):
        detail = (
            "The marketplace cancelled the order, but the shop has shipped it: get the parcel back or have the "
            "cancellation withdrawn, then settle the order."
        )
        if clerk.log_once(connection, row.marketplace_order_id, "conflict", detail):
            raise_conflict(connection, row.id, row.marketplace_order_id, detail)
        return False
    # Ours first: the trigger on the shop's order then sees that 4Seller knows this status already.
    values = {
        "status": sale.status.value,
        "status_word": sale.status_word,
        "source_updated_at": sale.updated_at,
    }
    connection.execute(sa.update(marketplace_orders).where(marketplace_orders.c.id == row.id).values(values))
    refunded = sale.status is OrderStatus.REFUNDED
    goods_left = sale.shipped or standing in GOODS_LEFT
    note = _move_shop_order(connection, row, standing, sale, local, goods_left=goods_left)
    detail = f"{standing.value} → {sale.status.value}. {note}."
    clerk.log(connection, row.marketplace_order_id, sale.status.value, detail)
    if cancelled or (refunded and not goods_left):
        give_back(connection, row.id, row.marketplace_order_id, sale.status.value, clerk)
    if cancelled:
        queue_mail(connection, row, "cancelled", clerk.mail)
    return True


def _move_shop_order(
    connection: sa.Connection,
    row: sa.Row[Any],
    standing: OrderStatus,
    sale: Sale,
    local: str | None,
    *,
    goods_left: bool,
) -> str:
    """Moves the shop's order along; returns where the move came from, in words."""
    note = f"4Seller: {sale.status_word}"
    refunded = sale.status is OrderStatus.REFUNDED
    payment = "refunded" if refunded else None
    if local is None:
        return note + "; the shop has deleted its order"
    wanted = local_status(sale.status)
    if refunded and goods_left:  # the sale stands as it was, the money went back
        wanted = local if local in GOODS_LEFT else standing.value
    if refunded or local != wanted:
        set_order_status(connection, row.local_order_id, status=wanted, notes=note, payment_status=payment)
    return note
