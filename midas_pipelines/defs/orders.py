"""Orders: marketplace sales in the shop's own tables, and their status both ways."""

import asyncio

import dagster as dg

from midas_pipelines.defs.metadata import OWNERS, columns, numbers, table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.store.order_checks import order_count, unbalanced_orders
from midas_pipelines.sync.orders.polling import import_orders
from midas_pipelines.sync.orders.status_sync import sync_statuses

GROUP = "orders"

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
    deps=[fourseller_orders],
    metadata=columns(
        marketplace_order_id="string: unique within its channel",
        local_order_id="int: the shop's order, one for each",
        status="string: pending, processing, shipped, delivered, cancelled or refunded",
        exception="string: unmapped, oversold, quantity, total_mismatch, unknown_status",
        total="decimal: as the marketplace gave it, in `currency`",
        placed_at="timestamp: UTC",
    )
    | {"dagster/table_name": "marketplace_orders"},
)
def imported_orders(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """Marketplace sales as orders of the shop: each once, with its stock taken in the same transaction.

    A line that no item matches, or that stock cannot cover, is imported with an exception; a sale is never refused.
    """
    with midas.engine(context) as engine:
        report = asyncio.run(import_orders(engine))
        known = order_count(engine.database)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": known,
            **numbers(report, "fetched", "imported", "duplicates", "exceptions", "failed", "moved_on"),
            **numbers(report, "requests", "seconds"),
            "preview": table(report.preview),
        }
    )


@dg.asset_check(asset=imported_orders)
def order_totals_add_up(context: dg.AssetCheckExecutionContext, midas: Midas) -> dg.AssetCheckResult:
    """Each order's total is the sum of its items, plus shipping and tax, less discounts, to the cent."""
    with midas.engine(context) as engine:
        offenders = unbalanced_orders(engine.database)
    return dg.AssetCheckResult(
        passed=not offenders, metadata={"orders": len(offenders), "offenders": table(offenders[:20])}
    )


@dg.asset(group_name=GROUP, kinds={"python", "api"}, owners=OWNERS, deps=[imported_orders])
def order_statuses(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """Where each order stands, the same in the shop and on its marketplace; a status never goes back."""
    with midas.engine(context) as engine:
        report = asyncio.run(sync_statuses(engine))
    return dg.MaterializeResult(
        metadata={
            **numbers(report, "scanned", "told", "refused", "moved_on", "failed", "requests", "seconds"),
            "preview": table(report.preview[:20]),
        }
    )
