"""An overview: items by state, pending work, and the last syncs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.conflicts import OPEN
from midas_pipelines.store.items.quarantined import count_waiting, quarantined_items
from midas_pipelines.store.items.worker_liveness import why_stopped
from midas_pipelines.store.operations.cursors import database_ahead, read_clocks
from midas_pipelines.store.operations.sync_log import last_syncs
from midas_pipelines.store.schema.alert_tables import alerts
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import api_errors, mappings, marketplace_orders
from midas_pipelines.storefront.types import utc_now

MOST_SHOWN = 20


@dataclass
class Overview:
    """Counts of items by state, the backlog, and what needs a person. Moments are in UTC."""

    items: dict[str, int] = field(default_factory=dict)
    pushes_stopped: str | None = None  # why, while they are
    dirty: int = 0
    oldest_dirty: datetime | None = None
    orders: int = 0
    order_exceptions: int = 0
    conflicts: int = 0  # that wait for a person
    alerts: int = 0  # that are open
    consistency: float | None = None  # the share of items that 4Seller showed as the shop has them
    consistency_at: datetime | None = None
    failed_calls: int = 0  # in the last 24 hours
    clocks: dict[str, float] = field(default_factory=dict)  # seconds ahead of this machine's, by owner
    last_syncs: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(
        default_factory=list
    )  # the first that are quarantined or backing off
    waiting_total: int = 0


def overview(database: Database) -> Overview:
    """Reads all of it in one snapshot."""
    table, order = mappings.c, marketplace_orders.c
    count = sa.func.count()
    with database.reading() as connection:
        states = connection.execute(
            sa.select(table.state, count.label("count_")).group_by(table.state).order_by(table.state)
        ).all()
        dirty, oldest = connection.execute(
            sa.select(count, sa.func.min(table.dirty_since, type_=table.dirty_since.type)).where(
                table.dirty_since.is_not(None)
            )
        ).one()
        orders = connection.scalar(sa.select(count).where(order.local_order_id.is_not(None)))
        flawed = sa.or_(order.exception.is_not(None), order.outcome == "quarantined")
        exceptions = connection.scalar(sa.select(count).select_from(marketplace_orders).where(flawed))
        day = sa.select(count).select_from(api_errors).where(api_errors.c.created_at > utc_now(-86_400))
        failed_calls = connection.scalar(day)
        conflicts = connection.scalar(sa.select(count).select_from(sync_conflicts).where(OPEN))
        open_alerts = connection.scalar(sa.select(count).where(alerts.c.cleared_at.is_(None)))
        clocks = read_clocks(connection)
        stopped = why_stopped(connection)
    syncs = last_syncs(database)
    observed = next((row for row in syncs if row["kind"] == "reconcile"), None)
    return Overview(
        items={row.state: row.count_ for row in states},
        pushes_stopped=stopped,
        dirty=dirty,
        oldest_dirty=oldest,
        orders=orders or 0,
        order_exceptions=exceptions or 0,
        conflicts=conflicts or 0,
        alerts=open_alerts or 0,
        consistency=(observed["counts"] or {}).get("consistency") if observed else None,
        consistency_at=observed["started_at"] if observed else None,
        failed_calls=failed_calls or 0,
        clocks=clocks | {"database": round(database_ahead(database), 1)},
        last_syncs=[_short(row) for row in syncs],
        waiting=quarantined_items(database, MOST_SHOWN),
        waiting_total=count_waiting(database),
    )


def _short(row: dict[str, Any]) -> dict[str, Any]:
    names = ("kind", "scope", "started_at", "outcome", "requests", "seconds", "reason")
    return {name: row[name] for name in names}
