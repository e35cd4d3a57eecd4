"""Inventory: the stock of each item, pushed to the channel, explained by the ledger, watched for what runs out."""

import asyncio
from typing import Any

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.catalog.assets import storefront_products
from midas_pipelines.defs.listings.assets import fourseller_listings, waiting
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import DATABASE_KIND
from midas_pipelines.installation import table as table_name
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import WARN, brake_result, brake_spec, shop_check
from midas_pipelines.lib.metadata import (
    FOURSELLER,
    bars,
    columns,
    counts_in_words,
    links,
    made,
    numbers,
    observed,
    run_options,
    table,
)

GROUP = "inventory"


class InventoryConfig(dg.Config):
    """Options of an inventory push."""

    ignore_delays: bool = Field(default=False, description="Also push items in backoff.")


@dg.asset(
    group_name=GROUP,
    kinds={DATABASE_KIND, "fourseller"},
    **run_options("inventory_levels"),
    tags=FOURSELLER,
    deps=[storefront_products, fourseller_listings, "inventory_ledger"],
    check_specs=[brake_spec("inventory_levels")],
    metadata=columns(
        sku="string: the shop's SKU",
        state="string: new, listed, quarantined or removed",
        acked_quantity="int: as 4Seller last confirmed",
        acked_at="timestamp: when 4Seller last confirmed",
        dirty_since="timestamp: since when a change waits to be pushed; empty when all is pushed",
    )
    | table_name("fourseller_product_mappings"),
)
def inventory_levels(
    context: dg.AssetExecutionContext, config: InventoryConfig, midas: MidasResource
) -> dg.MaterializeResult:
    """The quantities on 4Seller: pushes that of each item whose stock changed, as an absolute number, never a delta.

    The gateway does it within a second, and reports it here at most once a minute.
    """
    with midas.sync_context(context) as sync:
        progress = engine.report_progress(context.log.info, "quantities", lambda: waiting(sync, None))
        work = engine.push_inventory(sync, ignore_delays=config.ignore_delays, on_progress=progress)
        report = asyncio.run(work)
        context.log.info(
            f"Quantities: {counts_in_words(report, 'scanned', 'pushed', 'unchanged', 'failed', 'held')}"
        )
        totals = engine.stock_totals(sync.database)
        movers = engine.top_movers(sync.database)
        with sync.database.reading() as connection:
            lines = engine.waiting_lines(connection, engine.OVERSOLD, limit=20)
        names = ("sku", "quantity", "allocated", "backordered")
        oversold = [
            {"order": row["marketplace_order_id"]} | {name: row[name] for name in names} for row in lines
        ]
        where = links(sync, [*report.problems, *oversold, *movers])
    return made(
        {
            "dagster/row_count": totals.items,
            **numbers(report, "scanned", "pushed", "unchanged", "failed", "held", "requests", "seconds"),
            **numbers(totals, "units", "out_of_stock"),
            "problems": table(report.problems),
            "top_movers": table(movers),
            "oversold": table(oversold),
            **where,
        },
        check_results=[brake_result(report)],
    )


@observed(
    ["inventory_ledger"],
    group_name=GROUP,
    kinds={DATABASE_KIND},
    metadata=columns(
        product_id="int: the shop's product",
        variant_id="int: its variant, empty for a product without",
        delta="int: units added or removed",
        quantity_after="int: units on hand after it",
        source="string: website, fourseller, operator or reconcile",
        cause="string: why",
    )
    | table_name("inventory_changes"),
)
def inventory_ledger(context: dg.OpExecutionContext, midas: MidasResource) -> dg.ObserveResult:
    """Each change of stock, with its source and cause; triggers write it, whoever changes the shop's tables."""
    with midas.sync_context(context) as sync:
        totals = engine.stock_totals(sync.database)
        changes = engine.count_rows(sync.database, "inventory_changes")
    counts = numbers(totals, "items", "units", "out_of_stock")
    return dg.ObserveResult(metadata={"dagster/row_count": changes, **counts})


@dg.asset(group_name=GROUP, kinds={"python"}, **run_options("low_stock"), deps=[inventory_levels])
def low_stock(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Items that are running out, by threshold and days of cover. The job `alert_delivery` reports each crossing once.

    Beside them what the rules withhold from 4Seller: `units_available` of `units_on_hand`, and the items they touch most.
    """
    with midas.sync_context(context) as sync:
        report = engine.check_low_stock(sync)
        levels = engine.availability_summary(sync.database)
        where = links(sync, [*report.low, *levels.withheld_most])
    plotted = [(row["sku"], float(row["on_hand"]), float(row["threshold"])) for row in report.low]
    return made(
        {
            "dagster/row_count": report.low_items,
            "checked": report.scanned,
            **numbers(report, "low_items", "out_of_stock"),
            "low": table(report.low),
            "plot": bars(plotted, "units on hand"),
            **numbers(levels, "units_on_hand", "units_available", "excluded", with_rules="ruled"),
            "most_withheld": table(levels.withheld_most),
            **where,
        }
    )


def _sold_out(sync: "engine.SyncContext") -> list[dict[str, Any]]:
    low = engine.check_low_stock(sync).low
    return [row for row in low if row["on_hand"] <= 0 and row["sold_per_day"] > 0]


CHECKS = [
    shop_check(
        inventory_ledger,
        "no_negative_stock",
        "No item has a negative quantity on hand.",
        lambda sync: engine.negative_stock(sync.database),
        hint="The shop's own code deducted more than was on hand: count the item and correct its `stock_quantity`; 4Seller "
        "shows it as sold out meanwhile.",
    ),
    shop_check(
        inventory_ledger,
        "ledger_explains_stock",
        "For each item the ledger's deltas add up to the stock the shop has.",
        lambda sync: engine.unexplained_stock(sync.database),
        hint="Its stock or the ledger was changed while the triggers were missing: `midas explain SKU` shows the last row "
        "that explains it, `midas db upgrade` puts the triggers back; then count the item and correct its `stock_quantity`.",
    ),
    shop_check(
        low_stock,
        "nothing_sold_out_that_sells",
        "No item that sold in the last four weeks is out of stock.",
        _sold_out,
        severity=WARN,
        hint="Reorder them; `midas stock low` lists all items that are running out, the fastest seller first.",
    ),
]
