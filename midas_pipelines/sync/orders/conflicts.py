"""An order on which shop and marketplace contradict each other: a person decides, and says so here."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.store.shipment_tables import order_shipments
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.orders import order_status, set_order_status
from midas_pipelines.sync.orders.clerk import Clerk, mark
from midas_pipelines.sync.orders.flaws import Flaw
from midas_pipelines.sync.orders.giving_back import give_back
from midas_pipelines.sync.orders.statuses import GOODS_LEFT

ALERT = "order_conflict"


def raise_conflict(connection: sa.Connection, order_row: int, order_id: str, detail: str) -> None:
    """Marks the order and tells staff, once for each conflict."""
    mark(connection, order_row, add=(Flaw.CONFLICT.value,))
    raise_alert(connection, kind=ALERT, subject=_subject(order_id), text=f"Order {order_id}: {detail}")


def shop_has_shipped(connection: sa.Connection, order_row: int, local: str | None) -> bool:
    """Whether goods have left, by the shop's status or by a parcel on record."""
    if local in GOODS_LEFT:
        return True
    table = marketplace_orders.c
    parcel = (
        sa.select(order_shipments.c.id)
        .join(marketplace_orders, table.local_order_id == order_shipments.c.order_id)
        .where(table.id == order_row)
    )
    return connection.execute(parcel.limit(1)).first() is not None


def settle(
    connection: sa.Connection, order: sa.Row[Any], decision: str, clerk: Clerk, *, restock: bool
) -> None:
    """Ends a conflict as a person decided.

    Args:
        connection: a writing transaction.
        order: our row, locked.
        decision: `shipped` (the sale stands) or `cancelled` (it does not).
        restock: for `cancelled`: the goods are back on the shelf.
    """
    if decision == "cancelled":
        values = {"status": OrderStatus.CANCELLED.value, "shop_status_since": None}
        connection.execute(
            sa.update(marketplace_orders).where(marketplace_orders.c.id == order.id).values(values)
        )
        if order_status(connection, order.local_order_id) not in (None, "cancelled"):
            set_order_status(
                connection, order.local_order_id, status="cancelled", notes="Settled by the operator"
            )
        if restock:
            give_back(connection, order.id, order.marketplace_order_id, "cancelled", clerk, source="operator")
    goods = ", goods back in stock" if restock and decision == "cancelled" else ""
    detail = f"An operator settled the conflict: the order counts as {decision}{goods}."
    clerk.log(connection, order.marketplace_order_id, "settled", detail)
    mark(connection, order.id, drop=(Flaw.CONFLICT.value,))
    clear_alert(connection, kind=ALERT, subject=_subject(order.marketplace_order_id))


def _subject(order_id: str) -> str:
    return f"order:{order_id}"[:200]
