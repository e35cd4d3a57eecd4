"""Queues customer mail in the order's own transaction; it is sent afterwards, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.schema.shipment_tables import customer_mails
from midas_pipelines.storefront.bulk import insert_new
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.model.mail_policy import wants_mail
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.model.state_machine import OPEN

_MAILS = customer_mails.c


def queue_received(
    connection: sa.Connection, imported: Sequence[tuple[int, Sale]], settings: Settings | None
) -> None:
    """Queues a confirmation for each new order whose customer gets one.

    Args:
        connection: the transaction that imports them.
        imported: our row ids, with the sales.
        settings: of customer mail; None for none.
    """
    due = [
        {"order_id": row_id, "kind": "received"}
        for row_id, sale in imported
        if sale.status in OPEN
        and wants_mail(settings, "received", sale.sales_channel, sale.address.get("email"), sale.placed_at)
    ]
    insert_new(connection, customer_mails, due, key="order_id")


def queue_mail(
    connection: sa.Connection,
    order: sa.Row[Any],
    kind: str,
    settings: Settings | None,
    *,
    shipment_id: int | None = None,
) -> None:
    """Queues one message, unless it was queued before.

    Args:
        connection: the transaction of the change that it reports.
        order: our row, with `id`, `local_order_id`, `sales_channel` and `placed_at`.
        kind: received, shipped or cancelled.
        settings: of customer mail; None for none.
        shipment_id: the shipment that it is about; a message that waits without one is about it from now on.
    """
    if settings is None or settings.smtp_url is None:
        return
    address = connection.scalar(
        sa.select(orders.c.shipping_address).where(orders.c.id == order.local_order_id)
    )
    email = address.get("email") if isinstance(address, dict) else None
    if not wants_mail(settings, kind, order.sales_channel, email, order.placed_at):
        return
    row = {"order_id": order.id, "kind": kind, "shipment_id": shipment_id}
    if shipment_id is not None:
        general = sa.and_(_MAILS.order_id == order.id, _MAILS.kind == kind, _MAILS.shipment_id.is_(None))
        waiting = sa.update(customer_mails).where(general, _MAILS.state == "waiting")
        if connection.execute(waiting.values(shipment_id=shipment_id)).rowcount:
            return
    insert_new(connection, customer_mails, [row], key="order_id")
