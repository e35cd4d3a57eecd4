"""Order checks: totals, pairing, stock, statuses, webhooks, age, freshness, and buyers erased in time.

The first four look at the orders that changed in the last MIDAS_ORDERS_CHECKED_DAYS, and at those with an exception; the
drill of the backups looks at all orders.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from midas_pipelines.defs.orders.assets import imported_orders, order_statuses
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import WARN, check_result, shop_check

MISSED_POLLS = 3
"""The number of intervals without a poll after which it counts as late."""

CHECKS = [
    shop_check(
        imported_orders,
        "order_totals_add_up",
        "Each order's total is the sum of its items, plus shipping and tax, less discounts, to the cent.",
        lambda sync: engine.unbalanced_orders(sync.database, sync.settings.orders_checked_days),
        counted="orders",
        hint="`midas orders show ID` shows how each came about; a tax or discount under a name we do not know is the usual "
        "cause.",
    ),
    shop_check(
        imported_orders,
        "one_shop_order_each",
        "Each imported marketplace order has one order in the shop, and each of those one marketplace order.",
        lambda sync: engine.unpaired_orders(sync.database, sync.settings.orders_checked_days),
        counted="orders",
        hint="Somebody deleted or copied a row of `orders`: `midas orders show ID` shows which; restore it from a backup.",
    ),
    shop_check(
        imported_orders,
        "deductions_equal_items",
        "Each order line has allocated the units that the ledger shows for it, and they equal the units sold.",
        lambda sync: engine.unexplained_deductions(sync.database, sync.settings.orders_checked_days),
        counted="lines",
        hint="`midas orders show ID` shows what the order allocated, `midas explain SKU` the item's ledger: somebody changed a "
        "row by hand. Restore it, and correct the `stock_quantity` of what you counted.",
    ),
    shop_check(
        order_statuses,
        "statuses_never_go_back",
        "No order is at an earlier status than one it has reached, unless a person resolved it so.",
        lambda sync: engine.statuses_gone_back(
            sync.database, engine.BACKWARD, sync.settings.orders_checked_days
        ),
        counted="orders",
        hint="Somebody changed `marketplace_orders.status` by hand: `midas orders show ID` shows its previous status.",
    ),
    shop_check(
        imported_orders,
        "webhooks_come_to_an_end",
        "Each webhook that was accepted is applied, superseded or quarantined with its reason, twice the "
        "time of all retries after it came.",
        lambda sync: engine.dropped_webhooks(sync.database, 2 * engine.webhooks.RETRY_SECONDS),
        counted="webhooks",
        hint="Is the gateway running, and does `midas status` show its workers? `midas webhooks list` shows each event, and "
        "`midas webhooks retry` retries the quarantined ones.",
    ),
    shop_check(
        imported_orders,
        "no_order_open_too_long",
        "No order is pending or processing longer than MIDAS_ORDERS_AGE_LIMIT_DAYS.",
        lambda sync: engine.stale_orders(sync.database, sync.settings.orders_age_limit_days),
        counted="orders",
        severity=WARN,
        hint="Ship them (`midas orders ship ID --carrier C --number N`) or cancel them on the marketplace.",
    ),
    shop_check(
        imported_orders,
        "no_order_waits_for_a_person",
        "No order is quarantined, and none has an exception that a person must resolve.",
        lambda sync: engine.needing_a_person(sync.database),
        counted="orders",
        severity=WARN,
        hint="`midas orders list --exception any` shows all; docs/orders.md says what to do about each exception.",
    ),
    shop_check(
        imported_orders,
        "no_buyer_kept_too_long",
        "No buyer is kept longer than MIDAS_ERASE_BUYERS_AFTER_DAYS says, unless the law holds the order.",
        lambda sync: engine.overdue_buyers(sync.database, sync.settings),
        counted="orders",
        hint="See why `buyer_erasure` does not run: `midas status`, or its schedule and last run in this UI; "
        "`midas privacy erase-due` erases them now.",
    ),
    shop_check(
        imported_orders,
        "every_request_answered_in_time",
        "Each request of a person is answered within its 30 days.",
        lambda sync: engine.late_requests(sync.database),
        counted="requests",
        hint="`midas privacy requests` lists them; say the request again, such as `midas privacy erase --email …`.",
    ),
]


@dg.asset_check(asset=imported_orders)
def orders_are_fresh(context: dg.AssetCheckExecutionContext, midas: MidasResource) -> dg.AssetCheckResult:
    """Orders were read from 4Seller within the last few intervals."""
    with midas.sync_context(context) as sync:
        last = engine.last_import(sync.database)
        limit = timedelta(minutes=MISSED_POLLS * sync.settings.orders_interval)
    age = datetime.now(UTC) - last if last is not None else None
    last_read = "never" if last is None else f"{last:%Y-%m-%d %H:%M:%S} UTC"
    late = age is None or age > limit
    return check_result(
        [{"last read": last_read, "at the latest": f"{limit.total_seconds() / 60:g} minutes ago"}]
        if late
        else [],
        severity=WARN,
        hint="See why `order_import` does not run: `midas status`, or its schedule and last run in this UI; "
        "`midas sync orders` reads them now.",
        more={"last_read": last_read, "limit_minutes": limit.total_seconds() / 60},
    )
