"""The worker's tasks: started again when they fail, watched, and summed up in the sync log once a minute.

Nothing is written per item: changes are summed in memory, and housekeeping writes the sums.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.store.items.acknowledge import PushCounts, PushOutcome
from midas_pipelines.store.operations.sync_log import note_work
from midas_pipelines.store.operations.sync_metrics import GATEWAY
from midas_pipelines.storefront.types import Backoff
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.sync_log import calls_of

RESTART = Backoff(first=0.5, longest=30.0)
"""The waits before a task that failed is started again."""

SOUND_SECONDS = 60.0
"""A task that ran this long before it failed is restarted at once."""

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
        since: float | None = None
        while not self.stopping:
            problem = self.problem()
            if problem is None:
                since = None
            elif since is None:
                since = time.monotonic()
            elif time.monotonic() - since > BROKEN_SECONDS:
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


EVERY_SECONDS = 60.0
"""What one row sums up."""

BOUNDS = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 3600)
"""Seconds that a minute's deliveries are counted by, so that percentiles of a day are known."""

MOST_UNWRITTEN = 1440
"""Rows kept while the database is away, a day of them; older ones are lost."""


@dataclass
class WorkerMinute:
    """Changes that 4Seller confirmed, and how long after the change in the shop; seconds."""

    delivered: int = 0
    delivered_seconds: float = 0.0
    slowest_seconds: float = 0.0
    delivered_within: dict[str, int] = field(
        default_factory=dict
    )  # by the bound of `BOUNDS` that it took at most

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.delivered += 1
        self.delivered_seconds = round(self.delivered_seconds + seconds, 4)
        self.slowest_seconds = max(self.slowest_seconds, round(seconds, 4))
        bound = f"{next((one for one in BOUNDS if seconds <= one), seconds):g}"
        self.delivered_within[bound] = self.delivered_within.get(bound, 0) + 1


class WorkerStats:
    """Sums up what one worker does with one client. All but `write` is called in the worker's event loop."""

    def __init__(self, context: SyncContext, client: FourSeller) -> None:
        self._context = context
        self._client = client
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._writing = threading.Lock()
        self._begin()

    def note(self, outcome: PushOutcome, delivered_after: float | None = None) -> None:
        """Counts the outcome of an item, and the seconds from its change to its confirmation, if confirmed."""
        self._tally.count(outcome)
        if delivered_after is not None:
            self._delivered.add(max(0.0, delivered_after))

    def close_minute(self, *, early: bool = False) -> None:
        """Closes the sum once it is a minute old, or at once; an empty one is dropped."""
        if not early and time.monotonic() - self._began < EVERY_SECONDS:
            return
        sums = self._client.sums.since(self._before)
        if sums.requests or self._tally.claimed:
            self._unwritten.append(self._row(sums.requests, sums.busy_seconds))
        self._begin()

    def write(self) -> None:
        """Writes the closed sums; those that the database does not take are kept for the next time."""
        with self._writing:  # the last housekeeping may still be running when the worker ends
            while self._unwritten:
                note_work(self._context.database, self._unwritten[0])
                self._unwritten.popleft()

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC)
        self._before = self._client.sums
        self._tally = PushCounts()
        self._delivered = WorkerMinute()

    def _row(self, requests: int, busy_seconds: float) -> dict[str, Any]:
        failed = self._tally.failed + self._tally.released
        counts = asdict(self._tally) | {"scanned": self._tally.claimed, "failed": failed}
        return {
            "kind": GATEWAY,
            "scope": "at once",
            "run_id": self._context.run_id,
            "started_at": self._began_at,
            "outcome": "partial" if failed else "done",
            "counts": counts | asdict(self._delivered) | calls_of(self._client, self._before),
            "requests": requests,
            "seconds": round(busy_seconds, 3),
        }
