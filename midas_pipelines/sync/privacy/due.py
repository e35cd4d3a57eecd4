"""When the buyer of an order has to be erased, which ones the law holds, and the erasure of those whose time has come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database, InShadow
from midas_pipelines.store.gateway.webhooks import empty_orphans
from midas_pipelines.store.schema.order_tables import buyer_holds, order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.schema import order_status_history, orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.erase import erase_buyer
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order

LONGEST_SECONDS = 1800.0
"""A run erases no longer than this; the next one goes on."""
GRACE = timedelta(hours=26)
"""How late an erasure may be: the job runs once a day."""
QUIET_DAYS = 90
"""An order that neither ships nor ends counts as ended after so many days without any news of it."""
WEEKS = 9
"""Weeks to come that the table shows, and as many that passed."""

_ORDERS, _HISTORY, _HOLDS = marketplace_orders.c, order_status_history.c, buyer_holds.c


@dataclass(frozen=True, slots=True)
class OrderTimes:
    """What is known of an order's life: its statuses, and times in UTC, None where there is none."""

    at_market: str
    in_shop: str | None
    delivered_at: datetime | None  # the shop's history says so first, as of the next two
    ended_at: datetime | None  # cancelled or refunded
    shipped_at: datetime | None  # or its first shipment was recorded
    reported_at: (
        datetime | None
    )  # 4Seller's date of its newest report, which brought the marketplace's status
    imported_at: datetime
    content_at: datetime | None = None  # when its content was last changed


def due_at(times: OrderTimes, days: int | None, now: datetime) -> datetime | None:
    """When the buyer has to be erased; None for never.

    The days count from the delivery; where none comes, from the end of the order; where neither comes, from its shipping;
    where nothing comes, from its last news and QUIET_DAYS. A status without a time counts from 4Seller's report of it, at
    the latest from the import. No time that is still to come counts.
    """
    if days is None:
        return None

    def past(*moments: datetime | None) -> list[datetime]:
        return [moment for moment in moments if moment is not None and moment <= now]

    for known, words in (
        (times.delivered_at, {"delivered"}),
        (times.ended_at, {"cancelled", "refunded"}),
        (times.shipped_at, {"shipped"}),
    ):
        reported = times.reported_at if times.at_market in words else None
        if known is not None or words & {times.at_market, times.in_shop}:
            return min(past(known, reported), default=times.imported_at) + timedelta(days)
    news = past(times.imported_at, times.reported_at, times.content_at)
    return max(news) + timedelta(QUIET_DAYS + days)


def hold_buyer(connection: sa.Connection, order_row: int, *, until: datetime, because: str, by: str) -> None:
    """Holds the buyer of the order of that row, in place of an earlier hold; the transaction has locked the order."""
    release_hold(connection, order_row)
    row = {"order_id": order_row, "held_until": until, "because": because, "held_by": by}
    connection.execute(sa.insert(buyer_holds).values(row))


def release_hold(connection: sa.Connection, order_row: int) -> bool:
    """Ends the hold of an order; False when there was none."""
    mine = sa.update(buyer_holds).where(_HOLDS.order_id == order_row, _held())
    return connection.execute(mine.values(released_at=utc_now())).rowcount > 0


def _held() -> sa.ColumnElement[bool]:
    return sa.and_(_HOLDS.released_at.is_(None), _HOLDS.held_until > utc_now())


class BuyerHeld(ExpectedError):
    """The law keeps the buyer of an order."""


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


def erase_due_buyers(context: SyncContext, *, longest: float = LONGEST_SECONDS) -> ErasureReport:
    """Erases every buyer that is due, each in a transaction of its own; a run that dies leaves the rest to the next."""
    report, ends = ErasureReport(), time.monotonic() + longest
    now = context.database.now()
    due = [one for one in unerased_buyers(context.database, context.settings) if one.is_due(now)]
    order_context = OrderContext(context.run_id)
    for one in due:
        if time.monotonic() > ends:
            break
        try:
            report.erased += _erase(context.database, one.row, order_context)
        except BuyerHeld:
            continue
        except (sa.exc.OperationalError, InShadow):  # another session holds the order, or shadow mode is on
            report.busy += 1
    if (days := context.settings.erase_after(None)) is not None:
        report.events = empty_orphans(context.database, days=days)
    context.database.overwrite_erased()
    report.left = len(due) - report.erased
    return report


def erase_order(database: Database, order_row: int, order_context: OrderContext) -> bool:
    """Erases the buyer of the order of that row of ours; False when that was done before.

    Raises BuyerHeld where the law keeps the buyer, InShadow where shadow mode does, RowsBusy where another session does.
    """
    new = _erase(database, order_row, order_context)
    database.overwrite_erased()
    return new


