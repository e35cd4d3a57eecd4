"""Waves: a large plan goes to 1 % of its listings, then to 10 %, then to all; each wave is read back before the next.

A wave that fails is put back as it was, and the rest of the plan waits until a person applies it, or the shop reverts it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError, NotFound
from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.items.written import of_run, written_by
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.brake import WAVE_ALERT, changes_listing, enough_dirty, leaps
from midas_pipelines.sync.listings.diff import differences
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.listings.scan import chunks
from midas_pipelines.sync.safety.undo import undo_writes
from midas_pipelines.sync.sync_log import PushCounts
from midas_pipelines.sync.threads import in_thread

SUBJECT = "canary"
SHARES = (1, 10)
"""Percent of the plan in the first waves; the last one is the rest."""

FAILING_PERCENT = 10
"""A wave fails when more of it fail, or show something else than was sent; one alone only where the wave is one item."""

CHANGES = (Action.UPDATE, Action.DELETE)


@dataclass
class WaveReport:
    """What the waves before the last one came to; `held` are the listings whose change waits, `reason` says why."""

    tally: PushCounts = field(default_factory=PushCounts)
    held: frozenset[int] = frozenset()
    reason: str | None = None


def cut_waves(changes: Sequence[Change]) -> list[list[int]]:
    """The waves before the last one, as mapping ids: spread evenly over categories and prices. Pure."""
    left = sorted(changes, key=lambda one: (_category(one), _price(one), one.mapping.id))
    waves = []
    for percent in SHARES:
        size = min(len(left), math.ceil(len(changes) * percent / 100))
        places = (
            {place * len(left) // size + len(left) // (2 * size) for place in range(size)} if size else set()
        )
        waves.append([one.mapping.id for place, one in enumerate(left) if place in places])
        left = [one for place, one in enumerate(left) if place not in places]
    return waves


def _category(change: Change) -> str:
    return (change.draft.category or "") if change.draft is not None else ""


def _price(change: Change) -> float:
    return float(change.draft.price if change.draft is not None else change.mapping.acked_price or 0)


def needs_waves(changes: Sequence[Change], settings: Settings) -> bool:
    """Whether so many listings change, or so many prices by so much, that they go in waves. Pure."""
    if len(changes) > settings.canary_items:
        return True
    return sum(leaps(one, settings.canary_price_percent) for one in changes) >= settings.brake_items


def changed_listings_of(
    database: Database, settings: Settings, ids: Sequence[int] | None = None, shards: Shards | None = None
) -> list[Change]:
    """The changes that wait of content, price or being there, of listings that 4Seller has."""
    if ids is None and not enough_dirty(database, min(settings.canary_items, settings.brake_items)):
        return []
    limit = settings.title_limit
    parts = chunks(database, title_limit=limit, ids=ids, dirty_only=True, listed_only=True, shards=shards)
    return [one for part in parts for one in part if changes_listing(one)]


async def push_waves(push: Push, changes: Sequence[Change], *, approved: bool) -> WaveReport:
    """Sends the waves before the last one where the changes need them; the caller pushes the rest, without the `held`.

    Args:
        push: as the caller would push all of it.
        changes: the changes of listings among it.
        approved: whether a person agreed to this very plan: then it is tried again after a failed wave.

    Raises:
        BadCredentials, ChannelDown: it ended early; what was not sent stays dirty.
    """
    context, report = push.context, WaveReport()
    if not needs_waves(changes, context.settings):
        await in_thread(_clear, context)
        return report
    everything = frozenset(one.mapping.id for one in changes)
    if not approved and (reason := await in_thread(_open, context)) is not None:
        return replace(report, held=everything, reason=reason)
    for number, wave in enumerate(cut_waves(changes), start=1):
        part = replace(push, ids=wave, ignore_delays=True, tally=PushCounts())
        try:
            await part.run()
        finally:
            report.tally.add(part.tally)
        failing = await _read_back(context, push.client, wave)
        if _fails(len(failing), len(wave)):
            reason = await _roll_back(context, push.client, wave, number, failing)
            return replace(report, held=everything, reason=reason)
    await in_thread(_clear, context)
    return report


def _fails(failing: int, size: int) -> bool:
    return failing * 100 > FAILING_PERCENT * size and (failing > 1 or size == 1)


async def _read_back(context: SyncContext, client: FourSeller, ids: list[int]) -> dict[int, str]:
    """The items of a wave that are not as they should be, with why; a quantity may have been sold since."""
    parts = await in_thread(
        lambda: list(chunks(context.database, title_limit=context.settings.title_limit, ids=ids))
    )
    failing: dict[int, str] = {}

    async def look(change: Change) -> None:
        why = await _why(client, change)
        if why is not None:
            failing[change.mapping.id] = f"{change.sku}: {why}"

    await asyncio.gather(*(look(change) for part in parts for change in part))
    return failing


async def _why(client: FourSeller, change: Change) -> str | None:
    mapping = change.mapping
    if change.action in CHANGES or mapping.state == "quarantined":
        return mapping.reason or "it was not confirmed"
    if mapping.fourseller_product_id is None or change.draft is None:
        return None  # taken off, as it should be: the push has looked
    try:
        shown = await client.product(mapping.fourseller_product_id)
    except NotFound:
        return "4Seller no longer has it"
    except BadCredentials:
        raise
    except FourSellerError as failed:
        return str(failed)
    wrong = [one for one in differences(change, shown) if one.seen and one.field in ("price", "content")]
    return (
        "; ".join(f"4Seller shows the {one.field} {one.fourseller} for {one.shop}" for one in wrong) or None
    )


async def _roll_back(
    context: SyncContext, client: FourSeller, wave: list[int], number: int, failing: dict[int, str]
) -> str:
    with context.database.reading() as connection:
        written = written_by(connection, of_run(context.written_as))
    ours = [one for one in written if one.mapping_id in set(wave)]
    undone = await undo_writes(context, client, ours, pins=False)
    worst = "; ".join(list(failing.values())[:3])
    missed = {row["sku"] for row in undone.left if row["field"] != "quantity"}  # quantities follow the shop
    reason = (
        f"Wave {number} of the changes failed: {len(failing)} of {len(wave)} listings ({worst}). {undone.put_back} are put "
        f"back as they were, {len(missed)} could not be. The other changes of listings wait, quantities go on. Correct "
        "the shop; or write the plan with `midas sync products --full --plan FILE`, and apply it in "
        "waves again with `midas sync products --apply FILE`."
    )
    await in_thread(_raise, context, reason)
    return reason


def _raise(context: SyncContext, reason: str) -> None:
    with context.database.writing() as connection:
        clear_alert(connection, kind=WAVE_ALERT, subject=SUBJECT)
        raise_alert(connection, kind=WAVE_ALERT, subject=SUBJECT, text=reason)


def _clear(context: SyncContext) -> None:
    with context.database.reading() as connection:
        if not open_subjects(connection, WAVE_ALERT):
            return
    with context.database.writing() as connection:
        clear_alert(connection, kind=WAVE_ALERT, subject=SUBJECT)


def _open(context: SyncContext) -> str | None:
    """Why changes wait since a wave failed; None where none did."""
    with context.database.reading() as connection:
        if open_subjects(connection, WAVE_ALERT):
            return "A wave of these changes failed before, so they wait: `midas alerts list` says why and what to do."
    return None
