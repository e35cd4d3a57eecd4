"""Records shipments, partial ones too: by an operator, by the gateway, or by the shop's own code in `order_shipments`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.shipment_tables import order_shipment_lines, order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.bulk import update_rows
from midas_pipelines.storefront.orders import order_status, set_order_status
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.changes.conflicts import raise_conflict
from midas_pipelines.sync.orders.customer_mail.queue import queue_mail
from midas_pipelines.sync.orders.model import exceptions
from midas_pipelines.sync.orders.model.carriers import bare_number
from midas_pipelines.sync.orders.model.exceptions import OrderException
from midas_pipelines.sync.orders.model.locking import lock_order
from midas_pipelines.sync.orders.model.order_log import OrderContext, set_exceptions
from midas_pipelines.sync.orders.model.state_machine import ENDED, SHIPPED_STATES
from midas_pipelines.sync.orders.model.units import left_to_ship
from midas_pipelines.sync.orders.stock.release import order_lines

_SHIPMENTS = order_shipments.c
_HELD = order_shipment_lines.c


class CannotShip(WrongInput):
    """The shipment contradicts the order; the message says how."""


@dataclass(frozen=True)
class Shipped:
    """The result of recording a shipment: `new` is False when all of it was on record; `complete` when nothing is left to ship."""

    new: bool
    complete: bool = False
    units: int = 0


def record_shipment(
    database: Database,
    order_row: int,
    parcel: Tracking,
    order_context: OrderContext,
    *,
    units: Mapping[int, int] | None = None,
    source: str = "operator",
) -> Shipped:
    """Records a shipment of an order, once however often it is reported.

    Reported again with other units, a shipment on record gains the additional ones and never loses any.

    Args:
        database: the shop's.
        order_row: our row of the order.
        parcel: as `carriers.tracking` makes it.
        order_context: writes the order log, queues the customer mail.
        units: by line number, all that the shipment holds of these lines; None for everything left to ship.
        source: operator or gateway.

    Raises:
        CannotShip: the order is cancelled or in a conflict, or has too little left to ship; or the shipment is on record
            with more units.
    """
    with database.writing() as connection:
        return ship_locked(
            connection, lock_order(connection, order_row), parcel, order_context, units=units, source=source
        )


def ship_locked(
    connection: sa.Connection,
    order: sa.Row[Any],
    parcel: Tracking,
    order_context: OrderContext,
    *,
    units: Mapping[int, int] | None = None,
    source: str = "operator",
) -> Shipped:
    """Like `record_shipment`, within a transaction that holds the order."""
    count_late_shipments(connection, order, order_context)
    lines = order_lines(connection, order.id)
    known = _find_shipment(connection, order, parcel.number)
    held = _contents(connection, known, lines) if known is not None else {}
    if known is not None and not (units := _added(order, parcel, held, units)):
        return Shipped(new=False, complete=not any(left_to_ship(line) or line.backordered for line in lines))
    _require_shippable(connection, order)
    wanted = _checked(order, lines, units)
    shipment_id = known if known is not None else _insert(connection, order, parcel, source)
    complete = _count(connection, order, shipment_id, parcel, lines, wanted, order_context, held=held)
    return Shipped(new=True, complete=complete, units=sum(wanted.values()))


def may_hold(connection: sa.Connection, order: sa.Row[Any], number: str | None) -> dict[int, int]:
    """The most units of each line that a shipment with this number can hold: those left to ship, and those in it."""
    lines = order_lines(connection, order.id)
    known = _find_shipment(connection, order, number)
    held = (_contents(connection, known, lines) if known is not None else None) or {}
    return {line.line: left_to_ship(line) + held.get(line.line, 0) for line in lines}


def _contents(
    connection: sa.Connection, shipment_id: int, lines: Sequence[sa.Row[Any]]
) -> dict[int, int] | None:
    """The units booked for a shipment, by line number; None if they were not recorded."""
    contents = connection.scalar(sa.select(_SHIPMENTS.contents).where(_SHIPMENTS.id == shipment_id))
    if contents is None:
        return None
    return {line.line: contents.get(str(line.order_item_id), 0) for line in lines}


def _added(
    order: sa.Row[Any], parcel: Tracking, held: Mapping[int, int] | None, units: Mapping[int, int] | None
) -> dict[int, int]:
    """The units to add to a shipment on record. Pure."""
    if units is None:
        return {}
    if held is None:
        raise CannotShip(
            f"The shipment {parcel.number} of order {order.marketplace_order_id} is on record without its contents: "
            "record further units under another number."
        )
    for line, count in units.items():
        if count < held.get(line, 0):
            raise CannotShip(
                f"The shipment {parcel.number} of order {order.marketplace_order_id} is on record with {held[line]} units of "
                f"line {line}, not {count}: `midas orders return` restocks units that did not ship."
            )
    return {line: count - held.get(line, 0) for line, count in units.items() if count > held.get(line, 0)}


def correct(
    database: Database, order_row: int, number: str, parcel: Tracking, order_context: OrderContext
) -> str | None:
    """Corrects the carrier or number of a shipment on record, which is pushed again.

    Returns:
        Why it is not pushed to 4Seller, in words; None when it is.

    Args:
        database: the shop's.
        order_row: our row of the order.
        number: the one on record.
        parcel: the correct data.
        order_context: writes the order log.

    Raises:
        CannotShip: no shipment of the order has that number, or another has the new one.
    """
    with database.writing() as connection:
        order = lock_order(connection, order_row)
        count_late_shipments(connection, order, order_context)
        known = _find_shipment(connection, order, number)
        if known is None:
            raise CannotShip(f"Order {order.marketplace_order_id} has no shipment {number} on record.")
        if _find_shipment(connection, order, parcel.number) not in (None, known):
            raise CannotShip(f"Order {order.marketplace_order_id} has another shipment {parcel.number}.")
        values = {
            "carrier": parcel.carrier,
            "tracking_number": parcel.number,
            "tracking_url": parcel.url,
            "source": "operator",
            "pushed_at": None,
            "next_attempt_at": None,
            "reason": None,
        }
        connection.execute(sa.update(order_shipments).where(_SHIPMENTS.id == known).values(values))
        detail = f"The shipment {number} is {parcel.carrier} {parcel.number}: an operator corrected it."
        order_context.log(connection, order.marketplace_order_id, "corrected", detail)
        connection.execute(
            sa.update(marketplace_orders)
            .where(marketplace_orders.c.id == order.id)
            .values(push_after=None, push_attempts=0)
        )
    return _why_not_pushed(order)


def _why_not_pushed(order: sa.Row[Any]) -> str | None:
    if order.status in ENDED:
        return f"it is not pushed to 4Seller: the order is {order.status} there"
    if OrderException.CONFLICT.value in exceptions.read(order.exception):
        return "it is pushed to 4Seller when the conflict is resolved"
    return None


def count_shipments(database: Database, order_context: OrderContext) -> int:
    """Books the shipments that the shop's own code has recorded; returns the number of orders."""
    waiting = (
        sa.select(marketplace_orders.c.id)
        .join(order_shipments, marketplace_orders.c.local_order_id == _SHIPMENTS.order_id)
        .where(_SHIPMENTS.booked_at.is_(None), _SHIPMENTS.pushed_at.is_(None))
        .distinct()
        .order_by(marketplace_orders.c.id)
    )
    with database.reading() as connection:
        found = connection.scalars(waiting).all()
    for order_row in found:
        with database.writing() as connection:
            count_late_shipments(connection, lock_order(connection, order_row), order_context)
    return len(found)


