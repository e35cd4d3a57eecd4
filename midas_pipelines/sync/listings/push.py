"""Pushes dirty items to 4Seller: claim, read again, send, acknowledge; many in flight, each independent.

One producer claims and plans ahead, `in_flight` senders send, one writer acknowledges what was answered meanwhile: the
database is written in batches while requests are under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from midas_pipelines.fourseller import errors
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.store.items import claims
from midas_pipelines.store.items.acknowledge import (
    BRAKED,
    CANARY,
    PushCounts,
    PushOutcome,
    PushResult,
    acknowledge,
)
from midas_pipelines.store.items.mappings import Mapping, set_rows, slices
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.stock.rules import mark_rules_due
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.listings.adopt import Known
from midas_pipelines.sync.listings.before_sending import (
    claim_skus,
    in_shadow,
    keep_planned,
    without_sending,
)
from midas_pipelines.sync.listings.brake import RollingBrake
from midas_pipelines.sync.listings.plan import REPLACES, Action, Change, Planner, held_back, only_quantity
from midas_pipelines.sync.listings.scan import PlanStep, only_approved
from midas_pipelines.sync.listings.send import send
from midas_pipelines.sync.sync_log import channel_is_down
from midas_pipelines.sync.threads import in_thread
from midas_pipelines.workflows import AHEAD

CALL_SECONDS = 30
"""The longest time of one call to 4Seller; nothing is sent when less of the claim is left."""

MARGIN_SECONDS = 5
"""Seconds before the end of a claim when none of its calls is under way any more."""

CLAIM_TRIES = 5
GATHER_SECONDS = 0.1
"""How long outcomes are gathered for one transaction."""


@dataclass
class Push:
    """One pass over the dirty items, each met once."""

    context: SyncContext
    client: FourSeller
    known: Known | None = None  # products without an item, read just before; None looks each item up
    ids: Sequence[int] | None = None  # only these mappings; None for all
    quantities_only: bool = False  # leaves content alone and changes only listed items
    ignore_delays: bool = False  # also items whose next attempt is not due
    agreed: dict[int, PlanStep] | None = None  # by mapping, the steps of an approved plan: all that is sent
    shards: Shards | None = None  # only the items of these; None for all
    held: frozenset[int] = frozenset()  # of a failed wave: content, price and being there stay as they are
    brake: RollingBrake | None = None  # makes a wait of what may not be sent now; None for one of this push
    down: bool | None = None  # whether the last run found 4Seller down; None until `begin` was called
    on_progress: Callable[[PushCounts], None] | None = None
    tally: PushCounts = field(default_factory=PushCounts)

    def __post_init__(self) -> None:
        self._to_send: asyncio.Queue[Change | None] = asyncio.Queue(AHEAD * self.context.settings.in_flight)
        self._all_sent = asyncio.Event()
        self._done: list[PushOutcome] = []  # to be acknowledged
        self._misses = 0
        self._skus: dict[int, str | None] = {}  # of items under way

    async def run(self) -> PushCounts:
        """Pushes until nothing is left.

        Raises:
            BadCredentials, ChannelDown: it ended early; what was not sent stays dirty.
        """
        async with self.context.claiming():
            return await self._run()

    async def _run(self) -> PushCounts:
        try:
            # While 4Seller counts as down, one read is tried first, so that an outage costs the items no attempts.
            if self.down is None:
                await in_thread(self.begin)
            if self.down and (still := await self._cannot_be_read()) is not None:
                raise ChannelDown(f"4Seller is still down: {still} Nothing was tried; all stays dirty.")
            await in_thread(claims.free_dead_claims, self.context.database)
            if self.agreed is None and self.brake is None:
                await in_thread(self.weigh)
            if not self.quantities_only:
                listed = self.known.listed if self.known is not None else None
                await self.context.gate.ensure_connected(self.client, listed)
            async with asyncio.TaskGroup() as writing:
                writing.create_task(self._write_outcomes())
                stopped: Exception | None = None
                try:
                    async with asyncio.TaskGroup() as sending:
                        sending.create_task(self._claim_and_plan())
                        for _ in range(self.context.settings.in_flight):
                            sending.create_task(self._send_changes())
                except ExceptionGroup as trouble:
                    stopped = _first(trouble)
                self._all_sent.set()  # answers from before the stop are still written
        except ExceptionGroup as trouble:
            raise _first(trouble) from None
        if stopped is not None:
            raise stopped
        return self.tally

    async def _cannot_be_read(self) -> str | None:
        """Why a plain read fails; None where it does not."""
        try:
            await anext(self.client.product_pages())
        except errors.NOT_READ as failed:
            return str(failed)
        return None

    def begin(self) -> None:
        """Marks dirty what is due to be pushed again, and looks whether the last run found 4Seller down."""
        mark_rules_due(self.context.database)
        self.down = channel_is_down(self.context.database)

    def weigh(self) -> RollingBrake:
        """Counts all dirty items before any is sent; what exceeds the brake waits while the rest goes on."""
        self.brake = RollingBrake(self.context.database, self.context.settings, self.known)
        self.brake.weigh_all(time.monotonic())
        return self.brake

    @property
    def stopped(self) -> str | None:
        """Why some of it was held back: the brake; None where nothing was."""
        return (self.brake.message or BRAKED) if self.brake is not None and self.tally.held else None

    async def _claim_and_plan(self) -> None:
        in_flight = self.context.settings.in_flight
        limit = max(1, in_flight // 4)  # the first few soon, and meanwhile the next
        for ids in slices(self.ids):
            after = 0
            while changes := await in_thread(self.claim_batch, ids, after, limit):
                after, limit = changes[-1].mapping.id, min(8 * limit, AHEAD * in_flight)
                self._skus |= {change.mapping.id: change.sku for change in changes}
                for change in changes:
                    if change.writes:
                        await self._to_send.put(change)
                    else:
                        self._done.append(without_sending(change))
        for _ in range(in_flight):
            await self._to_send.put(None)

    def claim_batch(
        self, ids: Sequence[int] | None = None, after: int = 0, limit: int | None = None
    ) -> list[Change]:
        """Claims up to `limit` items, else as many as are sent at once, behind a mapping's id, and plans each."""
        settings = self.context.settings
        batch = settings.inventory_batch if self.quantities_only else settings.products_batch
        until = time.monotonic() + settings.lease_seconds - MARGIN_SECONDS
        for left in reversed(range(CLAIM_TRIES)):
            try:
                with self.context.database.writing() as connection:
                    claimed = claims.claim(
                        connection,
                        worker=self.context.worker,
                        lease_seconds=settings.lease_seconds,
                        limit=min(batch, limit or settings.in_flight),
                        after_id=after,
                        ids=ids,
                        listed_only=self.quantities_only,
                        ignore_delays=self.ignore_delays,
                        shards=self.shards,
                    )
                    if not claimed:
                        return []
                    read_at = connection.scalar(sa.select(utc_now()))
                    planned = self._plan(connection, claimed)
                    return [replace(change, read_at=read_at, send_until=until) for change in planned]
            except sa.exc.IntegrityError:  # another worker has just taken one of the SKUs
                if not left:
                    raise
        return []

    def _plan(self, connection: sa.Connection, claimed: list[Mapping]) -> list[Change]:
        limit = self.context.settings.title_limit
        planner = Planner(connection, [mapping.key for mapping in claimed], limit)
        changes = [planner.plan(mapping) for mapping in claimed]
        if self.agreed is not None:
            changes = [only_approved(change, self.agreed) for change in changes]
        if self.quantities_only:
            changes = [only_quantity(change) for change in changes]
        if self.held:
            held = {one.mapping.id for one in changes if one.action in REPLACES} & self.held
            changes = [held_back(one, CANARY) if one.mapping.id in held else one for one in changes]
        if self.brake is not None:
            changes = self.brake.hold(changes, time.monotonic())
        if self.context.settings.shadow:
            changes = [in_shadow(change, self.context) for change in changes]
        if not self.quantities_only:
            lag = self.context.settings.list_lag_seconds
            changes = claim_skus(connection, changes, title_limit=limit, lag_seconds=lag)
        changes = keep_planned(connection, changes, self.context.written_as)
        # A write that is never acknowledged may have been applied. Were the old confirmation kept, an item that the
        # shop changes back meanwhile would seem to need no push.
        quantities = [one.mapping.id for one in changes if one.action is Action.QUANTITY]
        whole = [one.mapping.id for one in changes if one.action in REPLACES]
        set_rows(connection, quantities, {"acked_quantity": None})
        set_rows(connection, whole, {"acked_quantity": None, "acked_hash": None})
        return changes

    async def _send_changes(self) -> None:
        while (work := await self._to_send.get()) is not None:
            outcome = await self.send_in_time(work)
            self._done.append(outcome)
            await self._watch(outcome)

    async def send_in_time(self, change: Change) -> PushOutcome:
        """Sends it while the claim certainly holds; what cannot end in time is left to the next run."""
        left = change.send_until - time.monotonic()
        begun = left >= CALL_SECONDS
        try:
            if begun:
                async with asyncio.timeout(left):  # a create may take several calls
                    return await send(change, self.client, self.context, self.known)
        except TimeoutError:
            pass
        reason = "4Seller is slow: the claim ended before the item could be sent."
        return PushOutcome(change.mapping, PushResult.RELEASED, reason=reason, settled=False, uncertain=begun)

    async def _watch(self, outcome: PushOutcome) -> None:
        """Stops the push when 4Seller is down: a run of failures without one success, and no answer to a plain read.

        Items that fail for their own reasons, even many in a row, do not stop it.
        """
        self._misses = self._misses + 1 if outcome.result is PushResult.FAILED else 0
        if self._misses < self.context.settings.failures_in_a_row:
            return
        misses, self._misses = self._misses, 0
        if await self._cannot_be_read() is not None:
            raise ChannelDown(
                f"4Seller failed {misses} times in a row, the last time: {outcome.reason} "
                "The run stops here; what was not sent stays dirty, and the next run tries again."
            )

    async def _write_outcomes(self) -> None:
        waiting: list[PushOutcome] = []
        while waiting or self._done or not self._all_sent.is_set():
            # Outcomes that arrive together go in one transaction; those that wait for a lock are not tried at once.
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await (asyncio.Event() if waiting else self._all_sent).wait()
            outcomes, self._done = waiting + self._done, []
            # The shop's own transactions may hold some of the rows right now: those are written later.
            written, waiting = await in_thread(self.acknowledge, outcomes) if outcomes else ([], [])
            for outcome in written:
                self.tally.count(outcome, self._skus.pop(outcome.mapping.id, None))
            if self.on_progress is not None and written:
                self.on_progress(self.tally)

    def acknowledge(self, outcomes: list[PushOutcome]) -> tuple[list[PushOutcome], list[PushOutcome]]:
        """Writes the outcomes; returns them as written, and those to be written later."""
        most = self.context.settings.most_attempts
        return self.context.database.write(acknowledge, outcomes, most_attempts=most)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The error to report of several: bad credentials first, because they explain the rest."""
    return (group.subgroup(errors.BadCredentials) or group).exceptions[0]