def _erase(database: Database, order_row: int, order_context: OrderContext) -> bool:
    with database.writing(asked=True) as connection:
        order = lock_order(connection, order_row, order_context)
        until = connection.scalar(sa.select(_HOLDS.held_until).where(_HOLDS.order_id == order_row, _held()))
        if until is not None:
            raise BuyerHeld(
                f"Order {order.marketplace_order_id} is held by law until {until:%Y-%m-%d}: `midas orders release` ends that."
            )
        erase_buyer(order)
    return order.erased_at is None


def overdue_buyers(database: Database, settings: Settings) -> list[dict[str, Any]]:
    """Orders whose buyer should have been erased more than GRACE ago, the oldest first."""
    now = database.now()
    late = [one for one in unerased_buyers(database, settings) if one.is_due(now - GRACE)]
    return [{"order": one.order, "due": one.due} for one in sorted(late, key=lambda one: one.due or now)]


def unerased_buyers(database: Database, settings: Settings) -> Iterator[UnerasedBuyer]:
    """Every order whose buyer is kept, with the time at which that ends."""
    moment, parcels = _HISTORY.created_at.type, order_shipments.c

    def first(name: str, *words: str) -> sa.Label[datetime]:
        when = sa.case((_HISTORY.status.in_(words), _HISTORY.created_at))
        return sa.func.min(when, type_=moment).label(name)

    times = sa.select(
        _HISTORY.order_id,
        first("delivered", "delivered"),
        first("ended", "cancelled", "refunded"),
        first("shipped", "shipped"),
    )
    history = times.group_by(_HISTORY.order_id).subquery()
    parcel = sa.func.min(parcels.shipped_at, type_=moment).label("parcel")
    sent = sa.select(parcels.order_id, parcel).group_by(parcels.order_id).subquery()
    query = (
        sa.select(
            marketplace_orders,
            orders.c.status.label("in_shop"),
            history.c.delivered,
            history.c.ended,
            sa.func.coalesce(history.c.shipped, sent.c.parcel, type_=moment).label("shipped"),
        )
        .outerjoin_from(marketplace_orders, orders, orders.c.id == _ORDERS.local_order_id)
        .outerjoin(history, history.c.order_id == _ORDERS.local_order_id)
        .outerjoin(sent, sent.c.order_id == _ORDERS.local_order_id)
        .where(_ORDERS.erased_at.is_(None))
        .order_by(_ORDERS.id)
    )
    now = database.now()
    with database.reading() as connection:
        holds = connection.execute(sa.select(_HOLDS.order_id, _HOLDS.held_until).where(_held()))
        held = dict(holds.tuples().all())
        for row in connection.execution_options(yield_per=1000).execute(query):
            known = OrderTimes(
                *(row.status, row.in_shop, row.delivered, row.ended, row.shipped),
                *(row.source_updated_at, row.imported_at, row.content_at),
            )
            days = settings.erase_after(row.sales_channel)
            yield UnerasedBuyer(row.id, row.marketplace_order_id, due_at(known, days, now), held.get(row.id))


@dataclass
class ErasureWeeks:
    """Buyers due, erased and held by law, in all and by week."""

    due: int = 0
    overdue: int = 0
    erased: int = 0
    held: int = 0
    never: int = 0
    weeks: list[dict[str, Any]] = field(default_factory=list)


def erasure_weeks(database: Database, settings: Settings) -> ErasureWeeks:
    """The totals, and a row for each week from WEEKS ago to WEEKS ahead: due then, erased then, held until then."""
    now, found = database.now(), ErasureWeeks()
    counted: dict[str, Counter[str]] = {name: Counter() for name in ("due", "erased", "held")}
    for one in unerased_buyers(database, settings):
        if one.held_until is not None:
            counted["held"][_week(one.held_until)] += 1
        elif one.due is None:
            found.never += 1
        else:
            found.due += one.due <= now
            found.overdue += one.due <= now - GRACE
            counted["due"][_week(one.due)] += 1
    with database.reading() as connection:
        erased = sa.select(_ORDERS.erased_at).where(_ORDERS.erased_at.is_not(None))
        for moment in connection.scalars(erased.execution_options(yield_per=1000)):
            counted["erased"][_week(moment)] += 1
    found.held, found.erased = counted["held"].total(), counted["erased"].total()
    for number in range(-WEEKS, WEEKS + 1):
        week = _week(now + timedelta(weeks=number))
        found.weeks.append({"week": week, **{name: counts[week] for name, counts in counted.items()}})
    return found


def _week(moment: datetime) -> str:
    """The ISO week, as in 2026-W48."""
    return f"{moment:%G-W%V}"
