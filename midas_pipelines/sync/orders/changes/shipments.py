"""Records shipments, partial ones too: by an operator, by the gateway, or by the shop's own code in `order_shipments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.carriers import bare_number
from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import ENDED, SHIPPED_STATES
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.order_tables import order_shipment_lines, order_shipments
from midas_pipelines.store.schema.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import set_aside, update_rows
from midas_pipelines.sync.orders.changes.exceptions import raise_conflict
from midas_pipelines.sync.orders.customer_mail import queue_mail
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.stock.units import Asked, asked_units, left_to_ship, units_within

_SHIPMENTS, _HELD = order_shipments.c, order_shipment_lines.c


@dataclass(frozen=True)
class Shipped:
    """The result of recording a shipment: `new` is False when all of it was on record; `complete` when nothing is left to ship."""

    new: bool
    complete: bool = False
    units: int = 0


@dataclass(frozen=True)
class NewShipment:
    """A shipment to record: its tracking number, and its units, by default all that is left to ship; or those of the shipment on record
    with the number that it `replaces`."""

    tracking: Tracking
    units: Asked = None
    replaces: str | None = None


def record_shipment(order: StoredOrder, shipment: NewShipment) -> Shipped:
    """Records a shipment of a locked order, once however often it is reported. Raises WrongInput."""
    tracking, units = shipment.tracking, shipment.units
    count_late_shipments(order)
    if shipment.replaces:
        return _replace_shipment(order, shipment.replaces, tracking)
    lines, name = order.lines(), f"Order {order.marketplace_order_id}"
    left = {line.line: left_to_ship(line) for line in lines}
    known = _find_shipment(order, tracking.number)
    if known is not None:
        contents = known.contents or {}
        held = {line.line: count for line in lines if (count := contents.get(str(line.order_item_id)))}
        if asked_units(units, held) != held:
            why = f"the shipment {tracking.number} is on record with other units"
            raise WrongInput(f"{name}: {why}: record what else ships as another shipment.")
        return Shipped(new=False, complete=not any(left[line.line] or line.backordered for line in lines))
    ended = next((status for status in (order.status, order.shop_status()) if status in ENDED), None)
    in_conflict = order.has(OrderException.CONFLICT)
    for wrong, why in (
        (order.local_order_id is None, ": the shop has deleted its order; it cannot be shipped."),
        (in_conflict, " is in a conflict: resolve it first with `midas orders resolve`."),
        (ended, f" is {ended}: it cannot be shipped."),
    ):
        if wrong:
            raise WrongInput(name + why)
    wanted = units_within(units, left, "left to ship")
    if not wanted and lines:
        why = "everything has shipped, or is backordered. `--replaces NUMBER` corrects a shipment."
        raise WrongInput(f"{name} has nothing left to ship: {why}")
    shipment_id = _insert(order, tracking)
    complete = _book(order, shipment_id, f"{tracking.carrier} {tracking.number}", lines, wanted)
    return Shipped(new=True, complete=complete, units=sum(wanted.values()))


def _replace_shipment(order: StoredOrder, number: str, tracking: Tracking) -> Shipped:
    """Replaces the shipment of that number of a locked order by one with the same units, which is pushed and mailed like any
    other, but not for an order that has ended. Raises WrongInput."""
    old, name = _find_shipment(order, number), order.marketplace_order_id
    if old is None:
        raise WrongInput(f"Order {name} has no shipment {number} on record.")
    if _find_shipment(order, tracking.number, but=old.id) is not None:
        raise WrongInput(f"Order {name} has another shipment {tracking.number}.")
    order.connection.execute(sa.delete(order_shipments).where(_SHIPMENTS.id == old.id))
    kept = {"shipped_at": old.shipped_at, "booked_at": old.booked_at, "contents": old.contents}
    shipment_id = _insert(order, tracking, **kept)
    now = f"{tracking.carrier} {tracking.number}"
    order.log("corrected", f"The shipment {number} is {now}: an operator corrected it.")
    order.set(push_after=None, push_attempts=0)
    if order.status not in ENDED:
        queue_mail(order, "shipped", shipment_id=shipment_id)
    return Shipped(new=False)


def count_shipments(database: Database, order_context: OrderContext) -> int:
    """Books the shipments that the shop's own code has recorded; returns the number of orders."""
    waiting = (
        sa.select(marketplace_orders.c.id)
        .join(order_shipments, marketplace_orders.c.local_order_id == _SHIPMENTS.order_id)
        .where(_SHIPMENTS.booked_at.is_(None), _SHIPMENTS.pushed_at.is_(None))
    )
    found = [row["id"] for row in database.rows(waiting.distinct().order_by(marketplace_orders.c.id))]
    for order_row in found:
        with set_aside(f"A shipment of our order {order_row}"), database.writing() as connection:
            count_late_shipments(lock_order(connection, order_row, order_context))
    return len(found)


def count_late_shipments(order: StoredOrder) -> None:
    """Books the unbooked shipments of a locked order, the oldest first."""
    columns = (_SHIPMENTS.id, _SHIPMENTS.carrier, _SHIPMENTS.tracking_number)
    unbooked = (_SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.booked_at.is_(None))
    query = sa.select(*columns).where(*unbooked).order_by(_SHIPMENTS.id)
    for shipment in order.connection.execute(query).all():
        _count_recorded(order, shipment)


