"""Parcels: recorded by an operator, by the gateway, or by the shop's own code in `order_shipments`; partial ones too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.database import Database
from midas_pipelines.store.shipment_tables import order_shipment_lines, order_shipments
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.bulk import insert_rows, update_rows
from midas_pipelines.storefront.orders import lock_orders, order_status, set_order_status
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.confirmations import queue_mail
from midas_pipelines.sync.orders.conflicts import raise_conflict
from midas_pipelines.sync.orders.statuses import GOODS_LEFT, OPEN

_LINES = marketplace_order_lines.c
_PARCELS = order_shipments.c


class CannotShip(Exception):
    """The parcel contradicts the order; the message says how."""


@dataclass(frozen=True)
class Shipped:
    """What recording a parcel did: `new` is False when the very same parcel was on record."""

    new: bool
    complete: bool = False
    units: int = 0


def ship(
    database: Database,
    order_row: int,
    parcel: Tracking,
    clerk: Clerk,
    *,
    units: Mapping[int, int] | None = None,
    source: str = "operator",
) -> Shipped:
    """Records a parcel of an order, once however often it is told.

    Args:
        database: the shop's.
        order_row: our row of the order.
        parcel: as `carriers.tracking` makes it.
        clerk: writes the story, and the message to the customer.
        units: by line number; None for everything that is left to ship.
        source: operator or gateway.

    Raises:
        CannotShip: the order is cancelled, has nothing left to ship, or less than that.
    """
    with database.writing() as connection:
        order = lock_order(connection, order_row)
        if OrderStatus(order.status) not in (*OPEN, *GOODS_LEFT):
            raise CannotShip(
                f"Order {order.marketplace_order_id} is {order.status}: nothing of it may leave."
            )
        shipment_id = _record(connection, order, parcel, source)
        if shipment_id is None:
            return Shipped(new=False)
        lines = _lines(connection, order.id)
        wanted = _checked(order, lines, units)
        held = [
            {"shipment_id": shipment_id, "order_item_id": line.order_item_id, "quantity": wanted[line.line]}
            for line in lines
            if wanted.get(line.line)
        ]
        insert_rows(connection, order_shipment_lines, held)
        complete = _count(connection, order, shipment_id, parcel, lines, wanted, clerk)
    return Shipped(new=True, complete=complete, units=sum(wanted.values()))


def count_shipments(database: Database, clerk: Clerk) -> int:
    """Books the parcels that the shop's own code has recorded; returns how many there were."""
    waiting = (
        sa.select(order_shipments.c.id, marketplace_orders.c.id.label("order_row"))
        .join(marketplace_orders, marketplace_orders.c.local_order_id == _PARCELS.order_id)
        .where(_PARCELS.told_at.is_(None), _PARCELS.counted_at.is_(None))
        .order_by(_PARCELS.id)
    )
    with database.reading() as connection:
        found = connection.execute(waiting).all()
    return sum(_count_one(database, row.id, row.order_row, clerk) for row in found)


def _count_one(database: Database, shipment_id: int, order_row: int, clerk: Clerk) -> bool:
    with database.writing() as connection:
        order = lock_order(connection, order_row)
        query = sa.select(order_shipments).where(_PARCELS.id == shipment_id, _PARCELS.counted_at.is_(None))
        parcel = connection.execute(query).first()
        if parcel is None:  # another process was faster
            return False
        lines = _lines(connection, order.id)
        wanted = _named_units(connection, shipment_id, lines)
        tracking = Tracking(carrier=parcel.carrier, number=parcel.tracking_number, url=parcel.tracking_url)
        if OrderStatus(order.status) is OrderStatus.CANCELLED:
            detail = "The shop shipped an order that the marketplace has cancelled: get the parcel back or settle it."
            if clerk.log_once(connection, order.marketplace_order_id, "conflict", detail):
                raise_conflict(connection, order.id, order.marketplace_order_id, detail)
        _count(connection, order, shipment_id, tracking, lines, wanted, clerk)
    return True


def lock_order(connection: sa.Connection, order_row: int) -> sa.Row[Any]:
    """Our row of an order, held until the transaction ends, with the shop's: always the shop's first."""
    table = marketplace_orders.c
    local = connection.scalar(sa.select(table.local_order_id).where(table.id == order_row))
    if local is not None:
        lock_orders(connection, [local])
    query = sa.select(marketplace_orders).where(table.id == order_row)
    return connection.execute(query.with_for_update(key_share=True)).one()


