"""The push loop: pushes each item as soon as it is ready, over one client that stays open, until it is stopped.

Claiming, planning, sending and acknowledging are those of `listings/push.py`; what differs is that nothing is set up for
each pass, that changes of a moment go together, and that a 4Seller that is down is waited for rather than reported.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.store.items.acknowledge import BRAKED, PushOutcome, PushResult
from midas_pipelines.store.items.claims import read_claimable, release_claims, why_stopped
from midas_pipelines.store.operations.cursors import refusal_row
from midas_pipelines.store.operations.rate_limit import send_as_bulk
from midas_pipelines.store.operations.sync_log import running_syncs
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.hold_back import CircuitBreaker, Debounce
from midas_pipelines.sync.listings.before_sending import LINES_WAIT, serve_before_push, without_sending
from midas_pipelines.sync.listings.brake import HELD_SECONDS, RollingBrake
from midas_pipelines.sync.listings.plan import Change
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.sync_log import end_outage
from midas_pipelines.sync.threads import in_thread

POLL_SECONDS = 1.0
"""How often it looks by itself, should a wake be lost."""

PEEK = 500
"""Ready items looked at in one go."""

SHARE_OF_NEW = 5
"""One in so many of the calls in flight may list new items, which also go a few at once: a sale waits for none of them."""

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
"""Called for each item that was acknowledged, with the seconds since it became dirty."""


class PushLoop:
    """Pushes items as they become ready, from `run` to `stop`; `wake` says that there may be some.

    `on_pushed` is called in the event loop; it must return at once and raise nothing.
    """

    def __init__(self, context: SyncContext, client: FourSeller, on_pushed: OnPushed) -> None:
        self._context = context
        self._client = client
        self._on_pushed = on_pushed
        self._woken = asyncio.Event()
        self._stopping = False
        self._pacing = Debounce()
        self._brake = RollingBrake(context.database, context.settings, has_waves=False)
        self._push = Push(context, client, brake=self._brake)
        self._refusal = refusal_row(context.access)
        self._allowed, self._looks_at = True, 0.0
        self._sending: set[asyncio.Task[None]] = set()
        self._listing: set[asyncio.Task[None]] = set()  # of items that are new on 4Seller
        self._full = False  # whether more is due than may be sent at once
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
        """Pushes until it is stopped, with a `beat` each time it looks; then waits up to `patience` seconds for what is under way
        and releases the rest."""
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
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._woken.wait()
        finally:
            if under_way := self._sending | self._listing:
                _, unfinished = await asyncio.wait(under_way, timeout=patience)
                for task in unfinished:
                    task.cancel()
                await asyncio.gather(*unfinished, return_exceptions=True)
            self._to_write.put_nowait(None)
            await writer
            await in_thread(self._context.database.write, release_claims, self._context.worker)

    async def _look(self) -> float:
        """Starts what may be pushed now; returns the seconds until it should look again, unless woken before."""
        places = self._context.settings.in_flight - len(self._sending) - len(self._listing)
        free, most_new = min(places, self.trouble.allowance(time.monotonic())), self._most_new()
        self._full = free <= 0
        if self._full:
            return POLL_SECONDS
        try:
            found = await in_thread(self._choose, most_new)
            if found is None or not await self._may_push():
                return POLL_SECONDS
            changed, new, wait = found
            # A sale does not wait until new items are planned.
            started = await self._start(changed[:free], self._sending)
            started += await self._start(new[: free - started], self._listing)
        except sa.exc.SQLAlchemyError as failed:  # the database is away for a while: all is still there later
            log.warning("The database did not answer: %s", type(failed).__name__)
            return POLL_SECONDS
        if started:
            self.trouble.tried(time.monotonic())
        self._full = len(changed) + len(new) > free
        if self._full and not self._sending and not self._listing:
            return LOCKED_SECONDS
        return min(POLL_SECONDS, wait or POLL_SECONDS)

    def _most_new(self) -> int:
        """How many new items may be claimed now: several at once, when half of their places are free."""
        places = max(1, self._context.settings.in_flight // SHARE_OF_NEW)
        return places - len(self._listing) if len(self._listing) <= places // 2 else 0

    async def _may_push(self) -> bool:
        """Whether the first connection is accepted, as far as is known."""
        now = time.monotonic()
        if not self._context.gate.connected and now >= self._looks_at:
            self._looks_at = now + CONNECT_SECONDS
            try:
                await self._context.gate.ensure_connected(self._client)
                self._allowed = True
            except FourSellerError as failed:
                self._allowed, self.trouble.reason = False, str(failed)
        return self._allowed or self._context.gate.connected

    def _choose(self, most_new: int) -> tuple[list[int], list[int], float | None] | None:
        """The listed and the new items that may be pushed now, and the seconds until the next of the others may; None
        while pushes are stopped or 4Seller refuses the key."""
        context = self._context
        with context.database.reading() as connection:
            if why_stopped(connection, self._refusal) is not None:
                return None
            ready = read_claimable(connection, limit=PEEK, new=most_new)
            lines_wait = connection.scalar(sa.select(LINES_WAIT))
            if most_new > 1 and not all(one.listed for one in ready) and running_syncs(connection):
                most_new = 1 - len(self._listing)
        now = time.monotonic()
        due, wait = self._pacing.sort(ready, now)
        # Also those that the pacing lets go later only: a large change must not pass in portions.
        versions = {item.id: item.version for item in ready if item.listed}
        if due or not self._brake.at_rest:
            self._brake.look_ahead(versions, now, more=len(versions) >= PEEK)
            self._brake.alert()
        if due and lines_wait:
            serve_before_push(context.database, context.run_id)
        new = [one for one in due if one not in versions]
        return [one for one in due if one in versions], new[: max(0, most_new)], wait

    async def _start(self, ids: list[int], under_way: set[asyncio.Task[None]]) -> int:
        """Claims the items and sends each change in a task of its own among those `under_way`; returns how many there are."""
        changes = await in_thread(self._push.claim_batch, ids) if ids else []
        self._pacing.started([change.mapping.id for change in changes], time.monotonic())
        for change in changes:
            if not change.writes:
                outcome = without_sending(change)
                if change.reason == BRAKED:  # looked at again later
                    outcome = replace(outcome, wait_seconds=HELD_SECONDS)
                self._to_write.put_nowait(_spaced(outcome))
                continue
            task = asyncio.create_task(self._send(change, new=under_way is self._listing))
            under_way.add(task)
            task.add_done_callback(self._sent)
        return len(changes)

    def _sent(self, task: asyncio.Task[None]) -> None:
        new = task in self._listing
        self._sending.discard(task)
        self._listing.discard(task)
        if self._full or (new and self._most_new()):
            self._woken.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("A push ended with an unexpected error", exc_info=task.exception())

    async def _send(self, change: Change, *, new: bool) -> None:
        if new:
            send_as_bulk()
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
        return waiting


def _spaced(outcome: PushOutcome) -> PushOutcome:
    """One that was given back is not tried again at once, or it would go round and round."""
    if outcome.result is PushResult.RELEASED and not outcome.wait_seconds:
        return replace(outcome, wait_seconds=AGAIN_SECONDS)
    return outcome
