"""Sending the messages that are due to customers, each once, and writing into the order's story how that ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.letters import BadTemplate, write_letter
from midas_pipelines.notify.mail import (
    Letter,
    MailError,
    MailFailed,
    MailRefused,
    MailUnsure,
    Post,
    SmtpServer,
)
from midas_pipelines.settings import Settings, SettingsError
from midas_pipelines.store.claims import delay_seconds
from midas_pipelines.store.database import Database
from midas_pipelines.store.shipment_tables import customer_mails, order_shipment_lines, order_shipments
from midas_pipelines.store.tables import marketplace_order_lines, marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import to_cents, utc_now
from midas_pipelines.sync.orders.clerk import Clerk

LEASE_SECONDS = 300
MOST_ATTEMPTS = 10
CHANNEL_NAMES = {
    "ebay": "eBay",
    "tiktok": "TikTok Shop",
    "aliexpress": "AliExpress",
    "mercadolibre": "Mercado Libre",
}
"""As the marketplaces write themselves, where a capital letter is not enough."""
_MAILS = customer_mails.c


@dataclass
class MailReport:
    """What a round of mail did; counts of messages."""

    sent: int = 0
    waiting: int = 0  # could not be sent now; tried again later
    failed: int = 0  # will not be sent without a person
    problems: list[dict[str, str]] = field(default_factory=list)


def send_mails(database: Database, settings: Settings, run_id: str | None = None) -> MailReport:
    """Sends every message that is due; a server that is down leaves them waiting and raises nothing.

    Each is claimed before it is sent. When this process dies in between nobody knows whether it went out, and a
    message is rather reported to a person than sent twice.

    Raises:
        SettingsError: MIDAS_SMTP_URL or MIDAS_MAIL_FROM is wrong.
    """
    report = MailReport()
    if settings.smtp_url is None:
        return report
    if "@" not in settings.mail_from:
        raise SettingsError("MIDAS_MAIL_FROM is not set: give the sender, as in Shop <orders@example.com>.")
    try:
        server = SmtpServer.from_url(settings.smtp_url.get_secret_value())
    except ValueError as wrong:
        raise SettingsError(str(wrong)) from None
    clerk = Clerk(run_id)
    _give_up_on_the_lost(database, clerk, report)
    with Post(server, settings.mail_from) as post:
        while (mail := _claim(database)) is not None:
            _send(database, settings, post, mail, clerk, report)
    return report


def _claim(database: Database) -> sa.Row[Any] | None:
    """The next message that is due, ours alone from now on."""
    due = sa.or_(_MAILS.next_attempt_at.is_(None), _MAILS.next_attempt_at <= utc_now())
    query = sa.select(customer_mails).where(_MAILS.state == "waiting", due).order_by(_MAILS.id).limit(1)
    with database.writing() as connection:
        mail = connection.execute(query.with_for_update(skip_locked=True)).first()
        if mail is not None:
            _set(connection, mail.id, state="sending", next_attempt_at=utc_now(LEASE_SECONDS))
    return mail


def _give_up_on_the_lost(database: Database, clerk: Clerk, report: MailReport) -> None:
    """Messages whose sender died while it sent them: a person looks whether they went out."""
    query = sa.select(customer_mails).where(_MAILS.state == "sending", _MAILS.next_attempt_at < utc_now())
    with database.reading() as connection:
        lost = connection.execute(query).all()
    why = MailUnsure(
        "The process that sent it died: it may have gone out. `midas orders retry ID --mail` sends it."
    )
    for mail in lost:
        _note(database, mail, why, clerk, report)


def _send(
    database: Database, settings: Settings, post: Post, mail: sa.Row[Any], clerk: Clerk, report: MailReport
) -> None:
    try:
        letter = _write(database, settings, mail)
        post.send(letter)
    except MailError as trouble:
        _note(database, mail, trouble, clerk, report)
    except BadTemplate as wrong:
        _note(database, mail, MailFailed(str(wrong)), clerk, report)
    else:
        _note(database, mail, None, clerk, report)


def _note(
    database: Database, mail: sa.Row[Any], trouble: MailError | None, clerk: Clerk, report: MailReport
) -> None:
    attempts = mail.attempts + 1
    values: dict[str, Any] = {"attempts": attempts, "reason": str(trouble) if trouble else None}
    if trouble is None:
        report.sent += 1
        values |= {"state": "sent", "sent_at": utc_now(), "next_attempt_at": None}
    elif isinstance(trouble, MailFailed) and attempts < MOST_ATTEMPTS:
        report.waiting += 1
        wait = max(60, int(delay_seconds(attempts + 1)))
        values |= {"state": "waiting", "next_attempt_at": utc_now(wait)}
    else:
        report.failed += 1
        values["state"] = "unsure" if isinstance(trouble, MailUnsure) else "failed"
    with database.writing() as connection:
        order_id = connection.scalar(
            sa.select(marketplace_orders.c.marketplace_order_id).where(
                marketplace_orders.c.id == mail.order_id
            )
        )
        changed = _set(connection, mail.id, state_before=("waiting", "sending"), **values)
        if order_id is None or not changed:
            return
        if trouble is None:
            clerk.log(connection, order_id, "confirmed", f"The customer was told: {mail.kind}.")
        else:
            report.problems.append({"order": order_id, "mail": mail.kind, "reason": str(trouble)})
            clerk.log_once(connection, order_id, "not_confirmed", f"Message “{mail.kind}”: {trouble}")


def _set(
    connection: sa.Connection, mail_id: int, *, state_before: tuple[str, ...] | None = None, **values: Any
) -> int:
    statement = sa.update(customer_mails).where(_MAILS.id == mail_id)
    if state_before is not None:
        statement = statement.where(_MAILS.state.in_(state_before))
    return connection.execute(statement.values(values)).rowcount


def _write(database: Database, settings: Settings, mail: sa.Row[Any]) -> Letter:
    with database.reading() as connection:
        facts = letter_facts(connection, mail, settings.mail_shop_name)
    email = facts["customer"]["email"]
    if not email:
        raise MailRefused("The order has no e-mail address any more.")
    key = f"midas-{mail.order_id}-{mail.kind}-{mail.about or '0'}"
    return write_letter(mail.kind, email, facts, folder=settings.mail_templates, key=key)


def letter_facts(connection: sa.Connection, mail: sa.Row[Any], shop_name: str) -> dict[str, Any]:
    """What a template may name, as the order stands now."""
    order = connection.execute(
        sa.select(marketplace_orders, orders.c.order_number, orders.c.shipping_address)
        .outerjoin(orders, orders.c.id == marketplace_orders.c.local_order_id)
        .where(marketplace_orders.c.id == mail.order_id)
    ).one()
    address = order.shipping_address if isinstance(order.shipping_address, dict) else {}
    parcel = _parcel(connection, mail)
    lines = _lines(connection, mail.order_id, parcel)
    return {
        "shop": {"name": shop_name},
        "customer": {"name": address.get("name") or "", "email": address.get("email") or ""},
        "order": {
            "number": order.marketplace_order_id,
            "local_number": order.order_number,
            "channel": CHANNEL_NAMES.get(order.sales_channel or "", (order.sales_channel or "").capitalize()),
            "placed": f"{order.placed_at:%Y-%m-%d}" if order.placed_at else "",
            "currency": order.currency or "",
            "shipping": order.shipping_cost,
            "tax": order.tax,
            "discount": order.discount,
            "total": order.total,
        },
        "lines": lines,
        "parcel": parcel,
    }


def _parcel(connection: sa.Connection, mail: sa.Row[Any]) -> dict[str, Any]:
    if not mail.about:
        return {}
    parcel = order_shipments.c
    row = connection.execute(sa.select(order_shipments).where(parcel.id == int(mail.about))).first()
    if row is None:
        raise MailRefused("The parcel that it tells of is no longer on record.")
    held = order_shipment_lines.c
    query = sa.select(held.order_item_id, held.quantity).where(held.shipment_id == row.id)
    units = {one.order_item_id: one.quantity for one in connection.execute(query)}
    lines = marketplace_order_lines.c
    open_lines = sa.select(lines.id).where(
        lines.order_id == mail.order_id, lines.quantity - lines.given_back > lines.shipped
    )
    complete = connection.execute(open_lines.limit(1)).first() is None
    number, url = row.tracking_number, row.tracking_url
    return {"carrier": row.carrier, "number": number, "url": url, "complete": complete, "units": units}


def _lines(connection: sa.Connection, order_row: int, parcel: Mapping[str, Any]) -> list[dict[str, Any]]:
    table = marketplace_order_lines.c
    query = sa.select(marketplace_order_lines).where(table.order_id == order_row, table.quantity > 0)
    units = parcel.get("units") or {}
    return [
        {
            "title": line.title,
            "sku": line.sku,
            "quantity": units.get(line.order_item_id, line.quantity),
            "owed": line.owed,
            "total": to_cents(line.price * line.quantity),
        }
        for line in connection.execute(query.order_by(table.line))
        if not units or line.order_item_id in units
    ]
