"""The gateway's parts, one of each per process, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from midas_pipelines.gateway.dagster_launcher import DagsterLauncher
from midas_pipelines.gateway.inbox import Inbox, Verifier
from midas_pipelines.gateway.worker.reports import DagsterEvents, Metrics
from midas_pipelines.gateway.worker.run import Supervisor, Worker
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.intake.pages import OrderReport
from midas_pipelines.sync.orders.intake.poll import import_orders
from midas_pipelines.sync.threads import OneAtATime, in_own_loop, own_threads

CALL_THREADS = 16  # threads for the database work of calls; fewer than their connections

log = logging.getLogger(__name__)


class Background:
    """Work that a click began and that goes on after its answer; it ends with the process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the work; what it raises is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Work that a click began has failed: %s", type(error).__name__, exc_info=error)

    async def stop(self) -> None:
        """Ends what is under way; what was not sent stays as it was."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Service:
    """The gateway's parts; `with_worker` is whether this process also applies and pushes. Raises SettingsError for
    an invalid webhook secret or payload key."""

    def __init__(self, settings: Settings, database: Database, *, with_worker: bool = True) -> None:
        self.settings = settings
        url = database.engine.url
        # Each part has connections of its own, so that what uses up one part's holds up no other.
        self.database = Database(url, settings.limits("gateway"))  # calls
        self.read, self.write = self.database.read, self.database.write
        self.door = Database(url, settings.limits("gateway"))  # webhooks coming in, and probes
        self.workshop = Database(url, settings.limits("worker"))
        self._probes = ThreadPoolExecutor(1, thread_name_prefix="midas-probes")
        self.started_at = datetime.now(UTC)
        self.vault = vault_of(settings)
        self.vault.ring.newest()  # a key that is missing ends the start, not the first webhook
        self.verifier = Verifier(settings.fourseller_webhook_secret)
        self.metrics = Metrics(self.database)
        self.lineage = DagsterEvents(settings, database=self.workshop)
        self.orchestrator = DagsterLauncher(settings.dagster_url)
        self.supervisor = Supervisor()
        self.background = Background()
        self.is_ending: Callable[[], bool] = lambda: False  # set by the server: open streams end with it
        self.imports = OneAtATime(self._import_orders)
        parts = (self.metrics, self.lineage, self.imports.run, self.supervisor)
        self.worker = Worker(self._worker_context(), *parts) if with_worker else None
        wake = self.worker.wake_webhooks if self.worker is not None else lambda: None
        self.inbox = Inbox(self.door, self.vault, wake)

    def sync_context(self, run_id: str) -> SyncContext:
        """An engine of its own for one call, named in every log row by `run_id`."""
        return SyncContext(self.settings, self.database, run_id=run_id[:64])

    async def probe(self, work: Callable[[Database], None]) -> None:
        """Looks at the database in a thread of the probes' own; one that is cancelled leaves the thread to end alone."""
        await asyncio.get_running_loop().run_in_executor(self._probes, work, self.door)

    def _worker_context(self) -> SyncContext:
        return SyncContext(self.settings, self.workshop, run_id="gateway", endless=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything at work while the block runs."""
        calls = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="midas-calls")
        asyncio.get_running_loop().set_default_executor(calls)
        self.lineage.start()
        try:
            async with AsyncExitStack() as stack:
                if self.worker is not None:
                    await stack.enter_async_context(self.worker.running())
                with own_threads("inbox", 1):
                    self.supervisor.start("store webhooks", self.inbox.run)
                try:
                    yield
                finally:
                    self.inbox.stop()
        finally:
            await self.supervisor.stop(1.0)
            await self.background.stop()
            await self.imports.stop()
            await asyncio.to_thread(self.lineage.stop)
            for database in (self.database, self.door, self.workshop):
                database.close()

    async def _import_orders(self) -> OrderReport:
        with own_threads("import", 1):
            return await in_own_loop(lambda: import_orders(self._worker_context()))


def service_of(request: Request) -> Service:
    """The service behind an endpoint."""
    service: Service = request.app.state.service
    return service
