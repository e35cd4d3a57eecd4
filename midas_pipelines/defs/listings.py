"""Listings: the shop's items on 4Seller, and what 4Seller really shows."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.braking import brake_engaged, brake_held, brake_spec
from midas_pipelines.defs.catalog import catalog_snapshot
from midas_pipelines.defs.metadata import OWNERS, columns, numbers, table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.shards import SHARDS, shards_of
from midas_pipelines.defs.verdicts import ERROR, WARN, verdict
from midas_pipelines.store.shards import Shards

if TYPE_CHECKING:
    from midas_pipelines.sync.engine import Engine
    from midas_pipelines.sync.reconcile import ReconcileReport

GROUP = "listings"
PROMISED_CONSISTENCY = 0.999
"""The share of items that 4Seller shows as the shop has them; the promise of the design."""


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
    yield dg.MaterializeResult(
        check_results=[brake_held()],
        metadata={
            **({"dagster/row_count": report.scanned} if config.full and not config.skus else {}),
            **numbers(report, "scanned", "created", "updated", "deleted", "unchanged", "adopted"),
            **numbers(report, "failed", "set_aside", "requests", "seconds", "push_seconds"),
            "scope": _scope(config, len(context.partition_keys)),
            "problems": table(report.problems),
        },
    )


def _scope(config: ListingsConfig, shards: int) -> str:
    """What the numbers are about: Dagster shows those of one run with each shard that the run was for."""
    what = ", ".join(config.skus) or ("full" if config.full else "incremental")
    return f"{what}, {shards} shards in one run" if shards > 1 else f"{what}, this shard alone"


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
HINTS = {
    "listing": "`midas items list` tells why one cannot be listed; `midas sync products --full` lists the rest.",
    "price": "`midas conflicts list` shows who moved a price; `midas conflicts resolve ID --take shop` puts the shop's back.",
    "quantity": "`midas explain SKU` shows where a quantity comes from; `midas sync inventory` pushes what the shop says.",
    "content": "`midas conflicts list` shows what was edited on 4Seller; `midas conflicts pin SKU FIELD` keeps an edit.",
}
SEVERITY = {"content": WARN}
"""Words and pictures cost no sale; a wrong price or quantity does."""

CONSISTENT = "consistent"


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    deps=[fourseller_listings],
    check_specs=[
        dg.AssetCheckSpec(name, asset="listing_observation", description=description)
        for name, (_, description) in CHECKS.items()
    ]
    + [
        dg.AssetCheckSpec(
            CONSISTENT,
            asset="listing_observation",
            description="At least 99.9 % of the items were shown on 4Seller as they should be.",
        )
    ],
)
def listing_observation(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """What 4Seller really shows, read back page by page, held against the shop and settled by policy.

    `consistency` is the share of items shown as the shop has them; items that changed and are not pushed yet are
    counted apart, as `changing`.
    """
    from midas_pipelines.sync.reconcile import reconcile

    with midas.engine(context) as engine:
        report = asyncio.run(reconcile(engine))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.listed,
            **numbers(report, "scanned", "listed", "equal", "changing", "discrepancies", "unknown"),
            **numbers(report, "settled", "waiting", "pushed", "consistency", "requests", "seconds"),
            "complete": report.complete,
            "stopped": report.stopped or "",
            "worst": table(report.worst),
        },
        check_results=[
            *(_check(name, field, report) for name, (field, _) in CHECKS.items()),
            _consistent(report),
        ],
    )


def _consistent(report: "ReconcileReport") -> dg.AssetCheckResult:
    return verdict(
        report.worst,
        name=CONSISTENT,
        passed=_unjudged(report) is None and report.consistency >= PROMISED_CONSISTENCY,
        description=_unjudged(report),
        hint="`midas reconcile` looks again and settles by policy; `midas conflicts list` shows what waits for a person.",
        more=numbers(report, "consistency", "scanned", "discrepancies", "settled", "waiting"),
    )


def _unjudged(report: "ReconcileReport") -> str | None:
    """Why nothing can be concluded from a read-back; None when something can."""
    if not report.complete:
        return "4Seller's listing could not be read whole; nothing was concluded."
    if report.scanned and not report.equal + report.discrepancies:
        return "Every item waits to be pushed; nothing that 4Seller shows could be judged. Run a sync first."
    return None


def _check(name: str, field: str, report: "ReconcileReport") -> dg.AssetCheckResult:
    settled = report.equal + report.discrepancies
    differing = report.differing.get(field, 0)
    share = 1 - differing / settled if settled else 1.0
    promised = 1.0 if field == "listing" else PROMISED_CONSISTENCY
    offenders = [row for row in report.worst if row["field"] == field]
    return verdict(
        offenders,
        name=name,
        severity=SEVERITY.get(field, ERROR),
        passed=_unjudged(report) is None and share >= promised,
        description=_unjudged(report),
        hint=HINTS[field],
        more={"share": round(share, 6), "differing": differing, "of": settled},
    )
