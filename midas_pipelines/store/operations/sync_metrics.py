"""Reads the measurements of recent syncs for performance, report and capacity plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import LEDGER_KEY, inventory_changes, mappings, sync_logs
from midas_pipelines.storefront.types import utc_now

DAY = 86_400


GATEWAY = "gateway"
"""The kind of the rows in which a gateway or worker sums up a minute of its work; every other row is a sync."""


@dataclass(frozen=True)
class SyncRow:
    """One finished sync, or a minute of a gateway's work.

    Args:
        requests: calls to 4Seller that it sent.
        seconds: how long it took; of a gateway's minute the part in which a call was under way.
        counts: its report, with `calls` (`fourseller.metering.CallSums`) since calls are summed up.
    """

    kind: str
    scope: str
    outcome: str
    requests: int
    seconds: float
    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StockMeasured:
    """The catalogue and its queue now: counts of items, and how long the oldest waits in seconds."""

    items: int
    new_in_30_days: int  # at the pace since the first day, on which everything was new
    waiting: int
    oldest_seconds: float


@dataclass(frozen=True)
class StockChanges:
    """Changes of quantities, and how many items they were of."""

    changes: int
    items: int


_TABLE = sync_logs.c
_ENDED = sa.select(
    _TABLE.kind, _TABLE.scope, _TABLE.outcome, _TABLE.requests, _TABLE.seconds, _TABLE.counts
).where(_TABLE.outcome != "running")


def finished_syncs(database: Database, seconds: int = DAY) -> list[SyncRow]:
    """The recent syncs, and minutes of gateways, that have ended, oldest first."""
    return _rows(database, _ENDED.where(_TABLE.started_at > utc_now(-seconds)).order_by(_TABLE.id))


def older_pushes(database: Database, requests: int, *, days: int = 30, most: int = 20) -> list[SyncRow]:
    """The last syncs of products or quantities before the last day that made that many calls, oldest first."""
    query = _ENDED.where(
        _TABLE.kind.in_(["products", "inventory"]),
        _TABLE.requests >= requests,
        _TABLE.started_at > utc_now(-days * DAY),
        _TABLE.started_at <= utc_now(-DAY),
    )
    return _rows(database, query.order_by(_TABLE.id.desc()).limit(most))[::-1]


def stock_changes(database: Database, seconds: int = DAY) -> StockChanges:
    """The recent rows of the stock ledger, without opening quantities."""
    recent = sa.and_(
        inventory_changes.c.created_at > utc_now(-seconds), inventory_changes.c.cause != "opening"
    )
    items = sa.select(inventory_changes.c.product_id, LEDGER_KEY).where(recent).distinct().subquery()
    with database.reading() as connection:
        changes = connection.scalar(sa.select(sa.func.count()).select_from(inventory_changes).where(recent))
        return StockChanges(
            changes or 0, connection.scalar(sa.select(sa.func.count()).select_from(items)) or 0
        )


def _rows(database: Database, query: sa.Select[Any]) -> list[SyncRow]:
    with database.reading() as connection:
        return [
            SyncRow(row.kind, row.scope, row.outcome, row.requests or 0, row.seconds or 0.0, row.counts or {})
            for row in connection.execute(query)
        ]


def stock_measured(database: Database) -> StockMeasured:
    """Counts of the mappings, and the age of the queue by the database's own clock."""
    table = mappings.c
    kept = table.state != "removed"
    oldest = sa.func.min(table.dirty_since, type_=table.dirty_since.type)
    with database.reading() as connection:
        items = connection.scalar(sa.select(sa.func.count()).where(kept)) or 0
        new = _growth(connection)
        waiting, since, now = connection.execute(
            sa.select(sa.func.count(), oldest, utc_now()).where(table.dirty_since.is_not(None))
        ).one()
    return StockMeasured(items, new, waiting, _age(since, now))


def _growth(connection: sa.Connection) -> int:
    """New items in thirty days, from those that came after the first day of the installation."""
    table = mappings.c
    first, now = connection.execute(
        sa.select(sa.func.min(table.created_at, type_=table.created_at.type), utc_now())
    ).one()
    if first is None or now - first < timedelta(days=2):
        return 0
    since = max(first + timedelta(days=1), now - timedelta(days=30))
    query = sa.select(sa.func.count()).where(table.state != "removed", table.created_at > since)
    seconds: float = (now - since).total_seconds()
    return round((connection.scalar(query) or 0) * 30 * DAY / seconds)


def _age(since: datetime | None, now: datetime) -> float:
    return round(max(0.0, (now - since).total_seconds()), 1) if since is not None else 0.0
