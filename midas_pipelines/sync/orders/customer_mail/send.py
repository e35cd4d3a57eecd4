"""Writes and sends due customer mail, each message once, and logs the result."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.notify.alerts import match_alerts
from midas_pipelines.notify.mail import CustomerMail, MailError, SmtpConnection
from midas_pipelines.notify.mail_templates import render_mail
from midas_pipelines.settings import Settings, SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.shipment_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.backoff import Backoff
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import MINOR_UNITS, utc_now
from midas_pipelines.sync.orders.customer_mail.queue import wants_mail
from midas_pipelines.sync.orders.model.carriers import BadTracking, recorded_tracking
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder
from midas_pipelines.sync.orders.model.state_machine import ENDED
from midas_pipelines.sync.orders.stock.units import has_shipped, left_to_ship

LEASE_SECONDS = 300
RETRY = Backoff(first=60, longest=3600, other=LEASE_SECONDS)
ROUND_SECONDS = 60.0
"""A round starts no message after this time: other jobs wait for its end."""
GIVE_UP_AFTER = timedelta(days=3)
"""A message that could not be sent for this long is given up, with an alert."""
UNSENT = ("waiting", "sending", "failed")
"""States of messages that the customer does not have, or may not have."""

_MAILS, _ORDERS = customer_mails.c, marketplace_orders.c


class NotWanted(MailError):
    """The message is no longer appropriate; the text says why."""


@dataclass
class MailReport:
    """The result of a round of mail: messages by their state now, and what kept some from being sent."""

    states: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, str]] = field(default_factory=list)


def send_mails(database: Database, settings: Settings, run_id: str | None = None) -> MailReport:
    """Sends every message that is due; a server that is down or lost ends the round and raises nothing.

    Each message is claimed before it is sent. If the process dies meanwhile, the message may have gone out: it is
    reported to a person rather than sent twice.

    Raises:
        SettingsError: MIDAS_MAIL_FROM is missing.
    """
    report = MailReport()
    if settings.smtp_url is None:
        return report
    if not settings.mail_from:
        raise SettingsError("MIDAS_MAIL_FROM is not set: give the sender, as in Shop <orders@example.com>.")
    context, ends = OrderContext(run_id), time.monotonic() + ROUND_SECONDS
    died = MailError("The process that sent it died: it may have been sent.")
    while (lost := _claim(database, "sending")) is not None:
        _record(database, lost, died, context, report)
    url, encrypted = settings.smtp_url.get_secret_value(), settings.mail_encrypted
    with SmtpConnection(url, settings.mail_from, encrypted=encrypted) as smtp:
        while time.monotonic() < ends and (mail := _claim(database, "waiting")) is not None:
            error = _send(smtp, database, settings, mail)
            _record(database, mail, error, context, report)
            if error is not None and error.down:
                break
    return report


def mail_due(database: Database) -> bool:
    """Whether a message is due."""
    with database.reading() as connection:
        return connection.execute(_due("waiting", "sending")).first() is not None


def _due(*states: str) -> sa.Select[Any]:
    return _messages(*states).where(RETRY.is_due(_MAILS.next_attempt_at, _MAILS.attempts)).limit(1)


def _claim(database: Database, state: str) -> sa.Row[Any] | None:
    """Claims the next message of this state that is due; one that is being sent is due once its sender has died."""
    query = _due(state)
    with database.writing() as connection:
        mail = connection.execute(query.with_for_update(skip_locked=True, of=customer_mails)).first()
        if mail is not None:
            claimed = {"state": "sending", "next_attempt_at": utc_now(LEASE_SECONDS)}
            connection.execute(sa.update(customer_mails).where(_MAILS.id == mail.id).values(claimed))
    return mail


def _send(
    smtp: SmtpConnection, database: Database, settings: Settings, mail: sa.Row[Any]
) -> MailError | None:
    """Sends one message; returns why it was not sent."""
    try:
        smtp.send(_write(database, settings, mail))
    except MailError as error:
        return error
    except sa.exc.SQLAlchemyError:
        raise
    except Exception as unexpected:  # its text may quote the customer
        return MailError(f"The message could not be written: {type(unexpected).__name__}.", retry=True)
    return None


def _write(database: Database, settings: Settings, mail: sa.Row[Any]) -> CustomerMail:
    with database.reading() as connection:
        row = connection.execute(sa.select(marketplace_orders).where(_ORDERS.id == mail.order_id)).one()
        order = StoredOrder(connection, row)
        facts = mail_context(order, mail, settings.mail_shop_name)
        shop = order.shop_status()
    email = facts["customer"]["email"]
    if not wants_mail(settings, mail.kind, order.sales_channel, email, order.placed_at):
        raise NotWanted("The mail settings, the address or the order's age exclude it now.")
    ended = order.status in ENDED or "cancelled" in (order.resolution, shop)
    if mail.kind != "shipped" and ended is not (mail.kind == "cancelled"):
        raise NotWanted("The order is cancelled now." if ended else "The order is no longer cancelled.")
    key = f"midas-{mail.order_id}-{mail.kind}-{mail.id}"
    return render_mail(mail.kind, email, facts, folder=settings.mail_templates, key=key)


def _record(
    database: Database, mail: sa.Row[Any], error: MailError | None, context: OrderContext, report: MailReport
) -> None:
    """Records that a claimed message was sent, waits for its next attempt, or will not be sent."""
    again = error is not None and error.retry and datetime.now(UTC) - mail.created_at <= GIVE_UP_AFTER
    dropped = isinstance(error, NotWanted)
    state = "sent" if error is None else "dropped" if dropped else "waiting" if again else "failed"
    attempts = mail.attempts + 1
    values = {"state": state, "attempts": attempts, "reason": str(error) if error else None}
    if state == "sent":
        values["sent_at"] = utc_now()
    elif state == "waiting":
        values["next_attempt_at"] = utc_now(int(RETRY.seconds(attempts)))
    with database.writing() as connection:
        mine = sa.update(customer_mails).where(_MAILS.id == mail.id, _MAILS.state == "sending")
        if not connection.execute(mine.values(values)).rowcount:
            return  # a person or an erasure has changed it meanwhile
        report.states[state] += 1
        if error is None:
            context.log(connection, mail.order, "confirmed", f"The customer was notified: {mail.kind}.")
        else:
            context.log_once(connection, mail.order, "not_confirmed", f"Message '{mail.kind}': {error}")
            report.problems.append({"order": mail.order, "mail": mail.kind, "reason": str(error)})
        if error is None or error.down:
            texts = {} if error is None else {"smtp": f"Messages to customers wait. {error}"}
            match_alerts(connection, kind="mail_server", texts=texts)
        match_mail_alerts(connection)


def unsent_messages(database: Database) -> list[dict[str, Any]]:
    """Messages that have not gone out, or may not have, the oldest first."""
    names = ("order", "kind", "state", "attempts", "created_at", "reason")
    with database.reading() as connection:
        return [
            {name: row[name] for name in names} for row in connection.execute(_messages(*UNSENT)).mappings()
        ]


def put_back(connection: sa.Connection, *, given_up: bool, order_row: int | None = None) -> int:
    """Makes waiting messages due now, with three more days; returns how many.

    Args:
        given_up: also those that were given up, some of which may have been sent.
        order_row: our row of the only order meant; None for all.
    """
    states = ["waiting", "failed"] if given_up else ["waiting"]
    mine = sa.true() if order_row is None else _MAILS.order_id == order_row
    chosen = sa.update(customer_mails).where(_MAILS.state.in_(states), mine)
    values = {"state": "waiting", "next_attempt_at": None, "attempts": 0, "created_at": utc_now()}
    count = connection.execute(chosen.values(values)).rowcount
    match_mail_alerts(connection)
    return count


def match_mail_alerts(connection: sa.Connection) -> None:
    """Makes the alerts about given-up messages match the table: one for each order."""
    texts = {
        f"order:{mail.order}"[:200]: f"Order {mail.order}, message '{mail.kind}': {mail.reason} "
        "`midas orders messages` lists all that were not sent."
        for mail in connection.execute(_messages("failed"))
    }
    match_alerts(connection, kind="customer_mail", texts=texts)


def _messages(*states: str) -> sa.Select[Any]:
    """Selects the messages in these states, each with the id of its order, the oldest first."""
    order_id = _ORDERS.marketplace_order_id.label("order")
    query = sa.select(customer_mails, order_id).join(marketplace_orders, _ORDERS.id == _MAILS.order_id)
    return query.where(_MAILS.state.in_(states)).order_by(_MAILS.id)


CHANNEL_NAMES = {"ebay": "eBay", "tiktok": "TikTok Shop"}
"""The marketplaces' own spelling, where capitalizing is not enough."""

