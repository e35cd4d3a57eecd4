"""Product sync and inventory push: the shop's catalogue on 4Seller in full, what changed of it, or quantities alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from midas_pipelines.store.items.acknowledge import PushCounts
from midas_pipelines.store.items.mappings import count_dirty, ensure_items, mark_dirty
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.catalog import UnknownSku
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.adopt import Known
from midas_pipelines.sync.listings.before_sending import serve_before_push
from midas_pipelines.sync.listings.brake import RollingBrake, is_calm
from midas_pipelines.sync.listings.push import Push
from midas_pipelines.sync.listings.scan import (
    ApprovedPlan,
    PlanStep,
    Scanned,
    scan,
    still_holds,
)
from midas_pipelines.sync.reconcile.apply import ReadBack
from midas_pipelines.sync.reconcile.report import ReconcileReport
from midas_pipelines.sync.reconcile.run import ReadListing, close_resolved, read_back, read_listing
from midas_pipelines.sync.safety.waves import push_waves
from midas_pipelines.sync.sync_log import OnProgress, PushReport, logged_sync
from midas_pipelines.sync.threads import in_thread


class Mode(StrEnum):
    """Which items a sync considers."""

    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass
class ProductReport(PushReport):
    """What a product sync did. Each scanned item is in exactly one of the counts but `adopted`; `held` are those of the brake."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    quarantined: int = 0
    adopted: int = 0
    push_seconds: float = 0.0


async def sync_products(
    context: SyncContext,
    mode: Mode = Mode.INCREMENTAL,
    *,
    skus: Sequence[str] = (),
    agreed: ApprovedPlan | None = None,
    ignore_delays: bool = False,
    shards: Shards | None = None,
    listed: ReadListing | None = None,
    on_progress: OnProgress | None = None,
) -> ProductReport:
    """Brings 4Seller's products to what the shop's tables say.

    Args:
        context: settings, database and run.
        mode: all items (reads 4Seller's listing first), or the dirty ones.
        skus: only these items, whatever the mode.
        agreed: a plan that a person has read: its steps are sent, if they still hold, and nothing else.
        ignore_delays: tries also the items that are backing off; a full sync always does.
        shards: only the items of these; None for all.
        listed: of a full sync, what 4Seller shows, where it was read already in the same run or backfill.
        on_progress: called after each block of acknowledgements.

    Raises:
        UnknownSku: one of `skus` is no item's.
        WrongInput: the plan no longer holds; nothing was sent.
        BadCredentials, ChannelDown: the run ended early; what was not sent stays dirty.
    """
    report, full = ProductReport(), mode is Mode.FULL or bool(skus)
    with logged_sync(context, "products", _scope(mode, skus, agreed, shards), report) as clock:
        ids = mapping_ids(context, skus) if skus else None
        async with context.channel() as client, context.claiming():
            clock.client = client
            push = Push(context, client, ids=ids, shards=shards, ignore_delays=full or ignore_delays)
            if agreed is not None:
                push.on_progress = clock.follow(len(agreed.steps), on_progress)
                push.agreed = await in_thread(_begin_plan, context, agreed)
                push.ids, push.ignore_delays = sorted(push.agreed), True
                await _push(push, report, None)
                return report
            judging, scanned, unscanned = None, Scanned(), ids or []
            if full and ids is None:
                judging = await _compare(push, listed)
                clock.requests = judging.report.sale_requests + (listed.requests if listed else 0)
                for kind, why in (("sales", judging.report.note), ("list", judging.listing.reason)):
                    if why:
                        report.problems.append({"sku": "", "result": kind, "reason": why})
                scanned, unscanned = judging.scanned, judging.unscanned
            else:
                await in_thread(serve_before_push, context.database, context.run_id)
            if full:
                limit = context.settings.title_limit
                await in_thread(scan, context.database, scanned, title_limit=limit, ids=unscanned)
            push.on_progress = clock.follow(scanned.to_push if full else None, on_progress)
            await _push(push, report, scanned if full else None)
            if judging is not None:
                await in_thread(close_resolved, context, judging)
    return report


async def _compare(push: Push, listed: ReadListing | None) -> ReadBack:
    """Reads the listing and holds every item against it; makes the push ready meanwhile."""
    context, client = push.context, push.client

    def begin() -> int:
        serve_before_push(context.database, context.run_id)
        context.database.write(ensure_items)
        push.begin()
        return context.database.read(count_dirty, push.shards)

    async def read() -> ReadListing:
        return listed or await read_listing(context, client, push.shards)

    reading = asyncio.ensure_future(read())
    try:
        waiting = await in_thread(begin)
        client.open(0 if context.settings.shadows("listing") else waiting)
        judging = await read_back(context, client, push.shards, ReconcileReport(), await reading)
    finally:
        reading.cancel()
    push.known = Known(judging.listing.products) if judging.listing.complete else None
    return judging


