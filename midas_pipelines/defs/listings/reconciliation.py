"""Reconciliation: reads back what 4Seller shows and compares it with the shop."""

import asyncio
import time

import dagster as dg

from midas_pipelines.defs.catalog.assets import catalog_snapshot
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import ERROR, MOST_SHOWN, WARN, check_result
from midas_pipelines.lib.metadata import (
    FOURSELLER,
    OWNERS,
    Shown,
    columns,
    counts_in_words,
    links,
    numbers,
    table,
)
from midas_pipelines.lib.partitions import SHARDS, shard_metadata, shards_of
from midas_pipelines.lib.snapshot_io import already_made, kept_at, run_set

PROMISED_CONSISTENCY = 0.999
"""The share of items that 4Seller shows as the shop has them."""

READ_ONCE = dg.BackfillPolicy.single_run()
"""4Seller's listings can only be read whole: a backfill reads them once per unbroken range of shards."""

CHECKS = {
    "every_active_item_listed": ("listing", "Every active item that can be listed is on 4Seller."),
    "prices_match": ("price", "At least 99.9 % of the prices on 4Seller are the shop's selling prices."),
    "quantities_match": (
        "quantity",
        "At least 99.9 % of the quantities on 4Seller are what the shop and its rules say.",
    ),
    "content_matches": (
        "content",
        "At least 99.9 % of the listings show the shop's text, images and dimensions.",
    ),
}
HINTS = {
    "listing": "`midas items list` shows why one cannot be listed; `midas sync products --full` lists the rest.",
    "price": "`midas conflicts list` shows who changed a price; `midas conflicts resolve ID --take shop` puts the shop's back.",
    "quantity": "`midas explain SKU` shows where a quantity comes from; `midas sync inventory` pushes what the shop says.",
    "content": "`midas conflicts list` shows what was edited on 4Seller; `midas conflicts pin SKU FIELD` keeps an edit.",
}
SEVERITY = {"content": WARN}
"""Wrong text or images cost no sale; a wrong price or quantity does."""

ABSOLUTE = {
    "published_not_above_available": (
        "above",
        "No item is offered on 4Seller in a greater quantity than the shop and its rules let it.",
        "It may be oversold: `midas sync inventory` pushes the available quantity; `midas explain SKU` shows where the "
        "quantity comes from, and `midas status` whether pushes get through.",
    ),
    "one_product_per_sku": (
        "doubled",
        "No item has two products of its SKU on 4Seller.",
        "Buyers see the item twice, and only one of the two is kept up to date: `midas items list` names it; delete the other on "
        "4Seller.",
    ),
}
"""Checks that no item may fail."""


@dg.asset(
    group_name="listings",
    kinds={"python", "fourseller", "parquet"},
    owners=OWNERS,
    pool="listing_snapshot",
    io_manager_key="snapshots",
    metadata=columns(
        fourseller_product_id="string: the product on 4Seller",
        sku="string: as 4Seller spells it",
        title="string: as buyers see it",
        price="decimal: USD, as buyers see it; empty where it is not shown or beyond a million",
        quantity="int: on sale",
        status="string: 4Seller's own word",
        content="string: hash of text, images and dimensions; empty where 4Seller does not show all of them",
        updated_at="timestamp: when 4Seller says that it last changed",
        answer="bytes: the product as 4Seller sent it, JSON",
        dated="bytes: the date of its last change, as it was sent",
    ),
)
def listing_snapshot(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What 4Seller shows of every product: a Parquet file a day, the last read of a day is kept.

    `midas explain SKU --at DAY`, `midas diff` and the consistency figure read it.
    """
    started = time.perf_counter()
    with midas.sync_context(context) as sync:
        if (made := already_made(context, sync)) is not None:
            return made
        spool = asyncio.run(engine.snapshot_listing(sync, run_set(context)))
    context.log.info(f"Read {spool.rows} products of 4Seller.")
    return dg.MaterializeResult(
        value=spool,
        metadata=kept_at(
            spool,
            is_complete=bool(spool.facts["is_complete"]),
            seconds=round(time.perf_counter() - started, 3),
        ),
    )


@dg.asset(
    group_name="listings",
    kinds={"python", "fourseller"},
    owners=OWNERS,
    tags=FOURSELLER,
    deps=[
        "fourseller_listings",
        "inventory_levels",
        "listing_snapshot",
    ],
    partitions_def=SHARDS,
    backfill_policy=READ_ONCE,
    pool="reconciliation",
    check_specs=[
        dg.AssetCheckSpec(name, asset="listing_observation", description=description)
        for name, (_, description) in CHECKS.items()
    ]
    + [
        dg.AssetCheckSpec(name, asset="listing_observation", description=description)
        for name, (_, description, _) in ABSOLUTE.items()
    ],
)
def listing_observation(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Reads back what 4Seller shows, compares it with the shop, and resolves differences by policy.

    `consistency` is the share of items shown as the shop has them, and absent when none could be judged. Items that
    changed and are not pushed yet are counted as `changing`; those for which 4Seller showed nothing readable, as
    `not_seen`. A run for some shards judges only their items; only a run for all shards reports products that match no
    item.
    """
    with midas.sync_context(context) as sync:
        listed = engine.listing_of(sync, run_set(context))
        report = asyncio.run(engine.reconcile(sync, shards=shards_of(context), listed=listed))
        where = links(sync, report.worst)
    summary = counts_in_words(
        report, "listed", "scanned", "equal", "changing", "not_seen", "discrepancies", "settled", "waiting"
    )
    context.log.info(f"Read back: {summary}")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": report.listed,
            **numbers(report, "scanned", "listed", "equal", "changing", "not_seen", "discrepancies"),
            **numbers(report, "unknown", "settled", "waiting", "pushed", "requests", "seconds"),
            **_judged(consistency=report.consistency),
            "complete": report.complete,
            "scope": shard_metadata(context),
            "stopped": report.stopped or "",
            "note": report.note or "",
            "worst": table(report.worst),
            **where,
        },
        check_results=[
            *(_check(name, field, report, where) for name, (field, _) in CHECKS.items()),
            *(_absolute(name, report, where) for name in ABSOLUTE),
        ],
    )


