"""An order on which shop and marketplace contradict each other: a person decides, and says so here."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus, read_status
from midas_pipelines.notify.alerts import ENDED as ENDED_ALERT
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.orders import order_status, set_order_status
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders import flaws
from midas_pipelines.sync.orders.backorders import mark_owing
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.ending import end_order
from midas_pipelines.sync.orders.flaws import Flaw
from midas_pipelines.sync.orders.giving_back import order_lines, take_back
from midas_pipelines.sync.orders.leaving import all_has_left, units_left
from midas_pipelines.sync.orders.mailing import withdraw_cancellation
from midas_pipelines.sync.orders.sales import Sale
from midas_pipelines.sync.orders.statuses import ENDED, GOODS_LEFT, OPEN
from midas_pipelines.sync.orders.taking import take_units
from midas_pipelines.sync.orders.units import accounted, left_to_ship

ALERT = "order_conflict"
_ORDERS = marketplace_orders.c


class NoConflict(Exception):
    """The order is in no conflict; the message says what to do instead."""


def dispute(
    connection: sa.Connection, row: sa.Row[Any], sale: Sale, step: str, detail: str, clerk: Clerk
) -> None:
    """Asks a person about what the marketplace reports, once for each report: the same again asks nobody."""
    given, asked = sale.updated_at, row.disputed_at
    if given is None or (asked is not None and given <= asked):
        new = given is None and clerk.log_once(connection, row.marketplace_order_id, step, detail)
    else:
        clerk.log(connection, row.marketplace_order_id, step, detail)
        connection.execute(
            sa.update(marketplace_orders).where(_ORDERS.id == row.id).values(disputed_at=given)
        )
        new = True
    if new:
        raise_conflict(connection, row, detail)


def raise_conflict(connection: sa.Connection, order: sa.Row[Any], detail: str) -> None:
    """Marks the order and tells staff, once for each conflict."""
    mark(connection, order.id, add=(Flaw.CONFLICT.value,))
    _set(connection, order, settled_as=None)
    order_id = order.marketplace_order_id
    clear_alert(connection, kind=ENDED_ALERT, subject=_subject(order_id))  # which said less
    raise_alert(connection, kind=ALERT, subject=_subject(order_id), text=f"Order {order_id}: {detail}")


def end_conflict(connection: sa.Connection, order: sa.Row[Any]) -> None:
    """Both sides say the same again, or a person has decided."""
    mark(connection, order.id, drop=(Flaw.CONFLICT.value,))
    clear_alert(connection, kind=ALERT, subject=_subject(order.marketplace_order_id))


def settle(
    connection: sa.Connection, order: sa.Row[Any], decision: str, clerk: Clerk, *, restock: bool
) -> None:
    """Ends a conflict as a person decided.

    Args:
        connection: a writing transaction.
        order: our row, locked.
        decision: `shipped` (the sale stands) or `cancelled` (it does not).
        clerk: writes the story.
        restock: for `cancelled`: what had left is back on the shelf.

    Raises:
        NoConflict: there is nothing to decide.
    """
    if Flaw.CONFLICT.value not in flaws.read(order.exception):
        raise NoConflict(
            f"Order {order.marketplace_order_id} is in no conflict: nothing was changed. "
            "`midas orders dismiss` ends other exceptions that a person has looked at."
        )
    goods = ", with the goods back in stock" if restock else ""
    detail = f"An operator settled the conflict: the order counts as {decision}{goods}."
    clerk.log(connection, order.marketplace_order_id, "settled", detail)
    if decision == "cancelled":
        _cancel(connection, order, clerk, restock=restock)
    else:
        _uphold(connection, order, clerk)
    # What the marketplace has said so far is decided upon; a later word asks anew.
    _set(connection, order, settled_as=decision, disputed_at=order.source_updated_at or order.disputed_at)
    end_conflict(connection, order)


def _cancel(connection: sa.Connection, order: sa.Row[Any], clerk: Clerk, *, restock: bool) -> None:
    """The sale does not stand: what is on the shelf is free, what left comes back only if it is back."""
    shop = order_status(connection, order.local_order_id)
    _take_anew(connection, order, clerk, shop, whole=False)
    all_left = order.status in ENDED or all_has_left(connection, order, shop)
    word = read_status(order.status_word)
    there = word.status if word.known else OrderStatus(order.status)
    untold = shop is not None and there in OPEN and order.status not in (*GOODS_LEFT, OrderStatus.REFUNDED)
    if untold:
        _set(connection, order, status=there.value)
    elif order.status in OPEN:
        _set(connection, order, status=OrderStatus.CANCELLED.value)
    if shop not in (None, "cancelled"):
        set_order_status(
            connection, order.local_order_id, status="cancelled", notes="Settled by the operator"
        )
    _set(connection, order, shop_status_since=utc_now() if untold else None, tell_after=None, tell_attempts=0)
    end_order(connection, order, OrderStatus.CANCELLED, clerk, all_left=all_left)
    if restock:
        take_back(connection, order, "cancelled", clerk, all_left=all_left)


def _uphold(connection: sa.Connection, order: sa.Row[Any], clerk: Clerk) -> None:
    """The sale stands: it has its stock again, and 4Seller is told where the shop's order is."""
    withdraw_cancellation(connection, order.id)
    if order.status == OrderStatus.CANCELLED:
        _set(connection, order, status=OrderStatus.PROCESSING.value)
    shop = order_status(connection, order.local_order_id)
    refunded = order.status == OrderStatus.REFUNDED  # of what was paid back no more is sent
    _take_anew(connection, order, clerk, shop, whole=not refunded)
    lines = order_lines(connection, order.id)
    everything_left = not any(left_to_ship(line) or line.owed for line in lines)
    wanted = "shipped" if everything_left or refunded else "processing"
    if order.status in GOODS_LEFT:
        wanted = order.status
    if shop is not None and shop not in GOODS_LEFT and shop != wanted:
        set_order_status(connection, order.local_order_id, status=wanted, notes="Settled by the operator")
    since = None if refunded else utc_now()
    _set(connection, order, shop_status_since=since, tell_after=None, tell_attempts=0)


def _take_anew(
    connection: sa.Connection, order: sa.Row[Any], clerk: Clerk, shop: str | None, *, whole: bool
) -> None:
    """What the order gave back though it left, or is to leave, is taken again.

    Args:
        connection: holds the order's rows.
        order: our row.
        clerk: writes the story.
        shop: where the shop's order stands.
        whole: whether the order is to have all that was sold; else only what has left.
    """
    left = units_left(connection, order, shop)
    for line in order_lines(connection, order.id):
        wanted = line.quantity if whole else left[line.line]
        missing = wanted - accounted(line) - line.owed
        if line.product_id is not None and missing > 0:
            gone = max(0, left[line.line] - accounted(line))
            item = (line.product_id, line.variant_id)
            got = take_units(connection, order, line, item, missing=missing, gone=gone)
            clerk.log(
                connection,
                order.marketplace_order_id,
                "deducted",
                f"Line {line.line}, {line.sku}, again: {got}",
            )
    mark_owing(connection, order.id)


def _set(connection: sa.Connection, order: sa.Row[Any], **values: Any) -> None:
    connection.execute(sa.update(marketplace_orders).where(_ORDERS.id == order.id).values(values))


def _subject(order_id: str) -> str:
    return f"order:{order_id}"[:200]
