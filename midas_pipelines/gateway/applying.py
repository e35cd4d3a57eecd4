"""Applying webhooks: claimed in batches, orders imported together, products judged one by one, each settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import ContractBroken, FourSellerError, NotFound
from midas_pipelines.fourseller.pages import read_product
from midas_pipelines.gateway.events import ORDER_TYPES, PRODUCT_TYPES
from midas_pipelines.store import webhooks
from midas_pipelines.store.payloads import Vault
from midas_pipelines.store.webhooks import Outcome, Settled, Webhook, retry_or_set_aside
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.foreign import Verdict, judge_product
from midas_pipelines.sync.sold import Told, import_told

BATCH = 100
LEASE_SECONDS = 120
POLL_SECONDS = 1.0
AT_ONCE = 2
"""Batches under way at once. Few: what arrives meanwhile makes the next one larger, which costs far less."""

BUSY_PAUSES = (0.0, 0.05, 0.2)
BUSY_SECONDS = 1.0
"""How long an event waits whose item is being pushed this moment: a little in the worker's hands, then in the inbox."""

log = logging.getLogger(__name__)

OnSettled = Callable[[Settled, float], None]
"""Told of each event that was settled, with the seconds since it was received."""

SAID: dict[Verdict, str] = {
    Verdict.STRANGER: "No item is tied to this product.",
    Verdict.ECHO: "4Seller shows what it confirmed to us.",
    Verdict.DIFFERS: "Somebody changed it on 4Seller; the policy of the item says which side wins.",
    Verdict.GONE: "4Seller no longer has it; the item is listed anew if the shop still sells it.",
}


