"""Orders for a person: finds one by any of its ids, reads its timeline of steps, stock movements, shipments and messages, and
reads it from 4Seller again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.errors import NotFound
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.store.schema.order_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import inventory_changes, marketplace_orders, order_processing_logs
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.customer_mail import UNSENT, put_back
from midas_pipelines.sync.orders.intake.batch import import_batch, read_orders
from midas_pipelines.sync.orders.model.lines import CHANNEL, OrderException
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.stock.pending_lines import allocate_pending_lines

_ORDERS = marketplace_orders.c
_WITH_SHOP = (
    sa.select(marketplace_orders, orders.c.order_number, orders.c.status.label("shop_status"))
    .select_from(marketplace_orders.outerjoin(orders, orders.c.id == _ORDERS.local_order_id))
    .order_by(_ORDERS.id)
)


class NoSuchOrder(WrongInput):
    """No order, or more than one, has this id; the message says what to do."""

    http_status = 404


def find_order(connection: sa.Connection, text: str) -> sa.Row[Any]:
    """Our row of the order with this id: the marketplace's, the shop's order number, or the shop's own id; raises
    NoSuchOrder. Where it is the marketplace's of one order and the shop's of another, it means the one without an order
    number."""
    name = text.strip()
    row = sa.select(_ORDERS.id)
    which = [  # one after the other, so that each finds its index
        row.where(_ORDERS.channel == CHANNEL, _ORDERS.marketplace_order_id.in_([text, name])),
        row.join(orders, orders.c.id == _ORDERS.local_order_id).where(orders.c.order_number == name),
    ]
    if re.fullmatch("[0-9]{1,10}", name) and int(name) < 2**31:
        which.append(row.where(_ORDERS.local_order_id == int(name)))
    found = list(connection.execute(_WITH_SHOP.where(_ORDERS.id.in_(sa.union(*which))).limit(4)))
    if any(row.marketplace_order_id == text for row in found):  # preferred over the id without spaces
        found = [row for row in found if row.marketplace_order_id == text or row.marketplace_order_id != name]
    nameless = [row for row in found if row.order_number is None]  # the others have an unambiguous number
    if len(found) == 1 or len(nameless) == 1:
        return (nameless or found)[0]
    if not found:
        raise NoSuchOrder(
            f"No imported order has the id {name[:100]}: give the marketplace's id, the order number or the shop's id. "
            "One that was placed just now may not be imported yet."
        )
    numbers = " or ".join(str(row.order_number or row.marketplace_order_id) for row in found)
    both = "is the marketplace's id of one order and the shop's id of another"
    raise NoSuchOrder(f"{name[:100]} {both}: give the order number, {numbers}.")


ORDER_FIELDS = (
    "marketplace_order_id order_number local_order_id sales_channel status status_word shop_status outcome exception reason "
    "total lines_total shipping_cost tax discount currency placed_at imported_at source_updated_at shop_status_since "
    "push_after"
)
LINE_FIELDS = "line sku title quantity price product_id variant_id allocated released returned backordered shipped exception"
"""The columns that are shown; none of them has personal data."""

RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class TimelineEntry:
    """One event. `cause` is the run or the party behind it; `facts` are its data for programs."""

    at: datetime
    what: str
    detail: str
    cause: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Timeline:
    """An order's current state and its events. No personal data."""

    order: dict[str, Any]
    lines: list[dict[str, Any]]
    entries: list[TimelineEntry] = field(default_factory=list)


