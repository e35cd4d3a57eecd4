"""Writing marketplace sales into the shop's own order tables, many at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.schema import order_items, order_status_history, orders
from midas_pipelines.storefront.types import utc_now


def insert_orders(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Inserts shop orders; returns their ids by order number.

    Raises:
        sqlalchemy.exc.IntegrityError: an order number is taken.
    """
    made = connection.execute(sa.insert(orders).returning(orders.c.order_number, orders.c.id), list(rows))
    return {row.order_number: row.id for row in made}


def insert_order_items(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Inserts order lines; returns their ids in the order of `rows`."""
    if not rows:
        return []
    statement = sa.insert(order_items).returning(order_items.c.id, sort_by_parameter_order=True)
    return list(connection.scalars(statement, list(rows)))


def insert_history(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Notes the status each order has reached, as the shop's own code does."""
    if rows:
        connection.execute(sa.insert(order_status_history), list(rows))


def set_order_status(
    connection: sa.Connection, order_id: int, *, status: str, notes: str, payment_status: str | None = None
) -> None:
    """Moves a shop order to `status` and notes it in its history."""
    values: dict[str, Any] = {"status": status, "updated_at": utc_now()}
    if payment_status is not None:
        values["payment_status"] = payment_status
    connection.execute(sa.update(orders).where(orders.c.id == order_id).values(values))
    insert_history(connection, [{"order_id": order_id, "status": status, "notes": notes}])


def lock_orders(connection: sa.Connection, order_ids: Collection[int]) -> None:
    """Locks shop orders until the transaction ends, as the shop's own change of a status would."""
    query = sa.select(orders.c.id).where(orders.c.id.in_(order_ids)).order_by(orders.c.id)
    connection.execute(query.with_for_update(key_share=True)).all()


def order_status(connection: sa.Connection, order_id: int) -> str | None:
    """The status of a shop order; None when the shop has deleted it."""
    return connection.scalar(sa.select(orders.c.status).where(orders.c.id == order_id))
