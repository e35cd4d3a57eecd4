"""Erasing who bought an order, and nothing of what was bought: amounts, stock and story stay as they are.

The mark is `forgotten_at` of our row: whatever is written of that order afterwards is written without its buyer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.payloads import FORGOTTEN, FORGOTTEN_PAYLOAD, Vault, of_nobody
from midas_pipelines.store.shipment_tables import customer_mails
from midas_pipelines.store.tables import marketplace_orders
from midas_pipelines.store.webhooks import empty_settled
from midas_pipelines.storefront.orders import update_order
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.mailing import clear_mail_alert
from midas_pipelines.sync.orders.sales import Sale


def forget_buyer(connection: sa.Connection, order: sa.Row[Any], clerk: Clerk) -> None:
    """Erases the buyer from the shop's order, from what the marketplace sent, and from its webhooks, for good.

    Args:
        connection: a writing transaction.
        order: our row, locked.
        clerk: writes the story; its vault opens what was sealed.
    """
    if order.local_order_id is not None:
        update_order(connection, order.local_order_id, shipping_address=FORGOTTEN, billing_address=FORGOTTEN)
    values = {"forgotten_at": utc_now(), "payload": _without_buyer(order.payload, clerk.vault)}
    mine = marketplace_orders.c.id == order.id
    connection.execute(sa.update(marketplace_orders).where(mine).values(values))
    empty_settled(connection, order.marketplace_order_id)
    mails = sa.and_(customer_mails.c.order_id == order.id, customer_mails.c.state != "sent")
    superseded = {"state": "superseded", "reason": "The buyer is forgotten."}
    connection.execute(sa.update(customer_mails).where(mails).values(superseded))
    clear_mail_alert(connection, order.id)
    clerk.log(connection, order.marketplace_order_id, "forgotten", "The buyer was erased.")


def without_buyer(sale: Sale) -> Sale:
    """The sale as it is written down once its buyer is forgotten."""
    return replace(sale, buyer=FORGOTTEN, ship_to={}, sealed=of_nobody(sale.raw))


def _without_buyer(sealed: str | None, vault: Vault) -> str | None:
    """What was sent, readable and without persons; nothing of it where its key is gone."""
    if sealed is None:
        return None
    try:
        return of_nobody(vault.open(sealed))
    except ValueError:
        return FORGOTTEN_PAYLOAD
