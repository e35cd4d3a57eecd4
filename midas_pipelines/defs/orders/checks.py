"""Order checks: totals, pairing, stock, statuses, webhooks, age and freshness."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from midas_pipelines.defs.orders.assets import order_poll, order_statuses
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib.check_results import WARN, check_result
from midas_pipelines.lib.links import links

NO_RETRY_IS_LEFT = timedelta(hours=2)
"""By then the gateway has tried an event ten times, which takes an hour, and quarantined it."""

MISSED_POLLS = 3
"""The number of intervals without a poll after which it counts as late."""


@dg.asset_check(asset=order_poll)
def order_totals_add_up(context: dg.AssetCheckExecutionContext, midas: MidasResource) -> dg.AssetCheckResult:
    """Each order's total is the sum of its items, plus shipping and tax, less discounts, to the cent."""
    from midas_pipelines.store.orders.checks import unbalanced_orders

    with midas.sync_context(context) as sync:
        found = unbalanced_orders(sync.database)
        return check_result(
            found,
            links=links(sync, found),
            counted="orders",
            hint="`midas orders show ID` shows how each came about; a tax or discount under a name we do not know is the "
            "usual cause.",
        )


@dg.asset_check(asset=order_poll)
def one_shop_order_each(context: dg.AssetCheckExecutionContext, midas: MidasResource) -> dg.AssetCheckResult:
    """Each imported marketplace order has one order in the shop, and each of those one marketplace order."""
    from midas_pipelines.store.orders.checks import unpaired_orders

    with midas.sync_context(context) as sync:
        found = unpaired_orders(sync.database)
        return check_result(
            found,
            links=links(sync, found),
            counted="orders",
            hint="Somebody deleted or copied a row of `orders`: `midas orders show ID` shows which; restore it from a backup.",
        )


@dg.asset_check(asset=order_poll)
def deductions_equal_items(
    context: dg.AssetCheckExecutionContext, midas: MidasResource
) -> dg.AssetCheckResult:
    """Each order line has allocated the units that the ledger shows for it, and they equal the units sold."""
    from midas_pipelines.store.orders.checks import unexplained_deductions

    with midas.sync_context(context) as sync:
        found = unexplained_deductions(sync.database)
        return check_result(
            found,
            links=links(sync, found),
            counted="lines",
            hint="`midas orders show ID` shows what the order allocated, `midas explain SKU` the item's ledger: somebody "
            "changed a row by hand. Restore it, and correct the `stock_quantity` of what you counted.",
        )


@dg.asset_check(asset=order_statuses)
def statuses_never_go_back(
    context: dg.AssetCheckExecutionContext, midas: MidasResource
) -> dg.AssetCheckResult:
    """No order is at an earlier status than one it has reached, unless a person resolved it so."""
    from midas_pipelines.store.orders.checks import statuses_gone_back

    with midas.sync_context(context) as sync:
        found = statuses_gone_back(sync.database)
        return check_result(
            found,
            links=links(sync, found),
            counted="orders",
            hint="Somebody changed `marketplace_orders.status` by hand: `midas orders show ID` shows its previous status.",
        )


@dg.asset_check(asset=order_poll)
def webhooks_come_to_an_end(
    context: dg.AssetCheckExecutionContext, midas: MidasResource
) -> dg.AssetCheckResult:
    """Each webhook that was accepted is applied, superseded or quarantined with its reason within two hours."""
    from midas_pipelines.store.operations.stale_work import dropped_webhooks

    with midas.sync_context(context) as sync:
        found = dropped_webhooks(sync.database, int(NO_RETRY_IS_LEFT.total_seconds()))
    return check_result(
        found,
        counted="webhooks",
        hint="Is the gateway running, and does `midas status` show its workers? `midas webhooks list` shows each event, and "
        "`midas webhooks retry` retries the quarantined ones.",
    )


@dg.asset_check(asset=order_poll)
def no_order_open_too_long(
    context: dg.AssetCheckExecutionContext, midas: MidasResource
) -> dg.AssetCheckResult:
    """No order is pending or processing longer than MIDAS_ORDERS_AGE_LIMIT_DAYS."""
    from midas_pipelines.store.orders.checks import stale_orders

    with midas.sync_context(context) as sync:
        days = sync.settings.orders_age_limit_days
        stale = stale_orders(sync.database, days)
        where = links(sync, stale)
    return check_result(
        stale,
        links=where,
        counted="orders",
        severity=WARN,
        hint="Ship them (`midas orders ship ID --carrier C --number N`) or cancel them on the marketplace.",
        more={"age_limit_days": days},
    )


@dg.asset_check(asset=order_poll)
def no_order_waits_for_a_person(
    context: dg.AssetCheckExecutionContext, midas: MidasResource
) -> dg.AssetCheckResult:
    """No order is quarantined, and none has an exception that a person must resolve."""
    from midas_pipelines.store.orders.checks import needing_a_person

    with midas.sync_context(context) as sync:
        found = needing_a_person(sync.database)
        return check_result(
            found,
            links=links(sync, found),
            counted="orders",
            severity=WARN,
            hint="`midas orders list --exception any` shows all; docs/orders.md says what to do about each exception.",
        )


@dg.asset_check(asset=order_poll)
def orders_are_fresh(context: dg.AssetCheckExecutionContext, midas: MidasResource) -> dg.AssetCheckResult:
    """Orders were read from 4Seller within the last few intervals."""
    from midas_pipelines.store.orders.checks import last_import

    with midas.sync_context(context) as sync:
        last = last_import(sync.database)
        limit = timedelta(minutes=MISSED_POLLS * sync.settings.orders_interval)
    age = datetime.now(UTC) - last if last is not None else None
    last_read = "never" if last is None else f"{last:%Y-%m-%d %H:%M:%S} UTC"
    late = age is None or age > limit
    return check_result(
        [{"last read": last_read, "at the latest": f"{limit.total_seconds() / 60:g} minutes ago"}]
        if late
        else [],
        counted="polls late",
        severity=WARN,
        hint="See why `order_import` does not run: `midas status`, or its schedule and last run in this UI; "
        "`midas sync orders` reads them now.",
        more={"last_read": last_read, "limit_minutes": limit.total_seconds() / 60},
    )
