"""What the faster driver has left undone: dirty items and accepted webhooks that wait longer than they should."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.tables import mappings
from midas_pipelines.storefront.types import UtcDateTime, utc_now

WEBHOOKS = sa.table(
    "marketplace_webhooks",
    sa.column("type", sa.String),
    sa.column("received_at", UtcDateTime),
    sa.column("processed_at", UtcDateTime),
)


@dataclass(frozen=True, slots=True)
class LeftOver:
    """How many wait, and since when the newest of them does (UTC)."""

    count: int
    newest: datetime | None


def dirty_items(database: Database, older_than_seconds: int) -> LeftOver:
    """Items dirty for so long that are due and that nobody holds."""
    table = mappings.c
    newest = sa.func.max(table.dirty_since, type_=table.dirty_since.type)
    query = sa.select(sa.func.count(), newest).where(
        table.dirty_since < utc_now(-older_than_seconds),
        sa.or_(table.claimed_until.is_(None), table.claimed_until < utc_now()),
        sa.or_(table.next_attempt_at.is_(None), table.next_attempt_at <= utc_now()),
    )
    with database.reading() as connection:
        return LeftOver(*connection.execute(query).one())


def webhooks(database: Database, older_than_seconds: int) -> dict[str, LeftOver]:
    """Accepted webhooks that are still unprocessed after so long, by what they are about: `order`, `product`, ...

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
    waiting: dict[str, LeftOver] = {}
    for kind, count, moment in found:
        subject = kind.partition(".")[0]
        before = waiting.get(subject, LeftOver(0, None))
        waiting[subject] = LeftOver(before.count + count, max(filter(None, (before.newest, moment))))
    return waiting
