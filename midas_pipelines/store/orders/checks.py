"""Queries that check imported orders.

A check looks at the orders of which something was logged in the last `days`, and at those with an exception; without
`days` at all of them, as the restore drill does. What it reads is bounded by indexes, however many orders there are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.listing import NEEDS_A_PERSON, QUARANTINED, placed
from midas_pipelines.store.schema import tables
from midas_pipelines.store.schema.tables import ORDER_OPEN, marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.schema import order_items, orders
from midas_pipelines.storefront.types import MINOR_UNITS, utc_now

DAY, HOUR = 86_400, 3600
LARGEST_ID = 2**62
MISMATCH, DELETED = "total_mismatch", "deleted"
HALF_A_CENT = 0.00501
"""The finest difference that can mean anything, and what SQLite adds to it: money is floating point there."""
_ORDERS, _LINES = marketplace_orders.c, marketplace_order_lines.c
_LOG, _LEDGER = tables.order_processing_logs.c, tables.inventory_changes.c
_ORDER = _ORDERS.marketplace_order_id.label("order")
_ITEM_OF_LINE = sa.and_(  # SQLite gives the ids of items of a deleted order again
    order_items.c.id == _LINES.order_item_id, order_items.c.order_id == _ORDERS.local_order_id
)
_ITS_LOG = sa.and_(_LOG.channel == _ORDERS.channel, _LOG.marketplace_order_id == _ORDERS.marketplace_order_id)


@dataclass(frozen=True)
class _Looked:
    """The orders that a check looks at: those from a row on, and older ones of which something was logged since."""

    first: int | None = None  # None for all orders
    first_local: int | None = None
    older: tuple[int, ...] = ()

    def at(self, order_row: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """Whether our row of an order is one of them."""
        if self.first is None:
            return sa.true()
        # written out: a thousand parameters take longer to send than to look up
        older = sa.bindparam(None, self.older, sa.BigInteger, expanding=True, literal_execute=True)
        return sa.or_(order_row >= self.first, order_row.in_(older))


def _looked_at(database: Database, days: int | None) -> _Looked:
    """The orders of the last days. Read before, so that the plan of the check knows how few."""
    if days is None:
        return _Looked()
    since = utc_now(-days * DAY)
    oldest = sa.select(_ORDERS.id, _ORDERS.local_order_id).where(_ORDERS.imported_at >= since)
    oldest = oldest.order_by(_ORDERS.imported_at, _ORDERS.id).limit(1)
    with database.reading() as connection:
        row = connection.execute(oldest).first()
        first, local = (row.id, row.local_order_id) if row else (LARGEST_ID, None)
        known = sa.exists().where(_ITS_LOG, _ORDERS.id >= sa.literal(first, literal_execute=True))
        later = sa.and_(_LOG.created_at >= since, _LOG.step != "imported", ~known)
        logged = sa.select(_LOG.channel, _LOG.marketplace_order_id).where(later).distinct().subquery().c
        mine = _ORDERS.marketplace_order_id == logged.marketplace_order_id
        # looked up by the index, one by one
        its_id = sa.select(_ORDERS.id).where(_ORDERS.channel == logged.channel, mine).scalar_subquery()
        older = set(connection.scalars(sa.select(_ORDERS.id).where(NEEDS_A_PERSON, _ORDERS.id < first)))
        older |= set(connection.scalars(sa.select(its_id).select_from(logged.channel.table)).all()) - {None}
    return _Looked(first, local, tuple(sorted(older)))


def count_looked_at(database: Database, days: int, *, lines: bool) -> int:
    """How many orders the checks of the last days look at; with `lines` how many lines `unexplained_deductions` does."""
    those = _looked_at(database, days).at(_LINES.order_id if lines else _ORDERS.id)
    return database.scalar(sa.select(sa.func.count()).where(those)) or 0


def unbalanced_orders(database: Database, days: int | None = None) -> list[dict[str, Any]]:
    """Orders whose total is not the sum of their items + shipping + tax - discount to the smallest unit of the currency, or
    not the marketplace's to the cent; an item priced in finer parts than cents may be half a cent away. Not what the
    marketplace added up otherwise and a person dismissed. Items that a person added count, within these days to older
    orders too."""
    looked = _looked_at(database, days)
    since, changed = _added_items(database, looked)
    looked = replace(looked, older=(*looked.older, *changed))
    price = sa.select(order_items.c.order_id, order_items.c.total_price)
    earlier = price.join(marketplace_order_lines, _LINES.order_item_id == order_items.c.id)
    earlier = earlier.join(marketplace_orders, sa.and_(_ORDERS.id == _LINES.order_id, _ITEM_OF_LINE))
    earlier = earlier.where(looked.at(_LINES.order_id), _LINES.order_item_id < since)
    each = price.where(order_items.c.id >= since).union_all(earlier).subquery()
    items = sa.select(each.c.order_id, sa.func.sum(each.c.total_price).label("goods"))
    sums = items.group_by(each.c.order_id).subquery("sums")
    extras = _ORDERS.shipping_cost + _ORDERS.tax - _ORDERS.discount
    total, expected = orders.c.total_amount, sa.func.coalesce(sums.c.goods, 0) + extras
    finer = (_LINES.order_id == _ORDERS.id, _LINES.price != sa.func.round(_LINES.price, 2))
    fine = sa.select(sa.func.count()).where(*finer).correlate(marketplace_orders).scalar_subquery()
    tolerance, away = HALF_A_CENT * (1 + fine), sa.func.abs(expected - total)
    digits = sa.case(MINOR_UNITS, value=_ORDERS.currency, else_=2)
    same = sa.func.round(expected, digits) == sa.func.round(total, digits)
    known_gap = _ORDERS.lines_total + extras - _ORDERS.total
    seen = sa.and_(_dismissed(MISMATCH), sa.func.abs(expected - total - known_gap) <= tolerance)
    wrong = sa.or_(  # most orders need only the first comparison
        sa.and_(away > HALF_A_CENT, away > tolerance, sa.not_(same), sa.not_(seen)),
        sa.func.abs(total - _ORDERS.total) > HALF_A_CENT,
    )
    added_up = sa.func.round(expected, 2).label("items_and_extras")
    theirs = _ORDERS.total.label("marketplace_total")
    query = sa.select(_ORDER, orders.c.order_number, total, added_up, theirs)
    query = query.join(orders, orders.c.id == _ORDERS.local_order_id)
    query = query.outerjoin(sums, sums.c.order_id == _ORDERS.local_order_id)
    return database.rows(query.where(looked.at(_ORDERS.id), wrong).order_by(_ORDERS.id.desc()))


def _added_items(database: Database, looked: _Looked) -> tuple[int, Sequence[int]]:
    """The first item of the orders looked at (ids rise: that of the first of them, or of the one before it), and our rows
    of older orders with later items that no line of ours explains."""
    if looked.first is None:
        return 0, ()
    items, before = order_items.c, sa.select(sa.func.max(_ORDERS.id)).where(_ORDERS.id < looked.first)
    near = _LINES.order_id.in_([looked.first, before.scalar_subquery()])
    oldest = sa.select(sa.func.min(_LINES.order_item_id)).where(near)
    explained = sa.exists().where(_LINES.order_id == _ORDERS.id, _LINES.order_item_id == items.id)
    changed = sa.select(_ORDERS.id).join(order_items, items.order_id == _ORDERS.local_order_id).distinct()
    if looked.first_local is not None:
        changed = changed.where(items.order_id < looked.first_local)
    with database.reading() as connection:
        since = connection.scalar(oldest) or 0
        later = changed.where(items.id >= since, _ORDERS.id < looked.first, ~explained)
        return since, connection.scalars(later).all()


def _dismissed(word: str) -> sa.ColumnElement[bool]:
    """Whether a person has dismissed that exception of an order."""
    dismissed = sa.exists().where(_ITS_LOG, _LOG.step == "dismissed", _LOG.detail.contains(word))
    return sa.and_(sa.func.coalesce(_ORDERS.exception, "").not_like(f"%{word}%"), dismissed)


def unpaired_orders(database: Database, days: int | None = None) -> list[dict[str, Any]]:
    """Shop orders of ours that no marketplace order explains, and imported orders whose shop order is gone, unless a person
    has dismissed that."""
    looked = _looked_at(database, days)
    nothing, why = sa.null(), "a shop order that no marketplace order explains"
    stray = sa.select(nothing.label("order"), orders.c.order_number, sa.literal(why).label("problem"))
    first = looked.first_local or 0  # in both tables: else one of them is read whole
    paired = sa.exists().where(_ORDERS.local_order_id == orders.c.id, _ORDERS.local_order_id >= first)
    stray = stray.where(orders.c.order_number.startswith("4S-"), orders.c.id >= first, ~paired)
    gone = sa.and_(_ORDERS.outcome == "imported", orders.c.id.is_(None), sa.not_(_dismissed(DELETED)))
    lost = sa.select(_ORDER, nothing, sa.literal("imported, and the shop's order is gone"))
    lost = lost.outerjoin(orders, orders.c.id == _ORDERS.local_order_id).where(looked.at(_ORDERS.id), gone)
    return database.rows(stray.union_all(lost))


_HELD = _LINES.allocated - _LINES.released
_JOINED = marketplace_order_lines.join(marketplace_orders, _ORDERS.id == _LINES.order_id)


def unexplained_deductions(database: Database, days: int | None = None) -> list[dict[str, Any]]:
    """Order lines that hold other units than the ledger says they took, than were sold, or than the shop's line says; and
    ledger rows of a line that is not there."""
    looked = _looked_at(database, days)
    name = sa.literal("fourseller:") + _ORDERS.marketplace_order_id + ":" + sa.cast(_LINES.line, sa.Text)
    if database.is_postgresql:
        name = sa.collate(name, "C")  # as the column is
    lines = sa.select(
        *(_ORDER, _LINES.line, _LINES.sku, _LINES.quantity.label("sold"), _HELD.label("line_holds")),
        order_items.c.quantity.label("shop_says"),
        _exception(),
        _ORDERS.id,
        name.label("name"),
    ).select_from(_JOINED.outerjoin(order_items, _ITEM_OF_LINE))
    lines = lines.where(looked.at(_ORDERS.id), looked.at(_LINES.order_id))  # else one of both is read whole
    # materialized: else what the planner guesses of the ledger hides how the lines are best read
    held = lines.cte("held").prefix_with("MATERIALIZED", dialect="postgresql")
    reference, its = _LEDGER.reference, held.c.name
    bare = sa.func.rtrim(reference, "0123456789")  # a line's reference may have `+n` at its end
    first = sa.func.substr(reference, 1, sa.func.length(bare) - 1)
    line = sa.case((bare.endswith("+"), first), else_=reference)
    units = sa.func.coalesce(sa.func.sum(-_LEDGER.delta), 0)
    ledger = sa.select(units).where(reference >= its, reference < its + ",")  # "," comes after "+"
    booked = ledger.where(sa.or_(reference == its, line == its)).correlate(held).scalar_subquery()
    uneven = sa.or_(held.c.problem.is_not(None), booked != held.c.line_holds)
    why, nothing = sa.literal("the ledger knows of a line that is not there"), sa.null()
    strays = sa.select(line, sa.literal(0), *[nothing] * 4, why, nothing, line, units).group_by(line)
    strays = strays.having(units != 0).where(line.not_in(sa.select(its)))
    strays = strays.where(sa.func.substr(reference, 1, 11) == "fourseller:")  # the index has all days
    if days is not None:  # an hour less, so that the order of each such row is among those looked at
        strays = strays.where(_LEDGER.created_at >= utc_now(HOUR - days * DAY))
    found = database.rows(sa.select(held, booked.label("ledger_says")).where(uneven).union_all(strays))
    found.sort(key=lambda row: (-(row["id"] or 0), row["line"]))
    for row in found:
        order_id, _, number = row.pop("name").removeprefix("fourseller:").rpartition(":")
        if row.pop("id") is None:
            row |= {"order": order_id, "line": number}
        row["problem"] = row["problem"] or "the ledger has other units"
    return found


def _exception() -> sa.Label[str | None]:
    """What is wrong with a line that holds other units than were sold, or than the shop's line says."""
    live = sa.and_(
        _ORDERS.status.not_in(["cancelled", "refunded"]),
        sa.func.coalesce(_ORDERS.resolution, "") != "cancelled",
        _LINES.product_id.is_not(None),
    )
    unsold = sa.and_(live, _HELD + _LINES.backordered + _LINES.returned != _LINES.quantity)
    return sa.case(
        (_LINES.quantity <= 0, sa.null()),
        (unsold, "it holds and is backordered other units than were sold"),
        (order_items.c.quantity != _LINES.quantity, "the shop's line has others"),
    ).label("problem")