def count_late_shipments(connection: sa.Connection, order: sa.Row[Any], order_context: OrderContext) -> None:
    """Books the unbooked shipments of a locked order, in the order in which they were recorded.

    One that cannot be read waits until the shop fixes its row, and the order is `refused` meanwhile.
    """
    columns = (_SHIPMENTS.id, _SHIPMENTS.carrier, _SHIPMENTS.tracking_number, _SHIPMENTS.tracking_url)
    query = sa.select(*columns).where(
        _SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.booked_at.is_(None)
    )
    for parcel in connection.execute(query.order_by(_SHIPMENTS.id)).all():
        try:
            with connection.begin_nested():
                _count_recorded(connection, order, parcel, order_context)
        except CannotShip as problem:
            _refuse(connection, order, parcel.id, str(problem), order_context)
        except sa.exc.SQLAlchemyError:
            raise
        except Exception as unexpected:  # must not stop other orders
            why = (
                f"The shop's shipment {parcel.id} cannot be read ({type(unexpected).__name__}): fix its rows."
            )
            _refuse(connection, order, parcel.id, why, order_context)


def _refuse(
    connection: sa.Connection, order: sa.Row[Any], shipment_id: int, why: str, order_context: OrderContext
) -> None:
    connection.execute(sa.update(order_shipments).where(_SHIPMENTS.id == shipment_id).values(reason=why))
    if order_context.log_once(connection, order.marketplace_order_id, "tracking_refused", why):
        set_exceptions(connection, order.id, add=(OrderException.REFUSED.value,))


