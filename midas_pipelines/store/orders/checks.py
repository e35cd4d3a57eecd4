"""Queries that check all imported orders."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.tables import (
    inventory_changes,
    marketplace_order_lines,
    marketplace_orders,
    order_processing_logs,
    sync_logs,
)
from midas_pipelines.storefront.schema import order_items, orders
from midas_pipelines.storefront.types import MINOR_UNITS, utc_now

DAY = 86_400
MISMATCH, DELETED = "total_mismatch", "deleted"
HALF_A_CENT = 0.00501
"""The finest difference that can mean anything, and what SQLite adds to it: money is floating point there."""
_ORDERS, _LINES = marketplace_orders.c, marketplace_order_lines.c


PLOTTED_CHANNELS = {"amazon", "ebay", "etsy", "shopify", "shein", "temu", "tiktok", "tiktok_shop", "walmart"}


@dataclass(slots=True)
class DayOfOrders:
    """The marketplace orders that were placed on one day."""

    orders: int = 0
    new: int = 0  # of them imported since the moment that was asked for
    sales: dict[str, int | float] = field(default_factory=dict)
    """Orders and revenue, in all and by channel, cancelled orders, and those with an exception."""

    def add(self, row: sa.Row[Any]) -> None:
        """Adds the orders of one channel in one currency."""
        self.orders += row.orders
        self.new += row.new
        named = row.channel.lower().replace(" ", "_")
        channel = named if named in PLOTTED_CHANNELS else "other"  # what a hub calls one may name a person
        currency = row.currency.lower() if len(row.currency or "") == 3 else "other"
        for name, value in (
            (f"orders_{channel}", row.orders),
            (f"revenue_{currency}", float(row.revenue)),
            (f"revenue_{currency}_{channel}", float(row.revenue)),
            ("cancelled", row.cancelled),
            ("exceptions", row.exceptions),
        ):
            self.sales[name] = round(self.sales.get(name, 0) + value, 2)


def orders_by_day(
    database: Database,
    placed_from: datetime | None = None,
    placed_to: datetime | None = None,
    *,
    since: datetime | None = None,
) -> dict[str, DayOfOrders]:
    """The imported orders by the day they were placed, in UTC; only days with orders. An order without
    a date counts on the day it was imported.

    Args:
        database: the shop's.
        placed_from: leaves out those placed earlier.
        placed_to: leaves out those placed then or later.
        since: counts as new what was imported then or later; None counts all.
    """
    day = _day(database)
    new = sa.func.count() if since is None else sa.func.count().filter(_ORDERS.imported_at >= since)
    cancelled = _ORDERS.status == "cancelled"
    query = sa.select(
        day.label("day"),
        _ORDERS.channel,
        _ORDERS.currency,
        sa.func.count().label("orders"),
        new.label("new"),
        sa.func.coalesce(sa.func.sum(_ORDERS.total).filter(~cancelled), 0).label("revenue"),
        sa.func.count().filter(cancelled).label("cancelled"),
        sa.func.count().filter(_ORDERS.exception.is_not(None)).label("exceptions"),
    )
    query = query.where(_ORDERS.local_order_id.is_not(None)).group_by(day, _ORDERS.channel, _ORDERS.currency)
    if placed_from is not None:
        query = query.where(
            _placed_within(_ORDERS.placed_at >= placed_from, _ORDERS.imported_at >= placed_from)
        )
    if placed_to is not None:
        query = query.where(_placed_within(_ORDERS.placed_at < placed_to, _ORDERS.imported_at < placed_to))
    with database.reading() as connection:
        rows = connection.execute(query).all()
    days: dict[str, DayOfOrders] = {}
    for row in rows:
        days.setdefault(str(row.day), DayOfOrders()).add(row)
    return days


def units_by_day(database: Database, first_day: str) -> dict[str, int]:
    """The units of orders placed on that day or later, by their day in UTC; without those of cancelled orders."""
    day = _day(database)
    since = datetime.fromisoformat(first_day).replace(tzinfo=UTC)
    query = (
        sa.select(day, sa.func.sum(_LINES.quantity))
        .select_from(marketplace_orders.join(marketplace_order_lines, _LINES.order_id == _ORDERS.id))
        .where(_placed_within(_ORDERS.placed_at >= since, _ORDERS.imported_at >= since))
        .where(_ORDERS.local_order_id.is_not(None), _ORDERS.status != "cancelled")
        .group_by(day)
    )
    with database.reading() as connection:
        return {str(row[0]): int(row[1]) for row in connection.execute(query)}


def _day(database: Database) -> sa.ColumnElement[Any]:
    placed = sa.func.coalesce(_ORDERS.placed_at, _ORDERS.imported_at)
    return sa.func.date(sa.func.timezone("UTC", placed) if database.is_postgresql else placed)


def _placed_within(
    placed: sa.ColumnElement[bool], imported: sa.ColumnElement[bool]
) -> sa.ColumnElement[bool]:
    """The condition on when an order was placed; while that is unknown, the one on when it was imported. Each has its
    column bare, so that an index is of use."""
    return sa.or_(placed, sa.and_(_ORDERS.placed_at.is_(None), imported))


def unbalanced_orders(database: Database) -> list[dict[str, Any]]:
    """Orders whose total is not the sum of their items + shipping + tax - discount, or not the marketplace's total.

    Both to the cent, the sum to the smallest unit of the currency where that is larger, as the import compares them. What
    the marketplace itself added up otherwise is none once a person has dismissed it.
    """
    lines = _goods_by_order()
    extras = _ORDERS.shipping_cost + _ORDERS.tax - _ORDERS.discount
    total, expected = orders.c.total_amount, sa.func.coalesce(lines.c.goods, 0) + extras
    fine = HALF_A_CENT * (1 + sa.func.coalesce(lines.c.fine, 0))
    digits = sa.case(MINOR_UNITS, value=_ORDERS.currency, else_=2)
    same = sa.func.round(expected, digits) == sa.func.round(total, digits)
    gap, known_gap = expected - total, _ORDERS.lines_total + extras - _ORDERS.total
    seen = sa.and_(_dismissed(MISMATCH), sa.func.abs(gap - known_gap) <= fine)
    query = (
        sa.select(
            _ORDERS.marketplace_order_id.label("order"),
            orders.c.order_number,
            total,
            sa.func.round(expected, 2).label("items_and_extras"),
            _ORDERS.total.label("marketplace_total"),
        )
        .join(orders, orders.c.id == _ORDERS.local_order_id)
        .outerjoin(lines, lines.c.order_id == orders.c.id)
        .where(
            sa.or_(
                sa.and_(sa.func.abs(gap) > fine, sa.not_(same), sa.not_(seen)),
                sa.func.abs(total - _ORDERS.total) > HALF_A_CENT,
            )
        )
        .order_by(_ORDERS.id.desc())
    )
    return _rows(database, query)


def _goods_by_order() -> sa.Subquery:
    """What the items of each shop order cost, and how many have prices in finer parts than the cents that the shop keeps:
    each of those may be half a cent away from what the marketplace added up."""
    fine = sa.case((_LINES.price != sa.func.round(_LINES.price, 2), 1), else_=0)
    ours = marketplace_order_lines.join(marketplace_orders, _ORDERS.id == _LINES.order_id)
    mine = sa.and_(  # SQLite gives the ids of items of a deleted order again
        _LINES.order_item_id == order_items.c.id, _ORDERS.local_order_id == order_items.c.order_id
    )
    return (
        sa.select(
            order_items.c.order_id,
            sa.func.sum(order_items.c.total_price).label("goods"),
            sa.func.sum(fine).label("fine"),
        )
        .select_from(order_items.outerjoin(ours, mine))
        .group_by(order_items.c.order_id)
        .subquery("lines")
    )


def _dismissed(word: str) -> sa.ColumnElement[bool]:
    """Whether a person has dismissed that exception of an order."""
    logs = order_processing_logs.c
    dismissed = sa.exists().where(
        logs.marketplace_order_id == _ORDERS.marketplace_order_id,
        logs.step == "dismissed",
        logs.detail.contains(word),
    )
    return sa.and_(sa.func.coalesce(_ORDERS.exception, "").not_like(f"%{word}%"), dismissed)


def unpaired_orders(database: Database) -> list[dict[str, Any]]:
    """Orders that break the pairing of one shop order with one marketplace order.

    A shop order of ours that no marketplace order explains, an imported one whose shop order is gone, unless a person has
    dismissed that, or one marketplace order under several channel names.
    """
    stray = (
        sa.select(
            sa.null().label("order"),
            orders.c.order_number,
            sa.literal("a shop order that no marketplace order explains").label("problem"),
        )
        .outerjoin(marketplace_orders, _ORDERS.local_order_id == orders.c.id)
        .where(orders.c.order_number.startswith("4S-"), _ORDERS.id.is_(None))
    )
    lost = (
        sa.select(
            _ORDERS.marketplace_order_id.label("order"),
            sa.null().label("order_number"),
            sa.literal("imported, and the shop's order is gone").label("problem"),
        )
        .outerjoin(orders, orders.c.id == _ORDERS.local_order_id)
        .where(_ORDERS.outcome == "imported", orders.c.id.is_(None), sa.not_(_dismissed(DELETED)))
    )
    twice = (
        sa.select(
            _ORDERS.marketplace_order_id.label("order"),
            sa.null().label("order_number"),
            sa.literal("imported more than once").label("problem"),
        )
        .where(_ORDERS.outcome == "imported")
        .group_by(_ORDERS.marketplace_order_id)
        .having(sa.func.count() > 1)
    )
    return _rows(database, stray.union_all(lost, twice))


def unexplained_deductions(database: Database) -> list[dict[str, Any]]:
    """Order lines that hold other units than the ledger says they took, than were sold, or than the shop's line says; and
    ledger rows of a line that is not there."""
    ledger = _units_by_line()
    name = sa.literal("fourseller:") + _ORDERS.marketplace_order_id + ":" + sa.cast(_LINES.line, sa.Text)
    has = _LINES.allocated - _LINES.released
    booked = sa.func.coalesce(ledger.c.units, 0)
    meant = has + _LINES.backordered + _LINES.returned
    live = sa.and_(
        _ORDERS.status.not_in(["cancelled", "refunded"]),
        sa.func.coalesce(_ORDERS.resolution, "") != "cancelled",
        _LINES.product_id.is_not(None),
        _LINES.quantity > 0,
    )
    mine = sa.and_(order_items.c.id == _LINES.order_item_id, order_items.c.order_id == _ORDERS.local_order_id)
    wrong = [
        (has != booked, "the ledger has other units"),
        (sa.and_(live, meant != _LINES.quantity), "it holds and is backordered other units than were sold"),
        (
            sa.and_(order_items.c.quantity != _LINES.quantity, _LINES.quantity > 0),
            "the shop's line has others",
        ),
    ]
    lines = (
        sa.select(
            _ORDERS.marketplace_order_id.label("order"),
            _LINES.line,
            _LINES.sku,
            _LINES.quantity.label("sold"),
            has.label("line_holds"),
            booked.label("ledger_says"),
            order_items.c.quantity.label("shop_says"),
            sa.case(*wrong).label("problem"),
        )
        .select_from(
            marketplace_order_lines.join(marketplace_orders, _ORDERS.id == _LINES.order_id)
            .outerjoin(ledger, ledger.c.line == name)
            .outerjoin(order_items, mine)
        )
        .where(sa.or_(*(condition for condition, _ in wrong)))
        .order_by(_ORDERS.id.desc(), _LINES.line)
    )
    known = sa.select(name).join(marketplace_orders, _ORDERS.id == _LINES.order_id)
    orphans = sa.select(ledger.c.line, ledger.c.units).where(ledger.c.units != 0, ledger.c.line.not_in(known))
    with database.reading() as connection:
        found = [dict(row) for row in connection.execute(lines).mappings()]
        strays = connection.execute(orphans).all()
    return found + [_stray(row.line, row.units) for row in strays]


def _units_by_line() -> sa.Subquery:
    """The units that the ledger has for each order line, by the line's name: a reference without its `+n` at the end."""
    given = inventory_changes.c.reference
    bare = sa.func.rtrim(given, "0123456789")
    suffixed = sa.func.substr(bare, sa.func.length(bare), 1) == "+"
    line = sa.case((suffixed, sa.func.substr(given, 1, sa.func.length(bare) - 1)), else_=given)
    return (
        sa.select(line.label("line"), sa.func.sum(-inventory_changes.c.delta).label("units"))
        .where(given.startswith("fourseller:", autoescape=True))
        .group_by(line)
        .subquery("ledger")
    )


