"""The inbox of webhooks: each id once, claimed for a while by one worker, finished with an outcome.

Events of one subject (an order, a product) are never in two workers' hands at once, and are handed out in the
order they came; different subjects go in parallel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.notifications import notify
from midas_pipelines.store.items.claims import alive_workers
from midas_pipelines.store.orders.payload_vault import ERASED_PAYLOAD
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.store.schema.triggers import WEBHOOKS
from midas_pipelines.store.stock.rules import FOURSELLER
from midas_pipelines.storefront.types import Backoff, utc_now
from midas_pipelines.storefront.writing import insert_new, write_each

RETRY = Backoff(first=2)
MOST_ATTEMPTS = 10
RETRY_SECONDS = round(sum(RETRY.seconds(attempts) for attempts in range(1, MOST_ATTEMPTS)))
"""From the first to the last attempt at an event that keeps failing; then it is quarantined."""

ORDER = "order:"  # how the subject of an event on an order begins; its id follows

table, known = marketplace_webhooks.c, marketplace_orders.c
EMPTY = sa.update(marketplace_webhooks).values(payload=ERASED_PAYLOAD, reason=None)
FREE = sa.update(marketplace_webhooks).values(claimed_by=None, claimed_until=None)
"""Ends claims, without an attempt."""


class WebhookOutcome(StrEnum):
    """How an event ended."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"  # a newer event of its subject replaces it
    QUARANTINED = "quarantined"  # a person decides; `reason` has the reason


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A received webhook; `payload` is encrypted."""

    webhook_id: str
    type: str
    subject: str | None
    payload: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """A claimed webhook."""

    id: int
    webhook_id: str
    type: str
    subject: str | None
    payload: str
    received_at: datetime
    attempts: int
    reason: str | None = None  # why the last try did not end it


@dataclass(frozen=True, slots=True)
class FinishedWebhook:
    """The result for one webhook: finished with an outcome; or, without one, retried after that many seconds.

    `counts` is whether the try counts as an attempt: waiting for an item's push does not.
    """

    webhook: Webhook
    outcome: WebhookOutcome | None
    reason: str | None = None
    wait_seconds: float = 0.0
    counts: bool = True


COLUMNS = [table[name] for name in Webhook.__slots__]


def store_webhooks(connection: sa.Connection, arrived: Sequence[NewWebhook]) -> set[str]:
    """Stores webhooks with a new id, in one statement; returns their ids. The unique key decides."""
    rows = {one.webhook_id: asdict(one) for one in reversed(arrived)}
    # Always sorted, so that two gateways cannot deadlock.
    return insert_new(connection, marketplace_webhooks, [rows[key] for key in sorted(rows)], "webhook_id")


def any_due(connection: sa.Connection, *, orders: bool) -> bool:
    """Whether a claim would find something; a read that takes no lock."""
    query = sa.select(table.id).where(*_due(), _about_orders(orders)).limit(1)
    return connection.execute(query).first() is not None


def orders_wait(connection: sa.Connection, seconds: int) -> bool:
    """Whether an order's event came at least so many seconds ago and has not been tried yet."""
    untried = sa.and_(table.processed_at.is_(None), table.attempts == 0, _about_orders(True))
    query = sa.select(table.id).where(untried, table.received_at <= utc_now(-seconds))
    return connection.execute(query.limit(1)).first() is not None


def claim(
    connection: sa.Connection, *, worker: str, lease_seconds: int, limit: int, orders: bool
) -> list[Webhook]:
    """Takes up to `limit` events on orders, or of all others, that are due, the oldest first, and none whose subject
    another worker has. The claim begins with the commit and ends after `lease_seconds`."""
    wanted = sa.select(table.id, table.subject).where(*_due(), ~_held(), _about_orders(orders))
    due = connection.execute(wanted.order_by(table.id).limit(limit)).all()
    free = _free_subjects(connection, {row.subject for row in due if row.subject is not None})
    ids = [row.id for row in due if row.subject is None or row.subject in free]
    if not ids:
        return []
    still_free = sa.select(table.id).where(*_due(), ~_held()).order_by(table.id).correlate(None)
    holding = {"claimed_by": worker, "claimed_until": utc_now(lease_seconds)}
    statement = sa.update(marketplace_webhooks).values(holding).returning(*COLUMNS)
    claimed: list[Webhook] = []

    def take(part: Sequence[int]) -> None:
        mine = still_free.where(table.id.in_(part)).with_for_update(skip_locked=True)
        claimed.extend(Webhook(*row) for row in connection.execute(statement.where(table.id.in_(mine))).all())

    write_each(connection, ids, take)
    return sorted(claimed, key=lambda one: one.id)