def line_quantities(connection: sa.Connection, order_row: int) -> dict[int, int]:
    """The units left to ship of each line of an order; those of a line that has left whole are all it sold."""
    return {line.line: left_to_ship(line) or max(0, line.quantity) for line in _lines(connection, order_row)}


def left_to_ship(line: sa.Row[Any]) -> int:
    """The units of a line that are there and have not left yet."""
    left: int = max(0, line.quantity) - line.given_back - line.owed - line.shipped
    return max(0, left)


def _lines(connection: sa.Connection, order_row: int) -> Sequence[sa.Row[Any]]:
    query = sa.select(marketplace_order_lines).where(_LINES.order_id == order_row).order_by(_LINES.line)
    return connection.execute(query).all()


def _record(connection: sa.Connection, order: sa.Row[Any], parcel: Tracking, source: str) -> int | None:
    insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    row = {
        "order_id": order.local_order_id,
        "carrier": parcel.carrier,
        "tracking_number": parcel.number,
        "tracking_url": parcel.url,
        "source": source,
    }
    statement = insert(order_shipments).values(row).on_conflict_do_nothing().returning(_PARCELS.id)
    return connection.scalar(statement)


def _checked(
    order: sa.Row[Any], lines: Sequence[sa.Row[Any]], units: Mapping[int, int] | None
) -> dict[int, int]:
    left = {line.line: left_to_ship(line) for line in lines}
    if units is None:
        wanted = {number: count for number, count in left.items() if count}
    else:
        wanted = {number: count for number, count in units.items() if count}
    for number, count in wanted.items():
        if count > left.get(number, 0):
            raise CannotShip(
                f"Line {number} of order {order.marketplace_order_id} has {left.get(number, 0)} left to ship, not {count}."
            )
    if not wanted and lines:
        raise CannotShip(
            f"Order {order.marketplace_order_id} has nothing left to ship: everything left, or is owed."
        )
    return wanted


def _named_units(connection: sa.Connection, shipment_id: int, lines: Sequence[sa.Row[Any]]) -> dict[int, int]:
    """What the shop's own code says is in the parcel, never more than is left; everything where it says nothing."""
    held = order_shipment_lines.c
    query = sa.select(held.order_item_id, held.quantity).where(held.shipment_id == shipment_id)
    named = {row.order_item_id: row.quantity for row in connection.execute(query)}
    left = {line.line: left_to_ship(line) for line in lines}
    if not named:
        return {number: count for number, count in left.items() if count}
    return {
        line.line: min(left[line.line], named[line.order_item_id])
        for line in lines
        if line.order_item_id in named
    }


def _count(
    connection: sa.Connection,
    order: sa.Row[Any],
    shipment_id: int,
    parcel: Tracking,
    lines: Sequence[sa.Row[Any]],
    wanted: Mapping[int, int],
    clerk: Clerk,
) -> bool:
    """Books a parcel's units on the order's lines, and moves the shop's order; True when everything has left."""
    booked = [
        {"id": line.id, "shipped": line.shipped + wanted[line.line]}
        for line in lines
        if wanted.get(line.line)
    ]
    update_rows(connection, marketplace_order_lines, booked)
    counted = sa.update(order_shipments).where(_PARCELS.id == shipment_id)
    connection.execute(counted.values(counted_at=utc_now()))
    waiting = [line for line in lines if left_to_ship(line) > wanted.get(line.line, 0) or line.owed]
    _move(connection, order, complete=not waiting)
    contents = ", ".join(
        f"{wanted[line.line]} of {line.sku or line.title} (line {line.line})"
        for line in lines
        if wanted.get(line.line)
    )
    named = " ".join(filter(None, (parcel.carrier, parcel.number))) or "no tracking number"
    step = "partly_shipped" if waiting else "shipped"
    clerk.log(connection, order.marketplace_order_id, step, f"Parcel, {named}: {contents or 'no units'}.")
    queue_mail(connection, order, "shipped", clerk.mail, about=str(shipment_id))
    return not waiting


def _move(connection: sa.Connection, order: sa.Row[Any], *, complete: bool) -> None:
    """The shop's order follows its parcels; the trigger on it has 4Seller told."""
    standing = order_status(connection, order.local_order_id)
    wanted = "shipped" if complete else "processing"
    if standing == "pending" or (complete and standing == "processing"):
        set_order_status(connection, order.local_order_id, status=wanted, notes="A parcel was recorded")