def read_timeline(connection: sa.Connection, order: sa.Row[Any]) -> Timeline:
    """The timeline of an order, given its row from `find_order`."""

    def rows(table: sa.Table, *which: sa.ColumnElement[bool]) -> Sequence[sa.Row[Any]]:
        return connection.execute(sa.select(table).where(*which).order_by(table.c.id)).all()

    order_id, found = order.marketplace_order_id, list[TimelineEntry]()
    for row in rows(order_processing_logs, order_processing_logs.c.marketplace_order_id == order_id):
        run = row.run_id or ""  # Dagster's UI finds a run by the start of its id
        cause = f"run {run[:8]}" if RUN.fullmatch(run) else run
        found.append(TimelineEntry(row.created_at, row.step, row.detail or "", cause, _fields(row, "run_id")))
    lines = StoredOrder(connection, order).lines()
    skus, prefix = {line.line: line.sku or line.title for line in lines}, f"{CHANNEL}:{order_id}:"
    name = inventory_changes.c.reference
    for row in rows(inventory_changes, name > prefix, name < prefix[:-1] + ";"):
        line = re.fullmatch(r"([0-9]+)(\+[0-9]+)?", row.reference.removeprefix(prefix))
        if line is not None:  # else it is another order's whose id has this prefix
            number = int(line[1])
            detail = f"Line {number}, {skus.get(number, 'gone')}: {row.delta:+d}, {row.quantity_after} on hand after it."
            facts = {"line": number} | _fields(row, "product_id variant_id delta quantity_after")
            found.append(TimelineEntry(row.created_at, f"stock: {row.cause}", detail, row.source, facts))
    for row in rows(order_shipments, order_shipments.c.order_id == order.local_order_id):
        label = f"{row.carrier or 'No carrier'} {row.tracking_number or ''} {row.tracking_url or ''}".strip()
        pushed = f"pushed to 4Seller at {row.pushed_at:%Y-%m-%d %H:%M:%S} UTC" if row.pushed_at else ""
        why = f" ({row.reason})" if row.reason else ""
        detail = f"{label}: {pushed or 'not pushed to 4Seller yet'}{why}."
        facts = _fields(row, "id carrier tracking_number tracking_url booked_at pushed_at reason")
        found.append(TimelineEntry(row.shipped_at, "shipment", detail, row.source, facts))
    for row in rows(customer_mails, customer_mails.c.order_id == order.id):
        detail = f"Queued; {row.state} now, {row.attempts} attempts{f': {row.reason}' if row.reason else '.'}"
        facts = _fields(row, "kind state attempts created_at sent_at next_attempt_at reason")
        found.append(TimelineEntry(row.created_at, f"message: {row.kind}", detail, "customer mail", facts))
    shown = [_fields(line, LINE_FIELDS) for line in lines]
    return Timeline(_fields(order, ORDER_FIELDS), shown, sorted(found, key=lambda one: one.at))


def _fields(row: sa.Row[Any], names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names.split()}


@dataclass(frozen=True)
class Retried:
    """The result of a retry, and what is still open: an exception or `quarantined`, messages that are queued again, and those
    that have not gone out, or may not have."""

    order: str
    imported: bool
    updated: bool
    mapped: int
    allocated: int
    exception: str | None
    reason: str | None
    messages: int
    unsent: int


async def retry_order(context: SyncContext, text: str, *, mail: bool = False) -> Retried:
    """Reads the order with this id from 4Seller again and processes everything that is open on it; with `mail` also queues
    messages again that may have gone out, or were given up. Raises WrongInput, FourSellerError."""
    database = context.database
    row = database.read(find_order, text)
    order_id, read_at = row.marketplace_order_id, database.now()
    async with context.channel() as client:
        try:
            order = await client.order(order_id)
        except NotFound:
            why = f"4Seller has no order {order_id}: it cannot be read again."
            what = "Enter it in the shop by hand, and `midas orders dismiss` it here."
            raise WrongInput(f"{why} {what}") from None
    with database.writing() as connection:
        stored = lock_order(connection, row.id, OrderContext(context.run_id))
        if stored.outcome == "dismissed":
            stored.set(outcome="quarantined")  # so that it is imported
            stored.log("retried", "An operator retried it: it is no longer dismissed.")
    vault = vault_of(context.settings)
    of_any_date = read_orders([order], vault, since=None, read_at=read_at)  # a person asked for it
    result = import_batch(context, of_any_date, vault)
    mapped, allocated = allocate_pending_lines(database, context.run_id)
    shipments, mails = order_shipments.c, customer_mails.c
    with database.writing() as connection:
        now = lock_order(connection, row.id)
        unpushed = sa.and_(shipments.order_id == now.local_order_id, shipments.pushed_at.is_(None))
        connection.execute(sa.update(order_shipments).where(unpushed).values(next_attempt_at=None))
        now.mark_for_push(now.shop_status_since or (utc_now() if now.has(OrderException.REFUSED) else None))
        messages = put_back(connection, given_up=mail, order_row=row.id)
        left = sa.select(sa.func.count()).where(mails.order_id == row.id, mails.state.in_(UNSENT))
        unsent = connection.scalar(left) or 0
    aside = now.outcome == "quarantined"
    exception, reason = ("quarantined", now.reason) if aside else (now.exception, None)
    read = (bool(result.imported), bool(result.updated), result.mapped + mapped, allocated)
    return Retried(order_id, *read, exception, reason, messages, unsent)
