"""Mail to customers: queued in the order's own transaction, sent afterwards, each message once.

Messages are about what the shop does: received, shipped, cancelled. The marketplace itself writes about refunds, the carrier
about deliveries.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.carriers import BadTracking, recorded_tracking
from midas_pipelines.fourseller.models import Tracking
from midas_pipelines.fourseller.status import ENDED, OPEN, OrderStatus
from midas_pipelines.notify.alerts import match_alerts
from midas_pipelines.notify.mail import MailError, SmtpConnection, render_mail
from midas_pipelines.settings import Settings, SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.order_tables import customer_mails, order_shipments
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.orders import order_address
from midas_pipelines.storefront.types import MINOR_UNITS, Backoff, utc_now
from midas_pipelines.storefront.writing import insert_new
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.stock.units import shipments_on_record

LEASE_SECONDS = 300
RETRY = Backoff(first=60)
GIVE_UP_AFTER = timedelta(days=3)  # a message that could not be sent for this long is given up, with an alert
UNSENT = ("waiting", "sending", "failed")
"""States of messages that the customer does not have, or may not have."""
RELAYS = re.compile(
    r"(.*\.)?(members\.ebay\.com|relay\.walmart\.com|scs\.tiktokw\.(us|eu)|scs2?\.tiktok\.com"
    r"|chat-seller\.tiktok\.com|etsy\.com|mail\.mercadoli[bv]re\.com|allegromail\.pl|example\.invalid)"
    r"|marketplace\.amazon\.(com|[a-z]{2}|com?\.[a-z]{2})"
)
"""Matches the domains of marketplaces' aliases for buyers: they confirm orders themselves and limit what sellers write."""
CHANNEL_NAMES = {"ebay": "eBay", "tiktok": "TikTok Shop"}
"""The marketplaces' own spelling, where capitalizing is not enough."""
LONGEST_NAME, LONGEST_TITLE = 60, 160
AN_ADDRESS = re.compile(r"://|www\.|@", re.IGNORECASE)
"""Text that no real name contains: it would make the shop send somebody's advertising."""
EXCLUDED = MailError("The order, its buyer or the mail settings exclude it now.")
DIED = MailError("The process that sent it died: it may have been sent.")
_MAILS, _ORDERS, _SHIPMENTS = customer_mails.c, marketplace_orders.c, order_shipments.c
_ORDER = _ORDERS.marketplace_order_id.label("order")


def wants_mail(settings: Settings | None, kind: str, order: Sale | StoredOrder, email: str | None) -> bool:
    """Whether this customer gets a message of that kind; no where an unknown channel or date could rule it out, nor for an
    old order, as on the first import, that it was received."""
    if settings is None or settings.smtp_url is None or not email or "@" not in email:
        return False
    named = (order.sales_channel or "").lower()
    channels = (settings.mail_channels_on, settings.mail_channels_off)
    on, off = ({one.lower() for one in names} for names in channels)
    if named in off or (off and not named):
        return False
    oldest = datetime.now(UTC) - timedelta(hours=settings.mail_newest_hours)
    if kind == "received" and (order.placed_at is None or order.placed_at < oldest):
        return False
    return named in on or RELAYS.fullmatch(email.rsplit("@", 1)[-1].strip().lower()) is None


def queue_received(connection: sa.Connection, new: list[tuple[int, Sale]], settings: Settings | None) -> None:
    """Queues a confirmation for each new order, by our row id and sale, whose customer gets one."""
    due = [
        {"order_id": row_id, "kind": "received"}
        for row_id, sale in new
        if sale.status in OPEN and wants_mail(settings, "received", sale, sale.address.get("email"))
    ]
    insert_new(connection, customer_mails, due, key="order_id")


def queue_mail(order: StoredOrder, kind: str, *, shipment_id: int | None = None) -> None:
    """Queues one message, unless it was queued before; one that waits without its shipment is about this one from now on."""
    address = order_address(order.connection, order.local_order_id) if order.context.sends_mail else None
    if not wants_mail(order.context.settings, kind, order, (address or {}).get("email")):
        return
    if shipment_id is not None:
        general = (_MAILS.order_id == order.id, _MAILS.kind == kind, _MAILS.shipment_id.is_(None))
        waiting = sa.update(customer_mails).where(*general, _MAILS.state == "waiting")
        if order.connection.execute(waiting.values(shipment_id=shipment_id)).rowcount:
            return
    row = {"order_id": order.id, "kind": kind, "shipment_id": shipment_id}
    insert_new(order.connection, customer_mails, [row], key="order_id")


