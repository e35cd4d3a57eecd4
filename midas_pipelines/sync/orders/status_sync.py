"""Status sync, both ways: what the marketplace reports to the shop, what the shop has done to the marketplace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, BadItem, Conflict, FourSellerError, NotFound
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.claims import delay_seconds
from midas_pipelines.store.shipment_tables import order_shipments
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders import flaws
from midas_pipelines.sync.orders.carriers import BadTracking, tracking, usable_page
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.confirmations import queue_mail
from midas_pipelines.sync.orders.conflicts import raise_conflict
from midas_pipelines.sync.orders.flaws import Flaw
from midas_pipelines.sync.orders.giving_back import release
from midas_pipelines.sync.orders.leaving import parcels_on_record
from midas_pipelines.sync.orders.locking import lock_order
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.polling import import_orders
from midas_pipelines.sync.orders.shipments import count_shipments
from midas_pipelines.sync.orders.statuses import ENDED, GOODS_LEFT, Step, agree, step
from midas_pipelines.sync.orders.telling import Message, Objection, Parcel, messages, objection
from midas_pipelines.sync.record import recorded

A_DAY = 86_400
"""What 4Seller has refused is told again after so many seconds, should nobody have mended it."""

PREVIEW = 50
_ORDERS, _LINES, _PARCELS = marketplace_orders.c, marketplace_order_lines.c, order_shipments.c
_TOLD = (_PARCELS.carrier, _PARCELS.tracking_number, _PARCELS.tracking_url)
_READ = (_PARCELS.id, _PARCELS.order_id, _PARCELS.source, *_TOLD)


@dataclass
class StatusReport:
    """What a status sync did; counts of orders, but for parcels."""

    scanned: int = 0  # orders of which 4Seller has to be told something
    told: int = 0
    parcels: int = 0  # parcels told
    refused: int = 0  # moves that no way leads to; a person decides
    moved_on: int = 0  # orders the marketplace moved on
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    preview: list[dict[str, str]] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)

    def note(self, order: Waiting, outcome: str, *, problem: bool = False) -> None:
        """Adds a line to the preview, or to what needs a look."""
        row = {"order": order.order_id, "status": order.shop_status or "", "outcome": outcome}
        shown = self.problems if problem else self.preview
        if len(shown) < PREVIEW:
            shown.append(row)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order that the shop moved on, or of which parcels left, and 4Seller does not know yet."""

    row_id: int
    order_id: str
    standing: OrderStatus
    shop_status: str | None
    moved: bool  # the shop changed the status; else there are only parcels
    left: bool = False  # goods of it have left
    known: bool = False  # its lines account for something that left
    settled: str | None = None  # what a person decided of its last conflict
    flagged: bool = False  # it was refused before
    parcels: tuple[Parcel, ...] = ()
    unsound: tuple[tuple[int, str], ...] = ()  # parcels whose number cannot be right, and why
    rows: Mapping[int, sa.Row[Any]] = field(default_factory=dict)  # of all these parcels, as they were read

    @property
    def open(self) -> bool:
        """Whether there is something to be told; else it is only looked at whether a refusal is over."""
        return bool(self.moved or self.parcels or self.unsound)

    @property
    def goal(self) -> OrderStatus | None:
        """The shop's status as one of the contract's."""
        return OrderStatus(self.shop_status) if self.shop_status in list(OrderStatus) else None


async def sync_statuses(engine: Engine) -> StatusReport:
    """Follows the marketplace first, then tells it what the shop did.

    Raises:
        BadCredentials: the key or the seller id is wrong.
        FourSellerError: 4Seller's orders could not be read.
    """
    polled = await import_orders(engine)
    report = await tell_marketplace(engine, moved_on=polled.moved_on)
    report.requests += polled.requests
    return report


async def tell_marketplace(
    engine: Engine, *, kind: str = "status", only: int | None = None, moved_on: int = 0
) -> StatusReport:
    """Tells 4Seller of every status that the shop changed and every parcel that left.

    Args:
        engine: the shop's database, settings and channel.
        kind: under which it is written to `fourseller_sync_logs`.
        only: our row of the one order to tell of, at once; None for all that are due.
        moved_on: how many orders the marketplace moved on just before, for the report.

    Raises:
        BadCredentials: the key or the seller id is wrong.
    """
    report = StatusReport(moved_on=moved_on)
    with recorded(engine, kind, "to 4Seller", report) as clock:
        await asyncio.to_thread(count_shipments, engine.database, _clerk(engine))
        async with engine.channel() as client:
            clock.client = client
            slots, after = asyncio.Semaphore(engine.settings.in_flight), 0
            while found := await asyncio.to_thread(_waiting, engine, after, only):
                after = found[-1].row_id
                report.scanned += sum(order.open for order in found)
                await asyncio.gather(*(_tell(engine, client, order, slots, report) for order in found))
    return report