def _about_orders(orders: bool) -> sa.ColumnElement[bool]:
    about = table.type.startswith("order.")
    return about if orders else ~about


def _due() -> list[sa.ColumnElement[bool]]:
    now = utc_now()
    return [
        table.processed_at.is_(None),
        RETRY.is_due(table.next_attempt_at),
        sa.or_(table.claimed_until.is_(None), table.claimed_until < now),
    ]


def _held() -> sa.ColumnElement[bool]:
    """Whether a worker has claimed an event of the same subject."""
    other = marketplace_webhooks.alias("other").c
    claimed = sa.and_(other.processed_at.is_(None), other.claimed_until > utc_now())
    return sa.exists().where(other.subject == table.subject, claimed).correlate(marketplace_webhooks)


def _free_subjects(connection: sa.Connection, subjects: set[str]) -> set[str]:
    """The subjects that no other transaction is claiming right now; once it has the lock the caller looks again, so
    that it sees a claim that was just committed. SQLite has one writer at a time."""
    if connection.dialect.name != "postgresql" or not subjects:
        return subjects
    given = sa.values(sa.column("subject", sa.Text), name="given").data([(one,) for one in sorted(subjects)])
    lock = sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(given.c.subject, 4))
    return {subject for subject, got in connection.execute(sa.select(given.c.subject, lock)) if got}


def finish_webhooks(connection: sa.Connection, ended: Sequence[FinishedWebhook], *, worker: str) -> None:
    """Writes each result and ends the claim; a claim that has passed to another worker is left alone."""
    if not ended:
        return
    statement = FREE.where(table.id == sa.bindparam("row"), table.claimed_by == worker).values(
        attempts=table.attempts + sa.bindparam("tries"),
        outcome=sa.bindparam("ended_as"),
        reason=sa.bindparam("why"),
        processed_at=sa.case((sa.bindparam("over", type_=sa.Boolean), utc_now()), else_=sa.null()),
    )

    def write(part: Sequence[FinishedWebhook]) -> None:
        results: list[dict[str, Any]] = []
        for one in part:
            if one.outcome is None and one.wait_seconds > 0:  # while the claim still shows whose the event is
                wait = utc_now(max(1, round(min(one.wait_seconds, RETRY.longest))))
                later = sa.update(marketplace_webhooks).values(next_attempt_at=wait)
                connection.execute(later.where(table.id == one.webhook.id, table.claimed_by == worker))
            ended = {"ended_as": one.outcome and one.outcome.value, "over": one.outcome is not None}
            results.append({"row": one.webhook.id, "tries": int(one.counts), "why": one.reason, **ended})
        connection.execute(statement, results)

    write_each(connection, sorted(ended, key=lambda one: one.webhook.id), write)
    over = [one.webhook.id for one in ended if one.outcome is not None]
    connection.execute(EMPTY.where(table.id.in_(over), _has_order(known.erased_at.is_not(None))))


def empty_finished(connection: sa.Connection, order_id: str) -> None:
    """Empties the finished events of an order whose buyer is erased.

    Pending ones are locked meanwhile: a worker that finishes one at this moment has either done so before, and it is
    emptied here, or sees that the buyer is erased.
    """
    of_order = table.subject == f"{ORDER}{order_id}"
    connection.execute(sa.select(table.id).where(of_order).order_by(table.id).with_for_update())
    connection.execute(EMPTY.where(of_order, table.processed_at.is_not(None)))


