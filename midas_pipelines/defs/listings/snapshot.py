"""The listing snapshot: what 4Seller shows, read once for all that compare with it in the same run or backfill."""

import asyncio
import time

import dagster as dg

from midas_pipelines.defs.catalog.assets import catalog_snapshot
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import MOST_SHOWN, check_result
from midas_pipelines.lib.metadata import OWNERS, columns, links
from midas_pipelines.lib.snapshot_io import already_made, kept_at, run_set

PROMISED_CONSISTENCY = 0.999
"""The share of items that 4Seller shows as the shop has them."""


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


@dg.asset_check(
    asset="listing_observation",  # after it, so that a full sync, which reads first and then pushes, judges nothing
    additional_deps=[listing_snapshot, catalog_snapshot],
    required_resource_keys={"midas"},
    description="At least 99.9 % of the items were shown on 4Seller as they should be: both snapshots, merged.",
)
def consistent(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Compares the two snapshots; what is on its way to 4Seller is not judged."""
    with context.resources.midas.sync_context(context) as sync:
        measured = engine.measure(sync)
        found = measured.consistency
        offenders = engine.differences(found, MOST_SHOWN)
        shown = links(sync, offenders)
    share = {} if found.share is None else {"consistency": found.share}
    return check_result(
        offenders,
        total=len(found.counterexamples),
        passed=measured.unjudged is None and (found.share is None or found.share >= PROMISED_CONSISTENCY),
        description=measured.unjudged,
        hint="`midas reconcile` compares again and resolves by policy; `midas conflicts list` shows what needs a person; "
        "`midas diff` shows what changed on 4Seller, and why.",
        links=shown,
        checked=found.items,
        more={"equal": found.equal, "changing": found.changing, **share},
    )
