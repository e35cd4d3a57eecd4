"""Sends the outbox: due alerts go to each target, an apprise address of MIDAS_NOTIFY_URLS, as one message.

What a target did not accept is retried with backoff; a failing target never fails a sync.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from midas_pipelines.console_pages import in_console, page_of
from midas_pipelines.mail_address import header_text
from midas_pipelines.notify.alerts import NEWS
from midas_pipelines.settings import SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.operation_tables import alerts
from midas_pipelines.storefront.types import Backoff, utc_now

AT_ONCE = 50  # the most alerts in one message; the rest follow in the next
LEASE_SECONDS = 300
RETRY = Backoff(first=60)

logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings quote addresses


class TargetFailed(Exception):
    """A target did not accept a message; the text names the kind of target, never its address."""


@dataclass(frozen=True)
class Target:
    """An address such as `mailtos://user:password@example.com`; it may hold a password, so it is never shown."""

    url: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """A short digest that identifies the address without revealing it."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def kind(self) -> str:
        """The scheme, for people: `mailtos`, `slack`, `json`."""
        kind, parted, _ = self.url.partition("://")
        return kind if kind and parted else "unknown"

    def send(self, title: str, body: str) -> None:
        """Sends a message and waits until it is accepted. Raises TargetFailed."""
        import apprise  # takes half a second, and most runs have nothing to send

        service = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
        if not service.add(self.url):
            raise TargetFailed(f"{_not_understood(self)}: check its spelling.")
        try:
            taken = service.notify(body=body, title=header_text(title), body_format=apprise.NotifyFormat.TEXT)
        except Exception as error:  # a plug-in of apprise may raise anything
            raise TargetFailed(f"The {self.kind}:// target failed: {type(error).__name__}.") from None
        if not taken:
            raise TargetFailed(f"The {self.kind}:// target did not accept the message; it will be retried.")


def read_targets(urls: SecretStr | None) -> list[Target]:
    """The targets of a list of addresses, separated by white space or commas; none where unset."""
    text = re.sub(r"^[\s,]+|[\s,]+$", "", urls.get_secret_value()) if urls else ""
    # a comma may belong to an address, but not before a scheme
    parts = re.split(r"[\s,]+(?=[^\s,]+://)", text)
    return [Target(re.sub(r"[\s,]+", ",", part)) for part in parts if part]


def require_understood(urls: SecretStr | None) -> None:
    """Raises SettingsError, with the nearest kind of address, when apprise does not understand one of MIDAS_NOTIFY_URLS."""
    for target in read_targets(urls):
        import apprise

        if apprise.Apprise.instantiate(target.url) is not None:
            continue
        services = apprise.Apprise().details()["schemas"]
        parts = ("protocols", "secure_protocols")
        kinds = {kind for one in services for part in parts for kind in one[part] or ()}
        nearest = get_close_matches(target.kind, kinds - {target.kind}, n=1)
        known = target.kind in kinds or not nearest
        advice = "check its spelling." if known else f"did you mean {nearest[0]}://?"
        raise SettingsError(f"{_not_understood(target)}: {advice}")


def _not_understood(target: Target) -> str:
    return f"MIDAS_NOTIFY_URLS has a {target.kind}:// address that is not understood"


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
    links to the page where the alert is resolved and names no command for it.
    """
    result, wanted = Delivered(), {target.fingerprint for target in targets}
    while targets and (due := _take(database)):
        took: dict[int, set[str]] = {row["id"]: set(row["sent_to"] or []) for row in due}
        reasons = []
        for target in targets:
            fresh = [row for row in due if target.fingerprint not in took[row["id"]]]
            try:
                if fresh:
                    target.send(*_message(fresh, console_url))
            except TargetFailed as failed:
                reasons.append(str(failed))
                continue
            for row in fresh:
                took[row["id"]].add(target.fingerprint)
        result.problems += [reason for reason in reasons if reason not in result.problems]
        with database.writing() as connection:
            for row in due:
                attempts, sent = row["attempts"] + 1, wanted <= took[row["id"]]
                result.sent += sent
                result.waiting += not sent
                ended: dict[str, Any] = {"sent_at": utc_now(), "reason": None}
                if sent and row["kind"] in NEWS:
                    ended["cleared_at"] = utc_now()
                if not sent:
                    later = utc_now(round(RETRY.seconds(attempts)))
                    ended = {"next_attempt_at": later, "reason": " ".join(reasons)}
                values = {"sent_to": sorted(took[row["id"]]), "attempts": attempts, **ended}
                connection.execute(sa.update(alerts).where(alerts.c.id == row["id"]).values(values))
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
    return bool(database.rows(_due().limit(1)))


def _due() -> sa.Select[Any]:
    return (
        sa.select(alerts)
        .where(alerts.c.sent_at.is_(None), alerts.c.cleared_at.is_(None))
        .where(sa.func.coalesce(alerts.c.snoozed_until <= utc_now(), sa.true()))
        .where(RETRY.is_due(alerts.c.next_attempt_at))
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


def _message(rows: Sequence[dict[str, Any]], console_url: str | None) -> tuple[str, str]:
    """Title and body for alerts; several become a list."""
    texts = [in_console(row["text"], console_url, page=page_of(row["kind"], row["subject"])) for row in rows]
    kinds = ", ".join(sorted({row["kind"].replace("_", " ") for row in rows}))
    if len(texts) == 1:
        return f"midas: {kinds}", texts[0]
    return f"midas: {len(texts)} alerts ({kinds})", "\n".join(f"- {text}" for text in texts)
