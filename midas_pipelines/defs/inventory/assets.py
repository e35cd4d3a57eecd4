"""Inventory: the stock of each item, pushed to the channel, explained by the ledger, watched for what runs out."""

import asyncio

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import DATABASE_KIND, SETTINGS, table_name
from midas_pipelines.lib import engine
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.check_results import WARN, brake_result, brake_spec, shop_check
from midas_pipelines.workflows import pool_of

GROUP = "inventory"


class InventoryConfig(dg.Config):
    """Options of an inventory push."""

    ignore_delays: bool = Field(default=False, description="Also push items in backoff.")


@dg.asset(
    group_name=GROUP,
    kinds={DATABASE_KIND, "fourseller"},
    pool=pool_of("inventory_levels"),
    tags=ui.FOURSELLER,
    deps=[ui.PRODUCTS, "fourseller_listings", "inventory_ledger"],
    check_specs=[brake_spec("inventory_levels")],
    metadata=ui.columns(
        fourseller_product_id="string: the product on 4Seller",
        quantity="int: on sale; `acked_quantity` of fourseller_product_mappings, as 4Seller last confirmed",
        acked_at="timestamp: when 4Seller last confirmed",
        dirty_since="timestamp: since when a change waits to be pushed; empty when all is pushed",
    )
    | {"dagster/uri": f"{SETTINGS.fourseller_api_url}/products/{{id}}/inventory"},
)
def inventory_levels(
    context: dg.AssetExecutionContext, config: InventoryConfig, midas: MidasResource
) -> dg.MaterializeResult:
    """The quantity of each listing on 4Seller: pushed where stock changed, as an absolute number, never a delta.

    `fourseller_listings` holds what is listed and for how much; this holds how many of it are on sale.

    The gateway does it within a second, and reports it here at most once a minute.
    """
    with midas.sync_context(context) as sync:
        progress = engine.progress_lines(context.log.info, "quantities")
        work = engine.product_sync.push_inventory(
            sync, ignore_delays=config.ignore_delays, on_progress=progress
        )
        report = asyncio.run(work)
        context.log.info(f"Quantities: {ui.counts_in_words(report)}")
        totals = sync.database.read(engine.ledger.stock_totals)
        movers = engine.ledger.top_movers(sync.database)
        with sync.database.reading() as connection:
            shown = engine.shard_totals(connection, 1).get(0, {})
            lines = engine.listing.waiting_lines(connection, engine.listing.OVERSOLD, limit=20)
        names = ("sku", "quantity", "allocated", "backordered")
        order = "marketplace_order_id"
        oversold = [{"order": row[order]} | {name: row[name] for name in names} for row in lines]
        tables = ui.tables(sync, problems=report.problems, oversold=oversold, top_movers=movers)
    return ui.made(
        sync,
        {
            "dagster/row_count": shown.get("listed", 0),
            "units_listed": int(shown.get("units", 0)),
            "still_waiting": shown.get("waiting", 0),
            **ui.counts(report),
            **ui.numbers(totals, "out_of_stock", units_on_hand="units"),
            **tables,
        },
        check_results=[brake_result(sync, report)],
    )


@ui.observed(
    ["inventory_ledger"],
    group_name=GROUP,
    kinds={DATABASE_KIND},
    deps=[ui.PRODUCTS, "imported_orders"],
    metadata=ui.columns(
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
    """Each change of stock, with its source and cause; triggers write it, for a change by any writer."""
    with midas.sync_context(context) as sync:
        totals = sync.database.read(engine.ledger.stock_totals)
        changes = engine.count_rows(sync.database, "inventory_changes")
    counts = ui.numbers(totals, "items", "out_of_stock", units_on_hand="units")
    return dg.ObserveResult(metadata={"dagster/row_count": changes, **counts})


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    pool=pool_of("low_stock"),
    deps=[ui.PRODUCTS, inventory_ledger],
    metadata=ui.columns(
        sku="string: the shop's SKU",
        title="string: as buyers see it",
        on_hand="int: units in the shop",
        threshold="int: units at which it is low, by its rule or MIDAS_LOW_STOCK",
        sold_per_day="decimal: units, over four weeks",
        days_left="decimal: how long it lasts at that rate",
    )
    | ui.IN_DAGSTER,
)
def low_stock(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Items that are running out, by threshold and days of cover. Each crossing is an alert, which the job `alert_delivery`
    sends.

    Beside them what the rules withhold from 4Seller: `units_available` of `units_on_hand`, and the items they touch most.
    """
    with midas.sync_context(context) as sync:
        report = engine.stock_levels.check_low_stock(sync, alert=True)
        counts, withheld = engine.stock_levels.availability_summary(sync.database)
        tables = ui.tables(sync, low=report.low, most_withheld=withheld)
    return ui.made(
        sync,
        {
            "dagster/row_count": report.low_items,
            "checked": report.scanned,
            **ui.numbers(report, "low_items", "out_of_stock", "raised", "cleared"),
            **counts,
            **tables,
        },
    )


CHECKS = [
    shop_check(
        inventory_ledger,
        "no_negative_stock",
        "No item has a negative quantity on hand.",
        lambda sync: engine.ledger.negative_stock(sync.database),
        counted=lambda sync: engine.ledger.count_quantities(sync.database),
        hint="The shop's own code deducted more than was on hand: count the item and correct its `stock_quantity`; 4Seller "
        "shows it as sold out meanwhile.",
    ),
    shop_check(
        inventory_ledger,
        "ledger_explains_stock",
        "For each item the ledger adds up to the stock the shop has: the quantity before the last MIDAS_ORDERS_CHECKED_DAYS "
        "and the deltas since. The drill of the backups adds up all deltas.",
        lambda sync: engine.ledger.unexplained_stock(sync.database, sync.settings.orders_checked_days),
        counted=lambda sync: engine.ledger.count_quantities(sync.database),
        hint="Its stock or the ledger was changed while the triggers were missing: `midas explain SKU` shows the last row "
        "that explains it, `midas db upgrade` puts the triggers back; then count the item and correct its `stock_quantity`.",
    ),
    shop_check(
        low_stock,
        "nothing_sold_out_that_sells",
        "No item that sold in the last four weeks is out of stock.",
        lambda sync: [
            row
            for row in engine.stock_levels.check_low_stock(sync).low
            if row["on_hand"] <= 0 and row["sold_per_day"] > 0
        ],
        counted=lambda sync: sync.database.read(engine.ledger.stock_totals, active=True).items,
        severity=WARN,
        hint="Reorder them; `midas stock low` lists all items that are running out, the fastest seller first.",
    ),
]
