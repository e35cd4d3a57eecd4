"""Finds an order by any of its ids, and reads its timeline: every step, stock movement, shipment and message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.schema.order_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import (
    inventory_changes,
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
)
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.model.lines import CHANNEL

LARGEST_LOCAL_ID, LOCAL_ID_DIGITS = 2**31 - 1, 10
_ORDERS = marketplace_orders.c
_WITH_SHOP = (
    sa.select(marketplace_orders, orders.c.order_number, orders.c.status.label("shop_status"))
    .select_from(marketplace_orders.outerjoin(orders, orders.c.id == _ORDERS.local_order_id))
    .order_by(_ORDERS.id)
)


class NoSuchOrder(WrongInput):
    """No order, or more than one, has this id; the message says what to do."""

    http_status = 404


def read_order(connection: sa.Connection, order_row: int) -> sa.Row[Any]:
    """Our row of an order, with the shop's `order_number` and `shop_status`."""
    return connection.execute(_WITH_SHOP.where(_ORDERS.id == order_row)).one()


def find_order(connection: sa.Connection, text: str) -> sa.Row[Any]:
    """Our row of the order with this id: the marketplace's, the shop's order number, or the shop's own id.

    Where the id is the marketplace's of one order and the shop's of another, it means the one without an order number.

    Raises:
        NoSuchOrder: no order has it, or several that each have an order number too.
    """
    name = text.strip()
    row = sa.select(_ORDERS.id)
    which = [  # one after the other, so that each finds its index
        row.where(_ORDERS.channel == CHANNEL, _ORDERS.marketplace_order_id.in_([text, name])),
        row.join(orders, orders.c.id == _ORDERS.local_order_id).where(orders.c.order_number == name),
    ]
    if name.isascii() and name.isdigit() and len(name) <= LOCAL_ID_DIGITS and int(name) <= LARGEST_LOCAL_ID:
        which.append(row.where(_ORDERS.local_order_id == int(name)))
    found = list(connection.execute(_WITH_SHOP.where(_ORDERS.id.in_(sa.union(*which))).limit(4)))
    if any(row.marketplace_order_id == text for row in found):  # preferred over the id without spaces
        found = [row for row in found if row.marketplace_order_id == text or row.marketplace_order_id != name]
    nameless = [row for row in found if row.order_number is None]  # the others have an unambiguous number
    if len(found) == 1 or len(nameless) == 1:
        return (nameless or found)[0]
    if found:
        numbers = " or ".join(str(row.order_number or row.marketplace_order_id) for row in found)
        raise NoSuchOrder(
            f"{name[:100]} is the marketplace's id of one order and the shop's id of another: give the order number, "
            f"{numbers}."
        )
    raise NoSuchOrder(
        f"No imported order has the id {name[:100]}: give the marketplace's id, the order number or the shop's id. "
        "One that was placed just now may not be imported yet."
    )


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
    table = marketplace_order_lines.c
    mine = sa.select(marketplace_order_lines).where(table.order_id == order.id)
    lines = connection.execute(mine.order_by(table.line)).all()
    entries = [
        *_steps(connection, order.marketplace_order_id),
        *_stock(connection, order.marketplace_order_id, lines),
        *_shipments(connection, order),
        *_mails(connection, order.id),
    ]
    shown = [_fields(line, LINE_FIELDS) for line in lines]
    return Timeline(_fields(order, ORDER_FIELDS), shown, sorted(entries, key=lambda one: one.at))


def cause_in_words(run_id: str | None) -> str:
    """The cause: a Dagster run by the start of its id, which its UI finds; others as recorded."""
    return f"run {run_id[:8]}" if run_id and RUN.fullmatch(run_id) else run_id or ""


def _fields(row: sa.Row[Any], names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names.split()}


def _rows(connection: sa.Connection, table: sa.Table, *which: sa.ColumnElement[bool]) -> sa.Result[Any]:
    return connection.execute(sa.select(table).where(*which).order_by(table.c.id))


def _steps(connection: sa.Connection, order_id: str) -> Iterator[TimelineEntry]:
    mine = order_processing_logs.c.marketplace_order_id == order_id
    for row in _rows(connection, order_processing_logs, mine):
        cause, facts = cause_in_words(row.run_id), {"run_id": row.run_id}
        yield TimelineEntry(row.created_at, row.step, row.detail or "", cause, facts)


def _stock(connection: sa.Connection, order_id: str, lines: Sequence[sa.Row[Any]]) -> Iterator[TimelineEntry]:
    name, prefix = inventory_changes.c.reference, f"{CHANNEL}:{order_id}:"
    skus = {line.line: line.sku or line.title for line in lines}
    for row in _rows(connection, inventory_changes, name > prefix, name < prefix[:-1] + ";"):
        line = re.fullmatch(r"([0-9]+)(\+[0-9]+)?", row.reference.removeprefix(prefix))
        if line is not None:  # else it is another order's whose id has this prefix
            number = int(line[1])
            detail = f"Line {number}, {skus.get(number, 'gone')}: {row.delta:+d}, {row.quantity_after} on hand after it."
            facts = {"line": number} | _fields(row, "product_id variant_id delta quantity_after")
            yield TimelineEntry(row.created_at, f"stock: {row.cause}", detail, row.source, facts)


def _shipments(connection: sa.Connection, order: sa.Row[Any]) -> Iterator[TimelineEntry]:
    names = "id carrier tracking_number tracking_url booked_at pushed_at reason"
    for row in _rows(connection, order_shipments, order_shipments.c.order_id == order.local_order_id):
        pushed = f"pushed to 4Seller at {row.pushed_at:%Y-%m-%d %H:%M:%S} UTC" if row.pushed_at else ""
        label = f"{row.carrier or 'No carrier'} {row.tracking_number or ''} {row.tracking_url or ''}".strip()
        undated = "" if row.shipped_at else " (its date cannot be read)"
        why = f" ({row.reason})" if row.reason else ""
        words = f"{label}{undated}: {pushed or 'not pushed to 4Seller yet'}{why}."
        at = row.shipped_at or row.booked_at or order.imported_at
        yield TimelineEntry(at, "parcel", words, row.source, _fields(row, names))


def _mails(connection: sa.Connection, order_row: int) -> Iterator[TimelineEntry]:
    names = "kind state attempts created_at sent_at next_attempt_at reason"
    for row in _rows(connection, customer_mails, customer_mails.c.order_id == order_row):
        why = f": {row.reason}" if row.reason else "."
        detail, facts = f"Queued; {row.state} now, {row.attempts} attempts{why}", _fields(row, names)
        yield TimelineEntry(row.created_at, f"message: {row.kind}", detail, "customer mail", facts)