def _count_recorded(
    connection: sa.Connection, order: sa.Row[Any], parcel: sa.Row[Any], order_context: OrderContext
) -> None:
    for name in ("carrier", "tracking_number", "tracking_url"):
        if not isinstance(getattr(parcel, name), str | None):  # SQLite accepts bytes in a text column
            raise CannotShip(
                f"The {name} of the shop's shipment {parcel.id} is not text: fix order_shipments."
            )
    twin = _find_shipment(connection, order, parcel.tracking_number, but=parcel.id)
    if twin is not None:
        reason = f"The same shipment as id {twin}."
        values = {"booked_at": utc_now(), "pushed_at": utc_now(), "reason": reason}
        connection.execute(sa.update(order_shipments).where(_SHIPMENTS.id == parcel.id).values(values))
        return
    lines = order_lines(connection, order.id)
    wanted, problem = _recorded_units(connection, order, parcel.id, lines)
    if order.status in ENDED:
        detail = (
            f"The shop shipped an order that is {order.status} on the marketplace: "
            "get the shipment back, or resolve it."
        )
        if order_context.log_once(
            connection, order.marketplace_order_id, "conflict", f"{detail} Shipment {parcel.id}."
        ):
            raise_conflict(connection, order, detail)
    if problem:
        order_context.log(connection, order.marketplace_order_id, "shipment_exception", problem)
    tracking = Tracking(carrier=parcel.carrier, number=parcel.tracking_number, url=parcel.tracking_url)
    _count(connection, order, parcel.id, tracking, lines, wanted, order_context)


def _find_shipment(
    connection: sa.Connection, order: sa.Row[Any], number: str | None, *, but: int | None = None
) -> int | None:
    """The booked shipment of the order with this number, however it is spelled, except `but`."""
    if not number:
        return None
    query = sa.select(_SHIPMENTS.id, _SHIPMENTS.tracking_number).where(
        _SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.booked_at.is_not(None)
    )
    for row in connection.execute(query):
        if row.id != but and bare_number(row.tracking_number or "") == bare_number(number):
            return int(row.id)
    return None


def _require_shippable(connection: sa.Connection, order: sa.Row[Any]) -> None:
    name = f"Order {order.marketplace_order_id}"
    if order.outcome != "imported":
        raise CannotShip(f"{name} is quarantined, not imported yet: `midas orders retry` it.")
    if order.local_order_id is None:
        raise CannotShip(f"{name}: the shop has deleted its order; it cannot be shipped.")
    if OrderException.CONFLICT.value in exceptions.read(order.exception):
        raise CannotShip(f"{name} is in a conflict: resolve it first with `midas orders resolve`.")
    shop = order_status(connection, order.local_order_id)
    for status in (order.status, shop):
        if status in ENDED:
            raise CannotShip(f"{name} is {status}: it cannot be shipped.")


def _insert(connection: sa.Connection, order: sa.Row[Any], parcel: Tracking, source: str) -> int:
    row = {
        "order_id": order.local_order_id,
        "carrier": parcel.carrier,
        "tracking_number": parcel.number,
        "tracking_url": parcel.url,
        "source": source,
    }
    made = connection.execute(sa.insert(order_shipments).values(row).returning(_SHIPMENTS.id))
    return int(made.scalar_one())


def _checked(
    order: sa.Row[Any], lines: Sequence[sa.Row[Any]], units: Mapping[int, int] | None
) -> dict[int, int]:
    left = {line.line: left_to_ship(line) for line in lines}
    wanted = {number: count for number, count in (left if units is None else units).items() if count}
    for number, count in wanted.items():
        if count > left.get(number, 0):
            raise CannotShip(
                f"Line {number} of order {order.marketplace_order_id} has {left.get(number, 0)} left to ship, not {count}."
            )
    if not wanted and lines:
        raise CannotShip(
            f"Order {order.marketplace_order_id} has nothing left to ship: everything has shipped, or is backordered. "
            "`--replaces NUMBER` corrects a shipment."
        )
    return wanted