def queue_status_mail(order: StoredOrder, status: OrderStatus) -> None:
    """Queues the message about the order's new status: a cancellation, or a shipping without a shipment on record."""
    if status is OrderStatus.CANCELLED or (status is OrderStatus.SHIPPED and not shipments_on_record(order)):
        queue_mail(order, status.value)


def send_mails(database: Database, settings: Settings, run_id: str | None = None) -> Counter[str]:
    """Sends every message that is due, until the server is down; returns how many have which state now. Where the process
    dies meanwhile, a message may have gone out: it is reported to a person rather than sent twice. Raises SettingsError."""
    states: Counter[str] = Counter()
    if settings.smtp_url is None:
        return states
    if not settings.mail_from:
        raise SettingsError("MIDAS_MAIL_FROM is not set: give the sender, as in Shop <orders@example.com>.")
    url, encrypted = settings.smtp_url.get_secret_value(), settings.mail_encrypted
    with SmtpConnection(url, settings.mail_from, encrypted=encrypted) as smtp:
        while (mail := _claim(database)) is not None:
            error = DIED if mail.state == "sending" else _send(smtp, database, settings, mail)
            states.update(_record(database, mail, error, OrderContext(run_id)))
            if error is not None and error.down:
                break
    return states


def mail_due(database: Database) -> bool:
    """Whether a message is due."""
    return bool(database.rows(_due()))


def _due() -> sa.Select[Any]:
    """The next message that is due; one that is being sent is due once its sender has died."""
    due = RETRY.is_due(_MAILS.next_attempt_at)
    return _messages("waiting", "sending").where(due).limit(1)


def _claim(database: Database) -> sa.Row[Any] | None:
    with database.writing() as connection:
        mail = connection.execute(_due().with_for_update(skip_locked=True, of=customer_mails)).first()
        if mail is not None:
            claimed = {"state": "sending", "next_attempt_at": utc_now(LEASE_SECONDS)}
            connection.execute(sa.update(customer_mails).where(_MAILS.id == mail.id).values(claimed))
    return mail


def _send(smtp: SmtpConnection, database: Database, settings: Settings, mail: Any) -> MailError | None:
    """Sends the message, as the order is now; returns why it was not sent."""
    try:
        with database.reading() as connection:
            row = connection.execute(sa.select(marketplace_orders).where(_ORDERS.id == mail.order_id)).one()
            order = StoredOrder(connection, row)
            facts, shop = mail_context(order, mail, settings), order.shop_status()
        email = facts["customer"]["email"]
        ended = order.status in ENDED or "cancelled" in (order.resolution, shop)
        fits = mail.kind == "shipped" or ended is (mail.kind == "cancelled")
        if not fits or not wants_mail(settings, mail.kind, order, email):
            return EXCLUDED
        key = f"midas-{mail.order_id}-{mail.kind}-{mail.id}"
        smtp.send(render_mail(mail.kind, email, facts, folder=settings.mail_templates, key=key))
    except MailError as error:
        return error
    except sa.exc.SQLAlchemyError:
        raise
    except Exception as unexpected:  # its text may quote the customer
        return MailError(f"The message could not be written: {type(unexpected).__name__}.", retry=True)
    return None


def _record(database: Database, mail: Any, error: MailError | None, context: OrderContext) -> list[str]:
    """Records that a claimed message was sent, waits or will not be sent; returns its state, where it was still ours."""
    again = error is not None and error.retry and datetime.now(UTC) - mail.created_at <= GIVE_UP_AFTER
    state = "sent" if error is None else "waiting" if again else "dropped" if error is EXCLUDED else "failed"
    attempts = mail.attempts + 1
    values = {"state": state, "attempts": attempts, "reason": str(error) if error else None}
    values |= {"sent_at": utc_now()} if state == "sent" else {}
    values |= {"next_attempt_at": utc_now(int(RETRY.seconds(attempts)))} if state == "waiting" else {}
    with database.writing() as connection:
        mine = sa.update(customer_mails).where(_MAILS.id == mail.id, _MAILS.state == "sending")
        if not connection.execute(mine.values(values)).rowcount:
            return []  # a person or an erasure has changed it meanwhile
        if error is None:
            context.log(connection, mail.order, "confirmed", f"The customer was notified: {mail.kind}.")
        else:
            context.log(connection, mail.order, "not_confirmed", f"Message '{mail.kind}': {error}", once=True)
        if error is None or error.down:
            texts = {} if error is None else {"smtp": f"Messages to customers wait. {error}"}
            match_alerts(connection, kind="mail_server", texts=texts)
        match_mail_alerts(connection)
    return [state]


