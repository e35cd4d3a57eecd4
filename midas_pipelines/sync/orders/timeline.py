"""The timeline of one order: every step, stock movement, shipment and message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.shipment_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import (
    inventory_changes,
    marketplace_order_lines,
    order_processing_logs,
)
from midas_pipelines.sync.orders.model.lines import CHANNEL

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
    """The timeline of an order, given its row from `lookup.find_order`."""
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
    if not run_id:
        return ""
    return f"run {run_id[:8]}" if RUN.fullmatch(run_id) else run_id


def _fields(row: sa.Row[Any], names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names.split()}


def _steps(connection: sa.Connection, order_id: str) -> Iterator[TimelineEntry]:
    logs = order_processing_logs.c
    query = sa.select(order_processing_logs).where(logs.marketplace_order_id == order_id)
    for row in connection.execute(query.order_by(logs.id)):
        cause, facts = cause_in_words(row.run_id), {"run_id": row.run_id}
        yield TimelineEntry(row.created_at, row.step, row.detail or "", cause, facts)


def _stock(connection: sa.Connection, order_id: str, lines: Sequence[sa.Row[Any]]) -> Iterator[TimelineEntry]:
    rows, prefix = inventory_changes.c, f"{CHANNEL}:{order_id}:"
    skus = {line.line: line.sku or line.title for line in lines}
    query = sa.select(inventory_changes).where(rows.reference > prefix, rows.reference < prefix[:-1] + ";")
    for row in connection.execute(query.order_by(rows.id)):
        line = re.fullmatch(r"([0-9]+)(\+[0-9]+)?", row.reference.removeprefix(prefix))
        if line is not None:  # else it is another order's whose id has this prefix
            number = int(line[1])
            detail = f"Line {number}, {skus.get(number, 'gone')}: {row.delta:+d}, {row.quantity_after} on hand after it."
            facts = {"line": number} | _fields(row, "product_id variant_id delta quantity_after")
            yield TimelineEntry(row.created_at, f"stock: {row.cause}", detail, row.source, facts)


def _shipments(connection: sa.Connection, order: sa.Row[Any]) -> Iterator[TimelineEntry]:
    table = order_shipments.c
    query = sa.select(order_shipments).where(table.order_id == order.local_order_id).order_by(table.id)
    names = "id carrier tracking_number tracking_url booked_at pushed_at reason"
    for row in connection.execute(query):
        when = f"at {row.pushed_at:%Y-%m-%d %H:%M:%S} UTC" if row.pushed_at else ""
        pushed = f"pushed to 4Seller {when}" if when else "not pushed to 4Seller yet"
        detail = f"{row.carrier or 'No carrier'} {row.tracking_number or ''} {row.tracking_url or ''}".strip()
        why = f" ({row.reason})" if row.reason else ""
        undated = "" if row.shipped_at else " (its date cannot be read)"
        at = row.shipped_at or row.booked_at or order.imported_at
        words = f"{detail}{undated}: {pushed}{why}."
        yield TimelineEntry(at, "parcel", words, row.source, _fields(row, names))


def _mails(connection: sa.Connection, order_row: int) -> Iterator[TimelineEntry]:
    table = customer_mails.c
    query = sa.select(customer_mails).where(table.order_id == order_row).order_by(table.id)
    names = "kind state attempts created_at sent_at next_attempt_at reason"
    for row in connection.execute(query):
        why = f": {row.reason}" if row.reason else "."
        detail = f"Queued; {row.state} now, {row.attempts} attempts{why}"
        yield TimelineEntry(
            row.created_at, f"message: {row.kind}", detail, "customer mail", _fields(row, names)
        )
