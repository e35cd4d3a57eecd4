"""Product sync: the shop's catalogue on 4Seller, in full or only what changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.store.items.mappings import count_dirty, ensure_items, mark_dirty
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import Known
from midas_pipelines.sync.listings.approved_plan import ApprovedPlan, still_holds
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.listings.scan import Scanned, chunks, scan
from midas_pipelines.sync.orders.stock.pending_lines import serve_before_push
from midas_pipelines.sync.push_counts import PushCounts
from midas_pipelines.sync.reconcile.apply import ReadBack
from midas_pipelines.sync.reconcile.conflicts import close_pushed, take_marketplace_quantities
from midas_pipelines.sync.reconcile.report import ReconcileReport
from midas_pipelines.sync.reconcile.run import ReadListing, read_back
from midas_pipelines.sync.safety.waves import changed_listings_of, push_waves
from midas_pipelines.sync.sync_log import SyncClock, logged_sync
from midas_pipelines.sync.threads import in_thread


class Mode(StrEnum):
    """Which items a sync considers."""

    FULL = "full"
    INCREMENTAL = "incremental"


class UnknownSku(WrongInput):
    """A SKU was asked for that no item of the shop has."""

    http_status = 404


@dataclass
class ProductReport:
    """What a product sync did. Each scanned item is in exactly one of the counts from `created` to `quarantined`; `held` are those that the brake holds."""

    scanned: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    held: int = 0
    shadowed: int = 0
    quarantined: int = 0
    adopted: int = 0
    requests: int = 0
    seconds: float = 0.0
    push_seconds: float = 0.0
    problems: list[dict[str, str]] = field(default_factory=list)
    stopped: str | None = None  # why those held were not pushed: the brake
    held_items: list[dict[str, str]] = field(default_factory=list)
    plan: list[dict[str, object]] = field(default_factory=list)  # only for a dry run


async def sync_products(
    context: SyncContext,
    mode: Mode = Mode.INCREMENTAL,
    *,
    skus: Sequence[str] = (),
    dry_run: bool = False,
    agreed: ApprovedPlan | None = None,
    ignore_delays: bool = False,
    shards: Shards | None = None,
    listed: ReadListing | None = None,
    on_progress: Callable[[PushCounts], None] | None = None,
) -> ProductReport:
    """Brings 4Seller's products to what the shop's tables say.

    Args:
        context: settings, database and run.
        mode: all items (reads 4Seller's listing first), or the dirty ones.
        skus: only these items, whatever the mode.
        agreed: a plan that a person has read: its steps are sent, if they still hold, and nothing else.
        dry_run: tells what would be done, in `plan`, and sends no write.
        ignore_delays: tries also the items that are backing off; a full sync always does.
        shards: only the items of these; None for all.
        listed: of a full sync, what 4Seller shows, where it was read already in the same run or backfill.
        on_progress: called after each block of acknowledgements.

    Raises:
        UnknownSku: one of `skus` is no item's.
        PlanRefused: the plan no longer holds; nothing was sent.
        BadCredentials, ChannelDown: the run ended early; what was not sent stays dirty.
    """
    scope = (
        "dry run"
        if dry_run
        else f"plan {agreed.hash[:12]}"
        if agreed
        else ",".join(skus)[:200]
        if skus
        else mode.value
    )
    if shards is not None:
        scope += f", {shards}"[:150]
    report = ProductReport()
    with logged_sync(context, "products", scope, report) as clock:
        ids = mapping_ids(context, skus) if skus else None
        if dry_run:
            _plan_only(context, mode, ids, report)
            return report
        async with context.channel() as client:
            clock.client = client
            if agreed is not None:
                await _apply(context, client, agreed, report, on_progress)
                return report
            await _sync(context, client, mode, ids, report, ignore_delays, shards, listed, on_progress, clock)
    return report


async def _sync(
    context: SyncContext,
    client: FourSeller,
    mode: Mode,
    ids: list[int] | None,
    report: ProductReport,
    ignore_delays: bool,
    shards: Shards | None,
    listed: ReadListing | None,
    on_progress: Callable[[PushCounts], None] | None,
    clock: SyncClock,
) -> None:
    full = mode is Mode.FULL or ids is not None
    await in_thread(serve_before_push, context.database, context.run_id)
    known, judged_at = None, None
    if mode is Mode.FULL and ids is None:
        settling = await _read_back(context, client, shards, report, listed)
        known = Known(settling.listing.products) if settling.listing.complete else None
        judged_at = settling.read_at
    limit = context.settings.title_limit
    scanned = (
        scan(context.database, title_limit=limit, ids=ids, shards=shards, judged_at=judged_at)
        if full
        else None
    )
    started = time.perf_counter()
    progress = clock.follow(scanned.to_push if scanned is not None else _dirty(context), on_progress)
    push = Push(
        context,
        client,
        known=known,
        ids=ids,
        ignore_delays=full or ignore_delays,
        shards=shards,
        on_progress=progress,
    )
    try:
        await _run_in_waves(push, report, approved=False)
        if known is not None:
            await in_thread(close_pushed, context)
    finally:
        report.push_seconds = round(time.perf_counter() - started, 3)
        _fill(report, push.tally, scanned)
        report.stopped = report.stopped or push.stopped


async def _run_in_waves(push: Push, report: ProductReport, *, approved: bool) -> None:
    """Pushes all of it, in waves where it changes many listings or prices by much."""
    context = push.context
    if context.settings.shadow:
        await push.run()
        return
    changes = await in_thread(changed_listings_of, context.database, context.settings, push.ids, push.shards)
    waves = await push_waves(push, changes, approved=approved)
    push.held, report.stopped = waves.held, waves.reason
    try:
        await push.run()
    finally:
        push.tally.add(waves.tally)


async def _apply(
    context: SyncContext,
    client: FourSeller,
    agreed: ApprovedPlan,
    report: ProductReport,
    on_progress: Callable[[PushCounts], None] | None,
) -> None:
    await in_thread(still_holds, context, agreed)
    steps = {step.item: step for step in agreed.steps}
    ids = sorted(steps)
    with context.database.writing() as connection:
        mark_dirty(connection, ids)
    push = Push(context, client, ids=ids, ignore_delays=True, agreed=steps, on_progress=on_progress)
    try:
        await _run_in_waves(push, report, approved=True)
    finally:
        _fill(report, push.tally, None)


def _dirty(context: SyncContext) -> int:
    with context.database.reading() as connection:
        return count_dirty(connection)


async def _read_back(
    context: SyncContext,
    client: FourSeller,
    shards: Shards | None,
    report: ProductReport,
    listed: ReadListing | None,
) -> ReadBack:
    """What 4Seller shows, the items of the shards settled by policy.

    Raises BadCredentials, or ChannelDown when not even the first page can be had.
    """
    settling = await read_back(context, client, shards, ReconcileReport(), listed)
    await in_thread(take_marketplace_quantities, context)
    if settling.report.note is not None:
        report.problems.append({"sku": "", "result": "sales", "reason": settling.report.note})
    if not settling.listing.complete:
        report.problems.append({"sku": "", "result": "list", "reason": settling.listing.reason})
    return settling


def _fill(report: ProductReport, tally: PushCounts, scanned: Scanned | None) -> None:
    report.created, report.deleted, report.adopted = tally.created, tally.deleted, tally.adopted
    report.updated = tally.updated + tally.pushed
    report.failed = tally.failed + tally.released
    report.problems += tally.problems
    report.shadowed = tally.shadowed
    report.held, report.held_items = tally.held, tally.held_items
    touched = tally.created + report.updated + tally.deleted + report.failed + report.held + report.shadowed
    if scanned is None:
        report.scanned, report.unchanged, report.quarantined = (
            tally.claimed,
            tally.unchanged,
            tally.quarantined,
        )
    else:
        report.scanned = scanned.items
        report.quarantined = scanned.quarantined + tally.unexpected
        report.unchanged = max(0, scanned.items - touched - report.quarantined)


def _plan_only(context: SyncContext, mode: Mode, ids: list[int] | None, report: ProductReport) -> None:
    limit = context.settings.title_limit
    found = Scanned()
    if mode is Mode.FULL or ids is not None:
        found = scan(context.database, title_limit=limit, ids=ids, keep_changes=True)
    else:
        for changes in chunks(context.database, title_limit=limit):
            found.changes += [c for c in changes if c.mapping.dirty and (c.writes or c.reason is not None)]
        found.items = len(found.changes)
    for change in found.changes:
        row: dict[str, object] = {
            "action": change.action.value,
            "sku": change.sku,
            "quantity": change.quantity,
            "reason": change.reason,
        }
        report.plan.append(row)
    actions = [change.action.value for change in found.changes]
    report.scanned, report.unchanged = found.items, found.unchanged
    report.created, report.deleted = actions.count("create"), actions.count("delete")
    report.updated = actions.count("update") + actions.count("quantity")
    report.quarantined = actions.count("quarantined")


def mapping_ids(context: SyncContext, skus: Sequence[str]) -> list[int]:
    """The mappings of the items with these SKUs, as the shop spells them. Raises UnknownSku."""
    wanted = list(dict.fromkeys(skus))
    plain = sa.select(products.c.sku, mappings.c.id).join(
        mappings, sa.and_(mappings.c.product_id == products.c.id, mappings.c.variant_id.is_(None))
    )
    variants = sa.select(product_variants.c.sku, mappings.c.id).join(
        mappings,
        sa.and_(
            mappings.c.product_id == product_variants.c.product_id,
            mappings.c.variant_id == product_variants.c.id,
        ),
    )
    tied = sa.select(mappings.c.sku, mappings.c.id).where(mappings.c.sku.in_(wanted))
    query = plain.where(products.c.sku.in_(wanted)).union(
        variants.where(product_variants.c.sku.in_(wanted)), tied
    )
    with context.database.reading() as connection:
        found = connection.execute(query).all()
    if {row.sku for row in found} != set(
        wanted
    ):  # the triggers may have missed one; finding it reads every item
        with context.database.writing() as connection:
            ensure_items(connection)
            found = connection.execute(query).all()
    unknown = [sku for sku in wanted if sku not in {row.sku for row in found}]
    if unknown:
        raise UnknownSku(f"No item of the shop has the SKU {', '.join(unknown)}: check the spelling.")
    return sorted({row.id for row in found})
