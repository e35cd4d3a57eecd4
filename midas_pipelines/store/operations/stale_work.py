"""Finds stale work: dirty items and accepted webhooks that have waited too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.claims import RETRY
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import UtcDateTime, utc_now

WEBHOOKS = sa.table(
    "marketplace_webhooks",
    sa.column("webhook_id", sa.String),
    sa.column("type", sa.String),
    sa.column("received_at", UtcDateTime),
    sa.column("processed_at", UtcDateTime),
    sa.column("outcome", sa.String),
    sa.column("reason", sa.Text),
)


@dataclass(frozen=True, slots=True)
class StaleWork:
    """How many wait, and since when the newest of them has waited (UTC)."""

    count: int
    newest: datetime | None


def stale_items(database: Database, older_than_seconds: int) -> StaleWork:
    """Items dirty for that long, due and unclaimed."""
    table = mappings.c
    newest = sa.func.max(table.dirty_since, type_=table.dirty_since.type)
    query = sa.select(sa.func.count(), newest).where(
        table.dirty_since < utc_now(-older_than_seconds),
        sa.or_(table.claimed_until.is_(None), table.claimed_until < utc_now()),
        RETRY.is_due(table.next_attempt_at, table.attempts),
    )
    with database.reading() as connection:
        return StaleWork(*connection.execute(query).one())


def stale_webhooks(database: Database, older_than_seconds: int) -> dict[str, StaleWork]:
    """Accepted webhooks that are still unprocessed after that time, by subject: `order`, `product`, ...

    Empty also where the gateway has never been set up, and its table is missing.
    """
    table = WEBHOOKS.c
    newest = sa.func.max(table.received_at, type_=UtcDateTime())
    query = (
        sa.select(table.type, sa.func.count(), newest)
        .where(table.processed_at.is_(None), table.received_at < utc_now(-older_than_seconds))
        .group_by(table.type)
    )
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(WEBHOOKS.name):
            return {}
        found = connection.execute(query).all()
    waiting: dict[str, StaleWork] = {}
    for kind, count, moment in found:
        subject = kind.partition(".")[0]
        before = waiting.get(subject, StaleWork(0, None))
        waiting[subject] = StaleWork(before.count + count, max(filter(None, (before.newest, moment))))
    return waiting


def dropped_webhooks(database: Database, older_than_seconds: int) -> list[dict[str, Any]]:
    """Accepted webhooks that have no result after that time, or one without a reason; the oldest first.

    Each must end applied, superseded, or quarantined with its reason.
    """
    table = WEBHOOKS.c
    problem = sa.case(
        (table.processed_at.is_(None), "it waits still"),
        (table.outcome.is_(None), "it ended without an outcome"),
        else_="it was set aside without a reason",
    )
    overdue = sa.and_(table.processed_at.is_(None), table.received_at < utc_now(-older_than_seconds))
    unsaid = sa.and_(table.processed_at.is_not(None), table.outcome.is_(None))
    unreasoned = sa.and_(table.outcome == "quarantined", sa.func.coalesce(table.reason, "") == "")
    query = sa.select(
        table.webhook_id.label("webhook"), table.type, table.received_at, problem.label("problem")
    )
    query = query.where(sa.or_(overdue, unsaid, unreasoned)).order_by(table.received_at)
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(WEBHOOKS.name):
            return []
        return [dict(row) for row in connection.execute(query).mappings()]
