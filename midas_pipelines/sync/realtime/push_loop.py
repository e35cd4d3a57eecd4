"""The express way: pushes each item as soon as it is ready, over one client that stays open, until it is stopped.

Claiming, planning, sending and acknowledging are those of `push.py`; what differs is that nothing is set up for each
pass, and that a 4Seller that is down is waited for rather than reported.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.store.items import claims
from midas_pipelines.store.items.acknowledge import PushOutcome, PushResult
from midas_pipelines.store.items.claims import Claimable, read_claimable
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.gate import key_is_refused
from midas_pipelines.sync.listings.before_sending import without_sending
from midas_pipelines.sync.listings.brake import HELD_SECONDS, RollingBrake
from midas_pipelines.sync.listings.plan import Change
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.orders.stock.pending_lines import serve_before_push
from midas_pipelines.sync.push_loop import CircuitBreaker, Debounce
from midas_pipelines.sync.sync_log import BRAKED, end_outage
from midas_pipelines.sync.threads import in_thread

POLL_SECONDS = 1.0
"""How often it looks by itself, should a wake be lost."""

PEEK = 500
"""Ready items looked at in one go."""

CONNECT_SECONDS = 30.0
"""How often it looks whether the first connection has been accepted."""

AGAIN_SECONDS = 1.0
"""When an item is tried again that was given back without anyone saying when."""

BUSY, GATHER_SECONDS = 4, 0.015
"""With more pushes than this under way, changes are gathered for a moment: one claim for many costs far less."""

LOCKED_SECONDS = 0.02
"""When a row is written that a transaction of the shop's holds."""

log = logging.getLogger(__name__)

OnPushed = Callable[[PushOutcome, float], None]
"""Told of each item that was acknowledged, with the seconds since it became dirty."""


