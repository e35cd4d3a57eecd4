"""Listings: the shop's items on 4Seller, and what 4Seller really shows."""

import asyncio

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.catalog import catalog_snapshot
from midas_pipelines.defs.metadata import OWNERS, columns, numbers, table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.shards import SHARDS, shards_of
from midas_pipelines.store.mappings import count_dirty
from midas_pipelines.store.shards import Shards
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.observe import ObservationReport, observe
from midas_pipelines.sync.products import Mode, sync_products
from midas_pipelines.sync.progress import tell

GROUP = "listings"
PROMISED_CONSISTENCY = 0.999
"""The share of items that 4Seller shows as the shop has them; the promise of the design."""


class ListingsConfig(dg.Config):
    """Which items to bring to 4Seller."""

    full: bool = Field(default=True, description="Consider every item, not only those that changed.")
    skus: list[str] = Field(default=[], description="Only these items, whether they changed or not.")
    ignore_delays: bool = Field(default=False, description="Also the items that are backing off.")


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    deps=[catalog_snapshot],
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
) -> dg.MaterializeResult:
    """The shop's items on 4Seller: created, updated, taken off; adopted where 4Seller had the SKU already.

    An item that cannot be listed is set aside with its reason and never holds up another.
    """
    shards = shards_of(context)
    with midas.engine(context) as engine:
        report = asyncio.run(
            sync_products(
                engine,
                Mode.FULL if config.full else Mode.INCREMENTAL,
                skus=config.skus,
                ignore_delays=config.ignore_delays,
                shards=shards,
                on_progress=tell(context.log.info, "items", lambda: waiting(engine, shards)),
            )
        )
    return dg.MaterializeResult(
        metadata={
            **({"dagster/row_count": report.scanned} if config.full and not config.skus else {}),
            **numbers(report, "scanned", "created", "updated", "deleted", "unchanged", "adopted"),
            **numbers(report, "failed", "set_aside", "requests", "seconds", "push_seconds"),
            "shards": len(context.partition_keys),
            "scope": ", ".join(config.skus) or ("full" if config.full else "incremental"),
            "problems": table(report.problems),
        }
    )


def waiting(engine: Engine, shards: Shards | None) -> int:
    """How many items of those shards are yet to be pushed."""
    with engine.database.reading() as connection:
        return count_dirty(connection, shards)


class PlanConfig(dg.Config):
    """Which items to plan for, as for the listings."""

    full: bool = Field(default=True, description="Plan for every item, not only those that changed.")
    skus: list[str] = Field(default=[], description="Only these items.")


@dg.asset(group_name=GROUP, kinds={"python"}, owners=OWNERS, deps=[catalog_snapshot])
def sync_plan(context: dg.AssetExecutionContext, config: PlanConfig, midas: Midas) -> dg.MaterializeResult:
    """What a sync would do to each item, and nothing done: no request is sent."""
    with midas.engine(context) as engine:
        mode = Mode.FULL if config.full else Mode.INCREMENTAL
        report = asyncio.run(sync_products(engine, mode, skus=config.skus, dry_run=True))
    counts = numbers(report, "scanned", "created", "updated", "deleted", "unchanged", "set_aside", "seconds")
    return dg.MaterializeResult(
        value=report.plan,
        metadata={**counts, "preview": table(report.plan[:20])},
    )


CHECKS = {
    "every_active_item_listed": ("listing", "Every active item that can be listed is on 4Seller."),
    "prices_match": ("price", "At least 99.9 % of the prices on 4Seller are the shop's selling prices."),
    "quantities_match": (
        "quantity",
        "At least 99.9 % of the quantities on 4Seller are what the shop and its rules say.",
    ),
    "content_matches": (
        "content",
        "At least 99.9 % of the listings show the shop's words, pictures and measures.",
    ),
}


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    deps=[fourseller_listings],
    check_specs=[
        dg.AssetCheckSpec(name, asset="listing_observation", description=description)
        for name, (_, description) in CHECKS.items()
    ],
)
def listing_observation(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """What 4Seller really shows, read back page by page and held against the shop.

    `consistency` is the share of items shown as the shop has them; items that changed and are not pushed yet are
    counted apart, as `changing`.
    """
    with midas.engine(context) as engine:
        report = asyncio.run(observe(engine))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.listed,
            **numbers(report, "scanned", "listed", "equal", "changing", "discrepancies", "unknown"),
            **numbers(report, "consistency", "requests", "seconds"),
            "complete": report.complete,
            "worst": table(report.worst),
        },
        check_results=[_check(name, field, report) for name, (field, _) in CHECKS.items()],
    )


def _check(name: str, field: str, report: ObservationReport) -> dg.AssetCheckResult:
    settled = report.equal + report.discrepancies
    differing = report.differing.get(field, 0)
    share = 1 - differing / settled if settled else 1.0
    passed = report.complete and share >= PROMISED_CONSISTENCY
    offenders = [row for row in report.worst if row["field"] == field]
    return dg.AssetCheckResult(
        check_name=name,
        passed=passed,
        description=None
        if report.complete
        else "4Seller's listing could not be read whole; nothing was concluded.",
        metadata={
            "share": round(share, 6),
            "differing": differing,
            "of": settled,
            "offenders": table(offenders),
        },
    )
