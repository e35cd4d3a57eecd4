"""The worker: applies webhooks and pushes items as soon as they are there, beside the HTTP service or alone.

Several workers, in one process or many, share one database: each claims what no other has. Its tasks are watched, and
started again when they fail.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.gateway.worker.reports import DagsterEvents, Metrics, WorkerStats
from midas_pipelines.gateway.worker.webhook_worker import SLOW_ORDERS, WebhookWorker
from midas_pipelines.notify.alerts import DAGSTER, GATEWAY, beat, note_clocks
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.notifications import Notifications
from midas_pipelines.store.gateway.webhooks import FinishedWebhook
from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.items.claims import free_dead_claims
from midas_pipelines.store.operations.cursors import ErrorBook
from midas_pipelines.store.orders.payload_vault import vault_of
from midas_pipelines.store.schema.triggers import ITEMS
from midas_pipelines.store.stock.rules import mark_rules_due
from midas_pipelines.storefront.types import Backoff
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.push_loop import PushLoop
from midas_pipelines.sync.threads import in_thread, own_threads

KEEP_SECONDS = 5.0
"""The housekeeping interval: writes failed calls and statistics, frees dead claims, applies rules that begin or end."""

PATIENCE_SECONDS = 20.0
END_SECONDS = 5.0  # extra time for the tasks to write and release what they have

PUSH_THREADS, ORDER_THREADS, WEBHOOK_THREADS = 4, 2 + SLOW_ORDERS, 4
"""Threads for database work; each part has its own, so that waiting for a lock delays no other."""

ASSETS = {
    PushResult.QUANTITY: "inventory_levels",
    PushResult.LISTED: "fourseller_listings",
    PushResult.REMOVED: "fourseller_listings",
}
"""The asset in Dagster that a push is reported to: the one that its runs write too."""

RESTART = Backoff(first=0.5, longest=30.0)  # the waits before a task that failed is started again

SOUND_SECONDS = 60.0  # A task that ran this long before it failed is restarted at once

MANY_FAILURES = 6
STUCK_SECONDS = 180.0
"""A task without progress for this long is stuck: the longest step of any is a batch of webhooks (100 s)."""

BROKEN_SECONDS = 60.0
"""A process in which something is wrong for so long is to be started again: that mends what no new try does."""

DATABASE_AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
"""Errors that are explained by their name."""

log = logging.getLogger(__name__)

Beat = Callable[[], None]
Work = Callable[[Beat], Coroutine[Any, Any, None]]


class Supervisor:
    """Runs named tasks, each until it ends after `stop` was called."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._beats: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._ending = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether the tasks should end."""
        return self._ending.is_set()

    async def pause(self, seconds: float) -> None:
        """Waits, but not longer than until `stop` is called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    def start(self, name: str, work: Work) -> None:
        """Starts a task; `work` calls what it is given each time it gets on."""
        self._beats[name] = time.monotonic()
        self._failures[name] = 0
        self._tasks[name] = asyncio.create_task(self._keep(name, work), name=name)

    def problem(self) -> str | None:
        """Which task is gone, stuck or keeps failing; None while all are well."""
        now = time.monotonic()
        for name, task in self._tasks.items():
            if task.done():
                return f"The task “{name}” has ended."
            if self._failures[name] >= MANY_FAILURES:
                return f"The task “{name}” keeps failing; the log says why."
            if now - self._beats[name] > STUCK_SECONDS:
                return f"The task “{name}” has been stuck for {now - self._beats[name]:.0f} seconds."
        return None

    async def broken(self) -> str | None:
        """Waits until a task has been gone, stuck or failing for a while, and says which; None once `stop` is called."""
        well_at = time.monotonic()
        while not self.stopping:
            problem = self.problem()
            if problem is None:
                well_at = time.monotonic()
            elif time.monotonic() - well_at > BROKEN_SECONDS:
                return problem
            await self.pause(1.0)
        return None

    async def stop(self, patience: float) -> None:
        """Waits up to `patience` seconds for the tasks to end, then cancels them; the caller has asked them to stop."""
        self._ending.set()
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks.values(), timeout=patience)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks = {}

    def _beat(self, name: str) -> None:
        self._beats[name] = time.monotonic()

    async def _keep(self, name: str, work: Work) -> None:
        while not self.stopping:
            started = time.monotonic()
            try:
                await work(lambda: self._beat(name))
            except Exception as error:
                if started + SOUND_SECONDS < time.monotonic():
                    self._failures[name] = 0
                self._failures[name] += 1
                pause = RESTART.seconds(self._failures[name])
                log.error(
                    "The task “%s” failed (%s); it starts again in %g seconds",
                    name,
                    type(error).__name__,
                    pause,
                    exc_info=None if isinstance(error, DATABASE_AWAY) else error,
                )
                self._beat(name)
                await self.pause(pause)


@dataclass(eq=False)
class Worker:
    """One worker, running within `async with worker.running():`."""

    context: SyncContext  # with a name that no other worker has
    metrics: Metrics
    lineage: DagsterEvents  # the caller starts and stops it
    import_sales: Callable[[], Awaitable[object]]  # one run at a time for all who ask
    supervisor: Supervisor  # runs its tasks

    @property
    def trouble(self) -> str | None:
        """The error of 4Seller as this worker sees it while it is running; None while it works."""
        return self._express.trouble.reason

    def wake_webhooks(self) -> None:
        """Says that a webhook was stored; called in the worker's event loop, while it is running."""
        self._applier.wake()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works while the block runs, then finishes what is under way, `PATIENCE_SECONDS` at most, and releases the rest.
        Raises SettingsError."""
        context = self.context
        self._loop = asyncio.get_running_loop()
        book = ErrorBook(context.database, context.run_id, block=sys.maxsize)
        async with context.channel(book) as client:
            self._client = client
            client.open()  # before calls wait for this event loop
            self._work_log = WorkerStats(context, client)
            express = self._express = PushLoop(context, client, self._pushed)
            vault = vault_of(context.settings)
            applier = self._applier = WebhookWorker(context, client, vault, self.import_sales, self._finished)
            await in_thread(context.heartbeat.begin)
            try:
                with Notifications(context.database, self._wake_from_thread) as wakes:
                    # Each task has threads of its own: where one waits for the database, the others go on.
                    start = self.supervisor.start
                    with own_threads("push", PUSH_THREADS):
                        start("push items", lambda beat: express.run(beat, patience=PATIENCE_SECONDS))
                    with own_threads("orders", ORDER_THREADS):
                        start("apply webhooks of orders", lambda beat: applier.run(beat, orders=True))
                    with own_threads("webhooks", WEBHOOK_THREADS):
                        start("apply other webhooks", lambda beat: applier.run(beat, orders=False))
                    with own_threads("housekeeping", 1):
                        start("housekeeping", lambda beat: self._keep(beat, book, wakes))
                    try:
                        yield
                    finally:
                        express.stop()
                        applier.stop()
                        await self.supervisor.stop(PATIENCE_SECONDS + END_SECONDS)
                        with suppress(sa.exc.SQLAlchemyError):  # the claims end with the lease
                            await applier.release()
            finally:
                with suppress(sa.exc.SQLAlchemyError):  # the lease ends after its seconds
                    await in_thread(context.heartbeat.end)
                self._work_log.close_minute(early=True)
                with suppress(sa.exc.SQLAlchemyError):  # only the log of the last calls is lost
                    await in_thread(self._write_down, book)

    async def _keep(self, beat: Callable[[], None], book: ErrorBook, wakes: Notifications) -> None:
        while not self.supervisor.stopping:
            beat()
            wakes.ensure_running()
            self._work_log.close_minute()
            try:
                await in_thread(self._keep_house, book)
            except sa.exc.SQLAlchemyError as failed:
                log.warning("Housekeeping failed: %s", type(failed).__name__)
            await self.supervisor.pause(KEEP_SECONDS)

    def _keep_house(self, book: ErrorBook) -> None:
        self._write_down(book)
        beat(self.context.database, GATEWAY, watched=DAGSTER)
        for whose, ahead in note_clocks(self.context.database, self._client.clock_ahead).items():
            self.metrics.clocks.labels(whose).set(ahead)
        self.context.keep_notes(self._client)
        if free_dead_claims(self.context.database) + webhooks.free_dead(self.context.database):
            self._wake_from_thread("")
        if mark_rules_due(self.context.database):  # a rule has begun or ended
            self._wake_from_thread(ITEMS)

    def _write_down(self, book: ErrorBook) -> None:
        book.flush()
        self._work_log.write()

    def _wake_from_thread(self, what: str) -> None:
        woken = self._express if what == ITEMS else self._applier
        with suppress(RuntimeError):  # the loop is closed: we are on the way out
            self._loop.call_soon_threadsafe(woken.wake)

    def _pushed(self, outcome: PushOutcome, seconds: float) -> None:
        self.metrics.pushes.labels(outcome.result.value).inc()
        asset = ASSETS.get(outcome.result)
        self._work_log.note(outcome, seconds if asset is not None else None)
        if asset is not None:
            self.metrics.push_seconds.observe(max(0.0, seconds))
            self.lineage.note(asset, "pushed", seconds)

    def _finished(self, finished: FinishedWebhook, seconds: float) -> None:
        if finished.outcome is None:
            return
        self.metrics.finished.labels(finished.outcome.value).inc()
        self.metrics.webhook_seconds.observe(max(0.0, seconds))
        if finished.webhook.type.startswith("order."):
            self.lineage.note("imported_orders", finished.outcome.value, seconds)
