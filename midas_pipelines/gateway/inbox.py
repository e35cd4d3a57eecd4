"""Taking webhooks in: on disk before they are answered, many in one transaction when many arrive at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from midas_pipelines.store import webhooks
from midas_pipelines.store.database import Database
from midas_pipelines.store.webhooks import NewWebhook

MOST = 200
"""Webhooks stored in one transaction."""

Waiting = tuple[NewWebhook, "asyncio.Future[bool]"]


class Inbox:
    """Stores webhooks, from `run` until it is cancelled. While one transaction is under way the next ones gather."""

    def __init__(self, database: Database, on_new: Callable[[], None]) -> None:
        self._database = database
        self._on_new = on_new
        self._arrived: asyncio.Queue[Waiting] = asyncio.Queue()

    async def take(self, webhook: NewWebhook) -> bool:
        """Stores it; True when its id is new. Raises what the database raises: then it is not stored."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._arrived.put_nowait((webhook, stored))
        return await stored

    async def run(self) -> None:
        """Stores what arrives."""
        while True:
            batch = [await self._arrived.get()]
            while not self._arrived.empty() and len(batch) < MOST:
                batch.append(self._arrived.get_nowait())
            await self._store(batch)

    async def _store(self, batch: list[Waiting]) -> None:
        try:
            new = await asyncio.to_thread(self._write, [webhook for webhook, _ in batch])
        except Exception as failed:
            for _, stored in batch:
                _tell(stored, failed)
            return
        if new:
            self._on_new()
        for webhook, stored in batch:
            _tell(stored, webhook.webhook_id in new)
            new.discard(webhook.webhook_id)  # of several with one id in a batch the first is the new one

    def _write(self, arrived: list[NewWebhook]) -> set[str]:
        with self._database.writing() as connection:
            return webhooks.take_in(connection, arrived)


def _tell(stored: asyncio.Future[bool], answer: bool | Exception) -> None:
    if stored.done():  # whoever asked has hung up
        return
    if isinstance(answer, Exception):
        stored.set_exception(answer)
    else:
        stored.set_result(answer)
