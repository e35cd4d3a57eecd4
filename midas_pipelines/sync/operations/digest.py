"""The daily digest: what staff should know this morning, in one message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.items.conflicts import OPEN
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.schema.alert_tables import alerts
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import mappings, marketplace_orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.low_stock import LowStockReport

ALERT = "digest"
LINES = 10


@dataclass(frozen=True)
class Digest:
    """The text, and whether it is the first of its day."""

    text: str
    new: bool


def write_digest(context: SyncContext, stock: LowStockReport, today: datetime | None = None) -> Digest:
    """Puts the day's digest into the outbox; a second one of the same day is not sent.

    Args:
        engine: settings, database and run.
        stock: what `watch_stock` found just now.
        today: the day it is of, in UTC; now where it is None.
    """
    day = (today or datetime.now(UTC)).astimezone(UTC).date().isoformat()
    with context.database.reading() as connection:
        numbers = _numbers(connection)
    text = compose(day, stock, numbers, _consistency(context))
    with context.database.writing() as connection:
        new = raise_alert(connection, kind=ALERT, subject=day, text=text)
    return Digest(text, new)


def compose(day: str, stock: LowStockReport, numbers: dict[str, int], consistency: float | None) -> str:
    """The digest's words. Pure."""
    lines = [
        f"Stock on {day}: {stock.low_items} of {stock.scanned} items are low, {stock.out_of_stock} are out of stock.",
        f"Conflicts that wait for a person: {numbers['conflicts']}. Orders that need one: {numbers['orders']}. "
        f"Items set aside: {numbers['quarantined']}. Alerts open: {numbers['alerts']}.",
    ]
    if consistency is not None:
        lines.append(f"4Seller showed {consistency:.2%} of the items as they should be.")
    if stock.low:
        lines.append("Runs out first:")
        lines += [_line(row) for row in stock.low[:LINES]]
    if stock.low_items > LINES:
        lines.append(f"... and {stock.low_items - LINES} more: `midas stock low`.")
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    lasts = f", {row['days_left']:g} days" if row["days_left"] is not None else ""
    return f"- {row['sku']}: {row['on_hand']} left{lasts}"


def _numbers(connection: sa.Connection) -> dict[str, int]:
    count = sa.func.count()
    queries = {
        "conflicts": sa.select(count).select_from(sync_conflicts).where(OPEN),
        "orders": sa.select(count)
        .select_from(marketplace_orders)
        .where(
            sa.or_(marketplace_orders.c.exception.is_not(None), marketplace_orders.c.outcome == "quarantined")
        ),
        "quarantined": sa.select(count).select_from(mappings).where(mappings.c.state == "quarantined"),
        "alerts": sa.select(count)
        .select_from(alerts)
        .where(alerts.c.cleared_at.is_(None), alerts.c.kind != ALERT),
    }
    return {name: int(connection.scalar(query) or 0) for name, query in queries.items()}


def _consistency(context: SyncContext) -> float | None:
    for row in last_syncs(context.database):
        if row["kind"] == "reconcile" and row["counts"]:
            found: float | None = row["counts"].get("consistency")
            return found
    return None