def _recorded_units(
    connection: sa.Connection, order: sa.Row[Any], shipment_id: int, lines: Sequence[sa.Row[Any]]
) -> tuple[dict[int, int], str]:
    """The units that the shop's own code recorded for the shipment, at most those left; all left where it recorded none.

    Returns:
        The units by line number, and a remark about units that do not fit.
    """
    ended = order.status in ENDED  # its units are released: the resolution accounts for those shipped
    left = {
        line.line: max(0, line.quantity - line.shipped) if ended else left_to_ship(line) for line in lines
    }
    query = sa.select(_HELD.order_item_id, _HELD.quantity).where(_HELD.shipment_id == shipment_id)
    named = {row.order_item_id: row.quantity for row in connection.execute(query)}
    for quantity in named.values():
        if not isinstance(quantity, int):  # SQLite accepts anything in a number column
            raise CannotShip(
                f"The shop's shipment {shipment_id} holds '{str(quantity)[:40]}' units of a line: fix order_shipment_lines."
            )
    if not named:
        return {number: count for number, count in left.items() if count}, ""
    wanted = {
        line.line: min(left[line.line], named[line.order_item_id])
        for line in lines
        if line.order_item_id in named
    }
    problem = [
        f"line {line.line}: {named[line.order_item_id]} named, {wanted[line.line]} were left to ship"
        for line in lines
        if line.line in wanted and wanted[line.line] < named[line.order_item_id]
    ]
    strangers = len(named.keys() - {line.order_item_id for line in lines})
    problem += [f"{strangers} lines named are not this order's"] if strangers else []
    return (
        wanted,
        f"The shop's shipment {shipment_id} does not fit its order: {'; '.join(problem)}." if problem else "",
    )


def _count(
    connection: sa.Connection,
    order: sa.Row[Any],
    shipment_id: int,
    parcel: Tracking,
    lines: Sequence[sa.Row[Any]],
    wanted: Mapping[int, int],
    order_context: OrderContext,
    *,
    held: Mapping[int, int] | None = None,
) -> bool:
    """Books a shipment's units on the order's lines, and updates the shop's order; True when everything has shipped.

    `held` are the units booked for it before.
    """
    booked = [line for line in lines if wanted.get(line.line)]
    update_rows(
        connection,
        marketplace_order_lines,
        [{"id": line.id, "shipped": line.shipped + wanted[line.line]} for line in booked],
    )
    inside = Counter(held or {}) + Counter(wanted)
    units = {str(line.order_item_id): inside[line.line] for line in lines if inside[line.line]}
    counted = sa.update(order_shipments).where(_SHIPMENTS.id == shipment_id)
    connection.execute(counted.values(booked_at=utc_now(), contents=units, reason=None))
    waiting = [line for line in lines if left_to_ship(line) > wanted.get(line.line, 0) or line.backordered]
    _move(connection, order, complete=not waiting)
    contents = ", ".join(
        f"{wanted[line.line]} of {line.sku or line.title} (line {line.line})" for line in booked
    )
    named = " ".join(filter(None, (parcel.carrier, parcel.number))) or "no tracking number"
    step = "partly_shipped" if waiting else "shipped"
    order_context.log(
        connection, order.marketplace_order_id, step, f"Shipment, {named}: {contents or 'no units'}."
    )
    if booked and order.status not in ENDED:
        queue_mail(connection, order, "shipped", order_context.settings, shipment_id=shipment_id)
    return not waiting


def _move(connection: sa.Connection, order: sa.Row[Any], *, complete: bool) -> None:
    """Updates the shop's order from its shipments, whatever its status was; the trigger on it marks it to be pushed."""
    current = order_status(connection, order.local_order_id)
    if order.status in ENDED or current is None or current in (*SHIPPED_STATES, *ENDED):
        return
    wanted = "shipped" if complete else "processing"
    if complete or current == "pending":
        set_order_status(connection, order.local_order_id, status=wanted, notes="A shipment was recorded")