def _absolute(name: str, report: "engine.ReconcileReport", where: Shown) -> dg.AssetCheckResult:
    found, _, hint = ABSOLUTE[name]
    offenders = getattr(report, found)
    return check_result(
        offenders,
        name=name,
        severity=_severity(report, ERROR),
        passed=_unjudged(report) is None and not offenders,
        description=_unjudged(report),
        hint=hint,
        checked=report.scanned,
        links=where if offenders else None,
    )


def _unjudged(report: "engine.ReconcileReport") -> str | None:
    """Why nothing can be concluded from a read-back; None when something can."""
    if not report.complete:
        return "4Seller's listings could not be read completely; nothing was concluded."
    if report.scanned and report.consistency is None:
        return "Every item is waiting to be pushed, so none could be judged. Run a sync first."
    return None


def _severity(report: "engine.ReconcileReport", usual: dg.AssetCheckSeverity) -> dg.AssetCheckSeverity:
    """Where nothing can be concluded, the check `consistent` alone says so to staff: one cause, one alert."""
    return usual if _unjudged(report) is None else WARN


def _judged(**shares: float | None) -> dict[str, float]:
    """The known shares: a plot shows a gap where nothing was judged, not 100 %."""
    return {name: round(share, 6) for name, share in shares.items() if share is not None}


def _check(name: str, field: str, report: "engine.ReconcileReport", where: Shown) -> dg.AssetCheckResult:
    judged = report.equal + report.discrepancies
    differing = report.differing.get(field, 0)
    share = 1 - (differing + report.not_seen) / (judged + report.not_seen) if judged else None
    promised = 1.0 if field == "listing" else PROMISED_CONSISTENCY
    offenders = [row for row in report.worst if row["field"] == field]
    return check_result(
        offenders,
        name=name,
        total=differing,
        severity=_severity(report, SEVERITY.get(field, ERROR)),
        passed=_unjudged(report) is None and (share is None or share >= promised),
        description=_unjudged(report),
        hint=HINTS[field],
        links=where if offenders else None,
        checked=judged,
        more={"not_seen": report.not_seen, **_judged(share=share)},
    )


@dg.asset_check(
    asset="listing_observation",  # after it, so that a full sync, which reads first and then pushes, judges nothing
    additional_deps=[listing_snapshot, catalog_snapshot],
    required_resource_keys={"midas"},
    description="At least 99.9 % of the items were shown on 4Seller as they should be: both snapshots, merged.",
)
def consistent(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Compares the two snapshots; what is on its way to 4Seller is not judged."""
    with context.resources.midas.sync_context(context) as sync:
        found = engine.measure(sync)
        offenders = engine.differences(found, MOST_SHOWN)
        shown = links(sync, offenders)
    share = {} if found.share is None else {"consistency": found.share}
    return check_result(
        offenders,
        total=len(found.counterexamples),
        passed=found.unjudged is None and (found.share is None or found.share >= PROMISED_CONSISTENCY),
        description=found.unjudged,
        hint="`midas reconcile` compares again and resolves by policy; `midas conflicts list` shows what needs a person; "
        "`midas diff` shows what changed on 4Seller, and why.",
        links=shown,
        checked=found.items,
        more={"equal": found.equal, "changing": found.changing, **share},
    )
