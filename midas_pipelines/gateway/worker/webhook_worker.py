"""The webhook worker: claims webhooks in batches, imports orders together, checks products one by one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import (
    BadCredentials,
    ContractBroken,
    FourSellerError,
    RateLimited,
    Unavailable,
)
from midas_pipelines.fourseller.lenient import id_in
from midas_pipelines.fourseller.models import Product, read_product
from midas_pipelines.gateway.inbox import ORDER_TYPES, PRODUCT_TYPES
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import (
    FinishedWebhook,
    Webhook,
    WebhookOutcome,
    retry_or_quarantine,
)
from midas_pipelines.store.operations.cursors import key_refused_at
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.storefront.writing import in_short
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.batch import WebhookResult, import_order_webhooks
from midas_pipelines.sync.orders.intake.importer import LOCKED, SLOW
from midas_pipelines.sync.reconcile.product_events import EventResult, handle_product_event
from midas_pipelines.sync.threads import in_thread

BATCH = 100
LEASE_SECONDS, MARGIN_SECONDS = 120, 20
"""How long a claim holds; a batch that is not done `MARGIN_SECONDS` before its end is retried."""

SLOW_ORDERS = 6
"""How many orders that take long are imported at once, each alone, beside the batches; more of them are retried soon."""

POLL_SECONDS = 1.0
FINISH_PAUSES = (0.2, *[1.0] * MARGIN_SECONDS)
"""Waits between tries to write outcomes while the database is down; after them the claims end."""

BUSY_PAUSES = (0.0, 0.05, 0.2)
BUSY_SECONDS = 1.0
"""How long an event waits while its item is being pushed: briefly in the worker, then in the inbox."""

log = logging.getLogger(__name__)

OUTAGE_SECONDS = 5.0
"""How long an event waits that 4Seller could not be asked about: an outage costs it no attempt."""

OnFinished = Callable[[FinishedWebhook, float], None]
"""Called with each finished event, and the seconds since it was received."""

Opened = tuple[Webhook, dict[str, Any]]
Apply = Callable[[list[Webhook]], Awaitable[list[FinishedWebhook]]]

SAID: dict[EventResult, str] = {
    EventResult.STRANGER: "No item is tied to this product.",
    EventResult.ECHO: "4Seller shows what it confirmed to us.",
    EventResult.DIFFERS: "Somebody changed it on 4Seller; the policy of the item says which side wins.",
    EventResult.GONE: "4Seller no longer has it; the item is listed again if the shop still sells it.",
}


@dataclass(eq=False)
class WebhookWorker:
    """Applies webhooks as they come, from `run` to `stop`; `wake` says that there may be some.

    Events on orders and all others go side by side, so that no sale waits for echoes of our own pushes.
    """

    context: SyncContext
    client: FourSeller
    vault: Vault  # opens the stored events
    import_sales: Callable[[], Awaitable[object]]  # shared by all who ask at one time
    on_finished: OnFinished  # called in the event loop; must return at once and raise nothing

    def __post_init__(self) -> None:
        self._woken = {True: asyncio.Event(), False: asyncio.Event()}
        self._stopping = False
        self._slow: set[asyncio.Task[None]] = set()  # imports of one order each

    def wake(self) -> None:
        """Makes it look at once; called in its event loop."""
        for woken in self._woken.values():
            woken.set()

    def stop(self) -> None:
        """Makes `run` claim nothing more and end."""
        self._stopping = True
        self.wake()

    async def run(self, beat: Callable[[], None], *, orders: bool) -> None:
        """Applies events on orders, or all others, until it is stopped, a batch at a time: what arrives meanwhile
        makes the next one larger, which costs far less than one more."""
        while not self._stopping:
            beat()
            self._woken[orders].clear()
            claimed = await self._claim(orders)
            if claimed:
                await self._apply(claimed, self._apply_orders if orders else self._apply_others)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken[orders].wait()

    async def release(self) -> None:
        """Releases the remaining claims, after `run` has ended and with it what was under way."""
        await asyncio.gather(*self._slow, return_exceptions=True)
        await in_thread(self.context.database.write, webhooks.release_webhooks, self.context.worker)

    async def _claim(self, orders: bool) -> list[Webhook]:
        try:
            return await in_thread(self._claim_due, orders)
        except sa.exc.SQLAlchemyError as failed:
            log.warning("Webhooks cannot be claimed now: %s", in_short(failed))
            return []

    def _claim_due(self, orders: bool) -> list[Webhook]:
        database, worker = self.context.database, self.context.worker
        with database.reading() as connection:
            if not webhooks.any_due(connection, orders=orders):
                return []
            if not orders and key_refused_at(connection, self.context.access) is not None:
                return []  # each would ask 4Seller, which refuses the key
        with database.writing() as connection:
            return webhooks.claim(
                connection, worker=worker, lease_seconds=LEASE_SECONDS, limit=BATCH, orders=orders
            )

    async def _apply(self, claimed: list[Webhook], apply: Apply) -> None:
        try:
            async with asyncio.timeout(LEASE_SECONDS - MARGIN_SECONDS):
                finished = await apply(claimed)
        except Exception as failed:
            finished = [_again(webhook, failed) for webhook in claimed]
        for pause in FINISH_PAUSES:
            if await self._finish(finished) or self._stopping:
                break
            await asyncio.sleep(pause)
        now = datetime.now(UTC)
        for one in finished:
            self.on_finished(one, (now - one.webhook.received_at).total_seconds())

    async def _finish(self, finished: Sequence[FinishedWebhook]) -> bool:
        context = self.context
        try:
            await in_thread(context.database.write, webhooks.finish_webhooks, finished, worker=context.worker)
        except sa.exc.SQLAlchemyError as failed:
            log.warning("The outcomes of webhooks cannot be written now: %s", in_short(failed))
            return False
        return True

    def _open(self, claimed: Sequence[Webhook]) -> tuple[list[Opened], list[FinishedWebhook]]:
        """What the stored events hold, and those of no known type or that cannot be opened."""
        opened: list[Opened] = []
        failed: list[FinishedWebhook] = []
        for webhook in claimed:
            if webhook.type not in ORDER_TYPES | PRODUCT_TYPES:
                reason = f"Unknown event type {webhook.type}. Stored, not applied."
                failed.append(FinishedWebhook(webhook, WebhookOutcome.QUARANTINED, reason))
                continue
            try:
                opened.append((webhook, self.vault.open(webhook.payload)))
            except ValueError as why:
                failed.append(retry_or_quarantine(webhook, str(why)))
        return opened, failed

    # orders

    async def _apply_orders(self, claimed: list[Webhook]) -> list[FinishedWebhook]:
        """Imports what takes no long wait, and has each other order imported beside the next batches: a slow one is tried in
        one batch only."""
        known = {webhook.subject for webhook in claimed if webhook.reason == SLOW}
        finished = [_postponed(webhook, SLOW) for webhook in claimed if webhook.subject in known]
        others = [webhook for webhook in claimed if webhook.subject not in known]
        finished += await self._import_orders(others, hurried=True)
        slow: dict[str | None, list[Webhook]] = {}
        for one in finished:
            if one.outcome is None and one.reason in (LOCKED, SLOW):
                slow.setdefault(one.webhook.subject, []).append(one.webhook)
        apart = list(slow.values())[: SLOW_ORDERS - len(self._slow)]
        for of_order in apart:
            task = asyncio.create_task(self._apply(of_order, partial(self._import_orders, hurried=False)))
            self._slow.add(task)
            task.add_done_callback(self._slow_ended)
        under_way = {webhook.id for of_order in apart for webhook in of_order}
        return [one for one in finished if one.webhook.id not in under_way]

    def _slow_ended(self, task: asyncio.Task[None]) -> None:
        self._slow.discard(task)
        self._woken[True].set()  # a later event of the order could not be claimed until now

    async def _import_orders(self, claimed: list[Webhook], *, hurried: bool) -> list[FinishedWebhook]:
        opened, finished = await in_thread(self._open, claimed)
        orders = [data for _, data in opened]
        try:
            results = await in_thread(
                import_order_webhooks, self.context, orders, self.vault, hurried=hurried
            )
        except Exception as failed:
            log.warning("%d webhooks failed: %s", len(opened), in_short(failed))
            return finished + [_again(webhook, failed) for webhook, _ in opened]
        return finished + [_finished(webhook, one) for (webhook, _), one in zip(opened, results, strict=True)]

    # products

    async def _apply_others(self, claimed: list[Webhook]) -> list[FinishedWebhook]:
        opened, finished = await in_thread(self._open, claimed)
        products: dict[str, list[tuple[Webhook, Product | None]]] = {}
        for webhook, data in opened:
            try:
                product = read_product({**data, "id": id_in(data, "id") or id_in(data, "product_id")})
            except ContractBroken as broken:
                reason = f"The product cannot be read: {broken}"
                finished.append(FinishedWebhook(webhook, WebhookOutcome.QUARANTINED, reason))
                continue
            whole = webhook.type != "product.deleted" and "title" in data
            products.setdefault(product.id, []).append((webhook, product if whole else None))
        judged = await asyncio.gather(*(self._judge(*one) for one in products.items()))
        return finished + [one for of_product in judged for one in of_product]

    async def _judge(
        self, product_id: str, events: list[tuple[Webhook, Product | None]]
    ) -> list[FinishedWebhook]:
        """Checks all events of one product together: reads it from 4Seller once."""
        result = EventResult.BUSY
        reports = [product for _, product in events]
        try:
            for pause in BUSY_PAUSES:  # an echo is often here before its push is acknowledged
                await asyncio.sleep(pause)
                waited = (datetime.now(UTC) - events[0][0].received_at).total_seconds()
                result = await handle_product_event(
                    self.context, self.client, product_id, reports, self.import_sales, waited_seconds=waited
                )
                if result is not EventResult.BUSY:
                    break
        except Exception as failed:
            return [_again(webhook, failed) for webhook, _ in events]
        grace = self.context.settings.read_back_grace_seconds
        return [_judged(webhook, result, grace) for webhook, _ in events]


def _finished(webhook: Webhook, result: WebhookResult) -> FinishedWebhook:
    if result.ended == "postponed":
        return _postponed(webhook, str(result.reason))
    if result.ended == "refused":
        return retry_or_quarantine(webhook, str(result.reason))
    return FinishedWebhook(webhook, WebhookOutcome(result.ended), result.reason)


def _postponed(webhook: Webhook, reason: str, seconds: float = BUSY_SECONDS) -> FinishedWebhook:
    """To be tried again after so many seconds; the try costs it no attempt."""
    return FinishedWebhook(webhook, None, reason, wait_seconds=seconds, counts=False)


def _judged(webhook: Webhook, result: EventResult, grace: float) -> FinishedWebhook:
    if result is EventResult.FRESH:
        reason = "Its item was pushed a moment ago; 4Seller may still show what was before."
        return _postponed(webhook, reason, grace)
    if result is EventResult.BUSY:
        return _postponed(webhook, "Its item is being pushed, or an order may explain its quantity.")
    return FinishedWebhook(webhook, WebhookOutcome.APPLIED, SAID[result])


def _again(webhook: Webhook, failed: Exception) -> FinishedWebhook:
    if isinstance(failed, Unavailable | RateLimited | BadCredentials):
        return _postponed(webhook, str(failed), OUTAGE_SECONDS)
    # of a database's error only its class: its text may quote a row
    why = str(failed) if isinstance(failed, FourSellerError) else f"{in_short(failed)} while it was applied."
    return retry_or_quarantine(webhook, why)
