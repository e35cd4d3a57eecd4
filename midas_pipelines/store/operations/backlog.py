"""What waits, for how long, and what of it needs a person: one reading for console, command line, `/status` and report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.keys import expiring_keys
from midas_pipelines.store.items.claims import RETRY, why_stopped
from midas_pipelines.store.items.conflicts import OPEN
from midas_pipelines.store.items.listing import quarantined_items
from midas_pipelines.store.items.mappings import UNCLAIMED
from midas_pipelines.store.operations.cursors import database_ahead, read_clocks
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.orders.listing import NEEDS_A_PERSON, OVERSOLD, UNMAPPED
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.operation_tables import alerts
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import (
    ITEM_WAITS,
    ORDER_QUARANTINED,
    api_errors,
    mappings,
    marketplace_order_lines,
    marketplace_orders,
)
from midas_pipelines.storefront.types import utc_now

MOST_SHOWN = 20
_ITEM, _ORDER, _WEBHOOK, _ALERT = mappings.c, marketplace_orders.c, marketplace_webhooks.c, alerts.c
QUARANTINED_WEBHOOK = _WEBHOOK.outcome == sa.literal_column("'quarantined'")


@dataclass(frozen=True)
class Backlog:
    """Counts of what waits for a push, for the worker, or for a person. Moments are in UTC."""

    dirty: int = 0  # items
    oldest_dirty: datetime | None = None
    quarantined_items: int = 0
    webhooks: int = 0
    oldest_webhook: datetime | None = None
    quarantined_webhooks: int = 0
    order_exceptions: int = 0  # orders with an exception, and quarantined ones
    conflicts: int = 0  # that wait for a person
    alerts: int = 0  # that are open


@dataclass(frozen=True)
class Overview(Backlog):
    """Also the items by state, what 4Seller showed last, clocks, and the last syncs."""

    items: dict[str, int] = field(default_factory=dict)
    pushes_stopped: str | None = None  # why, while they are
    orders: int = 0  # imported in the last 24 hours
    consistency: float | None = None  # the share of items that 4Seller showed as the shop has them
    consistency_at: datetime | None = None
    failed_calls: int = 0  # in the last 24 hours
    clocks: dict[str, float] = field(default_factory=dict)  # seconds ahead of this machine's, by owner
    last_syncs: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)  # the first, quarantined or backing off
    waiting_total: int = 0


def read_backlog(connection: sa.Connection) -> Backlog:
    """Reads all of it in one statement, each number from a small index."""
    dirty, pending = _ITEM.dirty_since.is_not(None), _WEBHOOK.processed_at.is_(None)
    query = sa.select(
        _count(mappings, dirty),
        sa.select(_oldest(_ITEM.dirty_since)).where(dirty).scalar_subquery(),
        _count(mappings, ITEM_WAITS, _ITEM.state == "quarantined"),
        _count(marketplace_webhooks, pending),
        sa.select(_oldest(_WEBHOOK.received_at)).where(pending).scalar_subquery(),
        _count(marketplace_webhooks, QUARANTINED_WEBHOOK),
        _count(marketplace_orders, NEEDS_A_PERSON),
        _count(sync_conflicts, OPEN),
        _count(alerts, _ALERT.cleared_at.is_(None)),
    )
    return Backlog(*connection.execute(query).one())


def overview(database: Database) -> Overview:
    """Reads the backlog, and what is in sync."""
    states = sa.select(_ITEM.state, sa.func.count()).group_by(_ITEM.state).order_by(_ITEM.state)
    counts = sa.select(
        _count(marketplace_orders, _ORDER.imported_at > utc_now(-86_400), _ORDER.local_order_id.is_not(None)),
        _count(api_errors, api_errors.c.created_at > utc_now(-86_400)),
        _count(mappings, ITEM_WAITS),
    )
    with database.reading() as connection:
        backlog = read_backlog(connection)
        items = {row[0]: row[1] for row in connection.execute(states)}
        orders, failed_calls, waiting = connection.execute(counts).one()
        clocks = read_clocks(connection)
        stopped = why_stopped(connection)
    syncs = last_syncs(database)
    read_back = next((row for row in syncs if row["kind"] == "reconcile"), None)
    names = ("kind", "scope", "started_at", "outcome", "requests", "seconds", "reason")
    return Overview(
        **vars(backlog),
        items=items,
        pushes_stopped=stopped,
        orders=orders,
        consistency=(read_back["counts"] or {}).get("consistency") if read_back else None,
        consistency_at=read_back["started_at"] if read_back else None,
        failed_calls=failed_calls,
        clocks=clocks | {"database": round(database_ahead(database), 1)},
        last_syncs=[{name: row[name] for name in names} for row in syncs],
        waiting=quarantined_items(database, MOST_SHOWN),
        waiting_total=waiting,
    )


def _count(table: sa.FromClause, *which: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*which).scalar_subquery()


def _oldest(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.min(column, type_=column.type)


def stale_items(database: Database, older_than_seconds: int) -> datetime | None:
    """Since when the newest item has waited that is dirty for that long, due and unclaimed (UTC)."""
    newest = sa.func.max(_ITEM.dirty_since, type_=_ITEM.dirty_since.type)
    query: sa.Select[tuple[datetime | None]] = sa.select(newest).where(
        _ITEM.dirty_since < utc_now(-older_than_seconds),
        UNCLAIMED,
        RETRY.is_due(_ITEM.next_attempt_at),
    )
    return database.scalar(query)


def stale_webhooks(database: Database, older_than_seconds: int) -> dict[str, datetime]:
    """When the newest webhook came that is still unprocessed after that time, by subject: `order`, `product`, ..."""
    newest = sa.func.max(_WEBHOOK.received_at, type_=_WEBHOOK.received_at.type).label("newest")
    query = sa.select(_WEBHOOK.type, newest).group_by(_WEBHOOK.type)
    query = query.where(_WEBHOOK.processed_at.is_(None), _WEBHOOK.received_at < utc_now(-older_than_seconds))
    waiting: dict[str, datetime] = {}
    for row in database.rows(query):
        subject = row["type"].partition(".")[0]
        waiting[subject] = max(row["newest"], waiting.get(subject, row["newest"]))
    return waiting


def dropped_webhooks(database: Database, older_than_seconds: int) -> list[dict[str, Any]]:
    """Accepted webhooks that have no result after that time, or were quarantined without a reason; the oldest first."""
    overdue = sa.and_(_WEBHOOK.processed_at.is_(None), _WEBHOOK.received_at < utc_now(-older_than_seconds))
    unreasoned = sa.and_(QUARANTINED_WEBHOOK, sa.func.coalesce(_WEBHOOK.reason, "") == "")
    problem = sa.case((overdue, "it waits still"), else_="it was set aside without a reason").label("problem")
    query = sa.select(_WEBHOOK.webhook_id.label("webhook"), _WEBHOOK.type, _WEBHOOK.received_at, problem)
    return database.rows(query.where(sa.or_(overdue, unreasoned)).order_by(_WEBHOOK.received_at))


CAUSES = {
    "channel_down": "4Seller does not answer",
    "brake": "Changes that the brake holds",
    "oversold": "Oversold: sold, and not in stock",
    "order_conflict": "Cancelled on one side, shipped on the other",
    "unmapped": "Sold, and no item of the shop",
    "quarantined_order": "Orders that cannot be imported",
    "refused": "Statuses that 4Seller refuses",
    "conflict": "Shop and marketplace disagree",
    "orphan": "Products on 4Seller that are no item of the shop",
    "quarantined_item": "Items that cannot be listed, or keep failing",
    "quarantined_webhook": "Events of 4Seller that could not be applied",
    "order_to_look_at": "Orders to look at",
    "low_stock": "Items that run out",
    "expiring_key": "Keys that end within 30 days",
    "alert": "Other alerts",
}
"""What may need a person, the worst first, in words."""

_LINES = marketplace_order_lines.join(marketplace_orders, _ORDER.id == marketplace_order_lines.c.order_id)
_ORPHAN = sync_conflicts.c.field == "unknown"
_COUNTED: tuple[tuple[str, sa.FromClause, sa.ColumnElement[bool], sa.ColumnElement[Any]], ...] = (
    ("oversold", _LINES, OVERSOLD, _ORDER.imported_at),
    ("unmapped", _LINES, UNMAPPED, _ORDER.imported_at),
    ("quarantined_order", marketplace_orders, ORDER_QUARANTINED, _ORDER.imported_at),
    ("orphan", sync_conflicts, sa.and_(OPEN, _ORPHAN), sync_conflicts.c.found_at),
    ("conflict", sync_conflicts, sa.and_(OPEN, ~_ORPHAN), sync_conflicts.c.found_at),
    ("quarantined_item", mappings, ITEM_WAITS, _ITEM.dirty_since),
    ("quarantined_webhook", marketplace_webhooks, QUARANTINED_WEBHOOK, _WEBHOOK.received_at),
)
"""Causes with rows of their own: from what they are counted, which rows, and since when one waits."""

_BY_EXCEPTION = {"conflict": "order_conflict", "refused": "refused", "unmapped": "", "oversold": ""}
"""Exceptions of orders with a cause of their own; unmapped and oversold are counted by their lines."""
_COUNTED_ELSEWHERE = {
    *("key", "conflict", "oversold", "order_conflict", "order_quarantined", "unknown_status", "unmapped")
}
"""Alerts about what has a cause of its own."""


@dataclass(frozen=True)
class Attention:
    """One cause: its name in `CAUSES`, how many of it wait, and since when the oldest."""

    cause: str
    count: int
    oldest: datetime | None

    @property
    def title(self) -> str:
        """In words."""
        return CAUSES[self.cause]


def needs_a_person(connection: sa.Connection) -> list[Attention]:
    """Everything that waits for a person, the worst cause first; no cause without a count."""
    each = (
        sa.select(sa.literal(cause), sa.func.count(), _oldest(since)).select_from(table).where(which)
        for cause, table, which, since in _COUNTED
    )
    found: list[tuple[str, int, datetime | None]] = [
        (cause, count, since) for cause, count, since in connection.execute(sa.union_all(*each))
    ]
    flawed = sa.select(_ORDER.exception, sa.func.count(), _oldest(_ORDER.imported_at))
    flawed = flawed.where(_ORDER.exception.is_not(None)).group_by(_ORDER.exception)
    for words, count, since in connection.execute(flawed):
        found += [(_BY_EXCEPTION.get(word, "order_to_look_at"), count, since) for word in words.split(",")]
    awake = sa.or_(_ALERT.snoozed_until.is_(None), _ALERT.snoozed_until < utc_now())
    shown = sa.select(_ALERT.kind, _ALERT.members, _ALERT.created_at)
    shown = shown.where(_ALERT.cleared_at.is_(None), awake)
    for kind, members, since in connection.execute(shown):
        if kind not in _COUNTED_ELSEWHERE:
            found.append((kind if kind in CAUSES else "alert", len(members or [0]), since))
    found.append(("expiring_key", len(expiring_keys(connection, 30)), None))
    counts, oldest = Counter[str](), dict[str, datetime]()
    for cause, count, since in found:
        counts[cause] += count
        if since is not None:
            oldest[cause] = min(since, oldest.get(cause, since))
    return [Attention(cause, counts[cause], oldest.get(cause)) for cause in CAUSES if counts[cause]]
