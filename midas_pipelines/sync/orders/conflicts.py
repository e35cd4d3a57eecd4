"""An order on which shop and marketplace contradict each other: a person decides, and says so here."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.ledger import StockMove, move_stock
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.orders import order_status, set_order_status
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders import flaws
from midas_pipelines.sync.orders.backorders import mark_owing
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.confirmations import queue_mail
from midas_pipelines.sync.orders.flaws import Flaw
from midas_pipelines.sync.orders.giving_back import order_lines, release, take_back
from midas_pipelines.sync.orders.leaving import all_has_left
from midas_pipelines.sync.orders.lines import CHANNEL, reference
from midas_pipelines.sync.orders.sales import Sale
from midas_pipelines.sync.orders.statuses import ENDED, GOODS_LEFT
from midas_pipelines.sync.orders.units import held, left_to_ship

ALERT = "order_conflict"
_ORDERS, _LINES = marketplace_orders.c, marketplace_order_lines.c


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
    order_id = order.marketplace_order_id
    raise_alert(connection, kind=ALERT, subject=_subject(order_id), text=f"Order {order_id}: {detail}")


def end_conflict(connection: sa.Connection, order: sa.Row[Any]) -> None:
    """Both sides say the same again, or a person has decided."""
    mark(connection, order.id, drop=(Flaw.CONFLICT.value, Flaw.REFUSED.value))
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
    _set(connection, order, disputed_at=order.source_updated_at or order.disputed_at)
    end_conflict(connection, order)


def _cancel(connection: sa.Connection, order: sa.Row[Any], clerk: Clerk, *, restock: bool) -> None:
    """The sale does not stand: what is on the shelf is free, what left comes back only if it is back."""
    shop = order_status(connection, order.local_order_id)
    all_left = order.status not in ENDED and all_has_left(connection, order, shop)
    if order.status not in (*ENDED, *GOODS_LEFT):
        _set(connection, order, status=OrderStatus.CANCELLED.value)
    if shop not in (None, "cancelled"):
        set_order_status(
            connection, order.local_order_id, status="cancelled", notes="Settled by the operator"
        )
    _set(connection, order, shop_status_since=None, tell_after=None, tell_attempts=0)
    release(connection, order, "cancelled", clerk, all_left=all_left)
    if restock:
        take_back(connection, order, "cancelled", clerk, all_left=all_left)
    queue_mail(connection, order, "cancelled", clerk.mail)


def _uphold(connection: sa.Connection, order: sa.Row[Any], clerk: Clerk) -> None:
    """The sale stands: it has its stock again, and 4Seller is told where the shop's order is."""
    if order.status == OrderStatus.CANCELLED:
        _set(connection, order, status=OrderStatus.PROCESSING.value)
    _take_anew(connection, order, clerk)
    lines = order_lines(connection, order.id)
    everything_left = not any(left_to_ship(line) or line.owed for line in lines)
    shop = order_status(connection, order.local_order_id)
    wanted = "shipped" if everything_left else "processing"
    if shop is not None and shop not in GOODS_LEFT and shop != wanted:
        set_order_status(connection, order.local_order_id, status=wanted, notes="Settled by the operator")
    _set(connection, order, shop_status_since=utc_now(), tell_after=None, tell_attempts=0)


def _take_anew(connection: sa.Connection, order: sa.Row[Any], clerk: Clerk) -> None:
    """What a cancellation had given back belongs to the order again; what is not there any more is owed, unless it has
    left: then the shop's count is wrong, and the story says so."""
    lines = [
        line
        for line in order_lines(connection, order.id)
        if line.product_id is not None and line.quantity > held(line) + line.owed + line.returned
    ]
    moves = [
        StockMove(
            (line.product_id, line.variant_id),
            held(line) + line.owed + line.returned - line.quantity,
            CHANNEL,
            "sale",
            reference(order.marketplace_order_id, line.line, line.taken),
        )
        for line in lines
    ]
    for line, move, moved in zip(lines, moves, move_stock(connection, moves), strict=True):
        short = moved - move.delta
        owed = min(short, max(0, line.quantity - line.shipped))
        owed += line.owed
        exception = flaws.owing(line.exception, owed)
        values = {"taken": line.taken - moved, "owed": owed, "exception": exception}
        connection.execute(sa.update(marketplace_order_lines).where(_LINES.id == line.id).values(values))
        detail = f"Line {line.line}, {line.sku}: took {-moved} from stock again."
        if line.owed + short > owed:
            detail += f" {line.owed + short - owed} that have left were not on the shelf: count the item."
        clerk.log(connection, order.marketplace_order_id, "deducted", detail)
    mark_owing(connection, order.id)


def _set(connection: sa.Connection, order: sa.Row[Any], **values: Any) -> None:
    connection.execute(sa.update(marketplace_orders).where(_ORDERS.id == order.id).values(values))


def _subject(order_id: str) -> str:
    return f"order:{order_id}"[:200]
