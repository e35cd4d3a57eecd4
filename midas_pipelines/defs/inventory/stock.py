"""Availability and low stock."""

from typing import Any

import dagster as dg

from midas_pipelines.defs.inventory.assets import inventory_levels
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import WARN, shop_check
from midas_pipelines.lib.links import links
from midas_pipelines.lib.metadata import OWNERS, PEOPLE, bars, columns, numbers, table

GROUP = "inventory"


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    deps=[inventory_levels],
    pool="stock",
    metadata=columns(
        sku="string: the shop's SKU",
        on_hand="int: stock in the shop",
        available="int: what the rules let 4Seller show",
        withheld="int: the difference",
        rules="string: which fields of rules touch it",
    ),
)
def channel_availability(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What 4Seller may show of the stock once the channel's rules are applied."""
    with midas.sync_context(context) as sync:
        levels = engine.availability_summary(sync.database)
        where = links(sync, levels.withheld_most)
    return dg.MaterializeResult(
        metadata={
            **numbers(
                levels, "items", "units_on_hand", "units_available", "out_of_stock", "excluded", "ruled"
            ),
            "dagster/row_count": levels.items,
            "withheld_most": table(levels.withheld_most),
            **where,
        }
    )


@dg.asset(
    group_name=GROUP, kinds={"python"}, owners=OWNERS, tags=PEOPLE, deps=[inventory_levels], pool="stock"
)
def low_stock(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Items that are running out, by threshold and days of cover; each crossing is one alert to staff."""
    with midas.sync_context(context) as sync:
        report = engine.check_low_stock(sync)
        where = links(sync, report.low)
    return dg.MaterializeResult(metadata=_shown(report) | where)


def _sold_out(sync: "engine.SyncContext") -> list[dict[str, Any]]:
    low = engine.find_low_stock(sync).low
    return [row for row in low if row["on_hand"] <= 0 and row["sold_per_day"] > 0]


nothing_sold_out_that_sells = shop_check(
    low_stock,
    "nothing_sold_out_that_sells",
    "No item that sold in the last four weeks is out of stock.",
    _sold_out,
    severity=WARN,
    hint="Reorder them; `midas stock low` lists all items that are running out, the fastest seller first.",
)


def _shown(report: "engine.LowStockReport") -> dict[str, Any]:
    bars_of = [(row["sku"], float(row["on_hand"]), float(row["threshold"])) for row in report.low]
    return {
        "dagster/row_count": report.low_items,
        "checked": report.scanned,
        **numbers(report, "low_items", "out_of_stock", "raised", "cleared"),
        "low": table(report.low),
        "plot": bars(bars_of, "units on hand"),
    }
