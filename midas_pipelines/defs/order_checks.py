"""Checks on orders: their totals, their pairing, their stock, their age, and that they are read at all."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from midas_pipelines.defs.metadata import table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.orders import order_poll

MISSED_POLLS = 3
"""So many intervals may pass without a poll before it counts as late."""


@dg.asset_check(asset=order_poll)
def order_totals_add_up(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """Each order's total is the sum of its items, plus shipping and tax, less discounts, to the cent."""
    from midas_pipelines.store.order_checks import unbalanced_orders

    with midas.engine(context) as engine:
        return _verdict(unbalanced_orders(engine.database), "orders")


@dg.asset_check(asset=order_poll)
def one_shop_order_each(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """Each imported marketplace order has one order in the shop, and each of those one marketplace order."""
    from midas_pipelines.store.order_checks import unpaired_orders

    with midas.engine(context) as engine:
        return _verdict(unpaired_orders(engine.database), "orders")


@dg.asset_check(asset=order_poll)
def deductions_equal_items(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """The units that order lines hold are the units that the ledger says were taken for them."""
    from midas_pipelines.store.order_checks import unexplained_deductions

    with midas.engine(context) as engine:
        return _verdict(unexplained_deductions(engine.database), "items")


@dg.asset_check(asset=order_poll)
def no_order_open_too_long(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """No order is pending or processing longer than MIDAS_ORDERS_AGE_LIMIT_DAYS."""
    from midas_pipelines.store.order_checks import stale_orders

    with midas.engine(context) as engine:
        days = engine.settings.orders_age_limit_days
        stale = stale_orders(engine.database, days)
    verdict = _verdict(stale, "orders", severity=dg.AssetCheckSeverity.WARN)
    return verdict._replace(metadata=dict(verdict.metadata) | {"age_limit_days": dg.IntMetadataValue(days)})


@dg.asset_check(asset=order_poll)
def orders_are_fresh(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """Orders were read from 4Seller within the last few intervals."""
    from midas_pipelines.store.order_checks import last_import

    with midas.engine(context) as engine:
        last = last_import(engine.database)
        limit = timedelta(minutes=MISSED_POLLS * engine.settings.orders_interval)
    age = datetime.now(UTC) - last if last is not None else None
    return dg.AssetCheckResult(
        passed=age is not None and age <= limit,
        metadata={
            "last_read": "never" if last is None else f"{last:%Y-%m-%d %H:%M:%S} UTC",
            "limit_minutes": limit.total_seconds() / 60,
        },
    )


def _verdict(
    offenders: list[dict[str, object]],
    counted: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not offenders,
        severity=severity,
        metadata={counted: len(offenders), "offenders": table(offenders[:20])},
    )
