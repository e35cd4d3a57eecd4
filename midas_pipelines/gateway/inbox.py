"""Stores webhooks before they are answered; those that arrive together share one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import NewWebhook
from midas_pipelines.sync.threads import in_thread

MOST = 200
"""Webhooks stored in one transaction."""

BEAT_SECONDS = 5.0

Waiting = tuple[NewWebhook, "asyncio.Future[bool]"]


class Inbox:
    """Stores webhooks, from `run` to `stop`. While one transaction is under way the next ones gather."""

    def __init__(self, database: Database, on_new: Callable[[], None]) -> None:
        self._database = database
        self._on_new = on_new
        self._arrived: asyncio.Queue[Waiting | None] = asyncio.Queue()
        self._stopping = False

    async def take(self, webhook: NewWebhook) -> bool:
        """Stores it; True when its id is new. Raises what the database raises: then it is not stored."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._arrived.put_nowait((webhook, stored))
        return await stored

    def stop(self) -> None:
        """Makes `run` end once what has arrived is stored."""
        self._stopping = True
        self._arrived.put_nowait(None)

    async def run(self, beat: Callable[[], None]) -> None:
        """Stores what arrives; `beat` is called now and then, arrivals or not."""
        while not self._stopping or not self._arrived.empty():
            beat()
            batch: list[Waiting | None] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    batch.append(await self._arrived.get())
            while not self._arrived.empty() and len(batch) < MOST:
                batch.append(self._arrived.get_nowait())
            arrived = [one for one in batch if one is not None]
            if arrived:
                await self._store(arrived)

    async def _store(self, batch: list[Waiting]) -> None:
        try:
            new = await in_thread(self._write, [webhook for webhook, _ in batch])
        except Exception as failed:
            if _is_of_one(failed) and len(batch) > 1:
                for one in batch:
                    await self._store([one])
                return
            for _, stored in batch:
                _answer(stored, failed)
            return
        if new:
            self._on_new()
        for webhook, stored in batch:
            _answer(stored, webhook.webhook_id in new)
            new.discard(webhook.webhook_id)  # of several with one id in a batch the first is the new one

    def _write(self, arrived: list[NewWebhook]) -> set[str]:
        with self._database.writing() as connection:
            return webhooks.store_webhooks(connection, arrived)


def _is_of_one(failed: Exception) -> bool:
    """Whether one event alone may be why they could not be stored, such as a character that the database lacks."""
    return isinstance(failed, UnicodeError | sa.exc.DataError | sa.exc.IntegrityError)


def _answer(stored: asyncio.Future[bool], answer: bool | Exception) -> None:
    if stored.done():  # the caller has hung up
        return
    if isinstance(answer, Exception):
        stored.set_exception(answer)
    else:
        stored.set_result(answer)
