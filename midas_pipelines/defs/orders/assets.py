"""Orders: marketplace sales in the shop's own tables by the day they were placed, and their statuses and shipments."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from midas_pipelines.defs.catalog.assets import storefront_products
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import DATABASE_KIND
from midas_pipelines.installation import table as table_name
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import (
    FOURSELLER,
    LIVE_TAG,
    OWNERS,
    PERSONAL,
    SHOP,
    columns,
    counts_in_words,
    links,
    made,
    numbers,
    table,
)
from midas_pipelines.lib.partitions import days_begun, has_partitions, is_a_day, order_days, window_of

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
STATUS_COUNTS = ("scanned", "pushed", "parcels", "refused", "moved_on", "failed")

RECORDED_WITHIN = timedelta(minutes=5)
"""Between an order's import and its record in Dagster, however slow."""
FIRST_DAYS = timedelta(days=31)
"""The days that the first import records, with or without orders."""

BY_MONTH = dg.BackfillPolicy.multi_run(max_partitions_per_run=31)
"""A run per day would spend a day starting runs for one year; a failed run costs at most one month of reading."""

fourseller_orders = dg.AssetSpec(
    ["fourseller", "orders"],
    group_name=GROUP,
    kinds={"fourseller"},
    owners=OWNERS,
    description="Sales on Amazon, eBay, TikTok Shop and the others, as 4Seller's API gives them.",
)


@dg.asset(
    group_name=GROUP,
    kinds={DATABASE_KIND, "fourseller"},
    owners=OWNERS,
    tags=SHOP | PERSONAL,
    deps=[fourseller_orders, storefront_products],
    partitions_def=order_days,
    backfill_policy=BY_MONTH,
    pool="order_import",
    metadata=columns(
        marketplace_order_id="string: unique within its channel",
        local_order_id="int: the shop's order, one for each",
        status="string: pending, processing, shipped, delivered, cancelled or refunded",
        exception="string: unmapped, oversold, quantity, total_mismatch, unknown_status, conflict, edited",
        total="decimal: as the marketplace gave it, in `currency`",
        placed_at="timestamp: UTC",
    )
    | table_name("marketplace_orders"),
)
def imported_orders(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Marketplace sales as orders of the shop, by the day they were placed: each once, with its stock allocated.

    The job `order_import` reads what is new since the last import, and records each day with new orders, its own or the
    gateway's, and each day that has begun. Materialize a day, or backfill many, to read those days from 4Seller again:
    what is imported already stays as it is. A line that no item matches, or that stock cannot cover, is imported with
    an exception; a sale is never refused.
    """
    if not has_partitions(context):
        return _new_orders(context, midas)
    span = context.partition_time_window
    with midas.sync_context(context) as sync:
        progress = engine.order_progress(context.log.info)
        report = asyncio.run(engine.import_orders(sync, window_of(span), on_progress=progress))
        known = engine.orders_by_day(sync.database, span.start, span.end)
        where = links(sync, report.preview)
    days, words = context.partition_keys, counts_in_words(report, *COUNTS)
    context.log.info(f"Orders of {days[0]} to {days[-1]}: {words}")
    for day in days:
        context.add_asset_metadata(sales_of(known, day), partition_key=day)
    if len(days) > 1:
        context.log_event(dg.AssetObservation(DAYS, metadata=_counted(report)))
    counts = _counted(report) if len(days) == 1 else {}
    return made({**counts, "preview": table(report.preview), **where})


def _new_orders(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Imports what is new, and records each day that it touched."""
    now = datetime.now(UTC)
    with midas.sync_context(context) as sync:
        before = engine.last_import(sync.database)
        last = None if before is None else before - RECORDED_WITHIN
        report = asyncio.run(engine.import_orders(sync, on_progress=engine.order_progress(context.log.info)))
        touched = engine.days_with_new_orders(sync.database, last) | days_begun(last or now - FIRST_DAYS, now)
        days, known = sorted(filter(is_a_day, touched)), {}
        if days:
            end = _midnight(days[-1]) + timedelta(days=1)
            known = engine.orders_by_day(sync.database, _midnight(days[0]), end)
        where = links(sync, report.preview)
    context.log.info(f"Orders: {counts_in_words(report, *COUNTS)}")
    for day in days:
        context.log_event(
            dg.AssetMaterialization(DAYS, partition=day, metadata=sales_of(known, day), tags=LIVE_TAG)
        )
    read = dg.AssetObservation(
        fourseller_orders.key, metadata=numbers(report, "fetched", "requests", "seconds")
    )
    context.log_event(read)
    return made({**_counted(report), "preview": table(report.preview), **where})


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def sales_of(known: "Mapping[str, engine.DayOfOrders]", day: str) -> dict[str, int | float]:
    """The sales of one day, as the UI plots them: orders, units, revenue by currency and channel."""
    found = known.get(day)
    if found is None:
        return {"dagster/partition_row_count": 0}
    return {"dagster/partition_row_count": found.orders, **found.sales}


def _counted(report: "engine.OrderReport") -> dict[str, int | float]:
    """What an import did; `already_known` are those of the overlap with the last one."""
    names = (
        "fetched",
        "imported",
        "exceptions",
        "failed",
        "postponed",
        "mapped",
        "allocated",
        "requests",
        "seconds",
    )
    return numbers(report, *names, already_known="duplicates", updated="moved_on")


@dg.asset(
    group_name=GROUP,
    kinds={DATABASE_KIND, "fourseller"},
    owners=OWNERS,
    tags=SHOP | FOURSELLER,
    deps=[imported_orders, storefront_products],
    pool="orders",
)
def order_statuses(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """The status and the shipments of each order, the same in shop and marketplace; a status never goes back.

    Counts what is still to be shipped.
    """
    with midas.sync_context(context) as sync:
        report = asyncio.run(engine.sync_statuses(sync))
        open_orders = engine.open_orders(sync.database)
        with sync.database.reading() as connection:
            waiting = engine.needs_a_person(connection)
    context.log.info(f"Statuses: {counts_in_words(report, *STATUS_COUNTS)}")
    counts = numbers(
        report, "scanned", "pushed", "refused", "failed", shipments="parcels", updated="moved_on"
    )
    return made(
        {
            **counts,
            **numbers(report, "requests", "seconds"),
            "open_orders": open_orders,
            **{one.cause: one.count for one in waiting},
            "preview": table(report.preview[:20]),
        }
    )
