"""Listings: the shop's items on 4Seller, and what a sync would do to them."""

import asyncio
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.catalog.assets import storefront_products
from midas_pipelines.defs.listings.snapshot import listing_snapshot
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import brake_result, brake_spec
from midas_pipelines.lib.links import links
from midas_pipelines.lib.metadata import FOURSELLER, OWNERS, columns, counts_in_words, numbers, table
from midas_pipelines.lib.shards import SHARDS, shard_metadata, shards_of
from midas_pipelines.lib.snapshot_io import run_set
from midas_pipelines.store.items.shards import Shards

GROUP, FULL = "listings", "full"
COUNTS = ("scanned", "created", "updated", "deleted", "unchanged", "adopted", "failed", "held", "quarantined")
COLUMNS = columns(
    sku="string: held by one item, by constraint",
    fourseller_product_id="string: one item's, by constraint",
    state="string: new, listed, quarantined or removed",
    acked_price="decimal: USD, as 4Seller last confirmed",
    acked_quantity="int: as 4Seller last confirmed",
) | {"dagster/table_name": "fourseller_product_mappings"}


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=FOURSELLER,
    deps=[storefront_products, listing_snapshot],
    check_specs=[brake_spec("fourseller_listings")],
    partitions_def=SHARDS,
    pool="listings",
    metadata=COLUMNS,
)
def fourseller_listings(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Syncs every item to 4Seller: creates, updates, deletes; adopts a listing where 4Seller already has the SKU.

    A shard is done when all of its items were compared with 4Seller's listings, which are read once per run or backfill. What
    changes in between is pushed by `changed_listings`. An item that cannot be listed is quarantined with its reason and
    never blocks another.
    """
    with midas.sync_context(context) as sync:
        listed = engine.listing_of(sync, run_set(context))
        return _synced(context, sync, FULL, shards=shards_of(context), listed=listed)


class ChangesConfig(dg.Config):
    """Which items to push."""

    skus: list[str] = Field(default=[], description="Only these items, changed or not.")
    ignore_delays: bool = Field(default=False, description="Also push items in backoff.")
    apply_plan: str = Field(default="", description="A plan file: only its changes are sent.")


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=FOURSELLER,
    deps=[storefront_products],
    check_specs=[brake_spec("changed_listings")],
    pool="changes",
    metadata=COLUMNS,
)
def changed_listings(
    context: dg.AssetExecutionContext, config: ChangesConfig, midas: MidasResource
) -> dg.MaterializeResult:
    """Pushes the items that changed since 4Seller last confirmed them, or the named ones.

    It touches nothing else, and has no shards: unfinished items stay dirty for the next run or a full sync.
    """
    with midas.sync_context(context) as sync:
        return _synced(
            context,
            sync,
            ", ".join(config.skus) or "incremental",
            skus=config.skus,
            agreed=engine.read_plan(Path(config.apply_plan)) if config.apply_plan else None,
            ignore_delays=config.ignore_delays,
        )


def _synced(
    context: dg.AssetExecutionContext,
    sync: "engine.SyncContext",
    scope: str,
    *,
    shards: Shards | None = None,
    **wish: Any,
) -> dg.MaterializeResult:
    """Runs one sync and logs its progress. A run over several shards has its counts as text: Dagster shows them on each."""
    mode = engine.Mode.FULL if scope == FULL else engine.Mode.INCREMENTAL
    progress = engine.report_progress(context.log.info, "items", lambda: waiting(sync, shards))
    report = asyncio.run(engine.sync_products(sync, mode, shards=shards, on_progress=progress, **wish))
    summary = counts_in_words(report, *COUNTS)
    context.log.info(f"Products, {scope}: {summary}")
    if scope == FULL:
        _add_shard_metadata(context, sync)
        scope = f"{scope}, {shard_metadata(context)}"
    several = context.has_partition_key_range and len(context.partition_keys) > 1
    return dg.MaterializeResult(
        check_results=[brake_result(report)],
        metadata={
            **({"run": summary} if several else _counted(report)),
            "scope": scope,
            "problems": table(report.problems),
            **links(sync, report.problems),
        },
    )


def _add_shard_metadata(context: dg.AssetExecutionContext, sync: "engine.SyncContext") -> None:
    """Adds each shard's own counts, for its plot."""
    with sync.database.reading() as connection:
        totals = engine.shard_totals(connection, len(SHARDS.get_partition_keys()))
    for name in context.partition_keys:
        found = totals.get(int(name), {})
        own = {"dagster/row_count": found.get("items", 0), "still_waiting": found.get("waiting", 0)}
        context.add_asset_metadata(own, partition_key=name)


def _counted(report: "engine.ProductReport") -> dict[str, int | float]:
    return numbers(report, *COUNTS, "requests", "seconds", "push_seconds")


def waiting(sync: "engine.SyncContext", shards: Shards | None) -> int:
    """The number of dirty items in those shards."""
    with sync.database.reading() as connection:
        return engine.count_dirty(connection, shards)


class PlanConfig(dg.Config):
    """Which items to plan for."""

    full: bool = Field(default=True, description="Plan for every item, not only those that changed.")
    skus: list[str] = Field(default=[], description="Only these items.")


@dg.asset(group_name=GROUP, kinds={"python"}, owners=OWNERS, deps=[storefront_products], pool="plans")
def sync_plan(
    context: dg.AssetExecutionContext, config: PlanConfig, midas: MidasResource
) -> dg.MaterializeResult:
    """What a sync would do to each item; a dry run that sends no request."""
    with midas.sync_context(context) as sync:
        mode = engine.Mode.FULL if config.full else engine.Mode.INCREMENTAL
        report = asyncio.run(engine.sync_products(sync, mode, skus=config.skus, dry_run=True))
        where = links(sync, report.plan[:20])
    counts = numbers(
        report, "scanned", "created", "updated", "deleted", "unchanged", "quarantined", "seconds"
    )
    return dg.MaterializeResult(
        value=report.plan,
        metadata={**counts, "preview": table(report.plan[:20]), **where},
    )
