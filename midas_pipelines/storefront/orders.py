"""Writing marketplace sales into the shop's own order tables, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.schema import order_items, order_status_history, orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import update_rows


def update_order(connection: sa.Connection, order_id: int, **columns: Any) -> None:
    """Changes columns of a shop order."""
    values = {**columns, "updated_at": utc_now()}
    connection.execute(sa.update(orders).where(orders.c.id == order_id).values(values))


def describe_order(
    connection: sa.Connection, order_id: int, *, before: dict[str, Any], now: dict[str, Any]
) -> None:
    """Changes the columns of a shop order that still hold what we wrote, `before`; the shop may have edited the others."""
    row = connection.execute(sa.select(orders).where(orders.c.id == order_id)).first()
    changes = {name: now[name] for name in before if getattr(row, name, None) == before[name] != now[name]}
    if changes:
        update_order(connection, order_id, **changes)


def date_order(connection: sa.Connection, order_id: int, placed_at: datetime, items: Sequence[int]) -> None:
    """Sets the time at which a shop order and these of its items were placed."""
    update_order(connection, order_id, created_at=placed_at)
    lines = sa.update(order_items).where(order_items.c.id.in_(items), order_items.c.order_id == order_id)
    connection.execute(lines.values(created_at=placed_at))


def update_order_items(connection: sa.Connection, order_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Changes lines of a shop order; each row names its `id`. A line that no longer belongs to this order stays as it is."""
    given = [row["id"] for row in rows]  # the shop's table has no index on its orders
    mine = sa.select(order_items.c.id).where(order_items.c.id.in_(given), order_items.c.order_id == order_id)
    present = set(connection.scalars(mine)) if rows else set()
    update_rows(connection, order_items, [row for row in rows if row["id"] in present])


def set_order_status(
    connection: sa.Connection, order_id: int, *, status: str, notes: str, payment_status: str | None
) -> None:
    """Sets a shop order's status and adds it to its history; a deleted order stays deleted."""
    changes = {"status": status} | ({} if payment_status is None else {"payment_status": payment_status})
    update_order(connection, order_id, **changes)
    there = sa.select(orders.c.id, sa.literal(status), sa.literal(notes)).where(orders.c.id == order_id)
    names = ["order_id", "status", "notes"]
    connection.execute(sa.insert(order_status_history).from_select(names, there))


def set_paid(connection: sa.Connection, order_id: int | None) -> None:
    """Marks an order that waited for its payment as paid."""
    waits = sa.and_(orders.c.id == order_id, orders.c.payment_status == "pending")
    connection.execute(sa.update(orders).where(waits).values(payment_status="paid"))


def order_state(connection: sa.Connection, order_id: int | None) -> tuple[str | None, str | None]:
    """The status and the payment status of a shop order; None for both when the shop has deleted it."""
    query = sa.select(orders.c.status, orders.c.payment_status).where(orders.c.id == order_id)
    row = connection.execute(query).first()
    return (row.status, row.payment_status) if row is not None else (None, None)


def order_address(connection: sa.Connection, order_id: int | None) -> dict[str, Any] | None:
    """Buyer and address in the shop's order; None when the shop has deleted it."""
    found = connection.scalar(sa.select(orders.c.shipping_address).where(orders.c.id == order_id))
    return found if isinstance(found, dict) else None
