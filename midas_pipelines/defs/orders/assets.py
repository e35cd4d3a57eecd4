"""Order assets beside the orders themselves: statuses and shipments."""

import asyncio

import dagster as dg

from midas_pipelines.defs.orders.imported_orders import GROUP, imported_orders
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import FOURSELLER, OWNERS, SHOP, counts_in_words, numbers, table

STATUS_COUNTS = ("scanned", "pushed", "parcels", "refused", "moved_on", "failed")


@dg.asset(
    group_name=GROUP,
    kinds={"python", "fourseller"},
    owners=OWNERS,
    tags=SHOP | FOURSELLER,
    deps=[imported_orders],
    pool="orders",
)
def order_statuses(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """The status of each order, the same in shop and marketplace; a status never goes back."""
    with midas.sync_context(context) as sync:
        report = asyncio.run(engine.sync_statuses(sync))
    context.log.info(f"Statuses: {counts_in_words(report, *STATUS_COUNTS)}")
    return dg.MaterializeResult(
        metadata={
            **numbers(report, *STATUS_COUNTS, "requests", "seconds"),
            "preview": table(report.preview[:20]),
        }
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python", "fourseller"},
    owners=OWNERS,
    tags=FOURSELLER,
    deps=[order_statuses],
    pool="orders",
)
def shipments(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Shipments with their tracking numbers, pushed to the marketplace; counts what is still to be shipped."""
    with midas.sync_context(context) as sync:
        report = asyncio.run(engine.push_statuses(sync, kind="fulfilment"))
        work = engine.open_work(sync.database)
    context.log.info(
        f"Shipments and statuses: {counts_in_words(report, 'parcels', 'pushed', 'refused', 'failed')}"
    )
    return dg.MaterializeResult(
        metadata={
            **numbers(report, "parcels", "pushed", "refused", "failed", "requests", "seconds"),
            **work,
            "preview": table(report.preview[:20]),
        }
    )