def empty_orphans(database: Database, *, days: int) -> int:
    """Empties finished events that came so many days ago and whose order is not on record, or erased; returns how many."""
    old = sa.and_(table.processed_at.is_not(None), table.received_at < utc_now(-days * 24 * 3600))
    about_product = sa.func.coalesce(table.subject, "").startswith("product:")
    kept = _has_order(known.erased_at.is_(None))
    of_a_person = sa.and_(table.payload != ERASED_PAYLOAD, ~about_product, ~kept)
    with database.writing() as connection:
        return connection.execute(EMPTY.where(old, of_a_person)).rowcount


def empty_events(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Empties these events, and quarantines those that were not processed yet: an empty one cannot be applied."""
    outcome = sa.func.coalesce(table.outcome, WebhookOutcome.QUARANTINED.value)
    ended = {"processed_at": sa.func.coalesce(table.processed_at, utc_now()), "outcome": outcome}
    connection.execute(EMPTY.where(table.id.in_(ids)).values(ended))


def _has_order(which: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether the event is about an order on record that is such a one, which is looked up by its id."""
    order_id = sa.func.substr(table.subject, len(ORDER) + 1)
    mine = sa.and_(table.subject.startswith(ORDER), known.marketplace_order_id == order_id)
    return sa.exists().where(known.channel == FOURSELLER, mine, which)


def retry_or_quarantine(webhook: Webhook, reason: str) -> FinishedWebhook:
    """The result for an event that failed: retried with backoff, in the end quarantined."""
    attempts = webhook.attempts + 1
    if attempts >= MOST_ATTEMPTS:
        why = f"Failed {attempts} times, the last time: {reason}"
        return FinishedWebhook(webhook, WebhookOutcome.QUARANTINED, why)
    return FinishedWebhook(webhook, None, reason, wait_seconds=RETRY.seconds(attempts))


def release_webhooks(connection: sa.Connection, worker: str) -> int:
    """Ends every claim that `worker` still holds, without an attempt; returns how many."""
    return connection.execute(FREE.where(table.claimed_by == worker, table.processed_at.is_(None))).rowcount


def replay(connection: sa.Connection, webhook_ids: Sequence[str] | None) -> list[str]:
    """Makes events pending again, by id, or all quarantined ones, and wakes the workers; returns their ids."""
    chosen = _in_state("quarantined") if webhook_ids is None else table.webhook_id.in_(webhook_ids)
    fresh = {"processed_at": None, "outcome": None, "reason": None, "attempts": 0, "next_attempt_at": None}
    statement = sa.update(marketplace_webhooks).where(chosen, table.processed_at.is_not(None)).values(fresh)
    put_back = sorted(connection.scalars(statement.returning(table.webhook_id)))
    notify(connection, WEBHOOKS)
    return put_back


def listed(
    connection: sa.Connection, *, state: str, limit: int, before: int | None = None
) -> list[dict[str, Any]]:
    """The newest events in a state, or those before a row: `pending`, an outcome, or `all`; without their payloads."""
    hidden = ("payload", "processed_at", "claimed_by", "claimed_until")
    query = sa.select(*(column for column in table if column.name not in hidden)).where(_in_state(state))
    if before is not None:
        query = query.where(table.id < before)
    query = query.order_by(table.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def find_webhook(connection: sa.Connection, webhook_id: str) -> sa.Row[Any] | None:
    """One event with its sealed payload."""
    return connection.execute(sa.select(marketplace_webhooks).where(table.webhook_id == webhook_id)).first()


def count(connection: sa.Connection, *, state: str) -> int:
    """How many events are in that state, as for `listed`."""
    return connection.scalar(sa.select(sa.func.count()).where(_in_state(state))) or 0


def _in_state(state: str) -> sa.ColumnElement[bool]:
    if state == "pending":
        return table.processed_at.is_(None)
    return table.id.is_not(None) if state == "all" else table.outcome == state


def free_dead(database: Database) -> int:
    """Ends the claims of workers that died without releasing them, without an attempt; returns how many."""
    dead = sa.and_(table.claimed_by.is_not(None), table.claimed_by.not_in(alive_workers()))
    with database.writing() as connection:
        return connection.execute(FREE.where(table.processed_at.is_(None), dead)).rowcount