def set_shipment(order: StoredOrder, shipment_id: int, **values: Any) -> None:
    """Writes columns of a shipment of the order."""
    order.connection.execute(sa.update(order_shipments).where(_SHIPMENTS.id == shipment_id).values(values))


def _count_recorded(order: StoredOrder, row: sa.Row[Any]) -> None:
    """Books a shipment that the shop's own code recorded; one that is on record already only gets a reason."""
    twin = _find_shipment(order, row.tracking_number, but=row.id)
    if twin is not None:
        done = {"booked_at": utc_now(), "pushed_at": utc_now()}
        set_shipment(order, row.id, reason=f"The same shipment as id {twin.id}.", **done)
        return
    lines = order.lines()
    wanted, problem = _recorded_units(order, row.id, lines)
    if order.status in ENDED:
        ended = f"The shop shipped an order that is {order.status} on the marketplace"
        detail = f"{ended}: get the shipment back, or resolve it."
        if order.log("conflict", f"{detail} Shipment {row.id}.", once=True):
            raise_conflict(order, detail)
    if problem:
        order.log("shipment_exception", f"The shop's shipment {row.id} does not fit its order: {problem}.")
    label = " ".join(filter(None, (row.carrier, row.tracking_number))) or "no tracking number"
    _book(order, row.id, label, lines, wanted)


def _find_shipment(order: StoredOrder, number: str | None, *, but: int = 0) -> sa.Row[Any] | None:
    """The booked shipment of the order with this number, however it is spelled, except `but`."""
    bare = bare_number(number or "")
    booked = (_SHIPMENTS.order_id == order.local_order_id, _SHIPMENTS.booked_at.is_not(None))
    rows = order.connection.execute(sa.select(order_shipments).where(*booked, _SHIPMENTS.id != but)).all()
    return next((row for row in rows if bare and bare_number(row.tracking_number or "") == bare), None)


def _insert(order: StoredOrder, tracking: Tracking, **columns: Any) -> int:
    columns |= {"carrier": tracking.carrier, "tracking_number": tracking.number, "tracking_url": tracking.url}
    columns |= {"order_id": order.local_order_id, "source": order.context.run_id or "operator"}
    adding = sa.insert(order_shipments).values(columns)
    return int(order.connection.execute(adding.returning(_SHIPMENTS.id)).scalar_one())


def _recorded_units(
    order: StoredOrder, shipment_id: int, lines: Sequence[sa.Row[Any]]
) -> tuple[dict[int, int], str]:
    """The units by line number that the shop's own code recorded for the shipment, at most those left; all left where it
    recorded none. And which of the recorded units do not fit, in words."""
    left = {line.order_item_id: left_to_ship(line) for line in lines}
    if order.status in ENDED:  # its units are released: the resolution accounts for those shipped
        left = {line.order_item_id: max(0, line.quantity - line.shipped) for line in lines}
    query = sa.select(_HELD.order_item_id, _HELD.quantity).where(_HELD.shipment_id == shipment_id)
    named = {row.order_item_id: row.quantity for row in order.connection.execute(query)} or left
    numbers = {line.order_item_id: line.line for line in lines}
    wanted = {numbers[item]: min(left[item], count) for item, count in named.items() if item in numbers}
    problems = [
        f"{count} units of {f'line {numbers[item]}' if item in numbers else 'another order'} are named, "
        f"{left.get(item, 0)} were left to ship"
        for item, count in named.items()
        if count > left.get(item, 0)
    ]
    return {number: count for number, count in wanted.items() if count}, "; ".join(problems)


def _book(
    order: StoredOrder, shipment_id: int, label: str, lines: Sequence[sa.Row[Any]], wanted: Mapping[int, int]
) -> bool:
    """Books a shipment's units on the order's lines, and updates the shop's order; True when everything has shipped."""
    booked = [(line, wanted[line.line]) for line in lines if wanted.get(line.line)]
    shipped = [{"id": line.id, "shipped": line.shipped + count} for line, count in booked]
    update_rows(order.connection, marketplace_order_lines, shipped)
    contents = {str(line.order_item_id): count for line, count in booked}
    set_shipment(order, shipment_id, booked_at=utc_now(), contents=contents, reason=None)
    complete = all(left_to_ship(line) <= wanted.get(line.line, 0) and not line.backordered for line in lines)
    current, ended = order.shop_status(), order.status in ENDED
    moves = not ended and current not in (None, *SHIPPED_STATES, *ENDED)
    if moves and (complete or current == "pending"):  # the trigger on it marks the order to be pushed
        order.move("shipped" if complete else "processing", "A shipment was recorded")
    inside = ", ".join(f"{count} of {line.sku or line.title} (line {line.line})" for line, count in booked)
    # Not the status itself, which is logged when 4Seller has it: `statuses_gone_back` compares the two.
    step = "all_shipped" if complete else "partly_shipped"
    order.log(step, f"Shipment, {label}: {inside or 'no units'}.")
    if booked and not ended:
        queue_mail(order, "shipped", shipment_id=shipment_id)
    return complete
