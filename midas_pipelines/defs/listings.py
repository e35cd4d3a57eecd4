"""Listings: the shop's items on 4Seller, and what a sync would do to them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.braking import brake_engaged, brake_held, brake_spec
from midas_pipelines.defs.catalog import catalog_snapshot
from midas_pipelines.defs.links import links
from midas_pipelines.defs.metadata import FOURSELLER, OWNERS, columns, numbers, table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.shards import SHARDS, shards_of, shards_told
from midas_pipelines.store.shards import Shards

if TYPE_CHECKING:
    from midas_pipelines.sync.engine import Engine

GROUP = "listings"


class ListingsConfig(dg.Config):
    """Which items to bring to 4Seller."""

    full: bool = Field(default=True, description="Consider every item, not only those that changed.")
    skus: list[str] = Field(default=[], description="Only these items, whether they changed or not.")
    ignore_delays: bool = Field(default=False, description="Also the items that are backing off.")
    apply_plan: str = Field(default="", description="A plan's file: its steps are sent, and nothing else.")


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=FOURSELLER,
    deps=[catalog_snapshot],
    check_specs=[brake_spec("fourseller_listings")],
    partitions_def=SHARDS,
    pool="listings",
    metadata=columns(
        sku="string: held by one item, by constraint",
        fourseller_product_id="string: one item's, by constraint",
        state="string: new, listed, set_aside or removed",
        acked_price="decimal: USD, as 4Seller last confirmed",
        acked_quantity="int: as 4Seller last confirmed",
    )
    | {"dagster/table_name": "fourseller_product_mappings"},
)
def fourseller_listings(
    context: dg.AssetExecutionContext, config: ListingsConfig, midas: Midas
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """The shop's items on 4Seller: created, updated, taken off; adopted where 4Seller had the SKU already.

    An item that cannot be listed is set aside with its reason and never holds up another.
    """
    from midas_pipelines.sync.brake import BrakeEngaged
    from midas_pipelines.sync.plans import read_plan
    from midas_pipelines.sync.products import Mode, sync_products
    from midas_pipelines.sync.progress import tell

    shards = shards_of(context)
    with midas.engine(context) as engine:
        work = sync_products(
            engine,
            Mode.FULL if config.full else Mode.INCREMENTAL,
            skus=config.skus,
            agreed=read_plan(Path(config.apply_plan)) if config.apply_plan else None,
            ignore_delays=config.ignore_delays,
            shards=shards,
            on_progress=tell(context.log.info, "items", lambda: waiting(engine, shards)),
        )
        try:
            report = asyncio.run(work)
        except BrakeEngaged as stopped:
            yield brake_engaged(stopped)
            raise
        where = links(engine, report.problems)
    yield dg.MaterializeResult(
        check_results=[brake_held()],
        metadata={
            **({"dagster/row_count": report.scanned} if config.full and not config.skus else {}),
            **numbers(report, "scanned", "created", "updated", "deleted", "unchanged", "adopted"),
            **numbers(report, "failed", "set_aside", "requests", "seconds", "push_seconds"),
            "scope": f"{_items_of(config)}, {shards_told(context)}",
            "problems": table(report.problems),
            **where,
        },
    )


def _items_of(config: ListingsConfig) -> str:
    return ", ".join(config.skus) or ("full" if config.full else "incremental")


def waiting(engine: "Engine", shards: Shards | None) -> int:
    """How many items of those shards are yet to be pushed."""
    from midas_pipelines.store.mappings import count_dirty

    with engine.database.reading() as connection:
        return count_dirty(connection, shards)


class PlanConfig(dg.Config):
    """Which items to plan for, as for the listings."""

    full: bool = Field(default=True, description="Plan for every item, not only those that changed.")
    skus: list[str] = Field(default=[], description="Only these items.")


@dg.asset(group_name=GROUP, kinds={"python"}, owners=OWNERS, deps=[catalog_snapshot])
def sync_plan(context: dg.AssetExecutionContext, config: PlanConfig, midas: Midas) -> dg.MaterializeResult:
    """What a sync would do to each item, and nothing done: no request is sent."""
    from midas_pipelines.sync.products import Mode, sync_products

    with midas.engine(context) as engine:
        mode = Mode.FULL if config.full else Mode.INCREMENTAL
        report = asyncio.run(sync_products(engine, mode, skus=config.skus, dry_run=True))
        where = links(engine, report.plan[:20])
    counts = numbers(report, "scanned", "created", "updated", "deleted", "unchanged", "set_aside", "seconds")
    return dg.MaterializeResult(
        value=report.plan,
        metadata={**counts, "preview": table(report.plan[:20]), **where},
    )
