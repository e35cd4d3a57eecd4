"""Reconciliation: reads back what 4Seller shows and compares it with the shop."""

import asyncio

import dagster as dg

from midas_pipelines.defs.listings.snapshot import PROMISED_CONSISTENCY
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import ERROR, WARN, check_result
from midas_pipelines.lib.metadata import FOURSELLER, OWNERS, Shown, counts_in_words, links, numbers, table
from midas_pipelines.lib.partitions import SHARDS, shard_metadata, shards_of
from midas_pipelines.lib.snapshot_io import run_set

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