def _stray(name: str, units: int) -> dict[str, Any]:
    order_id, _, line = name.removeprefix("fourseller:").rpartition(":")
    problem = "the ledger knows of a line that is not there"
    return {"order": order_id, "line": line, "ledger_says": units, "problem": problem}


def needing_a_person(database: Database) -> list[dict[str, Any]]:
    """Orders that are quarantined or have an exception, the oldest first."""
    aside = _ORDERS.outcome == "quarantined"
    query = (
        sa.select(
            _ORDERS.marketplace_order_id.label("order"),
            orders.c.order_number.label("number"),
            _ORDERS.status,
            sa.func.coalesce(_ORDERS.exception, sa.case((aside, "quarantined"))).label("exception"),
            _ORDERS.reason,
            _ORDERS.imported_at.label("since"),
        )
        .select_from(marketplace_orders.outerjoin(orders, orders.c.id == _ORDERS.local_order_id))
        .where(sa.or_(_ORDERS.exception.is_not(None), aside))
        .order_by(_ORDERS.id)
    )
    return _rows(database, query)


def statuses_gone_back(database: Database, backward: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
    """Orders with an earlier status than one that they had reached, unless a person has resolved that.

    Args:
        database: the shop's.
        backward: the pairs of a status and an earlier one, from the state machine's table.
    """
    logs = order_processing_logs.c
    mine = logs.marketplace_order_id == _ORDERS.marketplace_order_id
    gone_back = sa.or_(*(sa.and_(logs.step == before, _ORDERS.status == now) for before, now in backward))
    settled = sa.exists().where(mine, logs.step == "settled").correlate(marketplace_orders)
    query = (
        sa.select(
            _ORDERS.marketplace_order_id.label("order"),
            _ORDERS.status.label("status"),
            logs.step.label("had_reached"),
        )
        .join(order_processing_logs, mine)
        .where(gone_back, ~settled)
        .distinct()
        .order_by(_ORDERS.marketplace_order_id.desc())
    )
    return _rows(database, query)


def stale_orders(database: Database, days: int) -> list[dict[str, Any]]:
    """Orders that are still pending or processing that many days after they were placed; the oldest first."""
    oldest = utc_now(-days * DAY)
    query = (
        sa.select(
            _ORDERS.marketplace_order_id.label("order"),
            _ORDERS.status,
            _ORDERS.placed_at,
        )
        .where(
            _ORDERS.status.in_(["pending", "processing"]),
            _ORDERS.local_order_id.is_not(None),
            _placed_within(_ORDERS.placed_at < oldest, _ORDERS.imported_at < oldest),
        )
        .order_by(sa.func.coalesce(_ORDERS.placed_at, _ORDERS.imported_at))
    )
    return _rows(database, query)


def last_import(database: Database) -> datetime | None:
    """When orders were last read without failing; None when never."""
    query = sa.select(sa.func.max(sync_logs.c.started_at, type_=sync_logs.c.started_at.type)).where(
        sync_logs.c.kind == "orders",
        sync_logs.c.scope == "changed",  # not a backfill of some days
        sync_logs.c.outcome.in_(["done", "partial"]),
    )
    with database.reading() as connection:
        last: datetime | None = connection.scalar(query)
    return last


def open_work(database: Database) -> dict[str, int]:
    """Counts of orders that the shop still has to handle, for the fulfillment asset."""
    open_status = _ORDERS.status.in_(["pending", "processing"])
    count = sa.func.count()
    queries = {
        "open_orders": sa.select(count).where(open_status, _ORDERS.local_order_id.is_not(None)),
        "units_owed": sa.select(sa.func.coalesce(sa.func.sum(_LINES.backordered), 0)).where(
            _LINES.backordered > 0
        ),
        "unmapped_lines": sa.select(count).where(_LINES.exception.contains("unmapped")),
        "conflicts": sa.select(count).where(_ORDERS.exception.contains("conflict")),
    }
    with database.reading() as connection:
        return {name: int(connection.scalar(query) or 0) for name, query in queries.items()}


def _rows(database: Database, query: sa.Select[Any] | sa.CompoundSelect[Any]) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
