"""Orders: marketplace sales in the shop's own tables by the day they were placed, their statuses, and checks on them.

The first four checks look at the orders that changed in the last MIDAS_ORDERS_CHECKED_DAYS, and at those with an
exception; the drill of the backups looks at all orders.
"""

import asyncio
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import DATABASE_KIND, SETTINGS, table_name
from midas_pipelines.lib import engine
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.check_results import WARN, check_result, shop_check
from midas_pipelines.lib.partitions import by_partition, days_begun, has_partitions, has_several, order_days
from midas_pipelines.workflows import pool_of

GROUP = "orders"
MISSED_POLLS = 3  # the number of intervals without a poll after which it counts as late
RECORDED_WITHIN = timedelta(minutes=5)  # between an order's import and its record in Dagster, however slow
FIRST_DAYS = timedelta(days=31)  # the days that the first import records, with or without orders

BY_MONTH = dg.BackfillPolicy.multi_run(max_partitions_per_run=31)
"""A run per day would spend a day starting runs for one year; a failed run costs at most one month of reading."""

fourseller_orders = dg.AssetSpec(
    ["fourseller", "orders"],
    group_name=GROUP,
    kinds={"fourseller"},
    description="Sales on Amazon, eBay, TikTok Shop and the others, as 4Seller's API gives them.",
    metadata=ui.columns(
        id="string: the marketplace's, unique within its channel",
        sales_channel="string: the marketplace",
        status="string: 4Seller's own word",
        items="list: SKU, quantity and price of each line",
        total="decimal: what the buyer pays, in `currency`",
        updated_at="timestamp: of its last change; imports ask by it",
    )
    | {"dagster/uri": f"{SETTINGS.fourseller_api_url}/orders"},
)


