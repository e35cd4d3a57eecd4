"""Tasks that are started again when they fail, and whose progress is watched."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from midas_pipelines.storefront.backoff import Backoff

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