class PushLoop:
    """Pushes items as they become ready, from `run` to `stop`; `wake` says that there may be some.

    Args:
        context: settings, database, and the worker's name.
        client: an open client.
        on_pushed: called in the event loop; must return at once and raise nothing.
    """

    def __init__(self, context: SyncContext, client: FourSeller, on_pushed: OnPushed | None = None) -> None:
        self._context = context
        self._client = client
        self._on_pushed: OnPushed = on_pushed or (lambda outcome, seconds: None)
        self._woken = asyncio.Event()
        self._stopping = False
        self._pacing = Debounce()
        self._brake = RollingBrake(context.database, context.settings, has_waves=False)
        self._push = Push(context, client, brake=self._brake)
        self._allowed, self._looks_at = True, 0.0
        self._sending: set[asyncio.Task[None]] = set()
        self._to_write: asyncio.Queue[PushOutcome | None] = asyncio.Queue()
        self.trouble = CircuitBreaker(context.settings.failures_in_a_row)

    def wake(self) -> None:
        """Makes it look at once; called in its event loop."""
        self._woken.set()

    def stop(self) -> None:
        """Makes `run` claim nothing more and end."""
        self._stopping = True
        self._woken.set()

    async def run(self, beat: Callable[[], None] = lambda: None, *, patience: float = 20.0) -> None:
        """Pushes until it is stopped; then waits up to `patience` seconds for what is under way and releases the rest.

        Args:
            beat: called each time it looks.
            patience: seconds.
        """
        writer = asyncio.create_task(self._write_outcomes())
        try:
            while not self._stopping:
                beat()
                if writer.done():
                    writer.result()  # raises what ended it
                self._woken.clear()
                wait = await self._look()
                if len(self._sending) > BUSY:
                    await asyncio.sleep(GATHER_SECONDS)
                await self._nap(wait)
        finally:
            if self._sending:
                _, unfinished = await asyncio.wait(self._sending, timeout=patience)
                for task in unfinished:
                    task.cancel()
                await asyncio.gather(*unfinished, return_exceptions=True)
            self._to_write.put_nowait(None)
            await writer
            await in_thread(self._release)

    async def _nap(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _look(self) -> float:
        """Starts what may be pushed now; returns the seconds until it should look again, unless woken before."""
        free = min(
            self._context.settings.in_flight - len(self._sending), self.trouble.allowance(time.monotonic())
        )
        if free <= 0 or not await self._may_push():
            return POLL_SECONDS
        try:
            ready = await in_thread(self._ready)
            due, wait = self._pacing.sort(ready, time.monotonic())
            idle = not due and self._brake.at_rest
            changes = [] if idle else await in_thread(self._claim, ready, due, free)
        except sa.exc.SQLAlchemyError as failed:  # the database is away for a while: all is still there later
            log.warning("The database did not answer: %s", type(failed).__name__)
            return POLL_SECONDS
        self._pacing.started([change.mapping.id for change in changes], time.monotonic())
        self._start(changes)
        if changes:
            self.trouble.tried(time.monotonic())
        if len(due) > free:
            return POLL_SECONDS if self._sending else LOCKED_SECONDS
        return min(POLL_SECONDS, wait if wait is not None else POLL_SECONDS)

    async def _may_push(self) -> bool:
        """Whether 4Seller takes the key, as far as is known, and the first connection is accepted."""
        now = time.monotonic()
        if now < self._looks_at:
            return self._allowed
        self._allowed = await in_thread(self._key_is_good)
        self._looks_at = now + POLL_SECONDS
        if self._allowed and not self._context.gate.connected:
            self._looks_at = now + CONNECT_SECONDS
            try:
                await self._context.gate.ensure_connected(self._client)
            except FourSellerError as failed:
                self._allowed, self.trouble.reason = False, str(failed)
        return self._allowed

    def _key_is_good(self) -> bool:
        try:
            return not key_is_refused(self._context.database, self._context.settings.channel())
        except sa.exc.SQLAlchemyError:  # what follows will say so
            return True

    def _ready(self) -> list[Claimable]:
        with self._context.database.reading() as connection:
            return read_claimable(connection, limit=PEEK)

    def _claim(self, ready: list[Claimable], due: list[int], free: int) -> list[Change]:
        # Also those that the pacing lets go later only: a large change must not pass in portions.
        versions = {item.id: item.version for item in ready}
        self._brake.look_ahead(versions, time.monotonic(), more=len(ready) >= PEEK)
        self._brake.alert()
        if not due:
            return []
        serve_before_push(self._context.database, self._context.run_id)
        return self._push.claim_batch(ids=due[:free])

    def _start(self, changes: list[Change]) -> None:
        for change in changes:
            if not change.writes:
                outcome = without_sending(change)
                if change.reason == BRAKED:  # looked at again later
                    outcome = replace(outcome, wait_seconds=HELD_SECONDS)
                self._to_write.put_nowait(_spaced(outcome))
                continue
            task = asyncio.create_task(self._send(change))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._woken.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("A push ended in a way nobody foresaw", exc_info=task.exception())

    async def _send(self, change: Change) -> None:
        try:
            outcome = await self._push.send_in_time(change)
        except BadCredentials as refused:
            self.trouble.refused(str(refused), time.monotonic())
            await asyncio.to_thread(self._context.keep_notes, self._client)
            outcome = PushOutcome(change.mapping, PushResult.RELEASED, reason=str(refused), settled=False)
        down = self.trouble.reason
        outcome = self.trouble.judge(outcome, time.monotonic())
        if down and self.trouble.reason is None:
            await asyncio.to_thread(end_outage, self._context)
        self._to_write.put_nowait(_spaced(outcome))

    async def _write_outcomes(self) -> None:
        waiting: list[PushOutcome] = []
        open_ended = True
        while open_ended or waiting:
            arrived = [await self._to_write.get()] if open_ended and not waiting else []
            if len(self._sending) > BUSY:
                await asyncio.sleep(GATHER_SECONDS)
            while not self._to_write.empty():
                arrived.append(self._to_write.get_nowait())
            open_ended = open_ended and None not in arrived
            outcomes = waiting + [outcome for outcome in arrived if outcome is not None]
            waiting = await self._write(outcomes)
            if waiting:
                await asyncio.sleep(LOCKED_SECONDS)

    async def _write(self, outcomes: list[PushOutcome]) -> list[PushOutcome]:
        """Acknowledges; returns what has to be written later."""
        if not outcomes:
            return []
        try:
            written, waiting = await in_thread(self._push.acknowledge, outcomes)
        except sa.exc.SQLAlchemyError as failed:
            log.warning("An acknowledgement waits for the database: %s", type(failed).__name__)
            await asyncio.sleep(POLL_SECONDS)
            return [] if self._stopping else outcomes
        for outcome in written:
            now = datetime.now(UTC)
            self._on_pushed(outcome, (now - (outcome.mapping.dirty_since or now)).total_seconds())
        self._woken.set()  # an item may have changed while it was pushed
        return waiting

    def _release(self) -> None:
        with self._context.database.writing() as connection:
            claims.release_claims(connection, self._context.worker)


def _spaced(outcome: PushOutcome) -> PushOutcome:
    """One that was given back is not tried again at once, or it would go round and round."""
    if outcome.result is PushResult.RELEASED and not outcome.wait_seconds:
        return replace(outcome, wait_seconds=AGAIN_SECONDS)
    return outcome