@dg.asset(
    group_name=GROUP,
    kinds={DATABASE_KIND, "fourseller"},
    pool=pool_of("imported_orders"),
    tags=ui.SHOP | ui.PERSONAL,
    deps=[fourseller_orders, ui.PRODUCTS],
    partitions_def=order_days,
    backfill_policy=BY_MONTH,
    metadata=ui.columns(
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

    The job `order_import` reads what is new since the last import, and records each day with new or changed orders, its
    own or the gateway's, and each day that has begun. Materialize a day, or backfill many, to read those days from 4Seller again:
    what is imported already stays as it is. A line that no item matches, or that stock cannot cover, is imported with
    an exception; a sale is never refused.
    """
    new, now, window = not has_partitions(context), datetime.now(UTC), engine.Window()
    if not new:
        start, end = (one.astimezone(UTC) for one in context.partition_time_window)
        window = engine.Window(start, end - timedelta(microseconds=1))  # 4Seller's filter includes both ends
    with midas.sync_context(context) as sync:
        last, progress = engine.listing.last_import(sync.database), engine.order_progress(context.log.info)
        report = asyncio.run(engine.import_orders(sync, window, on_progress=progress))
        days = _days_touched(sync, last, now) if new else map(date.fromisoformat, context.partition_keys)
        sales = {day.isoformat(): sales_of(sync, day) for day in days}
        counts = by_partition(context, sales, ui.counts(report))
        preview = ui.tables(sync, preview=report.preview)
    context.log.info(f"Orders: {ui.counts_in_words(report)}")
    if new:
        read = ui.numbers(report, "fetched", "requests", "seconds")
        context.log_event(dg.AssetObservation(fourseller_orders.key, metadata=read))
    return ui.made(sync, {**counts, **preview}, shared=has_several(context))


def _days_touched(sync: "engine.SyncContext", last: datetime | None, now: datetime) -> list[date]:
    """The days, maybe years apart, that have begun since the last import, or of which orders are new or changed since."""
    since = None if last is None else last - RECORDED_WITHIN
    touched = engine.listing.days_with_changed_orders(sync.database, sync.settings.day_of, since)
    touched |= days_begun(sync.settings, since or now - FIRST_DAYS, now)
    return sorted(day for day in touched if order_days.has_partition_key(day.isoformat()))


def sales_of(sync: "engine.SyncContext", day: date) -> dict[str, int | float]:
    """The sales of one day, as the UI plots them: orders, units, revenue by currency and channel."""
    ends = (sync.settings.midnight(one) for one in (day, day + timedelta(days=1)))
    found = engine.listing.sales_between(sync.database, *ends)
    return {"dagster/partition_row_count": found.pop("orders"), **found}


@dg.asset(
    group_name=GROUP,
    kinds={DATABASE_KIND, "fourseller"},
    pool=pool_of("order_statuses"),
    tags=ui.SHOP | ui.FOURSELLER,
    deps=[imported_orders, ui.PRODUCTS],
    metadata=ui.columns(
        order_number="string: the shop's, unique",
        status="string: pending, processing, shipped, delivered, cancelled or refunded",
        updated_at="timestamp: of its last change",
    )
    | table_name("orders"),
)
def order_statuses(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """The status and the shipments of each order, the same in shop and marketplace; a status never goes back.

    Counts what is still to be shipped.
    """
    with midas.sync_context(context) as sync:
        report = asyncio.run(engine.sync_statuses(sync))
        open_orders, orders = (
            engine.listing.open_orders(sync.database),
            engine.count_rows(sync.database, "orders"),
        )
        waiting = sync.database.read(engine.backlog.needs_a_person)
    context.log.info(f"Statuses: {ui.counts_in_words(report)}")
    return ui.made(
        sync,
        {
            "dagster/row_count": orders,
            **ui.counts(report),
            "open_orders": open_orders,
            **{one.cause: one.count for one in waiting},
            "preview": ui.table(report.preview[:20]),
        },
    )


def _recent(sync: "engine.SyncContext", *, lines: bool = False) -> int:
    return engine.checks.count_looked_at(sync.database, sync.settings.orders_checked_days, lines=lines)


CHECKS = [
    shop_check(
        imported_orders,
        "order_totals_add_up",
        "Each order's total is the sum of its items, plus shipping and tax, less discounts, to the cent.",
        lambda sync: engine.checks.unbalanced_orders(sync.database, sync.settings.orders_checked_days),
        counted=_recent,
        hint="`midas orders show ID` shows how each came about; a tax or discount under a name we do not know is the usual "
        "cause.",
    ),
    shop_check(
        imported_orders,
        "one_shop_order_each",
        "Each imported marketplace order has one order in the shop, and each of those one marketplace order.",
        lambda sync: engine.checks.unpaired_orders(sync.database, sync.settings.orders_checked_days),
        counted=_recent,
        hint="Somebody deleted or copied a row of `orders`: `midas orders show ID` shows which; restore it from a backup.",
    ),
    shop_check(
        imported_orders,
        "deductions_equal_items",
        "Each order line has allocated the units that the ledger shows for it, and they equal the units sold.",
        lambda sync: engine.checks.unexplained_deductions(sync.database, sync.settings.orders_checked_days),
        counted=lambda sync: _recent(sync, lines=True),
        hint="`midas orders show ID` shows what the order allocated, `midas explain SKU` the item's ledger: somebody changed a "
        "row by hand. Restore it, and correct the `stock_quantity` of what you counted.",
    ),
    shop_check(
        order_statuses,
        "statuses_never_go_back",
        "No order is at an earlier status than one it has reached, unless a person resolved it so.",
        lambda sync: engine.checks.statuses_gone_back(
            sync.database, engine.BACKWARD, sync.settings.orders_checked_days
        ),
        counted=_recent,
        hint="Somebody changed `marketplace_orders.status` by hand: `midas orders show ID` shows its previous status.",
    ),
    shop_check(
        imported_orders,
        "webhooks_come_to_an_end",
        "Each webhook that was accepted is applied, superseded or quarantined with its reason, twice the "
        "time of all retries after it came.",
        lambda sync: engine.backlog.dropped_webhooks(sync.database, 2 * engine.webhooks.RETRY_SECONDS),
        counted="marketplace_webhooks",
        hint="Is the gateway running, and does `midas status` show its workers? `midas webhooks list` shows each event, and "
        "`midas webhooks replay --all` applies the quarantined ones again.",
    ),
    shop_check(
        imported_orders,
        "no_order_open_too_long",
        "No order is pending or processing longer than MIDAS_ORDERS_AGE_LIMIT_DAYS.",
        lambda sync: engine.checks.stale_orders(sync.database, sync.settings.orders_age_limit_days),
        counted=lambda sync: engine.listing.open_orders(sync.database),
        severity=WARN,
        hint="Ship them (`midas orders ship ID --carrier C --number N`) or cancel them on the marketplace.",
    ),
    shop_check(
        imported_orders,
        "no_order_waits_for_a_person",
        "No order is quarantined, and none has an exception that a person must resolve.",
        lambda sync: engine.checks.needing_a_person(sync.database),
        counted="marketplace_orders",
        severity=WARN,
        hint="`midas orders list --exception any` shows all; docs/orders.md says what to do about each exception.",
    ),
    shop_check(
        imported_orders,
        "no_buyer_kept_too_long",
        "No buyer is kept longer than MIDAS_ERASE_BUYERS_AFTER_DAYS says, unless the law holds the order.",
        lambda sync: engine.overdue_buyers(sync.database, sync.settings),
        counted="marketplace_orders",
        hint="See why `buyer_erasure` does not run: `midas status`, or its schedule and last run in this UI; "
        "`midas privacy erase-due` erases them now.",
    ),
    shop_check(
        imported_orders,
        "every_request_answered_in_time",
        "Each request of a person is answered within its 30 days.",
        lambda sync: engine.late_requests(sync.database),
        counted="privacy_requests",
        hint="`midas privacy requests` lists them; say the request again, such as `midas privacy erase --email …`.",
    ),
]


@dg.asset_check(asset=imported_orders)
def orders_are_fresh(context: dg.AssetCheckExecutionContext, midas: MidasResource) -> dg.AssetCheckResult:
    """Orders were read from 4Seller within the last few intervals."""
    with midas.sync_context(context) as sync:
        last = engine.listing.last_import(sync.database)
        limit = timedelta(minutes=MISSED_POLLS * sync.settings.orders_interval)
    age = datetime.now(UTC) - last if last is not None else None
    last_read = "never" if last is None else f"{last:%Y-%m-%d %H:%M:%S} UTC"
    late = {"last read": last_read, "at the latest": f"{limit.total_seconds() / 60:g} minutes ago"}
    return check_result(
        [late] if age is None or age > limit else [],
        severity=WARN,
        hint="See why `order_import` does not run: `midas status`, or its schedule and last run in this UI; "
        "`midas sync orders` reads them now.",
        more={"last_read": last_read, "limit_minutes": limit.total_seconds() / 60},
    )
