"""The whole story of one order: every step, every unit of stock, every parcel and every message, in time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.shipment_tables import customer_mails, order_shipments
from midas_pipelines.store.tables import inventory_changes, marketplace_order_lines, order_processing_logs
from midas_pipelines.sync.orders.lines import CHANNEL
from midas_pipelines.sync.orders.lookup import find_order


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `cause` is the run or the party behind it."""

    at: datetime
    what: str
    detail: str
    cause: str = ""


@dataclass(frozen=True)
class Story:
    """An order as it stands, and how it came to be so. No personal data."""

    order: dict[str, Any]
    lines: list[dict[str, Any]]
    entries: list[Entry] = field(default_factory=list)


def read_story(connection: sa.Connection, text: str) -> Story:
    """The story of the order with this id (see `lookup.find_order`). Raises NoSuchOrder."""
    order = find_order(connection, text)
    table = marketplace_order_lines.c
    lines = connection.execute(
        sa.select(marketplace_order_lines).where(table.order_id == order.id).order_by(table.line)
    ).all()
    entries = [
        *_steps(connection, order.marketplace_order_id),
        *_stock(connection, order.marketplace_order_id, {line.product_id for line in lines} - {None}),
        *_parcels(connection, order.local_order_id),
        *_mails(connection, order.id),
    ]
    return Story(_order(order), [_line(line) for line in lines], sorted(entries, key=lambda one: one.at))


def _order(order: sa.Row[Any]) -> dict[str, Any]:
    names = (
        "marketplace_order_id",
        "order_number",
        "local_order_id",
        "sales_channel",
        "status",
        "status_word",
        "shop_status",
        "outcome",
        "exception",
        "reason",
        "total",
        "currency",
        "placed_at",
        "imported_at",
        "shop_status_since",
    )
    return {name: getattr(order, name) for name in names}


def _line(line: sa.Row[Any]) -> dict[str, Any]:
    names = (
        "line",
        "sku",
        "title",
        "quantity",
        "price",
        "taken",
        "given_back",
        "owed",
        "shipped",
        "exception",
    )
    return {name: getattr(line, name) for name in names}


def _steps(connection: sa.Connection, order_id: str) -> list[Entry]:
    logs = order_processing_logs.c
    query = sa.select(order_processing_logs).where(logs.marketplace_order_id == order_id)
    return [
        Entry(row.created_at, row.step, row.detail or "", f"run {row.run_id}" if row.run_id else "")
        for row in connection.execute(query.order_by(logs.id))
    ]


def _stock(connection: sa.Connection, order_id: str, product_ids: set[int]) -> list[Entry]:
    rows = inventory_changes.c
    prefix = f"{CHANNEL}:{order_id}:"
    query = sa.select(inventory_changes).where(
        rows.product_id.in_(product_ids), rows.reference.startswith(prefix, autoescape=True)
    )
    found = []
    for row in connection.execute(query.order_by(rows.id)):
        line = re.fullmatch(r"([0-9]+)(\+[0-9]+)?", row.reference.removeprefix(prefix))
        if line is not None:  # else it is another order's, whose id begins alike
            item = f"item {row.product_id}" + (f"/{row.variant_id}" if row.variant_id else "")
            detail = f"Line {line[1]}, {item}: {row.delta:+d}, {row.quantity_after} on hand after it."
            found.append(Entry(row.created_at, f"stock: {row.cause}", detail, row.source))
    return found


def _parcels(connection: sa.Connection, local_id: int | None) -> list[Entry]:
    parcels = order_shipments.c
    query = sa.select(order_shipments).where(parcels.order_id == local_id).order_by(parcels.id)
    found = []
    for row in connection.execute(query):
        told = (
            f"4Seller knows it since {row.told_at:%Y-%m-%d %H:%M:%S} UTC"
            if row.told_at
            else "4Seller is not told yet"
        )
        detail = f"{row.carrier or 'No carrier'} {row.tracking_number or ''} {row.tracking_url or ''}".strip()
        why = f" ({row.reason})" if row.reason else ""
        found.append(Entry(row.shipped_at, "parcel", f"{detail}: {told}{why}.", row.source))
    return found


def _mails(connection: sa.Connection, order_row: int) -> list[Entry]:
    mails = customer_mails.c
    query = sa.select(customer_mails).where(mails.order_id == order_row).order_by(mails.id)
    return [
        Entry(
            row.sent_at or row.created_at,
            f"message: {row.kind}",
            f"{row.state}, {row.attempts} attempts" + (f": {row.reason}" if row.reason else "."),
            "customer mail",
        )
        for row in connection.execute(query)
    ]
