"""What needs a person now: counts by cause with the age of the oldest, each answered from a small index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.gateway.keys import expiring_keys
from midas_pipelines.store.items.conflicts import OPEN
from midas_pipelines.store.operations.backlog import QUARANTINED_WEBHOOK
from midas_pipelines.store.orders.listing import OVERSOLD, UNMAPPED
from midas_pipelines.store.schema.alert_tables import alerts
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import (
    ITEM_WAITS,
    ORDER_QUARANTINED,
    mappings,
    marketplace_order_lines,
    marketplace_orders,
)
from midas_pipelines.storefront.types import utc_now

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

_BY_EXCEPTION = {"conflict": "order_conflict", "refused": "refused", "unmapped": "", "oversold": ""}
"""Exceptions of orders with a cause of their own; unmapped and oversold are counted by their lines."""
_BY_ALERT = {"channel_down": "channel_down", "brake": "brake", "low_stock": "low_stock"}
_COUNTED_ELSEWHERE = {"key", "conflict", "oversold", "order_conflict", "order_quarantined", "unknown_status"}


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
    counts: dict[str, int] = {}
    oldest: dict[str, datetime] = {}
    for cause, count, since in _all(connection):
        if cause and count:
            counts[cause] = counts.get(cause, 0) + count
            if since is not None:
                oldest[cause] = min(since, oldest.get(cause, since))
    return [Attention(cause, counts[cause], oldest.get(cause)) for cause in CAUSES if cause in counts]


Counted = tuple[str, int, datetime | None]


def _all(connection: sa.Connection) -> Iterator[Counted]:
    line, order = marketplace_order_lines.c, marketplace_orders.c
    joined = marketplace_order_lines.join(marketplace_orders, order.id == line.order_id)
    for cause, which in (("oversold", OVERSOLD), ("unmapped", UNMAPPED)):
        since = _oldest(order.imported_at)
        query = sa.select(sa.func.count(), since).select_from(joined).where(which)
        yield (cause, *connection.execute(query).one())
    orders = sa.select(order.exception, sa.func.count(), _oldest(order.imported_at))
    flawed = order.exception.is_not(None)
    for words, count, since in connection.execute(orders.where(flawed).group_by(order.exception)).all():
        for word in words.split(","):
            yield _BY_EXCEPTION.get(word, "order_to_look_at"), count, since
    aside = sa.select(sa.func.count(), _oldest(order.imported_at)).where(ORDER_QUARANTINED)
    yield ("quarantined_order", *connection.execute(aside).one())
    table = sync_conflicts.c
    is_orphan = (table.field == "unknown").label("orphan")
    found = sa.select(is_orphan, sa.func.count(), _oldest(table.found_at)).where(OPEN).group_by(is_orphan)
    for orphan, count, since in connection.execute(found).all():
        yield "orphan" if orphan else "conflict", count, since
    items = sa.select(sa.func.count(), _oldest(mappings.c.dirty_since)).where(ITEM_WAITS)
    yield ("quarantined_item", *connection.execute(items).one())
    aside = sa.select(sa.func.count(), _oldest(marketplace_webhooks.c.received_at)).where(QUARANTINED_WEBHOOK)
    yield ("quarantined_webhook", *connection.execute(aside).one())
    yield "expiring_key", len(expiring_keys(connection, 30)), None
    yield from _alerts(connection)


def _alerts(connection: sa.Connection) -> Iterator[Counted]:
    table = alerts.c
    query = sa.select(table.kind, table.members, table.created_at).where(
        table.cleared_at.is_(None), sa.or_(table.snoozed_until.is_(None), table.snoozed_until < utc_now())
    )
    for kind, members, since in connection.execute(query).all():
        if kind not in _COUNTED_ELSEWHERE:
            yield _BY_ALERT.get(kind, "alert"), len(members or [0]), since


def _oldest(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.min(column, type_=column.type)
