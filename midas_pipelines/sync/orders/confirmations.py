"""Messages to customers about their orders: made due in the order's own transaction, sent after it, each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from midas_pipelines.store.shipment_tables import customer_mails
from midas_pipelines.storefront.bulk import insert_new
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.mail_rules import MailRules
from midas_pipelines.sync.orders.sales import Sale
from midas_pipelines.sync.orders.statuses import OPEN


def queue_received(connection: sa.Connection, imported: Sequence[tuple[int, Sale]], rules: MailRules) -> None:
    """Makes a confirmation due for each new order whose customer is to get one.

    Args:
        connection: the transaction that imports them.
        imported: our row ids, with the sales.
        rules: who is written to.
    """
    if not rules.enabled:
        return
    due = [
        {"order_id": row_id, "kind": "received"}
        for row_id, sale in imported
        if sale.status in OPEN
        and rules.wants("received", sale.sales_channel, sale.address.get("email"), sale.placed_at)
    ]
    insert_new(connection, customer_mails, due, key="order_id")


def queue_mail(
    connection: sa.Connection, order: sa.Row[Any], kind: str, rules: MailRules, *, about: str = ""
) -> bool:
    """Makes one message due, unless it was before; True when it is new.

    Args:
        connection: the transaction of what it tells of.
        order: our row, with `id`, `local_order_id`, `sales_channel` and `placed_at`.
        kind: received, shipped or cancelled.
        rules: who is written to.
        about: the parcel (`about_parcel`), where there is one.
    """
    if not rules.enabled:
        return False
    address = connection.scalar(
        sa.select(orders.c.shipping_address).where(orders.c.id == order.local_order_id)
    )
    email = address.get("email") if isinstance(address, dict) else None
    if not rules.wants(kind, order.sales_channel, email, order.placed_at):
        return False
    insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    statement = insert(customer_mails).values(order_id=order.id, kind=kind, about=about)
    made = connection.execute(statement.on_conflict_do_nothing().returning(customer_mails.c.id))
    return made.first() is not None


def about_parcel(shipment_id: int, *, last: bool) -> str:
    """What a message about a parcel is about, and whether nothing is left to ship after it."""
    return f"{shipment_id}:last" if last else str(shipment_id)


def parcel_of(about: str) -> tuple[int | None, bool]:
    """The parcel that a message is about, and whether it is the last one; None for a message about none."""
    number, _, last = about.partition(":")
    return (int(number), bool(last)) if number else (None, True)
