"""Waves: a large plan goes to 1 % of its listings, then to 10 %, then to all; each wave is read back before the next.

Where one fails, all that the run sent of the plan is put back as it was, and the plan waits until a person applies it, or
the shop reverts it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import CallFailed, NotFound
from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert
from midas_pipelines.settings import Settings
from midas_pipelines.store.items.acknowledge import PushCounts
from midas_pipelines.store.items.writes import written_by
from midas_pipelines.store.schema.operation_tables import listing_writes
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.brake import WAVE_ALERT, RollingBrake, changes_listing, leaps
from midas_pipelines.sync.listings.diff import differences
from midas_pipelines.sync.listings.plan import REPLACES, Change
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.listings.scan import chunks
from midas_pipelines.sync.safety.undo import undo_writes
from midas_pipelines.sync.threads import in_thread

SUBJECT = "canary"
SHARES = (1, 10, 100)  # percent of the plan in each wave; the last one is the rest

FAILING_PERCENT = 10
"""A wave fails when more of it fail, or show something else than was sent; one alone only where the wave is one item."""

WAITING = "A wave of these changes failed before, so they wait: `midas alerts list` says why and what to do."


@dataclass
class WaveReport:
    """What the waves came to; `held` are the listings whose change waits, `reason` says why."""

    tally: PushCounts = field(default_factory=PushCounts)
    held: frozenset[int] = frozenset()
    reason: str | None = None


class Waiting(NamedTuple):
    """What is kept of each change that waits: a whole one takes 16 kB, and all items may have one."""

    category: str
    price: float
    item: int  # its mapping
    acked_version: int
    leaps: bool


def cut_waves(changes: Sequence[Waiting]) -> list[list[int]]:
    """The waves, as mapping ids: each spread evenly over categories and prices. Pure."""
    left = sorted(changes)
    waves = []
    for percent in SHARES:
        size = min(len(left), math.ceil(len(changes) * percent / 100))
        places = {place * len(left) // size + len(left) // (2 * size) for place in range(size)}
        waves.append([one.item for place, one in enumerate(left) if place in places])
        left = [one for place, one in enumerate(left) if place not in places]
    return waves


def _need_waves(changes: Sequence[Waiting], settings: Settings) -> bool:
    """Whether so many listings change, or so many prices by so much, that they go in waves. Pure."""
    leaping = sum(one.leaps for one in changes)
    return len(changes) > settings.canary_items or leaping >= settings.brake_items


def _waiting(push: Push, brake: RollingBrake | None = None) -> list[Waiting]:
    """The changes that wait of content, price or being there, of listings that 4Seller has; those that the brake lets go."""
    database, limit, ids = push.context.database, push.context.settings.title_limit, push.ids
    percent, found = push.context.settings.canary_price_percent, list[Waiting]()
    for part in chunks(
        database, title_limit=limit, ids=ids, dirty_only=True, listed_only=True, shards=push.shards
    ):
        changes = [one for one in part if changes_listing(one)]
        kept = changes if brake is None else brake.hold(changes, time.monotonic())
        free = (one for one, left in zip(changes, kept, strict=True) if one is left)
        found += [waiting(one, percent) for one in free]
    return found


def waiting(change: Change, percent: int) -> Waiting:
    """What waves need of a change; by that percentage a price leaps."""
    mapping, draft = change.mapping, change.draft
    category, price = ("", mapping.acked_price or 0) if draft is None else (draft.category or "", draft.price)
    return Waiting(category, float(price), mapping.id, mapping.acked_version, leaps(change, percent))


async def push_waves(push: Push) -> WaveReport:
    """Sends changed listings in waves where they need them; the caller pushes all others, without the `held`.

    A plan that a person approved is tried again after a failed wave. Raises BadCredentials or ChannelDown where it ended
    early; what was not sent stays dirty.
    """
    context, report = push.context, WaveReport()
    changes = await in_thread(_waiting, push)
    if not _need_waves(changes, context.settings):
        await in_thread(_clear, context)
        return report
    everything = frozenset(one.item for one in changes)
    if push.agreed is None:
        if await in_thread(_has_failed, context):
            return replace(report, held=everything, reason=WAITING)
        brake = await in_thread(push.weigh)
        changes = await in_thread(_waiting, push, brake)  # what the brake holds is no wave's failure
        if not _need_waves(changes, context.settings):
            return report
    acked = {one.item: one.acked_version for one in changes}
    for number, wave in enumerate(filter(None, cut_waves(changes)), start=1):
        part = replace(push, ids=wave, ignore_delays=True, tally=PushCounts())
        try:
            await part.run()
        finally:
            report.tally.add(part.tally)
        failing = await _read_back(context, push.client, {one: acked[one] for one in wave})
        bad, size = len(failing), len(wave)
        if bad * 100 > FAILING_PERCENT * size and (bad > 1 or size == 1):
            why = "; ".join(failing[:3])
            failed = f"Wave {number} of the changes failed: {bad} of {size} listings ({why})."
            reason = await _roll_back(context, push.client, everything, failed)
            return replace(report, held=everything, reason=reason)
    await in_thread(_clear, context)
    return report


async def _read_back(context: SyncContext, client: FourSeller, wave: dict[int, int]) -> list[str]:
    """Which items of a wave are not as they should be, and why; by item, the version acknowledged before the wave."""
    failing: list[str] = []

    async def look(change: Change) -> None:
        if (why := await _why(client, change, wave[change.mapping.id])) is not None:
            failing.append(f"{change.sku}: {why}")

    parts = chunks(context.database, title_limit=context.settings.title_limit, ids=list(wave))
    while (part := await in_thread(next, parts, None)) is not None:
        await asyncio.gather(*map(look, part))
    return failing


async def _why(client: FourSeller, change: Change, acked_before: int) -> str | None:
    mapping = change.mapping
    if mapping.state == "quarantined":
        return mapping.reason or "it was not confirmed"
    if change.action in REPLACES:  # or the shop changed it again since
        return None if mapping.acked_version > acked_before else mapping.reason or "it was not confirmed"
    if mapping.fourseller_product_id is None or change.draft is None:
        return None  # taken off, as it should be: the push has looked
    try:
        shown = await client.product(mapping.fourseller_product_id)
    except CallFailed as failed:
        return "4Seller no longer has it" if isinstance(failed, NotFound) else str(failed)
    # A quantity may have been sold since.
    wrong = [one for one in differences(change, shown) if one.seen and one.field in ("price", "content")]
    texts = [f"4Seller shows the {one.field} {one.fourseller} for {one.shop}" for one in wrong]
    return "; ".join(texts) or None


async def _roll_back(context: SyncContext, client: FourSeller, plan: frozenset[int], failed: str) -> str:
    """Puts back what this run sent of the plan; returns what is reported to staff, who hear also where it ends early."""
    written = context.database.read(written_by, listing_writes.c.run_id == context.written_as)
    ours = [one for one in written if one.mapping_id in plan]
    done = "It could not be put back: `midas undo` does that, by the run's id."
    try:
        undone = await undo_writes(context, client, ours, pins=False)
        missed = {row["sku"] for row in undone.left if row["field"] != "quantity"}  # which follows the shop
        back = f"{undone.put_back} listings, those of earlier waves too, are put back as they were"
        done = f"{back}, {len(missed)} could not be."
    finally:
        reason = (
            f"{failed} {done} The changes of listings wait, quantities go on. Correct the shop; or write the plan with "
            "`midas sync products --full --plan FILE`, and apply it in waves again with `midas sync products --apply FILE`."
        )
        await in_thread(_clear, context, reason)
    return reason


def _clear(context: SyncContext, new: str | None = None) -> None:
    """Clears the alert of a failed wave, and raises the `new` one."""
    if new is None and not _has_failed(context):
        return
    with context.database.writing() as connection:
        clear_alert(connection, kind=WAVE_ALERT, subject=SUBJECT)
        if new is not None:
            raise_alert(connection, kind=WAVE_ALERT, subject=SUBJECT, text=new)


def _has_failed(context: SyncContext) -> bool:
    return bool(context.database.read(open_subjects, WAVE_ALERT))
