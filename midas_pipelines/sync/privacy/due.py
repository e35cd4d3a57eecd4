"""When the buyer of an order has to be erased, and the erasure of those whose time has come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database, InShadow
from midas_pipelines.store.gateway.webhooks import empty_orphans
from midas_pipelines.store.schema.order_tables import buyer_holds, order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.schema import order_status_history, orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.privacy.erase import HELD, BuyerHeld, erase_order

LONGEST_SECONDS = 1800.0
"""A run erases no longer than this; the next one goes on."""
GRACE = timedelta(hours=26)
"""How late an erasure may be: the job runs once a day."""
QUIET_DAYS = 90
"""An order that neither ships nor ends counts as ended after so many days without any news of it."""
AT_ONCE = 5_000
"""Orders that are looked at together: so many that their history is found by its index, where the shop has one."""
WEEKS = 9
"""Weeks to come that the table shows, and as many that passed."""

ENDS = {"delivered": ("delivered",), "ended": ("cancelled", "refunded"), "shipped": ("shipped",)}
"""The statuses from which the days count, those that count first before the others."""

READ = (
    *("id", "marketplace_order_id", "sales_channel", "status"),
    *("imported_at", "source_updated_at", "content_at"),
)
_ORDERS, _HISTORY, _HOLDS = marketplace_orders.c, order_status_history.c, buyer_holds.c


def due_at(order: Any, days: int | None, now: datetime) -> datetime | None:
    """When the buyer has to be erased; None for never.

    The days count from the delivery; where none comes, from the end of the order; where neither comes, from its shipping;
    where nothing comes, from its last news and QUIET_DAYS. A status without a time counts from 4Seller's report of it, at
    the latest from the import. No time that is still to come counts.

    `order` is our row with the shop's status `in_shop`, and the times `delivered`, `ended` and `shipped` of its history; `days`
    are None where the settings say never; `now` is by the database's clock.
    """
    if days is None:
        return None

    def past(*moments: datetime | None) -> list[datetime]:
        return [moment for moment in moments if moment is not None and moment <= now]

    for name, words in ENDS.items():
        known, reported = getattr(order, name), order.source_updated_at if order.status in words else None
        if known is not None or {order.status, order.in_shop}.intersection(words):
            return min(past(known, reported), default=order.imported_at) + timedelta(days)
    news = past(order.imported_at, order.source_updated_at, order.content_at)
    return max(news) + timedelta(QUIET_DAYS + days)


@dataclass(frozen=True, slots=True)
class UnerasedBuyer:
    """An order whose buyer is kept. `due` is None where the settings say never; `held_until` where the law keeps it."""

    row: int
    order: str
    due: datetime | None
    held_until: datetime | None

    def is_due(self, now: datetime) -> bool:
        """Whether the buyer has to be erased by then."""
        return self.due is not None and self.due <= now and self.held_until is None


@dataclass
class ErasureReport:
    """What one run erased; `busy` orders are tried again by the next one."""

    erased: int = 0
    busy: int = 0
    events: int = 0
    left: int = 0


def erase_due_buyers(context: SyncContext) -> ErasureReport:
    """Erases every buyer that is due, each in a transaction of its own; a run that dies leaves the rest to the next."""
    report, ends, database = ErasureReport(), time.monotonic() + LONGEST_SECONDS, context.database
    now = database.now()
    due = [one for one in unerased_buyers(database, context.settings) if one.is_due(now)]
    for one in due:
        if time.monotonic() > ends:
            break
        try:
            report.erased += erase_order(database, one.row, OrderContext(context.run_id), overwrite=False)
        except BuyerHeld:
            continue
        except (sa.exc.OperationalError, InShadow):  # another session holds the order, or shadow mode is on
            report.busy += 1
    if (days := context.settings.erase_after(None)) is not None:
        report.events = empty_orphans(database, days=days)
    database.overwrite_erased()
    report.left = len(due) - report.erased
    return report


def overdue_buyers(database: Database, settings: Settings) -> list[dict[str, Any]]:
    """Orders whose buyer should have been erased more than GRACE ago, the oldest first, among those that came, or that 4Seller
    changed last, so long ago."""
    if (days := settings.erase_first_after()) is None:
        return []
    by_then = database.now() - GRACE
    unerased = unerased_buyers(database, settings, by_then - timedelta(days))
    late = sorted((one for one in unerased if one.is_due(by_then)), key=lambda one: one.due or by_then)
    return [{"order": one.order, "due": one.due} for one in late]


def unerased_buyers(
    database: Database, settings: Settings, before: datetime | None = None
) -> Iterator[UnerasedBuyer]:
    """Every order whose buyer is kept, of `before` that moment alone where one is given, with the time at which that ends."""
    which: sa.ColumnElement[bool] = _ORDERS.erased_at.is_(None)
    if before is not None:
        which = sa.and_(which, sa.or_(_ORDERS.imported_at < before, _ORDERS.source_updated_at < before))
    now, days_of = database.now(), cache(settings.erase_after)
    with database.reading() as connection:
        holds = connection.execute(sa.select(_HOLDS.order_id, _HOLDS.held_until).where(HELD))
        held = dict(holds.tuples().all())
        ids = connection.scalars(sa.select(_ORDERS.id).where(which).order_by(_ORDERS.id)).all()
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            mine = _with_times(sa.and_(which, _ORDERS.id.between(some[0], some[-1])), before)
            for row in connection.execute(mine).all():
                due = due_at(row, days_of(row.sales_channel), now)
                yield UnerasedBuyer(row.id, row.marketplace_order_id, due, held.get(row.id))


def _with_times(which: sa.ColumnElement[bool], before: datetime | None) -> sa.Select[Any]:
    """These orders, the oldest first, as `due_at` asks for them, but those of which all news of their delivery, from which
    the days count first, came since `before`."""
    moment, sent = _HISTORY.created_at.type, order_shipments.c
    firsts = [
        sa.func.min(sa.case((_HISTORY.status.in_(words), _HISTORY.created_at)), type_=moment).label(name)
        for name, words in ENDS.items()
    ]
    local, updated = _ORDERS.local_order_id, _ORDERS.source_updated_at
    theirs = _HISTORY.order_id.in_(sa.select(local).where(which))
    history = sa.select(_HISTORY.order_id, *firsts).where(theirs).group_by(_HISTORY.order_id).subquery()
    first = sa.select(sa.func.min(sent.shipped_at, type_=moment)).where(sent.order_id == local)
    shipped = sa.func.coalesce(history.c.shipped, first.scalar_subquery(), type_=moment).label("shipped")
    in_shop = sa.select(orders.c.status).where(orders.c.id == local).scalar_subquery().label("in_shop")
    known = (*(_ORDERS[name] for name in READ), in_shop, history.c.delivered, history.c.ended, shipped)
    query = sa.select(*known).where(which).order_by(_ORDERS.id)
    query = query.outerjoin_from(marketplace_orders, history, history.c.order_id == local)
    if before is None:
        return query
    delivered = history.c.delivered
    since = sa.and_(delivered >= before, delivered <= utc_now(), updated.is_(None) | (updated >= before))
    return query.where(sa.not_(sa.func.coalesce(since, sa.false())))


def erasure_weeks(database: Database, settings: Settings) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Counts of buyers due, overdue, erased, held by law and kept for ever; and a row for each week from WEEKS ago to
    WEEKS ahead: due then, erased then, held until then."""
    now, totals = database.now(), Counter[str]()
    weeks: dict[str, Counter[str]] = {name: Counter() for name in ("due", "erased", "held")}
    for one in unerased_buyers(database, settings):
        if one.held_until is not None:
            weeks["held"][_week(one.held_until)] += 1
        elif one.due is None:
            totals["never"] += 1
        else:
            totals["due"] += one.due <= now
            totals["overdue"] += one.due <= now - GRACE
            weeks["due"][_week(one.due)] += 1
    with database.reading() as connection:
        erased = sa.select(_ORDERS.erased_at).where(_ORDERS.erased_at.is_not(None))
        for moment in connection.scalars(erased.execution_options(yield_per=1000)):
            weeks["erased"][_week(moment)] += 1
    totals |= Counter(held=weeks["held"].total(), erased=weeks["erased"].total())
    names = [_week(now + timedelta(weeks=number)) for number in range(-WEEKS, WEEKS + 1)]
    rows = [{"week": week} | {name: counts[week] for name, counts in weeks.items()} for week in names]
    return {name: totals[name] for name in ("due", "overdue", "erased", "held", "never")}, rows


def _week(moment: datetime) -> str:
    """The ISO week, as in 2026-W48."""
    return f"{moment:%G-W%V}"
