"""Inventory: the stock of each item, pushed to the channel and explained by the ledger."""

import asyncio

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.braking import brake_result, brake_spec
from midas_pipelines.defs.links import links
from midas_pipelines.defs.listings import changed_listings, fourseller_listings, waiting
from midas_pipelines.defs.metadata import FOURSELLER, OWNERS, columns, in_words, numbers, table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.orders import order_poll
from midas_pipelines.defs.verdicts import verdict

GROUP = "inventory"


class InventoryConfig(dg.Config):
    """How eagerly to push."""

    ignore_delays: bool = Field(default=False, description="Also the items that are backing off.")


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
        delta="int: units added or taken",
        quantity_after="int: units on hand after it",
        source="string: website, fourseller, operator or reconcile",
        cause="string: why",
    )
    | {"dagster/table_name": "inventory_changes"},
)
def inventory_levels(
    context: dg.AssetExecutionContext, config: InventoryConfig, midas: Midas
) -> dg.MaterializeResult:
    """The quantities on 4Seller: each item whose stock changed is pushed as an absolute number, never a delta."""
    from midas_pipelines.store.movement import oversold_lines, top_movers
    from midas_pipelines.store.stock_checks import stock_totals
    from midas_pipelines.sync.inventory import push_inventory
    from midas_pipelines.sync.progress import tell

    with midas.engine(context) as engine:
        progress = tell(context.log.info, "quantities", lambda: waiting(engine, None))
        work = push_inventory(engine, ignore_delays=config.ignore_delays, on_progress=progress)
        report = asyncio.run(work)
        context.log.info(
            f"Quantities: {in_words(report, 'scanned', 'pushed', 'unchanged', 'failed', 'held')}"
        )
        totals = stock_totals(engine.database)
        movers, oversold = top_movers(engine.database), oversold_lines(engine.database)
        where = links(engine, [*report.problems, *oversold, *movers])
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


@dg.asset_check(asset=inventory_levels)
def no_negative_stock(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """No item has less than nothing on hand."""
    from midas_pipelines.store.stock_checks import negative_stock

    with midas.engine(context) as engine:
        offenders = negative_stock(engine.database)
        where = links(engine, offenders)
    return verdict(
        offenders,
        links=where,
        hint="The shop's own code took more than was there: count the item and correct its `stock_quantity`; "
        "4Seller shows it as sold out meanwhile.",
    )


@dg.asset_check(asset=inventory_levels)
def ledger_explains_stock(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """For each item the ledger's deltas add up to the stock the shop has."""
    from midas_pipelines.store.stock_checks import unexplained_stock

    with midas.engine(context) as engine:
        offenders = unexplained_stock(engine.database)
        where = links(engine, offenders)
    return verdict(
        offenders,
        links=where,
        hint="Its stock was changed while the triggers were away, or the ledger was: `midas explain SKU` shows the last row "
        "that explains it, `midas db upgrade` puts the triggers back; then count the item and correct its `stock_quantity`.",
    )
