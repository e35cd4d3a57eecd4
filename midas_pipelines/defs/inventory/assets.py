"""Inventory: the stock of each item, pushed to the channel and explained by the ledger."""

import asyncio

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.listings.assets import changed_listings, fourseller_listings, waiting
from midas_pipelines.defs.orders.assets import order_poll
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import brake_result, brake_spec, shop_check
from midas_pipelines.lib.links import links
from midas_pipelines.lib.metadata import FOURSELLER, OWNERS, columns, counts_in_words, numbers, table

GROUP = "inventory"


class InventoryConfig(dg.Config):
    """Options of an inventory push."""

    ignore_delays: bool = Field(default=False, description="Also push items in backoff.")


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=FOURSELLER,
    deps=[fourseller_listings, changed_listings, order_poll],
    check_specs=[brake_spec("inventory_levels")],
    pool="inventory",
    metadata=columns(
        product_id="int: the shop's product",
        variant_id="int: its variant, empty for a product without",
        delta="int: units added or removed",
        quantity_after="int: units on hand after it",
        source="string: website, fourseller, operator or reconcile",
        cause="string: why",
    )
    | {"dagster/table_name": "inventory_changes"},
)
def inventory_levels(
    context: dg.AssetExecutionContext, config: InventoryConfig, midas: MidasResource
) -> dg.MaterializeResult:
    """Pushes the quantity of each item whose stock changed, as an absolute number, never a delta."""
    with midas.sync_context(context) as sync:
        progress = engine.report_progress(context.log.info, "quantities", lambda: waiting(sync, None))
        work = engine.push_inventory(sync, ignore_delays=config.ignore_delays, on_progress=progress)
        report = asyncio.run(work)
        context.log.info(
            f"Quantities: {counts_in_words(report, 'scanned', 'pushed', 'unchanged', 'failed', 'held')}"
        )
        totals = engine.stock_totals(sync.database)
        movers, oversold = engine.top_movers(sync.database), engine.oversold_lines(sync.database)
        where = links(sync, [*report.problems, *oversold, *movers])
    return dg.MaterializeResult(
        check_results=[brake_result(report)],
        metadata={
            "dagster/row_count": totals.items,
            **numbers(report, "scanned", "pushed", "unchanged", "failed", "held", "requests", "seconds"),
            **numbers(totals, "units", "out_of_stock"),
            "problems": table(report.problems),
            "top_movers": table(movers),
            "oversold": table(oversold),
            **where,
        },
    )


CHECKS = [
    shop_check(
        inventory_levels,
        "no_negative_stock",
        "No item has a negative quantity on hand.",
        lambda sync: engine.negative_stock(sync.database),
        hint="The shop's own code deducted more than was on hand: count the item and correct its `stock_quantity`; 4Seller "
        "shows it as sold out meanwhile.",
    ),
    shop_check(
        inventory_levels,
        "ledger_explains_stock",
        "For each item the ledger's deltas add up to the stock the shop has.",
        lambda sync: engine.unexplained_stock(sync.database),
        hint="Its stock or the ledger was changed while the triggers were missing: `midas explain SKU` shows the last row "
        "that explains it, `midas db upgrade` puts the triggers back; then count the item and correct its `stock_quantity`.",
    ),
]