LONGEST_NAME, LONGEST_TITLE = 60, 160
AN_ADDRESS = re.compile(r"://|www\.|@", re.IGNORECASE)
"""Text that no real name contains: it would make the shop send somebody's advertising."""


def mail_context(order: StoredOrder, mail: sa.Row[Any], shop_name: str) -> dict[str, Any]:
    """The variables of a template, for a row of `customer_mails`."""
    columns = (orders.c.order_number, orders.c.status, orders.c.shipping_address)
    shop = order.connection.execute(sa.select(*columns).where(orders.c.id == order.local_order_id)).first()
    address = shop.shipping_address if shop and isinstance(shop.shipping_address, dict) else {}
    name = _plain(str(address.get("name") or ""), LONGEST_NAME)
    channel = order.sales_channel or ""
    shipped = has_shipped(order, shop.status if shop else None)
    shipment, units = _shipment(order, mail)
    return {
        "shop": {"name": shop_name},
        "customer": {"name": "" if AN_ADDRESS.search(name) else name, "email": address.get("email") or ""},
        "order": {
            "number": _plain(order.marketplace_order_id, LONGEST_TITLE),
            "local_number": shop.order_number if shop else "",
            "channel": CHANNEL_NAMES.get(channel.lower(), _plain(channel, LONGEST_NAME).capitalize()),
            "placed": f"{order.placed_at:%Y-%m-%d}" if order.placed_at else "",
            "currency": order.currency or "",
            "digits": MINOR_UNITS.get(order.currency or "", 2),
            "shipping": order.shipping_cost,
            "tax": order.tax,
            "discount": order.discount,
            "total": order.total,
            "sent": shipped or order.resolution is not None,  # or a person resolved a conflict about it
        },
        "lines": [
            {
                "title": _plain(line.title or line.sku or "An item", LONGEST_TITLE),
                "sku": line.sku,
                "quantity": units.get(str(line.order_item_id), line.quantity),
                "backordered": line.backordered,
                "total": line.price * line.quantity,
            }
            for line in order.lines()
            if line.quantity > 0 and (not units or str(line.order_item_id) in units)
        ],
        "shipment": shipment,
    }


def _shipment(order: StoredOrder, mail: sa.Row[Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """The shipment that the message is about, and its units by the shop's order line; both empty without one."""
    table = order_shipments.c
    booked = sa.and_(table.order_id == order.local_order_id, table.booked_at.is_not(None))
    found = order.connection.execute(sa.select(order_shipments).where(booked).order_by(table.id)).all()
    shipment = next((row for row in found if row.id == mail.shipment_id), None)
    if shipment is None:
        return {"carrier": None, "number": None, "url": None, "first": True, "complete": True}, {}
    left = any(left_to_ship(line) or line.backordered for line in order.lines())
    known: dict[str, Any] = {"first": shipment is found[0], "complete": shipment is found[-1] and not left}
    try:
        label, _ = recorded_tracking(shipment)
    except BadTracking:
        label = Tracking(carrier=shipment.carrier)
    return known | label.model_dump(), shipment.contents or {}


def _plain(text: str, longest: int) -> str:
    """The text on one line, cut to `longest` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
