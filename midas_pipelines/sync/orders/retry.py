"""Retries an order for a person: reads it again from 4Seller, maps and allocates its lines, sends its messages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.errors import NotFound
from midas_pipelines.store.schema.order_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.close import clear_unknown_status, end_quarantine
from midas_pipelines.sync.orders.customer_mail import UNSENT, put_back
from midas_pipelines.sync.orders.intake.batch import import_orders_read
from midas_pipelines.sync.orders.lookup import find_order
from midas_pipelines.sync.orders.model.lines import SEEN_BY_A_PERSON, OrderException, read_exceptions
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.stock.pending_lines import allocate_pending_lines


class CannotRetry(WrongInput):
    """4Seller does not have the order; the message says what to do."""


class NothingToDismiss(WrongInput):
    """The order has no exception that can be dismissed; the message says how its exceptions end."""


@dataclass(frozen=True)
class Retried:
    """The result of a retry, and what is still open."""

    order: str
    imported: bool
    moved_on: bool
    mapped: int
    allocated: int
    exception: str | None  # or `quarantined`
    reason: str | None
    messages: int  # queued again
    unsent: int  # messages that have not gone out, or may not have


async def retry_order(context: SyncContext, text: str, *, mail: bool = False) -> Retried:
    """Reads the order with this id from 4Seller again and processes everything that is open on it; with `mail` also queues
    messages again that may have gone out, or were given up.

    Raises NoSuchOrder, CannotRetry where 4Seller does not have it, FourSellerError.
    """
    with context.database.reading() as connection:
        row = find_order(connection, text)
    order_id = row.marketplace_order_id
    read_at = context.database.now()
    async with context.channel() as client:
        try:
            order = await client.order(order_id)
        except NotFound:
            raise CannotRetry(
                f"4Seller has no order {order_id}: it cannot be read again. Enter it in the shop by hand, "
                "and `midas orders dismiss` it here."
            ) from None
    _take_back_dismissal(context, row)
    any_date = context.settings.model_copy(update={"orders_since": None})  # a person asked for this order
    unlimited = replace(context, settings=any_date)
    result = import_orders_read(unlimited, [order], read_at=read_at)
    opened = allocate_pending_lines(context.database, context.run_id)
    with context.database.writing() as connection:
        messages = _put_back(lock_order(connection, row.id), mail)
        now = connection.execute(sa.select(marketplace_orders).where(marketplace_orders.c.id == row.id)).one()
        mine = sa.and_(customer_mails.c.order_id == row.id, customer_mails.c.state.in_(UNSENT))
        unsent = connection.scalar(sa.select(sa.func.count()).where(mine)) or 0
    quarantined = now.outcome == "quarantined"
    return Retried(
        order=order_id,
        imported=bool(result.imported),
        moved_on=bool(result.moved_on),
        mapped=result.mapped + opened.mapped,
        allocated=opened.allocated,
        exception="quarantined" if quarantined else now.exception,
        reason=now.reason if quarantined else None,
        messages=messages,
        unsent=unsent,
    )


def _take_back_dismissal(context: SyncContext, order: sa.Row[Any]) -> None:
    """Quarantines a dismissed order again, so that the retry imports it."""
    with context.database.writing() as connection:
        stored = lock_order(connection, order.id, OrderContext(context.run_id))
        if stored.outcome == "dismissed":
            stored.set(outcome="quarantined")
            stored.log("retried", "An operator retried it: it is no longer dismissed.")


def _put_back(order: StoredOrder, mail: bool) -> int:
    """Makes waiting and refused pushes and messages due now; returns the number of messages."""
    unpushed = sa.and_(
        order_shipments.c.order_id == order.local_order_id, order_shipments.c.pushed_at.is_(None)
    )
    order.connection.execute(sa.update(order_shipments).where(unpushed).values(next_attempt_at=None))
    order.set(push_after=None, push_attempts=0)
    if order.has(OrderException.REFUSED) and order.shop_status_since is None:
        order.set(shop_status_since=utc_now())
    return put_back(order.connection, given_up=mail, order_row=order.id)


def undo_dismissal(order: StoredOrder, seen: Collection[str]) -> None:
    """Shows these exceptions of a locked order again, or quarantines it again."""
    if order.outcome == "dismissed":
        order.set(outcome="quarantined")
    else:
        order.set_exceptions(add={one.value for one in SEEN_BY_A_PERSON}.intersection(seen))
    order.log("undone", f"An operator took a dismissal back: {', '.join(seen)}.")


def dismiss(order: StoredOrder) -> list[str]:
    """Dismisses the exceptions of an order that a person has looked at; returns them.

    Raises:
        NothingToDismiss: no exception of the order can be dismissed.
    """
    name = order.marketplace_order_id
    if order.outcome == "quarantined":
        seen = ["quarantined"]
        order.set(outcome="dismissed")
        end_quarantine(order.connection, name)
    else:
        current = read_exceptions(order.exception)
        seen = sorted(current & {exception.value for exception in SEEN_BY_A_PERSON})
        if not seen:
            rest = ", ".join(sorted(current)) or "nothing"
            raise NothingToDismiss(
                f"Order {name}: {rest} waits on it. An unmapped line ends with `midas orders map`, a conflict with "
                "`midas orders resolve`, an oversold one when stock comes back."
            )
        order.set_exceptions(drop=seen)
        if OrderException.STATUS in seen:
            clear_unknown_status(order.connection, order.status_word)
    order.log("dismissed", f"An operator has looked at it: {', '.join(seen)}.")
    return seen
