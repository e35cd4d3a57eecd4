"""Orders: marketplace sales in the shop's own tables, and their status both ways."""

import asyncio
from typing import TYPE_CHECKING, Any

import dagster as dg

from midas_pipelines.defs.gateway import gateway_orders
from midas_pipelines.defs.links import links
from midas_pipelines.defs.metadata import FOURSELLER, OWNERS, PEOPLE, PERSONAL, SHOP, columns, numbers, table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.order_days import is_a_day, order_days, window_of

if TYPE_CHECKING:
    from midas_pipelines.sync.orders.intake import OrderReport

GROUP = "orders"
COUNTS = ("fetched", "imported", "duplicates", "exceptions", "failed", "moved_on", "mapped", "allocated")

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
def imported_orders(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """Marketplace sales as orders of the shop, by the day they were placed: each once, with its stock taken.

    Materialize a day, or backfill many, to read those days from 4Seller again: what is imported already stays as it
    is. `order_poll` does the same for what is new, all day, and notes here the days it touched.
    """
    from midas_pipelines.store.order_checks import order_count
    from midas_pipelines.sync.orders.polling import import_orders

    span = context.partition_time_window
    with midas.engine(context) as engine:
        report = asyncio.run(import_orders(engine, window_of(span)))
        known = order_count(engine.database, span.start, span.end)
        where = links(engine, report.preview)
    return dg.MaterializeResult(metadata={"dagster/row_count": known, **_told(report), **where})


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=SHOP | PERSONAL,
    deps=[fourseller_orders],
    pool="orders",
)
def order_poll(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """New and changed marketplace sales since the last look, imported within minutes of being placed.

    A line that no item matches, or that stock cannot cover, is imported with an exception; a sale is never refused.
    """
    from midas_pipelines.store.order_checks import order_count
    from midas_pipelines.sync.orders.polling import import_orders

    with midas.engine(context) as engine:
        report = asyncio.run(import_orders(engine))
        known = order_count(engine.database)
        where = links(engine, report.preview)
    for day, count in sorted(report.days.items()):
        if is_a_day(day):
            context.log_event(
                dg.AssetMaterialization(imported_orders.key, partition=day, metadata={"imported": count})
            )
    return dg.MaterializeResult(metadata={"dagster/row_count": known, **_told(report), **where})


def _told(report: "OrderReport") -> dict[str, Any]:
    return {
        **numbers(report, *COUNTS),
        **numbers(report, "requests", "seconds"),
        "preview": table(report.preview),
    }


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=SHOP | FOURSELLER,
    deps=[imported_orders, order_poll, gateway_orders],
    pool="orders",
)
def order_statuses(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """Where each order stands, the same in the shop and on its marketplace; a status never goes back."""
    from midas_pipelines.sync.orders.status_sync import sync_statuses

    with midas.engine(context) as engine:
        report = asyncio.run(sync_statuses(engine))
    return dg.MaterializeResult(
        metadata={
            **numbers(report, "scanned", "told", "parcels", "refused", "moved_on", "failed"),
            **numbers(report, "requests", "seconds"),
            "preview": table(report.preview[:20]),
        }
    )


@dg.asset(group_name=GROUP, kinds={"python", "api"}, owners=OWNERS, tags=FOURSELLER, deps=[order_statuses])
def order_fulfilment(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """Parcels that left since, with their tracking numbers on the marketplace; and what is still to be shipped."""
    from midas_pipelines.store.order_checks import open_work
    from midas_pipelines.sync.orders.status_sync import tell_marketplace

    with midas.engine(context) as engine:
        report = asyncio.run(tell_marketplace(engine, kind="fulfilment"))
        work = open_work(engine.database)
    return dg.MaterializeResult(
        metadata={
            **numbers(report, "parcels", "told", "refused", "failed", "requests", "seconds"),
            **work,
            "preview": table(report.preview[:20]),
        }
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    tags=PEOPLE | PERSONAL,
    deps=[order_poll, order_fulfilment],
)
def customer_messages(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """Messages to customers whose orders arrived, left or were cancelled, by mail, each once.

    A mail server that is down leaves them waiting and fails nothing else.
    """
    from midas_pipelines.sync.orders.mailing import send_mails

    with midas.engine(context) as engine:
        report = send_mails(engine.database, engine.settings, engine.run_id)
    return dg.MaterializeResult(
        metadata={**numbers(report, "sent", "waiting", "failed"), "problems": table(report.problems[:20])}
    )
