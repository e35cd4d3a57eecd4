"""Erases the buyers of orders whose time has come, and lists those that are due, erased, and held by law."""

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
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.webhooks import empty_orphans
from midas_pipelines.store.privacy.holds import active_holds
from midas_pipelines.store.schema.shipment_tables import order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.schema import order_status_history, orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.erase import erase_buyer
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.privacy.clock import OrderTimes, due_at

LONGEST_SECONDS = 1800.0
"""A run erases no longer than this; the next one goes on."""
GRACE = timedelta(hours=26)
"""How late an erasure may be: the job runs once a day."""
WEEKS = 9
"""Weeks to come that the table shows, and as many that passed."""

_ORDERS, _HISTORY = marketplace_orders.c, order_status_history.c


class BuyerHeld(ExpectedError):
    """The law keeps the buyer of an order."""


@dataclass(frozen=True, slots=True)
class UnerasedBuyer:
    """An order whose buyer is kept. `due` is None where the settings say never; `held_until` where the law keeps it."""

    row: int
    order: str
    due: datetime | None
    held_until: datetime | None


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
    due = [one for one in unerased_buyers(context.database, context.settings) if is_due(one, now)]
    order_context = OrderContext(context.run_id)
    for one in due:
        if time.monotonic() > ends:
            break
        try:
            report.erased += _erase(context.database, one.row, order_context)
        except BuyerHeld:
            continue
        except sa.exc.OperationalError:  # another session holds the order
            report.busy += 1
    days = context.settings.erase_after(None)
    if days is not None:
        report.events = empty_orphans(context.database, days=days)
    context.database.overwrite_erased()
    report.left = len(due) - report.erased
    return report


def erase_order(database: Database, order_row: int, order_context: OrderContext) -> bool:
    """Erases the buyer of one order; False when that was done before.

    Args:
        database: the shop's.
        order_row: our row of the order.
        order_context: writes the order log.

    Raises:
        BuyerHeld: the law keeps the buyer.
        RowsBusy: another session holds the order.
    """
    new = _erase(database, order_row, order_context)
    database.overwrite_erased()
    return new


def _erase(database: Database, order_row: int, order_context: OrderContext) -> bool:
    with database.writing() as connection:
        order = lock_order(connection, order_row, order_context)
        if (until := active_holds(connection, order_row).get(order_row)) is not None:
            raise BuyerHeld(
                f"Order {order.marketplace_order_id} is held by law until {until:%Y-%m-%d}: `midas orders release` ends that."
            )
        erase_buyer(order)
    return order.erased_at is None


def is_due(one: UnerasedBuyer, now: datetime) -> bool:
    """Whether the buyer has to be erased now."""
    return one.due is not None and one.due <= now and one.held_until is None


def overdue_buyers(database: Database, settings: Settings) -> list[dict[str, Any]]:
    """Orders whose buyer should have been erased more than GRACE ago, the oldest first."""
    now = database.now()
    late = [one for one in unerased_buyers(database, settings) if is_due(one, now - GRACE)]
    late.sort(key=lambda one: one.due or now)
    return [{"order": one.order, "due": one.due} for one in late]


def unerased_buyers(database: Database, settings: Settings) -> Iterator[UnerasedBuyer]:
    """Every order whose buyer is kept, with the time at which that ends."""
    first = {
        word: sa.func.min(
            sa.case((_HISTORY.status.in_(words), _HISTORY.created_at)), type_=_HISTORY.created_at.type
        )
        for word, words in {
            "delivered": ["delivered"],
            "ended": ["cancelled", "refunded"],
            "shipped": ["shipped"],
        }.items()
    }
    times = sa.select(_HISTORY.order_id, *(column.label(word) for word, column in first.items()))
    history = times.group_by(_HISTORY.order_id).subquery()
    parcels = order_shipments.c
    parcel = sa.func.min(parcels.shipped_at, type_=_HISTORY.created_at.type).label("parcel")
    sent = sa.select(parcels.order_id, parcel).group_by(parcels.order_id).subquery()
    query = (
        sa.select(
            marketplace_orders,
            orders.c.status.label("in_shop"),
            history.c.delivered,
            history.c.ended,
            sa.func.coalesce(history.c.shipped, sent.c.parcel, type_=_HISTORY.created_at.type).label(
                "shipped"
            ),
        )
        .outerjoin_from(marketplace_orders, orders, orders.c.id == _ORDERS.local_order_id)
        .outerjoin(history, history.c.order_id == _ORDERS.local_order_id)
        .outerjoin(sent, sent.c.order_id == _ORDERS.local_order_id)
        .where(_ORDERS.erased_at.is_(None))
        .order_by(_ORDERS.id)
    )
    now = database.now()
    with database.reading() as connection:
        held = active_holds(connection)
        for row in connection.execution_options(yield_per=1000).execute(query):
            known = OrderTimes(
                at_market=row.status,
                in_shop=row.in_shop,
                delivered_at=row.delivered,
                ended_at=row.ended,
                shipped_at=row.shipped,
                reported_at=row.source_updated_at,
                imported_at=row.imported_at,
                content_at=row.content_at,
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
            found.held += 1
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
            found.erased += 1
            counted["erased"][_week(moment)] += 1
    shown = (now + timedelta(weeks=number) for number in range(-WEEKS, WEEKS + 1))
    found.weeks = [
        {"week": week, **{name: counts[week] for name, counts in counted.items()}}
        for week in map(_week, shown)
    ]
    return found


def _week(moment: datetime) -> str:
    """The ISO week, as in 2026-W48."""
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02}"