def needing_a_person(database: Database) -> list[dict[str, Any]]:
    """Orders that are quarantined or have an exception, the oldest first."""
    exception = sa.func.coalesce(_ORDERS.exception, QUARANTINED).label("exception")
    why = (exception, _ORDERS.reason, _ORDERS.imported_at.label("since"))
    query = sa.select(_ORDER, orders.c.order_number.label("number"), _ORDERS.status, *why)
    query = query.outerjoin(orders, orders.c.id == _ORDERS.local_order_id).where(NEEDS_A_PERSON)
    return database.rows(query.order_by(_ORDERS.id))


def statuses_gone_back(
    database: Database, backward: Collection[tuple[str, str]], days: int | None = None
) -> list[dict[str, Any]]:
    """Orders with an earlier status than one that they had reached, by `backward`, the pairs of the state machine's table,
    unless a person has resolved that."""
    gone_back = sa.or_(*(sa.and_(_LOG.step == before, _ORDERS.status == now) for before, now in backward))
    resolved = sa.exists().where(_ITS_LOG, _LOG.step == "resolved").correlate(marketplace_orders)
    query = sa.select(_ORDER, _ORDERS.status.label("status"), _LOG.step.label("had_reached")).distinct()
    query = query.join(tables.order_processing_logs, _ITS_LOG)
    query = query.where(_looked_at(database, days).at(_ORDERS.id), gone_back, ~resolved)
    return database.rows(query.order_by(_ORDERS.marketplace_order_id.desc()))


def stale_orders(database: Database, days: int) -> list[dict[str, Any]]:
    """Orders that are still pending or processing that many days after they were placed; the oldest first."""
    late = placed(lambda moment: moment < utc_now(-days * DAY))
    query = sa.select(_ORDER, _ORDERS.status, _ORDERS.placed_at)
    query = query.where(ORDER_OPEN, _ORDERS.local_order_id.is_not(None), late)
    return database.rows(query.order_by(sa.func.coalesce(_ORDERS.placed_at, _ORDERS.imported_at), _ORDERS.id))
