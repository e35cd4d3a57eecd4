"""Erasing who bought an order, and nothing of what was bought: amounts, stock and story stay as they are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.gateway_tables import marketplace_webhooks
from midas_pipelines.store.payloads import Vault, without_persons
from midas_pipelines.store.shipment_tables import customer_mails
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.storefront.orders import update_order
from midas_pipelines.sync.orders.clerk import Clerk

FORGOTTEN = {"forgotten": True}
"""What the shop's address columns hold of a buyer who is forgotten; later edits leave it alone."""


def is_forgotten(address: dict[str, Any] | None) -> bool:
    """Whether the buyer at this address was forgotten."""
    return bool(address) and address is not None and address.get("forgotten") is True


def forget_buyer(connection: sa.Connection, order: sa.Row[Any], clerk: Clerk) -> None:
    """Erases the buyer from the shop's order, from what the marketplace sent, and from its webhooks.

    Args:
        connection: a writing transaction.
        order: our row, locked.
        clerk: writes the story; its vault opens what was sealed.
    """
    if order.local_order_id is not None:
        update_order(connection, order.local_order_id, shipping_address=FORGOTTEN, billing_address=FORGOTTEN)
    table = marketplace_orders.c
    kept = _without_buyer(order.payload, clerk.vault)
    connection.execute(sa.update(marketplace_orders).where(table.id == order.id).values(payload=kept))
    webhooks = marketplace_webhooks.c
    told = sa.and_(
        webhooks.subject == f"order:{order.marketplace_order_id}", webhooks.processed_at.is_not(None)
    )
    connection.execute(
        sa.update(marketplace_webhooks).where(told).values(payload=Vault(None).seal({"forgotten": True}))
    )
    mails = sa.and_(customer_mails.c.order_id == order.id, customer_mails.c.state != "sent")
    values = {"state": "superseded", "reason": "The buyer is forgotten."}
    connection.execute(sa.update(customer_mails).where(mails).values(values))
    clerk.log(connection, order.marketplace_order_id, "forgotten", "The buyer was erased.")


def _without_buyer(sealed: str | None, vault: Vault) -> str | None:
    """What was sent, readable and without persons; nothing of it where its key is gone."""
    if sealed is None:
        return None
    try:
        return Vault(None).seal(without_persons(vault.open(sealed)))
    except ValueError:
        return Vault(None).seal({"forgotten": True})
