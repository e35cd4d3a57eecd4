"""Probes of what is around: gateway and webhooks, mail, alerts, Dagster, disk, the encryption key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal

import httpx
import sqlalchemy as sa
from standardwebhooks import Webhook

from midas_pipelines.notify.alerts import DAGSTER, GONE
from midas_pipelines.notify.delivery import read_targets, require_understood
from midas_pipelines.notify.mail import MailError, SmtpConnection
from midas_pipelines.settings import Settings, SettingsError
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import read_cursor
from midas_pipelines.store.orders.payload_vault import payloads_by_key
from midas_pipelines.store.privacy.keys import key_is_there, key_ring, key_source
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks

HOOK = "/api/marketplace/webhooks"
SECONDS = 5.0
LEAST_FREE = 1_000_000_000  # bytes
NO_EVENT = 400  # the gateway's status for what is signed rightly and is no event: nothing is stored


@dataclass(frozen=True)
class Finding:
    """What was checked, what was found, and what to do, which is empty where all is well. A warning works for now,
    or is not set; what is wrong keeps the system from working."""

    state: Literal["ok", "warning", "wrong"]
    check: str
    found: str
    next_step: str = ""


ok, warning, wrong = partial(Finding, "ok"), partial(Finding, "warning"), partial(Finding, "wrong")


def unless(problem: str, check: str, next_step: str, well: str) -> Finding:
    """That the check is `well`, or wrong where there is a problem."""
    return wrong(check, problem, next_step) if problem else ok(check, well)


def webhook_lines(settings: Settings, database: Database | None) -> Iterator[Finding]:
    """Whether the gateway runs and takes what is signed, and whether 4Seller's events reach it; nothing is stored."""
    secret = settings.fourseller_webhook_secret
    host = "127.0.0.1" if settings.gateway_host in ("0.0.0.0", "::") else settings.gateway_host  # noqa: S104 - compared with, never listened on
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.gateway_port}"
    if secret is None:
        step = "Set FOURSELLER_WEBHOOK_SECRET from your 4Seller account; until then orders come by polling."
        yield warning("webhooks", "No secret is set, so that none is accepted.", step)
    try:
        with httpx.Client(base_url=url, timeout=SECONDS, trust_env=False) as gateway:
            gateway.get("/healthz").raise_for_status()
            yield ok("gateway", f"It runs at {url}.")
            if secret is not None:
                yield _signed(gateway, secret.get_secret_value().split(",")[0].strip())
    except httpx.HTTPError as failed:
        step = "Start it with `midas gateway`, and see that 4Seller reaches it through your proxy."
        yield warning("gateway", f"None answers at {url} ({type(failed).__name__}).", step)
    yield _received(settings.fourseller_api_url, database)


def _signed(gateway: httpx.Client, secret: str) -> Finding:
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": "midas_doctor",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("midas_doctor", now, "{}"),
    }
    right = gateway.post(HOOK, content=b"{}", headers=headers).status_code
    unsigned = gateway.post(HOOK, content=b"{}").status_code
    found = f"The gateway answers {right} to a signed call, {unsigned} to another."
    step = "Start the gateway again with the same FOURSELLER_WEBHOOK_SECRET as here."
    well = "The gateway accepts what is signed, and refuses what is not."
    return unless(found if (right, unsigned) != (NO_EVENT, 401) else "", "webhooks", step, well)


def _received(api_url: str, database: Database | None) -> Finding:
    """Whether a webhook arrives that 4Seller is asked for, which only the sandbox offers; else when the last one came."""
    url = httpx.URL(api_url).copy_with(path="/__sandbox/webhooks/try")
    with suppress(httpx.HTTPError):
        answer = httpx.post(url, timeout=SECONDS, trust_env=False) if url.scheme == "http" else None
        if answer is not None and answer.is_success:
            sent = answer.json()
            if sent["status"] == NO_EVENT:
                return ok("webhooks received", f"4Seller was asked for one, and it reached {sent['url']}.")
            step = "Set the gateway's address and FOURSELLER_WEBHOOK_SECRET at 4Seller as they are here."
            came = f"{sent['url'] or 'it has no address'} answered {sent['status']}"
            return warning("webhooks received", f"4Seller was asked for one: {came}.", step)
    last = None
    if database is not None:
        last = database.scalar(sa.select(sa.func.max(marketplace_webhooks.c.received_at)))
    if last is not None:
        return ok("webhooks received", f"The last one came at {last:%Y-%m-%d %H:%M} UTC.")
    step = "Change a product or place an order at 4Seller, and see that an event comes."
    found = "None came yet. 4Seller could not be asked for one: its API has no call for that."
    return warning("webhooks received", found, step)