def _clerk(engine: Engine) -> Clerk:
    return Clerk(engine.run_id, mail=mail_rules(engine.settings))


def _waiting(engine: Engine, after: int, only: int | None) -> list[Waiting]:
    """The next orders of which 4Seller has to be told something, by our row."""
    due = sa.or_(_PARCELS.next_attempt_at.is_(None), _PARCELS.next_attempt_at <= utc_now())
    untold = sa.and_(_PARCELS.told_at.is_(None), _PARCELS.counted_at.is_not(None), due)
    mine = _PARCELS.order_id == _ORDERS.local_order_id
    has_untold = sa.and_(sa.exists().where(mine, untold), _ORDERS.status.not_in(ENDED))
    accounted = sa.and_(_LINES.order_id == _ORDERS.id, _LINES.taken - _LINES.given_back + _LINES.returned > 0)
    flagged = _ORDERS.exception.contains(Flaw.REFUSED.value)
    query = (
        sa.select(
            _ORDERS.id,
            _ORDERS.marketplace_order_id,
            _ORDERS.local_order_id,
            _ORDERS.status,
            _ORDERS.exception,
            _ORDERS.shop_status_since,
            orders.c.status.label("shop_status"),
            _ORDERS.settled_as,
            sa.exists().where(mine).label("left"),
            sa.exists().where(accounted).label("known"),
        )
        .outerjoin(orders, orders.c.id == _ORDERS.local_order_id)
        .where(_ORDERS.id > after, sa.or_(_ORDERS.shop_status_since.is_not(None), has_untold, flagged))
        .order_by(_ORDERS.id)
        .limit(engine.settings.status_batch)
    )
    in_conflict = sa.func.coalesce(_ORDERS.exception, "").contains(Flaw.CONFLICT.value)
    query = query.where(~in_conflict)  # which a person has to settle first
    if only is None:
        query = query.where(sa.or_(_ORDERS.tell_after.is_(None), _ORDERS.tell_after <= utc_now()))
    else:
        query = query.where(_ORDERS.id == only)
    with engine.database.reading() as connection:
        found = connection.execute(query).all()
        parcels = sa.select(*_READ).where(
            _PARCELS.order_id.in_([row.local_order_id for row in found]), untold
        )
        rows = connection.execute(parcels.order_by(_PARCELS.id)).all()
    return [_as_waiting(row, [one for one in rows if one.order_id == row.local_order_id]) for row in found]