def unsent_messages(database: Database) -> list[dict[str, Any]]:
    """Messages that have not gone out, or may not have, the oldest first."""
    shown = (_ORDER, _MAILS.kind, _MAILS.state, _MAILS.attempts, _MAILS.created_at, _MAILS.reason)
    return database.rows(_messages(*UNSENT).with_only_columns(*shown))


def put_back(connection: sa.Connection, *, given_up: bool, order_row: int | None = None) -> int:
    """Makes waiting messages of an order, or of all, due now, with three more days; `given_up` also those that were given
    up, some of which may have been sent. Returns how many."""
    states = ["waiting", "failed"] if given_up else ["waiting"]
    mine = sa.true() if order_row is None else _MAILS.order_id == order_row
    values = {"state": "waiting", "next_attempt_at": None, "attempts": 0, "created_at": utc_now()}
    chosen = sa.update(customer_mails).where(_MAILS.state.in_(states), mine).values(values)
    count = connection.execute(chosen).rowcount
    match_mail_alerts(connection)
    return count


def match_mail_alerts(connection: sa.Connection) -> None:
    """Makes the alerts about given-up messages match the table, by order."""
    texts = {
        f"order:{mail.order}"[:200]: f"Order {mail.order}, message '{mail.kind}': {mail.reason} "
        "`midas orders messages` lists all that were not sent."
        for mail in connection.execute(_messages("failed"))
    }
    match_alerts(connection, kind="customer_mail", texts=texts)


def _messages(*states: str) -> sa.Select[Any]:
    """Selects the messages in these states, each with the id of its order, the oldest first."""
    query = sa.select(customer_mails, _ORDER).join(marketplace_orders, _ORDERS.id == _MAILS.order_id)
    return query.where(_MAILS.state.in_(states)).order_by(_MAILS.id)


def mail_context(order: StoredOrder, mail: sa.Row[Any], settings: Settings) -> dict[str, Any]:
    """The variables of a template, for a row of `customer_mails`."""
    address = order_address(order.connection, order.local_order_id) or {}
    name, email = (str(address.get(field) or "") for field in ("name", "email"))
    named, channel, currency = _plain(name, LONGEST_NAME), order.sales_channel or "", order.currency or ""
    label = (_SHIPMENTS.carrier, _SHIPMENTS.tracking_number, _SHIPMENTS.tracking_url)
    its_shipment = sa.select(*label, _SHIPMENTS.contents).where(_SHIPMENTS.id == mail.shipment_id)
    carrier, number, url, units = order.connection.execute(its_shipment).first() or (None, None, None, None)
    units = units or {}
    try:
        tracking, _ = recorded_tracking(carrier, number, url)
    except BadTracking:
        tracking = Tracking(carrier=carrier)
    lines = [(one, units.get(str(one.order_item_id), 0 if units else one.quantity)) for one in order.lines()]
    return {
        "shop": {"name": settings.mail_shop_name},
        "customer": {"name": "" if AN_ADDRESS.search(named) else named, "email": email},
        "order": {
            "number": _plain(order.marketplace_order_id, LONGEST_TITLE),
            "channel": CHANNEL_NAMES.get(channel.lower(), _plain(channel, LONGEST_NAME).capitalize()),
            "placed": f"{settings.day_of(order.placed_at)}" if order.placed_at else "",
            "currency": currency,
            "digits": MINOR_UNITS.get(currency, 2),
            "shipping": order.shipping_cost,
            **{name: getattr(order, name) for name in ("tax", "discount", "total")},
        },
        "lines": [
            {
                "title": _plain(line.title or line.sku or "An item", LONGEST_TITLE),
                "quantity": count,
                "backordered": line.backordered,
                "total": line.price * line.quantity,
            }
            for line, count in lines
            if line.quantity > 0 and count
        ],
        "shipment": {"complete": all(n == line.quantity for line, n in lines), **tracking.model_dump()},
    }


def _plain(text: str, longest: int) -> str:
    """The text on one line, cut to `longest` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
