"""Imported orders: marketplace sales in the shop's own tables, by the day they were placed."""

import asyncio
from collections.abc import Mapping
from typing import Any

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.links import links
from midas_pipelines.lib.metadata import OWNERS, PERSONAL, SHOP, columns, counts_in_words, numbers, table
from midas_pipelines.lib.order_days import order_days, window_of

GROUP, DAYS = "orders", dg.AssetKey("imported_orders")
COUNTS = (
    "fetched",
    "imported",
    "duplicates",
    "exceptions",
    "failed",
    "postponed",
    "moved_on",
    "mapped",
    "allocated",
)

BY_MONTH = dg.BackfillPolicy.multi_run(max_partitions_per_run=31)
"""A run per day would spend a day starting runs for one year; a failed run costs at most one month of reading."""

fourseller_orders = dg.AssetSpec(
    ["fourseller", "orders"],
    group_name="fourseller",
    kinds={"api"},
    owners=OWNERS,
    description="Sales on Amazon, eBay, TikTok Shop and the others, as 4Seller's API gives them.",
)


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=SHOP | PERSONAL,
    deps=[fourseller_orders],
    partitions_def=order_days,
    backfill_policy=BY_MONTH,
    pool="order_days",
    metadata=columns(
        marketplace_order_id="string: unique within its channel",
        local_order_id="int: the shop's order, one for each",
        status="string: pending, processing, shipped, delivered, cancelled or refunded",
        exception="string: unmapped, oversold, quantity, total_mismatch, unknown_status, conflict, edited",
        total="decimal: as the marketplace gave it, in `currency`",
        placed_at="timestamp: UTC",
    )
    | {"dagster/table_name": "marketplace_orders"},
)
def imported_orders(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Marketplace sales as orders of the shop, by the day they were placed: each once, with its stock allocated.

    Materialize a day, or backfill many, to read those days from 4Seller again: what is imported already stays as it
    is. `order_poll` records here the days with new orders since its last run, its own or the gateway's, and each day
    that has begun.
    """
    span = context.partition_time_window
    with midas.sync_context(context) as sync:
        progress = engine.order_progress(context.log.info)
        report = asyncio.run(engine.import_orders(sync, window_of(span), on_progress=progress))
        known = engine.orders_by_day(sync.database, span.start, span.end)
        where = links(sync, report.preview)
    days, words = context.partition_keys, counts_in_words(report, *COUNTS)
    context.log.info(f"Orders of {days[0]} to {days[-1]}: {words}")
    for day in days:
        context.add_asset_metadata(rows_of(known, day), partition_key=day)
    counts: dict[str, Any] = (
        order_metadata(report) if len(days) == 1 else {"run": words, "preview": table(report.preview)}
    )
    return dg.MaterializeResult(metadata=counts | where)


def rows_of(known: "Mapping[str, engine.DayOfOrders]", day: str) -> dict[str, int]:
    """The orders of one day, as the UI plots them."""
    return {"dagster/row_count": known[day].orders if day in known else 0}


def order_metadata(report: "engine.OrderReport") -> dict[str, Any]:
    """What an import did, as metadata."""
    return {
        **numbers(report, *COUNTS),
        **numbers(report, "requests", "seconds"),
        "preview": table(report.preview),
    }
