"""Reconciliation: reads back what 4Seller shows and compares it with the shop."""

import asyncio
from typing import NamedTuple

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import DATABASE_KIND, table_name
from midas_pipelines.lib import check_results as checks
from midas_pipelines.lib import engine
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.partitions import SHARDS, has_several, shard_counts, shard_metadata, shards_of
from midas_pipelines.lib.snapshot_io import kept_in, made_for_this_shop, read_once, shown_of
from midas_pipelines.sync.snapshots.files import LISTING
from midas_pipelines.workflows import pool_of

RECENT_DAYS = 7
PROMISED = 0.999  # the share of items that 4Seller shows as the shop has them

READ_ONCE = dg.BackfillPolicy.single_run()
"""4Seller's listings can only be read whole: a backfill reads them once per unbroken range of shards."""


class Expectation(NamedTuple):
    """One check of a read-back: what it looks at in the report, and how a failure counts."""

    looks_at: str  # a field of `differing`; where nothing is `promised`, the list of offenders that no item may be in
    says: str
    hint: str
    promised: float | None = None  # the share of items that must not differ
    severity: dg.AssetCheckSeverity = checks.ERROR


RULES = {
    "every_active_item_listed": Expectation(
        "listing",
        "Every active item that can be listed is on 4Seller.",
        "`midas items list` shows why one cannot be listed; `midas sync products --full` lists the rest.",
        1.0,
    ),
    "prices_match": Expectation(
        "price",
        "At least 99.9 % of the prices on 4Seller are the shop's selling prices.",
        "`midas conflicts list` shows who changed a price; `midas conflicts resolve ID --take shop` puts the shop's back.",
        PROMISED,
    ),
    "quantities_match": Expectation(
        "quantity",
        "At least 99.9 % of the quantities on 4Seller are what the shop and its rules say.",
        "`midas explain SKU` shows where a quantity comes from; `midas sync inventory` pushes what the shop says.",
        PROMISED,
    ),
    "content_matches": Expectation(  # wrong text or images cost no sale
        "content",
        "At least 99.9 % of the listings show the shop's text, images and dimensions.",
        "`midas conflicts list` shows what was edited on 4Seller; `midas conflicts pin SKU FIELD` keeps an edit.",
        PROMISED,
        checks.WARN,
    ),
    "published_not_above_available": Expectation(
        "above",
        "No item is offered on 4Seller in a greater quantity than the shop and its rules let it.",
        "It may be oversold: `midas sync inventory` pushes the available quantity; `midas explain SKU` shows where the "
        "quantity comes from, and `midas status` whether pushes get through.",
    ),
    "one_product_per_sku": Expectation(
        "doubled",
        "No item has two products of its SKU on 4Seller.",
        "Buyers see the item twice, and only one of the two is kept up to date: `midas items list` names it; delete the other on "
        "4Seller.",
    ),
    "no_product_without_item": Expectation(
        "orphan_rows",
        "Each product on 4Seller is an item of the shop; only a run for all shards looks.",
        "`midas conflicts list` shows each: resolve it there, or give an item of the shop its SKU.",
        severity=checks.WARN,
    ),
}