class Applier:
    """Applies webhooks as they come, from `run` to `stop`; `wake` says that there may be some."""

    def __init__(
        self, engine: Engine, client: FourSeller, vault: Vault, on_settled: OnSettled | None = None
    ) -> None:
        self._engine = engine
        self._client = client
        self._vault = vault
        self._on_settled = on_settled
        self._woken = asyncio.Event()
        self._stopping = False
        self._batches: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Makes it look at once; called in its event loop."""
        self._woken.set()

    def stop(self) -> None:
        """Makes `run` claim nothing more and end."""
        self._stopping = True
        self._woken.set()

    async def run(self, *, patience: float = 20.0) -> None:
        """Applies until it is stopped; then waits up to `patience` seconds for what is under way and releases the rest."""
        try:
            while not self._stopping:
                self._woken.clear()
                if not await self._look():
                    await self._nap()
        finally:
            if self._batches:
                _, unfinished = await asyncio.wait(self._batches, timeout=patience)
                for batch in unfinished:
                    batch.cancel()
                await asyncio.gather(*unfinished, return_exceptions=True)
            await asyncio.to_thread(self._release)

    async def _nap(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _look(self) -> bool:
        """Starts a batch of what is due; False when nothing was, or no more may be begun now."""
        if len(self._batches) >= AT_ONCE:
            return False
        try:
            claimed = await asyncio.to_thread(self._claim)
        except sa.exc.DBAPIError as failed:
            log.warning("The database did not answer: %s", type(failed.orig).__name__)
            return False
        orders = [one for one in claimed if one.type in ORDER_TYPES]
        for part in (orders, [one for one in claimed if one.type not in ORDER_TYPES]):
            if part:
                batch = asyncio.create_task(self._apply(part))
                self._batches.add(batch)
                batch.add_done_callback(self._done)
        return bool(claimed)

    def _done(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self._woken.set()
        if not batch.cancelled() and batch.exception() is not None:
            log.error(
                "Webhooks could not be settled; they are claimed again later", exc_info=batch.exception()
            )

    def _claim(self) -> list[Webhook]:
        database = self._engine.database
        with database.reading() as connection:
            if not webhooks.any_due(connection):
                return []
        with database.writing() as connection:
            return webhooks.claim(
                connection, worker=self._engine.worker, lease_seconds=LEASE_SECONDS, limit=BATCH
            )

    async def _apply(self, claimed: list[Webhook]) -> None:
        if claimed[0].type in ORDER_TYPES:
            settled = await self._apply_orders(claimed)
        else:
            settled = list(await asyncio.gather(*(self._apply_other(webhook) for webhook in claimed)))
        await asyncio.to_thread(self._settle, settled)
        now = datetime.now(UTC)
        for one in settled:
            if self._on_settled is not None:
                self._on_settled(one, (now - one.webhook.received_at).total_seconds())

    def _settle(self, settled: Sequence[Settled]) -> None:
        with self._engine.database.writing() as connection:
            webhooks.settle(connection, settled, worker=self._engine.worker)

    def _release(self) -> None:
        with self._engine.database.writing() as connection:
            webhooks.release(connection, self._engine.worker)

    # orders

    async def _apply_orders(self, claimed: list[Webhook]) -> list[Settled]:
        opened = await asyncio.gather(*(self._open_order(webhook) for webhook in claimed))
        ready = [
            (webhook, data) for webhook, data in zip(claimed, opened, strict=True) if isinstance(data, dict)
        ]
        failed = [one for one in opened if isinstance(one, Settled)]
        return failed + await asyncio.to_thread(self._import, ready)

    async def _open_order(self, webhook: Webhook) -> dict[str, Any] | Settled:
        """The order as the event had it; asked for anew where the stored event has lost its buyer."""
        try:
            data: dict[str, Any] = await asyncio.to_thread(self._vault.open, webhook.payload)
            if self._vault.keeps_all or not data.get("id"):
                return data
            return (await self._client.order(str(data["id"]))).raw
        except NotFound:
            reason = "4Seller does not know the order, and the stored event is without its buyer."
            return Settled(webhook, Outcome.SET_ASIDE, reason)
        except (ValueError, FourSellerError) as failed:
            return retry_or_set_aside(webhook, str(failed))

    def _import(self, ready: list[tuple[Webhook, dict[str, Any]]]) -> list[Settled]:
        """Imports all at once; when that fails, each alone, so that a bad one is the only one to wait."""
        if not ready:
            return []
        try:
            told = import_told(self._engine, [data for _, data in ready], self._vault)
            return [_settled(webhook, one) for (webhook, _), one in zip(ready, told, strict=True)]
        except Exception as failed:
            if len(ready) == 1:
                log.warning("Webhook %s failed: %s", ready[0][0].webhook_id, type(failed).__name__)
                return [retry_or_set_aside(ready[0][0], _why(failed))]
        return [settled for one in ready for settled in self._import([one])]

    # products

    async def _apply_other(self, webhook: Webhook) -> Settled:
        if webhook.type not in PRODUCT_TYPES:
            reason = (
                f"Its type {webhook.type} is none that the contract names; it is kept, and nothing was done."
            )
            return Settled(webhook, Outcome.SET_ASIDE, reason)
        try:
            data = await asyncio.to_thread(self._vault.open, webhook.payload)
            return _judged(webhook, await self._judge(webhook, data))
        except ContractBroken as broken:
            return Settled(webhook, Outcome.SET_ASIDE, f"The product cannot be read: {broken}")
        except Exception as failed:
            return retry_or_set_aside(webhook, _why(failed))

    async def _judge(self, webhook: Webhook, data: dict[str, Any]) -> Verdict:
        product = read_product({**data, "id": data.get("id") or data.get("product_id")})
        gone = webhook.type == "product.deleted"
        whole = None if gone or "title" not in data else product
        verdict = Verdict.BUSY
        for pause in BUSY_PAUSES:  # an echo is often here before its push is acknowledged
            await asyncio.sleep(pause)
            waited = (datetime.now(UTC) - webhook.received_at).total_seconds()
            verdict = await judge_product(
                self._engine, self._client, product.id, whole, waited_seconds=waited
            )
            if verdict is not Verdict.BUSY:
                break
        return verdict


def _settled(webhook: Webhook, told: Told) -> Settled:
    return Settled(webhook, Outcome(told.ended), told.reason)


def _judged(webhook: Webhook, verdict: Verdict) -> Settled:
    if verdict is Verdict.BUSY:
        reason = "Its item is being pushed, or an order may explain its quantity."
        return Settled(webhook, None, reason, wait_seconds=BUSY_SECONDS, counts=False)
    return Settled(webhook, Outcome.APPLIED, SAID[verdict])


def _why(failed: Exception) -> str:
    """The trouble in words; of a database's only its kind, for its text may quote a row."""
    if isinstance(failed, FourSellerError):
        return str(failed)
    kind = failed.orig if isinstance(failed, sa.exc.DBAPIError) else failed
    return f"{type(kind).__name__} while it was applied."
