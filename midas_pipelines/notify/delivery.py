"""Sends the outbox: due alerts go to each target as one message; what a target did not accept is retried.

A failing target never fails a sync: its alerts wait, with backoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from midas_pipelines.console_pages import in_console, page_of
from midas_pipelines.notify.alerts import NEWS
from midas_pipelines.notify.targets import Target, TargetFailed
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.alert_tables import alerts
from midas_pipelines.storefront.types import Backoff, utc_now

AT_ONCE = 50
"""The most alerts in one message; the rest follow in the next."""
LEASE_SECONDS = 300
RETRY = Backoff(first=60, longest=3600, other=LEASE_SECONDS)


@dataclass
class Delivered:
    """The result of a delivery; counts of alerts."""

    sent: int = 0
    waiting: int = 0  # at least one target has not accepted them
    problems: list[str] = field(default_factory=list)  # sentences, no addresses


def deliver(database: Database, targets: Sequence[Target], console_url: str | None = None) -> Delivered:
    """Sends every due alert to every target that has not accepted it yet; raises nothing for a failing target.

    Each alert reaches each target at least once: a crash after sending and before recording it sends it twice.
    Without targets, alerts stay in the outbox and `midas alerts list` shows them. With the console's address, a message
    links to the page where the alert is settled and names no command for it.
    """
    result = Delivered()
    while targets and (due := _take(database)):
        took: dict[int, set[str]] = {row["id"]: set(row["sent_to"] or []) for row in due}
        reasons = [
            reason for target in targets if (reason := _send(target, due, took, console_url)) is not None
        ]
        _note(database, due, took, {target.fingerprint for target in targets}, reasons, result)
        result.problems += [reason for reason in reasons if reason not in result.problems]
    return result


def send_test(targets: Sequence[Target], by: str) -> list[str]:
    """Sends a message to each target; returns a sentence for each that did not accept it."""
    problems = []
    for target in targets:
        try:
            target.send("midas: test", f"A test message, sent by {by}. Alerts of the shop arrive here.")
        except TargetFailed as failed:
            problems.append(str(failed).replace("; it will be retried", ""))
    return problems


def something_due(database: Database) -> bool:
    """Whether an alert waits to be sent now."""
    with database.reading() as connection:
        return connection.execute(_due().limit(1)).first() is not None


def _due() -> sa.Select[Any]:
    return (
        sa.select(alerts)
        .where(alerts.c.sent_at.is_(None), alerts.c.cleared_at.is_(None))
        .where(sa.func.coalesce(alerts.c.snoozed_until <= utc_now(), sa.true()))
        .where(RETRY.is_due(alerts.c.next_attempt_at, alerts.c.attempts))
        .order_by(alerts.c.id)
    )


def _take(database: Database) -> list[dict[str, Any]]:
    """Claims some due alerts with a lease, so that no other process sends them at the same time."""
    with database.writing() as connection:
        query = _due().limit(AT_ONCE).with_for_update(skip_locked=True)
        due = [dict(row) for row in connection.execute(query).mappings()]
        if due:
            held = sa.update(alerts).where(alerts.c.id.in_([row["id"] for row in due]))
            connection.execute(held.values(next_attempt_at=utc_now(LEASE_SECONDS)))
    return due


def _send(
    target: Target, due: list[dict[str, Any]], took: dict[int, set[str]], console_url: str | None
) -> str | None:
    fresh = [row for row in due if target.fingerprint not in took[row["id"]]]
    if not fresh:
        return None
    try:
        target.send(*message([(row["kind"], _linked(row, console_url)) for row in fresh]))
    except TargetFailed as failed:
        return str(failed)
    for row in fresh:
        took[row["id"]].add(target.fingerprint)
    return None


def _linked(alert: dict[str, Any], console_url: str | None) -> str:
    return in_console(alert["text"], console_url, page=page_of(alert["kind"], alert["subject"]))


def message(entries: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Title and body for alerts, each a kind and its text; several become a list."""
    if len(entries) == 1:
        kind, text = entries[0]
        return f"midas: {kind.replace('_', ' ')}", text
    kinds = ", ".join(sorted({kind.replace("_", " ") for kind, _ in entries}))
    return f"midas: {len(entries)} alerts ({kinds})", "\n".join(f"- {text}" for _, text in entries)


def _note(
    database: Database,
    due: list[dict[str, Any]],
    took: dict[int, set[str]],
    wanted: set[str],
    reasons: list[str],
    result: Delivered,
) -> None:
    with database.writing() as connection:
        for row in due:
            done = wanted <= took[row["id"]]
            result.sent += done
            result.waiting += not done
            values: dict[str, Any] = {"sent_to": sorted(took[row["id"]]), "attempts": row["attempts"] + 1}
            if done:
                values |= {"sent_at": utc_now(), "reason": None}
                values |= {"cleared_at": utc_now()} if row["kind"] in NEWS else {}
            else:
                wait = RETRY.seconds(row["attempts"] + 1)
                values |= {"next_attempt_at": utc_now(round(wait)), "reason": " ".join(reasons)}
            connection.execute(sa.update(alerts).where(alerts.c.id == row["id"]).values(values))