@dg.asset(
    group_name="listings",
    kinds={"fourseller", "parquet"},
    pool=pool_of("listing_snapshot"),
    io_manager_key="snapshots",
    metadata=kept_in("listing_snapshot"),
)
def listing_snapshot(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What 4Seller shows of every product: a Parquet file a day, the last read of a day is kept.

    `midas explain SKU --at DAY`, `midas diff` and the consistency figure read it.
    """
    with midas.sync_context(context) as sync:
        if (earlier := made_for_this_shop(context, sync)) is not None:
            return earlier
        name, files = read_once(context, sync), engine.Snapshots.of(sync.settings)
        if name == sync.run_id:
            spool = asyncio.run(engine.snapshot_listing(sync, name))
        else:
            spool = files.copied(LISTING, name)
    context.log.info(f"Read {spool.rows} products of 4Seller.")
    shown = shown_of(spool.rows, spool.facts, sync.settings.today(), sync.run_id)
    return ui.made(sync, shown, value=spool)


CHECKS = [
    checks.shop_check(
        listing_snapshot,
        "answers_keep_the_contract",
        f"4Seller's answers of the last {RECENT_DAYS} days kept the contract: fields, words, types, statuses, paging.",
        lambda sync: engine.recent_findings(sync.database, RECENT_DAYS),
        counted=lambda sync: (
            engine.sync_metrics.count_answers(sync.database, RECENT_DAYS)
            * bool(sync.settings.contract_sample)
        ),
        severity=checks.WARN,
        hint="See `midas contract list`, and `midas contract diff` for the change to openapi.yaml.",
    )
]


@dg.asset(
    group_name="listings",
    kinds={DATABASE_KIND, "fourseller"},
    pool=pool_of("listing_observation"),
    tags=ui.FOURSELLER,
    # None with partitions: Dagster would refuse a run without one. `fourseller_listings` is above `inventory_levels`.
    deps=[ui.PRODUCTS, "inventory_levels", "listing_snapshot"],
    partitions_def=SHARDS,
    backfill_policy=READ_ONCE,
    check_specs=[
        dg.AssetCheckSpec(name, asset="listing_observation", description=rule.says)
        for name, rule in RULES.items()
    ],
    metadata=ui.columns(
        observed_price="decimal: USD, as 4Seller last showed it",
        observed_quantity="int: on sale, as 4Seller last showed it",
        observed_hash="string: of text, images and dimensions, as 4Seller last showed them",
        observed_at="timestamp: when that was read",
    )
    | table_name("fourseller_product_mappings"),
)
def listing_observation(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What 4Seller showed of each item when it was last read back; differences from the shop are resolved by policy.

    `consistency` is the share of items shown as the shop has them, and absent when none could be judged. Items that
    changed and are not pushed yet are counted as `pending`; those for which 4Seller showed nothing readable, as
    `not_seen`. A run for some shards judges only their items, and its checks pass only where the last result passed; only
    a run for all shards finds `orphans`, products that match no item.
    """
    with midas.sync_context(context) as sync:
        listed = engine.listing_of(sync, read_once(context, sync))
        report = asyncio.run(engine.reconcile(sync, shards=shards_of(context), listed=listed))
        worst = ui.tables(sync, differences=report.worst)
        results = [_check(name, rule, report, sync) for name, rule in RULES.items()]
        counts = shard_counts(context, sync, {**ui.counts(report), "consistency": report.consistency})
    context.log.info(f"Read back: {ui.counts_in_words(report)}")
    return ui.made(
        sync,
        {
            **counts,
            "complete": report.complete,
            "scope": shard_metadata(context),
            "stopped": report.stopped,
            "note": report.note,
            **worst,
        },
        shared=has_several(context),
        check_results=results if shards_of(context) is None else checks.results_of_a_part(context, results),
    )


def _unjudged(report: "engine.ReconcileReport") -> str | None:
    """Why nothing can be concluded from a read-back; None when something can."""
    if not report.complete:
        return "4Seller's listings could not be read completely; nothing was concluded."
    if report.scanned and report.consistency is None:
        return "Every item is waiting to be pushed, so none could be judged. Run a sync first."
    return None


def _check(
    name: str, rule: Expectation, report: "engine.ReconcileReport", sync: "engine.SyncContext"
) -> dg.AssetCheckResult:
    unjudged, checked, more = _unjudged(report), report.scanned, {}
    if rule.promised is None:
        offenders = getattr(report, rule.looks_at)
        well, total = not offenders, report.orphans if rule.looks_at == "orphan_rows" else None
    else:
        checked = report.equal + report.discrepancies
        total, seen = report.differing.get(rule.looks_at, 0), checked + report.not_seen
        share = 1 - (total + report.not_seen) / seen if checked else None
        offenders = [row for row in report.worst if row["field"] == rule.looks_at]
        well = share is None or share >= rule.promised
        more = {"not_seen": report.not_seen} | ({} if share is None else {"share": round(share, 6)})
    return checks.check_result(
        offenders,
        sync=sync,
        name=name,
        total=total,
        severity=rule.severity
        if unjudged is None
        else checks.WARN,  # the check `consistent` alone alerts staff then
        passed=unjudged is None and well,
        description=unjudged,
        hint=rule.hint,
        checked=checked,
        more=more,
    )


@dg.asset_check(
    asset="listing_observation",  # after it, so that a full sync, which reads first and then pushes, judges nothing
    additional_deps=[listing_snapshot, "catalog_snapshot"],
    required_resource_keys={"midas"},
    description="At least 99.9 % of the items are on 4Seller as they should be: `catalog_snapshot` compared with `listing_snapshot`.",
)
def consistent(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Compares the two snapshots; what is on its way to 4Seller is not judged."""
    with context.resources.midas.sync_context(context) as sync:
        found = engine.measure(sync)
        share = {} if found.share is None else {"consistency": found.share}
        return checks.check_result(
            engine.differences(found, checks.MOST_SHOWN),
            sync=sync,
            total=found.differing,
            passed=found.unjudged is None and (found.share is None or found.share >= PROMISED),
            description=found.unjudged,
            hint="`midas reconcile` compares again and resolves by policy; `midas conflicts list` shows what needs a "
            "person; `midas diff` shows what changed on 4Seller, and why.",
            checked=found.items,
            more={"equal": found.equal, "changing": found.changing, **share},
        )
