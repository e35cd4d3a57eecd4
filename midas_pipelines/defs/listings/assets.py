"""Listings: the shop's items on 4Seller, and what a sync would do to them."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import DATABASE_KIND, table_name
from midas_pipelines.lib import engine, partitions
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.check_results import brake_result, brake_spec
from midas_pipelines.lib.snapshot_io import read_once
from midas_pipelines.workflows import pool_of

GROUP, FULL, CHANGED = "listings", "full", "incremental_sync"
COLUMNS = ui.columns(
    sku="string: held by one item, by constraint",
    fourseller_product_id="string: one item's, by constraint",
    state="string: new, listed, quarantined or removed",
    acked_price="decimal: USD, as 4Seller last confirmed",
    acked_hash="string: of the content that 4Seller last confirmed",
) | table_name("fourseller_product_mappings")


class ListingsConfig(dg.Config):
    """Which items to push; without any of it every item of the run's shards, or by `incremental_sync` what changed."""

    skus: list[str] = Field(default=[], description='Only these items, changed or not: ["MD1-00019"].')
    ignore_delays: bool = Field(default=False, description="Of those that changed: also items in backoff.")
    apply_plan: str = Field(default="", description="An approved plan's file: only its changes are sent.")


@dg.asset(
    group_name=GROUP,
    kinds={DATABASE_KIND, "fourseller"},
    pool=pool_of("fourseller_listings"),
    tags=ui.FOURSELLER,
    deps=[ui.PRODUCTS, "listing_snapshot"],
    check_specs=[brake_spec("fourseller_listings")],
    partitions_def=partitions.SHARDS,
    metadata=COLUMNS,
)
def fourseller_listings(
    context: dg.AssetExecutionContext, config: ListingsConfig, midas: MidasResource
) -> dg.MaterializeResult:
    """Each item's listing on 4Seller: created, updated, deleted, or adopted where 4Seller already has the SKU.

    A run without shards is for all of them. A shard is done when all of its items were compared with 4Seller's
    listings, which are read once per run or backfill. In between, the job `incremental_sync` and the gateway push what changed:
    runs of no shard, so that a failed shard stays failed until it is done. An item that cannot be listed is quarantined
    with its reason and never blocks another.
    """
    full = not (context.run.job_name == CHANGED or config.skus or config.apply_plan)
    shards, scope = partitions.shards_of(context) if full else None, ", ".join(config.skus) or "incremental"
    with midas.sync_context(context) as sync:
        progress = engine.progress_lines(context.log.info, "items")
        wish: dict[str, Any] = {"shards": shards, "on_progress": progress}
        if full:
            scope, mode = FULL, engine.product_sync.Mode.FULL
            wish["listed"] = engine.listing_of(sync, read_once(context, sync))
        else:
            mode, plan = engine.product_sync.Mode.INCREMENTAL, None
            if config.apply_plan:
                plan = engine.read_plan(Path(config.apply_plan))
                _note_approval(context.run.tags, sync, plan)
            wish |= {"skus": config.skus, "agreed": plan, "ignore_delays": config.ignore_delays}
        report = asyncio.run(engine.product_sync.sync_products(sync, mode, **wish))
        context.log.info(f"Products, {scope}: {ui.counts_in_words(report)}")
        counts: partitions.Counts = {
            **ui.counts(report),
            "push_seconds": report.push_seconds,
            "still_waiting": sync.database.read(engine.count_dirty, shards),
        }
        if full:
            counts = partitions.shard_counts(context, sync, counts)
            scope = f"{scope}, {partitions.shard_metadata(context)}"
        shown = {**counts, "scope": scope, **ui.tables(sync, problems=report.problems)}
        results = [brake_result(sync, report)]
    return ui.made(sync, shown, shared=partitions.has_several(context), check_results=results)


def _note_approval(tags: Mapping[str, str], sync: "engine.SyncContext", plan: "engine.ApprovedPlan") -> None:
    """Writes into the audit log who applies the plan, unless a command did: the run's tag `user`, else what launched it."""
    if tags.get(partitions.DRIVER_TAG) == partitions.COMMAND_LINE:
        return
    actor = tags.get("user") or tags.get(partitions.DRIVER_TAG) or "Dagster, no sign-in"
    detail = {"plan": plan.hash}
    entry = engine.audit.AuditEntry(actor, "Dagster apply_plan", target=sync.run_id, detail=detail)
    sync.database.write(engine.audit.note_audit, entry, "asked")


class PlanConfig(dg.Config):
    """Which items to plan for."""

    full: bool = Field(default=True, description="Plan for every item, not only those that changed.")
    skus: list[str] = Field(default=[], description="Only these items.")


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    pool=pool_of("sync_plan"),
    deps=[ui.PRODUCTS, fourseller_listings],
    metadata=ui.columns(
        action="string: create, update, delete or quantity",
        sku="string: the shop's SKU",
        title="string: as buyers see it",
    )
    | ui.IN_DAGSTER,
)
def sync_plan(
    context: dg.AssetExecutionContext, config: PlanConfig, midas: MidasResource
) -> dg.MaterializeResult:
    """What a sync would do to each item; it sends no request. A plan that is to be approved is a file, or the console's."""
    with midas.sync_context(context) as sync:
        report = engine.product_sync.ProductReport()
        with engine.logged_sync(sync, "products", "dry run", report):  # where a caller who launched it looks
            ids = engine.product_sync.mapping_ids(sync, config.skus) if config.skus else None
            plan = engine.make_plan(sync, dirty_only=not (config.full or config.skus), ids=ids)
            vars(report).update(plan.counts)
        preview = ui.tables(sync, preview=plan.rows[:20])
    return ui.made(sync, {"dagster/row_count": len(plan.rows), **plan.counts, **preview})