def _scope(mode: Mode, skus: Sequence[str], agreed: ApprovedPlan | None, shards: Shards | None) -> str:
    """What the sync is about, for its log row."""
    scope = f"plan {agreed.hash[:12]}" if agreed is not None else ",".join(skus)[:200] or mode.value
    return scope if shards is None else scope + f", {shards}"[:150]


def _begin_plan(context: SyncContext, agreed: ApprovedPlan) -> dict[int, PlanStep]:
    """The steps of a plan that still holds, by item; those are dirty from then on. Raises WrongInput."""
    still_holds(context, agreed)
    context.database.write(mark_dirty, sorted(step.item for step in agreed.steps))
    return {step.item: step for step in agreed.steps}


async def _push(push: Push, report: ProductReport, scanned: Scanned | None) -> None:
    """Pushes all of it, in waves where it changes many listings or prices by much, and fills the report."""
    context, started = push.context, time.perf_counter()
    try:
        calm = push.agreed is None and await in_thread(is_calm, context.database, context.settings)
        if calm:  # nothing is to be weighed before the first item is claimed
            push.brake = RollingBrake(context.database, context.settings, push.known)
        if calm or context.settings.shadows("listing"):
            await push.run()
            return
        waves = await push_waves(push)
        push.held, report.stopped = waves.held, waves.reason
        try:
            await push.run()
        finally:
            push.tally.add(waves.tally)
    finally:
        report.push_seconds = round(time.perf_counter() - started, 3)
        _fill(report, push.tally, scanned)
        report.stopped = report.stopped or push.stopped


def _fill(report: ProductReport, tally: PushCounts, scanned: Scanned | None) -> None:
    report.fill(tally)
    report.created, report.deleted, report.adopted = tally.created, tally.deleted, tally.adopted
    report.updated, report.quarantined = tally.updated + tally.pushed, tally.quarantined
    if scanned is not None:
        touched = tally.created + report.updated + tally.deleted
        touched += report.failed + report.held + report.shadowed
        report.scanned, report.quarantined = scanned.items, scanned.quarantined + tally.unexpected
        report.unchanged = max(0, scanned.items - touched - report.quarantined)


def mapping_ids(context: SyncContext, skus: Sequence[str]) -> list[int]:
    """The mappings of the items with these SKUs, as the shop spells them. Raises UnknownSku."""
    wanted = list(dict.fromkeys(skus))
    product, variant, mapping = products.c, product_variants.c, mappings.c
    plain = sa.select(product.sku, mapping.id).join(
        mappings, sa.and_(mapping.product_id == product.id, mapping.variant_id.is_(None))
    )
    variants = sa.select(variant.sku, mapping.id).join(
        mappings, sa.and_(mapping.product_id == variant.product_id, mapping.variant_id == variant.id)
    )
    tied = sa.select(mapping.sku, mapping.id).where(mapping.sku.in_(wanted))
    query = plain.where(product.sku.in_(wanted)).union(variants.where(variant.sku.in_(wanted)), tied)
    found = context.database.rows(query)
    if {row["sku"] for row in found} != set(wanted):
        context.database.write(ensure_items)  # the triggers may have missed one; finding it reads every item
        found = context.database.rows(query)
    known = {row["sku"] for row in found}
    if unknown := [sku for sku in wanted if sku not in known]:
        raise UnknownSku(*unknown)
    return sorted({row["id"] for row in found})


@dataclass
class InventoryReport(PushReport):
    """What an inventory push did; counts of items."""

    pushed: int = 0


async def push_inventory(
    context: SyncContext,
    *,
    ids: Sequence[int] | None = None,
    ignore_delays: bool = False,
    on_progress: OnProgress | None = None,
) -> InventoryReport:
    """Sends the quantity of each dirty item that 4Seller lists, or of these mappings; content waits for the product sync.
    Raises BadCredentials or ChannelDown where it ended early; what was not sent stays dirty."""
    report = InventoryReport()
    with logged_sync(context, "inventory", "dirty", report) as clock:
        async with context.channel() as client:
            clock.client = client
            await asyncio.to_thread(serve_before_push, context.database, context.run_id)
            push = Push(context, client, ids=ids, quantities_only=True, ignore_delays=ignore_delays)
            push.on_progress = clock.follow(None, on_progress)
            try:
                await push.run()
            finally:
                report.fill(push.tally)
                report.pushed, report.stopped = push.tally.pushed, push.stopped
    return report