def _as_waiting(row: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> Waiting:
    sound: list[Parcel] = []
    unsound: list[tuple[int, str]] = []
    for one in rows if row.status not in ENDED else ():
        try:
            anyway = one.source != "shop"  # whoever recorded it has been asked already
            parcel = tracking(
                _text(one.carrier),
                _text(one.tracking_number),
                url=usable_page(_text(one.tracking_url)),
                anyway=anyway,
            )
        except BadTracking as bad:
            unsound.append((one.id, str(bad)))
        else:
            sound.append(Parcel(one.id, parcel))
    return Waiting(
        row.id,
        row.marketplace_order_id,
        OrderStatus(row.status),
        row.shop_status,
        row.shop_status_since is not None,
        bool(row.left),
        bool(row.known),
        row.settled_as,
        Flaw.REFUSED.value in flaws.read(row.exception),
        tuple(sound),
        tuple(unsound),
        {one.id: one for one in rows},
    )


def _text(value: object) -> str:
    """The text in a column of the shop's; SQLite lets bytes into it too, which are none."""
    return value if isinstance(value, str) else ""


async def _tell(
    engine: Engine, client: FourSeller, order: Waiting, slots: asyncio.Semaphore, report: StatusReport
) -> None:
    for shipment_id, why in order.unsound:
        report.refused += 1
        report.note(order, why, problem=True)
        await asyncio.to_thread(_note_bad_parcel, engine, order, shipment_id, why)
    against = _objection(order) if order.moved else None
    through = True
    if against is not None:
        report.refused += 1
        report.note(order, against.why, problem=True)
        await asyncio.to_thread(_note_objection, engine, order, against)
    if against is None or not against.conflict:  # in a conflict nothing is told before a person has decided
        calls = messages(order.standing, order.goal if order.moved and not against else None, order.parcels)
        async with slots:
            through = await _call(engine, client, order, calls, report)
    if against is None and not order.unsound and through:
        await asyncio.to_thread(_close, engine, order)


def _objection(order: Waiting) -> Objection | None:
    return objection(
        order.standing, order.shop_status, left=order.left, known=order.known, settled=order.settled
    )


async def _call(
    engine: Engine, client: FourSeller, order: Waiting, calls: Sequence[Message], report: StatusReport
) -> bool:
    """Makes the calls; False when one has to be made again later."""
    call: Message | None = None
    try:
        for call in calls:
            parcel = call.parcel.tracking if call.parcel is not None else None
            now = datetime.now(UTC)
            await client.update_order(order.order_id, status=call.status.value, at=now, tracking=parcel)
            await asyncio.to_thread(_note_told, engine, order, call)
            report.parcels += parcel is not None
    except BadCredentials:
        raise
    except BadItem as bad:
        report.refused += 1
        report.note(order, str(bad), problem=True)
        if call is None or call.parcel is None:
            await asyncio.to_thread(_note_refusal, engine, order, str(bad))
            return False
        refused = call.parcel.shipment_id  # the status and the other parcels are told all the same
        await asyncio.to_thread(_note_bad_parcel, engine, order, refused, str(bad), wait=A_DAY)
        rest = tuple(one for one in order.parcels if one.shipment_id != refused)
        done = calls[: calls.index(call)]
        standing = done[-1].status if done else order.standing
        told = {one.parcel.shipment_id for one in done if one.parcel is not None}
        left = replace(
            order,
            standing=standing,
            parcels=tuple(one for one in rest if one.shipment_id not in told),
        )
        goal = left.goal if left.moved else None
        return await _call(engine, client, left, messages(standing, goal, left.parcels), report)
    except (Conflict, NotFound) as refused_by:
        report.refused += 1
        report.note(order, str(refused_by), problem=True)
        await asyncio.to_thread(_note_refusal, engine, order, str(refused_by))
        return False
    except FourSellerError as failed:  # stays marked; a later run tells it again
        report.failed += 1
        report.note(order, str(failed), problem=True)
        await asyncio.to_thread(_note_failure, engine, order)
        return False
    if calls:
        report.told += 1
        report.note(order, "told")
    return True


def _note_told(engine: Engine, order: Waiting, call: Message) -> None:
    """4Seller has confirmed one call: our row says so, and what follows from it is done."""
    clerk = _clerk(engine)
    with engine.database.writing() as connection:
        row = lock_order(connection, order.row_id)
        standing = OrderStatus(row.status)
        if step(standing, call.status) is Step.FORWARD:
            _set(connection, order, status=call.status.value, status_word=call.status.value)
            detail = f"The shop's {standing.value} → {call.status.value} was told to 4Seller."
            clerk.log(connection, order.order_id, call.status.value, detail)
            if call.status in ENDED and row.settled_as != "cancelled":  # which has freed what is free already
                release(connection, row, call.status.value, clerk, all_left=standing in GOODS_LEFT)
            if call.status is OrderStatus.CANCELLED:
                queue_mail(connection, row, "cancelled", clerk.mail)
            if call.status is OrderStatus.SHIPPED and not parcels_on_record(connection, row.local_order_id):
                queue_mail(connection, row, "shipped", clerk.mail)
        if call.parcel is not None:
            told = sa.update(order_shipments).where(_as_read(order, call.parcel.shipment_id))
            if connection.execute(told.values(told_at=utc_now(), reason=None)).rowcount:
                number = f"{call.parcel.tracking.carrier} {call.parcel.tracking.number}"
                clerk.log(connection, order.order_id, "tracking_told", f"4Seller knows the parcel {number}.")


def _as_read(order: Waiting, shipment_id: int) -> sa.ColumnElement[bool]:
    """The row of an untold parcel, unless somebody has corrected it since it was read: what we noted is then of the old."""
    read = order.rows[shipment_id]
    same = (column.is_not_distinct_from(getattr(read, column.name)) for column in _TOLD)
    return sa.and_(_PARCELS.id == shipment_id, _PARCELS.told_at.is_(None), *same)


def _close(engine: Engine, order: Waiting) -> None:
    """Nothing is open between the two sides any more, unless the shop has changed its order again meanwhile."""
    if not (order.moved or order.flagged):
        return
    with engine.database.writing() as connection:
        row = lock_order(connection, order.row_id)
        now = connection.scalar(sa.select(orders.c.status).where(orders.c.id == row.local_order_id))
        paid_back_later = row.status == OrderStatus.REFUNDED and now in GOODS_LEFT  # each stays where it is
        if now is not None and not agree(now, OrderStatus(row.status)) and not paid_back_later:
            return
        _set(connection, order, shop_status_since=None, tell_after=None, tell_attempts=0)
        refused = sa.and_(_PARCELS.order_id == row.local_order_id, _PARCELS.reason.is_not(None))
        waiting = sa.select(_PARCELS.id).where(refused, _PARCELS.told_at.is_(None))
        if connection.execute(waiting.limit(1)).first() is None:
            mark(connection, order.row_id, drop=(Flaw.REFUSED.value,))


def _still_as_seen(connection: sa.Connection, order: Waiting) -> sa.Row[Any] | None:
    """Our row, held; None when somebody else has moved the order on since it was read."""
    row = lock_order(connection, order.row_id)
    return row if row.status == order.standing.value else None


def _note_objection(engine: Engine, order: Waiting, against: Objection) -> None:
    """What the shop wants cannot be told: its mark is taken off, and a person sees it."""
    with engine.database.writing() as connection:
        row = _still_as_seen(connection, order)
        if row is None:
            return
        detail = f"The shop says {order.shop_status}, 4Seller has {order.standing.value}: {against.why}."
        same = sa.exists().where(orders.c.id == _ORDERS.local_order_id, orders.c.status == order.shop_status)
        statement = sa.update(marketplace_orders).where(_ORDERS.id == order.row_id, same)
        connection.execute(statement.values(shop_status_since=None))
        step_name = "conflict" if against.conflict else "refused_transition"
        _clerk(engine).log(connection, order.order_id, step_name, f"{detail} A person has to decide.")
        if against.conflict:
            raise_conflict(connection, row, f"{detail} Settle the order.")
        else:
            mark(connection, order.row_id, add=(Flaw.REFUSED.value,))


def _note_refusal(engine: Engine, order: Waiting, why: str) -> None:
    """4Seller would not take the status: it is told again after a day, and a person sees it meanwhile."""
    with engine.database.writing() as connection:
        if _still_as_seen(connection, order) is None:
            return
        detail = (
            f"4Seller did not take the shop's {order.shop_status}: {why.rstrip('.')}. A person has to look."
        )
        _set(connection, order, tell_after=utc_now(A_DAY))
        if _clerk(engine).log_once(connection, order.order_id, "refused_transition", detail):
            mark(connection, order.row_id, add=(Flaw.REFUSED.value,))


def _note_bad_parcel(engine: Engine, order: Waiting, shipment_id: int, why: str, *, wait: int = 0) -> None:
    """The parcel is not told; what 4Seller refused waits, what we refused is looked at again in the next run."""
    with engine.database.writing() as connection:
        known = connection.scalar(sa.select(_PARCELS.reason).where(_PARCELS.id == shipment_id))
        values: dict[str, Any] = {"reason": why, "attempts": _PARCELS.attempts + 1}
        values["next_attempt_at"] = utc_now(wait) if wait else None
        mine = _as_read(order, shipment_id)
        if not connection.execute(sa.update(order_shipments).where(mine).values(values)).rowcount:
            return
        _clerk(engine).log_once(connection, order.order_id, "tracking_refused", why)
        if why != known:  # else a person has seen it already
            mark(connection, order.row_id, add=(Flaw.REFUSED.value,))


def _note_failure(engine: Engine, order: Waiting) -> None:
    with engine.database.writing() as connection:
        attempts = connection.scalar(sa.select(_ORDERS.tell_attempts).where(_ORDERS.id == order.row_id))
        wait = int(delay_seconds((attempts or 0) + 1))
        _set(connection, order, tell_attempts=_ORDERS.tell_attempts + 1, tell_after=utc_now(wait))


def _set(connection: sa.Connection, order: Waiting, **values: Any) -> None:
    connection.execute(sa.update(marketplace_orders).where(_ORDERS.id == order.row_id).values(values))