def mail_lines(settings: Settings) -> Iterator[Finding]:
    """The mail server, without sending anything, and the addresses of alerts."""
    if settings.smtp_url is None:
        step = "Set MIDAS_SMTP_URL and MIDAS_MAIL_FROM to send it."
        yield warning("mail", "No mail is sent to customers.", step)
    elif not settings.mail_from:
        yield wrong(
            "mail", "MIDAS_MAIL_FROM is not set.", "Set the sender, such as Shop <orders@example.com>."
        )
    else:
        refused, url = "", settings.smtp_url.get_secret_value()
        try:
            with SmtpConnection(url, settings.mail_from, encrypted=settings.mail_encrypted) as smtp:
                smtp.check()
        except MailError as failed:
            refused = str(failed)
        yield unless(
            refused, "mail", "Correct MIDAS_SMTP_URL.", "The server answers, and takes the password."
        )
    require_understood(settings.notify_urls)
    if targets := read_targets(settings.notify_urls):
        yield ok("alerts", f"They go to {', '.join(sorted({target.kind for target in targets}))}.")
    else:
        step = "Set MIDAS_NOTIFY_URLS; until then `midas alerts list` shows them."
        yield warning("alerts", "No address is set for them.", step)


def dagster_lines(settings: Settings, database: Database | None) -> Iterator[Finding]:
    """Dagster's home and storage, and whether its schedules run."""
    if not settings.dagster_home:
        step = "Set DAGSTER_HOME and run `midas instance prepare`; syncs by hand work without."
        yield warning("Dagster", "DAGSTER_HOME is not set: runs leave no history.", step)
    elif not (settings.home() / "dagster.yaml").exists():
        yield wrong("Dagster", "There is no dagster.yaml in DAGSTER_HOME.", "Run `midas instance prepare`.")
    else:
        import dagster as dg  # takes a second to load

        try:
            with dg.DagsterInstance.get() as instance:
                instance.get_runs(limit=1)
            yield ok("Dagster", "Its home is prepared, and its storage answers.")
        except Exception as failed:  # Dagster raises errors of many libraries
            step = "See MIDAS_DAGSTER_POSTGRES_URL, then run `midas instance prepare`."
            yield wrong("Dagster", f"Its storage does not answer: {type(failed).__name__}.", step)
    if not settings.schedules:
        yield warning("schedules", "They are off.", "Set MIDAS_SCHEDULES=true to start them.")
        return
    last = read_cursor(database, f"heartbeat:{DAGSTER}") if database is not None else None
    if database is None or last is None or database.now() - last > GONE:
        yield warning("schedules", "They are on, and Dagster's daemon does not report.", "Start Dagster.")
    else:
        paused = f"; off are {settings.paused}" if settings.paused else ""
        yield ok("schedules", f"They are on, and Dagster's daemon reports{paused}.")


def place_lines(settings: Settings, database: Database | None) -> Iterator[Finding]:
    """Disk, encryption key and modes that hold writes back."""
    home = settings.home()
    free = shutil.disk_usage(home if home.is_dir() else ".").free
    found = f"{free / 1e9:.1f} GB are free."
    little = free < LEAST_FREE
    yield warning("disk", found, "Free some: history and databases grow.") if little else ok("disk", found)
    yield _key(settings, database)
    if on := settings.shadow:
        yield warning("shadow mode", f"It is on for {on}.", "`midas shadow` shows what is kept back.")


def _key(settings: Settings, database: Database | None) -> Finding:
    """The key that seals buyers' payloads, and whether it opens those that are stored."""
    source, there = key_source(settings), key_is_there(settings)
    try:
        keys = key_ring(settings).all() if there else ()
    except SettingsError as failed:
        return wrong("encryption key", str(failed), "Without the key no order can be stored.")
    known, sealed = {key.key_id for key in keys}, payloads_by_key(database) if database else {}
    closed = {name: count for name, count in sealed.items() if name not in known}
    found = f"{sum(closed.values())} payloads are sealed with a key that is missing: {', '.join(closed)}."
    step = f"Put it back into {source}; without it they stay closed."
    well = f"None yet: the first order makes {source}. Keep a copy of it then."
    if keys:
        well = f"Payloads are sealed with the key {keys[0].key_id}, from {source}."
    return unless(found if closed else "", "encryption key", step, well)
