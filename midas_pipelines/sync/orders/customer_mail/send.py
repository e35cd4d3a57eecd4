"""Sends due customer mail, each message once, and writes the result to the order log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.notify.alerts import clear_alert, raise_alert
from midas_pipelines.notify.mail import (
    CustomerMail,
    MailDown,
    MailError,
    MailFailed,
    MailRefused,
    MailUnsure,
    SmtpConnection,
    SmtpServer,
)
from midas_pipelines.notify.mail_templates import BadTemplate, render_mail
from midas_pipelines.settings import Settings, SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.claims import LONGEST_DELAY_SECONDS, delay_seconds
from midas_pipelines.store.schema.shipment_tables import customer_mails
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.orders import order_status
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.orders.customer_mail.context import mail_context
from midas_pipelines.sync.orders.model.mail_policy import MailPolicy, mail_policy
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.state_machine import ENDED

LEASE_SECONDS = 300
ROUND_SECONDS = 60.0
"""A round starts no message after this time: other jobs wait for its end."""
GIVE_UP_AFTER = timedelta(days=3)
"""A message that could not be sent for this long is given up, with an alert."""
LOST = "The connection to the mail server was lost while it received a message."

ALERT, DOWN_ALERT = "customer_mail", "mail_server"
GIVEN_UP = ("failed", "unsure")
"""States of messages that need a person."""

WITHDRAWN = ":withdrawn:"
"""Prefix in `about` of a message about a withdrawn cancellation, so that a later cancellation can be queued."""

_MAILS = customer_mails.c


class NotWanted(Exception):
    """The message is no longer appropriate; the text says why."""


@dataclass
class MailReport:
    """The result of a round of mail; counts of messages."""

    sent: int = 0
    waiting: int = 0  # could not be sent; retried later
    failed: int = 0  # will not be sent without a person
    superseded: int = 0  # no longer appropriate when they were due
    problems: list[dict[str, str]] = field(default_factory=list)


def send_mails(database: Database, settings: Settings, run_id: str | None = None) -> MailReport:
    """Sends every message that is due; a server that is down or lost ends the round and raises nothing.

    Each message is claimed before it is sent. If the process dies meanwhile, the message may have gone out: it is
    reported to a person rather than sent twice.

    Raises:
        SettingsError: MIDAS_SMTP_URL or MIDAS_MAIL_FROM is wrong.
    """
    report = MailReport()
    if settings.smtp_url is None:
        return report
    if not settings.mail_from:
        raise SettingsError("MIDAS_MAIL_FROM is not set: give the sender, as in Shop <orders@example.com>.")
    try:
        server = SmtpServer.from_url(settings.smtp_url.get_secret_value())
    except ValueError as wrong:
        raise SettingsError(str(wrong)) from None
    post_round = _Round(database, settings, OrderContext(run_id), mail_policy(settings), report)
    post_round.give_up_on_the_lost()
    started, ends = database.now(), time.monotonic() + ROUND_SECONDS
    with SmtpConnection(server, settings.mail_from) as post:
        while time.monotonic() < ends and (mail := _claim(database, started)) is not None:
            if not post_round.send(post, mail):
                break
    return report


def _claim(database: Database, due_at: datetime) -> sa.Row[Any] | None:
    """Claims the next message that was due at that moment."""
    too_far = _MAILS.next_attempt_at > utc_now(LONGEST_DELAY_SECONDS)  # the clock has been set back
    due = sa.or_(_MAILS.next_attempt_at.is_(None), _MAILS.next_attempt_at <= due_at, too_far)
    query = sa.select(customer_mails).where(_MAILS.state == "waiting", due).order_by(_MAILS.id).limit(1)
    with database.writing() as connection:
        mail = connection.execute(query.with_for_update(skip_locked=True)).first()
        if mail is not None:
            _set(connection, mail.id, state="sending", next_attempt_at=utc_now(LEASE_SECONDS))
    return mail


@dataclass
class _Round:
    """One round of mail."""

    database: Database
    settings: Settings
    order_context: OrderContext
    rules: MailPolicy
    report: MailReport

    def send(self, post: SmtpConnection, mail: sa.Row[Any]) -> bool:
        """Sends one message and records the result; False when the server accepts none now."""
        try:
            post.send(self._write(mail))
        except NotWanted as why:
            self._note_superseded(mail, str(why))
        except (MailDown, MailUnsure) as error:
            # The connection may be lost over the next message too.
            self._note(mail, error)
            self._alert_server(LOST if isinstance(error, MailUnsure) else str(error))
            return False
        except MailError as error:
            self._note(mail, error)
        except BadTemplate as wrong:
            self._note(mail, MailFailed(str(wrong)))
        except sa.exc.SQLAlchemyError:
            raise
        except Exception as unexpected:  # its text may quote the customer
            self._note(mail, MailFailed(f"The message could not be written: {type(unexpected).__name__}."))
        else:
            self._note(mail, None)
            self._alert_server(None)
        return True

    def give_up_on_the_lost(self) -> None:
        """Gives up messages whose sender died while it sent them: a person checks whether they went out."""
        query = sa.select(customer_mails).where(_MAILS.state == "sending", _MAILS.next_attempt_at < utc_now())
        with self.database.reading() as connection:
            lost = connection.execute(query).all()
        why = MailUnsure(
            "The process that sent it died: it may have gone out. `midas orders retry ID --mail` sends it."
        )
        for mail in lost:
            self._note(mail, why)

    def _write(self, mail: sa.Row[Any]) -> CustomerMail:
        with self.database.reading() as connection:
            order = connection.execute(
                sa.select(marketplace_orders).where(marketplace_orders.c.id == mail.order_id)
            ).one()
            if mail.kind == "cancelled" and not _is_cancelled(connection, order):
                raise NotWanted("The order is no longer cancelled.")
            facts = mail_context(connection, mail, order, self.settings.mail_shop_name)
        email = facts["customer"]["email"]
        if not email:
            raise MailRefused("The order no longer has an email address.")
        if not self.rules.wants(mail.kind, order.sales_channel, email, order.placed_at):
            raise NotWanted("The mail settings, or the order's age, exclude it now.")
        if mail.kind == "received" and order.status in ENDED:
            raise NotWanted(f"The order is {order.status} now.")
        parcel = facts["parcel"]
        if (parcel["known"] or parcel["corrected"]) and parcel["number"] is None:
            raise NotWanted("The shipment no longer has a valid tracking number.")
        key = f"midas-{mail.order_id}-{mail.kind}-{mail.id}"
        return render_mail(mail.kind, email, facts, folder=self.settings.mail_templates, key=key)

    def _note_superseded(self, mail: sa.Row[Any], why: str) -> None:
        self.report.superseded += 1
        with self.database.writing() as connection:
            if _set(connection, mail.id, state_before=("sending",), state="superseded", reason=why):
                detail = f"Message '{mail.kind}' was not sent: {why}"
                self.order_context.log(connection, _order_id(connection, mail), "not_confirmed", detail)

    def _note(self, mail: sa.Row[Any], error: MailError | None) -> None:
        attempts = mail.attempts + 1
        values: dict[str, Any] = {"attempts": attempts, "reason": str(error) if error else None}
        too_late = datetime.now(UTC) - mail.created_at > GIVE_UP_AFTER
        if error is None:
            self.report.sent += 1
            values |= {"state": "sent", "sent_at": utc_now(), "next_attempt_at": None}
        elif isinstance(error, MailFailed) and not too_late:
            self.report.waiting += 1
            wait = max(60, int(delay_seconds(attempts + 1)))
            values |= {"state": "waiting", "next_attempt_at": utc_now(wait)}
        else:
            self.report.failed += 1
            values["state"] = "unsure" if isinstance(error, MailUnsure) else "failed"
        with self.database.writing() as connection:
            if not _set(connection, mail.id, state_before=("waiting", "sending"), **values):
                return
            order_id = _order_id(connection, mail)
            if error is None:
                self.order_context.log(
                    connection, order_id, "confirmed", f"The customer was notified: {mail.kind}."
                )
                clear_mail_alert(connection, mail.order_id)
                return
            self.report.problems.append({"order": order_id, "mail": mail.kind, "reason": str(error)})
            detail = f"Message '{mail.kind}': {error}"
            self.order_context.log_once(connection, order_id, "not_confirmed", detail)
            if values["state"] != "waiting":
                text = f"Order {order_id}, message '{mail.kind}': {error} `midas orders messages` lists all."
                raise_alert(connection, kind=ALERT, subject=_subject(order_id), text=text)

    def _alert_server(self, error: str | None) -> None:
        """Raises one alert while the mail server accepts nothing, and clears it when it does."""
        with self.database.writing() as connection:
            if error is None:
                clear_alert(connection, kind=DOWN_ALERT, subject="smtp")
            else:
                text = f"Messages to customers wait. {error}"
                raise_alert(connection, kind=DOWN_ALERT, subject="smtp", text=text)


def unsent_messages(database: Database, *, state: str | None = None) -> list[dict[str, Any]]:
    """Messages that have not gone out, or may not have, the oldest first.

    Args:
        database: the shop's.
        state: only those that are waiting, sending, failed or unsure.
    """
    states = [state] if state else ["waiting", "sending", "failed", "unsure"]
    query = (
        sa.select(
            marketplace_orders.c.marketplace_order_id.label("order"),
            _MAILS.kind.label("message"),
            _MAILS.state,
            _MAILS.attempts,
            _MAILS.created_at.label("since"),
            _MAILS.reason,
        )
        .join(marketplace_orders, marketplace_orders.c.id == _MAILS.order_id)
        .where(_MAILS.state.in_(states))
        .order_by(_MAILS.id)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def send_again(database: Database, states: Sequence[str]) -> int:
    """Puts messages in these states back to be sent; returns how many."""
    with database.writing() as connection:
        return put_back(connection, states)


def put_back(connection: sa.Connection, states: Sequence[str], *, order_row: int | None = None) -> int:
    """Queues messages again as if they were new, with three more days, and clears their alerts.

    Args:
        connection: a writing transaction.
        states: the states of messages to put back.
        order_row: our row of the only order meant; None for all.

    Returns:
        The number of messages.
    """
    mine = sa.true() if order_row is None else _MAILS.order_id == order_row
    chosen = sa.and_(_MAILS.state.in_(states), mine)
    values = {"state": "waiting", "next_attempt_at": None, "attempts": 0, "created_at": utc_now()}
    renewed = sa.update(customer_mails).where(chosen).values(values).returning(_MAILS.order_id)
    rows = list(connection.scalars(renewed))
    for row in sorted(set(rows)):
        clear_mail_alert(connection, row)
    return len(rows)


def cancel_queued_cancellation(connection: sa.Connection, order_row: int) -> None:
    """Drops the queued message about a withdrawn cancellation; a later cancellation gets its own.

    Args:
        connection: a writing transaction.
        order_row: our row of the order.
    """
    queued = sa.and_(_MAILS.order_id == order_row, _MAILS.kind == "cancelled", _MAILS.about == "")
    unsent = sa.and_(queued, _MAILS.state.in_(["waiting", "failed"]))
    superseded = {"state": "superseded", "reason": "The cancellation was withdrawn."}
    connection.execute(sa.update(customer_mails).where(unsent).values(superseded))
    another = sa.literal(WITHDRAWN) + sa.cast(_MAILS.id, sa.Text)
    connection.execute(sa.update(customer_mails).where(queued).values(about=another))
    clear_mail_alert(connection, order_row)


def clear_mail_alert(connection: sa.Connection, order_row: int) -> None:
    """Clears the alert about this order's messages, unless one of them is still given up."""
    given_up = sa.select(_MAILS.id).where(_MAILS.order_id == order_row, _MAILS.state.in_(GIVEN_UP))
    if connection.execute(given_up.limit(1)).first() is None:
        table = marketplace_orders.c
        order_id = connection.scalar(sa.select(table.marketplace_order_id).where(table.id == order_row))
        clear_alert(connection, kind=ALERT, subject=_subject(str(order_id)))


def _set(
    connection: sa.Connection, mail_id: int, *, state_before: tuple[str, ...] | None = None, **values: Any
) -> int:
    statement = sa.update(customer_mails).where(_MAILS.id == mail_id)
    if state_before is not None:
        statement = statement.where(_MAILS.state.in_(state_before))
    return connection.execute(statement.values(values)).rowcount


def _is_cancelled(connection: sa.Connection, order: sa.Row[Any]) -> bool:
    """Whether the sale is cancelled, by either side or by a person's decision."""
    if order.status in ENDED or order.resolution == "cancelled":
        return True
    return order_status(connection, order.local_order_id) == "cancelled"


def _order_id(connection: sa.Connection, mail: sa.Row[Any]) -> str:
    table = marketplace_orders.c
    return str(connection.scalar(sa.select(table.marketplace_order_id).where(table.id == mail.order_id)))


def _subject(order_id: str) -> str:
    return f"order:{order_id}"[:200]
