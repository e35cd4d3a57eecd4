"""Queues customer mail in the order's own transaction; it is sent afterwards, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from midas_pipelines.store.schema.shipment_tables import customer_mails
from midas_pipelines.storefront.bulk import insert_new
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.model.mail_policy import MailPolicy
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.model.state_machine import OPEN

UNSENT = ("waiting", "failed")
"""States of messages that the customer does not have."""
MAYBE_SENT = ("sending", "sent", "unsure")
"""States of messages that the customer has, or may have."""

_MAILS = customer_mails.c


def queue_received(
    connection: sa.Connection, imported: Sequence[tuple[int, Sale]], rules: MailPolicy
) -> None:
    """Queues a confirmation for each new order whose customer gets one.

    Args:
        connection: the transaction that imports them.
        imported: our row ids, with the sales.
        rules: the mail policy.
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
    connection: sa.Connection, order: sa.Row[Any], kind: str, rules: MailPolicy, *, about: str = ""
) -> bool:
    """Queues one message, unless it was queued before; True when it is new.

    Args:
        connection: the transaction of the change it reports.
        order: our row, with `id`, `local_order_id`, `sales_channel` and `placed_at`.
        kind: received, shipped or cancelled.
        rules: the mail policy.
        about: as `read_about` reads it, for a shipment.
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
    made = connection.execute(statement.on_conflict_do_nothing().returning(_MAILS.id))
    return made.first() is not None


@dataclass(frozen=True, slots=True)
class About:
    """The subject of a message: its shipment, if any, and what is new to the customer."""

    shipment_id: int | None = None
    last: bool = True  # nothing is left to ship after it
    known: bool = False  # they know that it has shipped; the number is new
    corrected: bool = False  # the number has changed


def queue_shipped(
    connection: sa.Connection,
    order: sa.Row[Any],
    rules: MailPolicy,
    shipment_id: int,
    *,
    last: bool,
    more: bool = False,
) -> None:
    """Queues a message about a shipment, or updates the one that waits already.

    A customer who already got a message that the order, or this shipment, is on its way gets only the tracking number;
    one about units added to a shipment they know, only when nothing is left to ship.

    Args:
        connection: the transaction that books the shipment.
        order: our row, held.
        rules: the mail policy.
        shipment_id: the shipment.
        last: whether nothing is left to ship after it.
        more: whether it was on record before and gained units.
    """
    about = about_parcel(shipment_id, last=last)
    abouts = ["", str(shipment_id), about_parcel(shipment_id, last=True)]
    earlier = sa.and_(_MAILS.order_id == order.id, _MAILS.kind == "shipped", _MAILS.about.in_(abouts))
    unsent = sa.and_(earlier, _MAILS.state.in_(UNSENT))
    if connection.execute(sa.update(customer_mails).where(unsent).values(about=about)).rowcount:
        return
    if more:
        if last:
            queue_mail(connection, order, "shipped", rules, about=about)
        return
    sent = sa.select(_MAILS.id).where(earlier, _MAILS.state.in_(MAYBE_SENT))
    known = connection.execute(sent.limit(1)).first() is not None
    queue_mail(connection, order, "shipped", rules, about=f"{shipment_id}:number" if known else about)


def queue_correction(
    connection: sa.Connection, order: sa.Row[Any], rules: MailPolicy, shipment_id: int
) -> bool:
    """Queues a message that a shipment's number has changed; True when one is to be sent.

    A waiting message about the shipment already gets the new number when it is written.
    """
    mine = sa.or_(_MAILS.about == str(shipment_id), _MAILS.about.startswith(f"{shipment_id}:"))
    query = sa.select(_MAILS.about, _MAILS.state).where(_MAILS.order_id == order.id, mine)
    mails = connection.execute(query).all()
    states = {mail.state for mail in mails}
    if not states & set(MAYBE_SENT) or states & set(UNSENT):
        return False
    revision = 1 + sum("corrected" in mail.about for mail in mails)
    return queue_mail(connection, order, "shipped", rules, about=f"{shipment_id}:corrected{revision}")


def about_parcel(shipment_id: int, *, last: bool) -> str:
    """The `about` of a message about a shipment; `last` when nothing is left to ship after it."""
    return f"{shipment_id}:last" if last else str(shipment_id)


def read_about(about: str) -> About:
    """Reads the `about` of a message's row."""
    number, _, news = about.partition(":")
    if not number:
        return About()
    corrected = news.startswith("corrected")
    return About(int(number), last=bool(news), known=news == "number", corrected=corrected)
