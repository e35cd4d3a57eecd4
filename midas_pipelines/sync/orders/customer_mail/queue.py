"""Decides which customers get mail, and queues it in the order's own transaction; it is sent afterwards, once.

Messages are about what the shop does: received, shipped, cancelled. The marketplace itself writes about refunds, the carrier
about deliveries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.schema.shipment_tables import customer_mails
from midas_pipelines.storefront.bulk import insert_new
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.model.order_log import StoredOrder
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.model.state_machine import OPEN

RELAYS = re.compile(
    r"(.*\.)?(members\.ebay\.com|relay\.walmart\.com|scs\.tiktokw\.(us|eu)|scs2?\.tiktok\.com"
    r"|chat-seller\.tiktok\.com|etsy\.com|mail\.mercadoli[bv]re\.com|allegromail\.pl|example\.invalid)"
    r"|marketplace\.amazon\.(com|[a-z]{2}|com?\.[a-z]{2})"
)
"""Matches the domains of marketplaces' aliases for buyers: they confirm orders themselves and limit what sellers write."""


def wants_mail(
    settings: Settings | None,
    kind: str,
    sales_channel: str | None,
    email: str | None,
    placed_at: datetime | None,
) -> bool:
    """Whether this customer gets a message of that kind; no where an unknown channel or date could rule it out.

    Settings of None send nothing. An old order, as on the first import, is not confirmed as received.
    """
    if settings is None or settings.smtp_url is None or not email or "@" not in email:
        return False
    channel = (sales_channel or "").lower()
    on, off = (
        {name.lower() for name in names} for names in (settings.mail_channels_on, settings.mail_channels_off)
    )
    if channel in off or (off and not channel):
        return False
    oldest = datetime.now(UTC) - timedelta(hours=settings.mail_newest_hours)
    if kind == "received" and (placed_at is None or placed_at < oldest):
        return False
    return channel in on or RELAYS.fullmatch(email.rsplit("@", 1)[-1].strip().lower()) is None


_MAILS = customer_mails.c


def queue_received(
    connection: sa.Connection, imported: Sequence[tuple[int, Sale]], settings: Settings | None
) -> None:
    """Queues a confirmation for each new order, by our row id and sale, whose customer gets one."""
    due = [
        {"order_id": row_id, "kind": "received"}
        for row_id, sale in imported
        if sale.status in OPEN
        and wants_mail(settings, "received", sale.sales_channel, sale.address.get("email"), sale.placed_at)
    ]
    insert_new(connection, customer_mails, due, key="order_id")


def queue_mail(order: StoredOrder, kind: str, *, shipment_id: int | None = None) -> None:
    """Queues one message, unless it was queued before; one that waits without its shipment is about this one from now on."""
    settings = order.context.settings
    if settings is None or settings.smtp_url is None:
        return
    email = buyer_address(order).get("email")
    if not wants_mail(settings, kind, order.sales_channel, email, order.placed_at):
        return
    if shipment_id is not None:
        general = sa.and_(_MAILS.order_id == order.id, _MAILS.kind == kind, _MAILS.shipment_id.is_(None))
        waiting = sa.update(customer_mails).where(general, _MAILS.state == "waiting")
        if order.connection.execute(waiting.values(shipment_id=shipment_id)).rowcount:
            return
    row = {"order_id": order.id, "kind": kind, "shipment_id": shipment_id}
    insert_new(order.connection, customer_mails, [row], key="order_id")


def buyer_address(order: StoredOrder) -> dict[str, Any]:
    """The shipping address in the shop's order; empty where there is none."""
    query = sa.select(orders.c.shipping_address).where(orders.c.id == order.local_order_id)
    address = order.connection.scalar(query)
    return address if isinstance(address, dict) else {}
