"""Order assets: import, status sync, shipments and customer messages."""

import asyncio
from datetime import UTC, datetime, timedelta

import dagster as dg

from midas_pipelines.defs.gateway.assets import gateway_orders
from midas_pipelines.defs.orders.imported_orders import (
    COUNTS,
    DAYS,
    GROUP,
    fourseller_orders,
    order_metadata,
    rows_of,
)
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.links import links
from midas_pipelines.lib.metadata import (
    FOURSELLER,
    OWNERS,
    PEOPLE,
    PERSONAL,
    SHOP,
    counts_in_words,
    numbers,
    table,
)
from midas_pipelines.lib.order_days import days_begun, is_a_day

STATUS_COUNTS = ("scanned", "pushed", "parcels", "refused", "moved_on", "failed")

RECORDED_WITHIN = timedelta(minutes=5)
"""Between an order's import and the poll's record of it in Dagster, however slow."""


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=SHOP | PERSONAL,
    deps=[fourseller_orders],
    pool="orders",
)
def order_poll(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Imports marketplace sales that are new or changed since the last poll.

    A line that no item matches, or that stock cannot cover, is imported with an exception; a sale is never refused.
    """
    last = _last_poll(context)
    with midas.sync_context(context) as sync:
        report = asyncio.run(engine.import_orders(sync, on_progress=engine.order_progress(context.log.info)))
        known = engine.orders_by_day(sync.database, since=last)
        where = links(sync, report.preview)
    context.log.info(f"Orders: {counts_in_words(report, *COUNTS)}")
    touched = {day for day, found in known.items() if found.new} | days_begun(last, datetime.now(UTC))
    for day in sorted(filter(is_a_day, touched)):
        context.log_event(dg.AssetMaterialization(DAYS, partition=day, metadata=rows_of(known, day)))
    total = sum(found.orders for found in known.values())
    return dg.MaterializeResult(metadata={"dagster/row_count": total, **order_metadata(report), **where})


def _last_poll(context: dg.AssetExecutionContext) -> datetime | None:
    """The time after which imported orders may not be recorded in Dagster yet, whichever driver imported them."""
    event = context.instance.get_latest_materialization_event(order_poll.key)
    return None if event is None else datetime.fromtimestamp(event.timestamp, UTC) - RECORDED_WITHIN


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=SHOP | FOURSELLER,
    deps=[DAYS, order_poll, gateway_orders],
    pool="orders",
)
def order_statuses(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Syncs the status of each order between shop and marketplace; a status never goes back."""
    with midas.sync_context(context) as sync:
        report = asyncio.run(engine.sync_statuses(sync))
    context.log.info(f"Statuses: {counts_in_words(report, *STATUS_COUNTS)}")
    return dg.MaterializeResult(
        metadata={
            **numbers(report, *STATUS_COUNTS, "requests", "seconds"),
            "preview": table(report.preview[:20]),
        }
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=FOURSELLER,
    deps=[order_statuses],
    pool="orders",
)
def order_fulfilment(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Pushes new shipments with their tracking numbers to the marketplace; counts what is still to be shipped."""
    with midas.sync_context(context) as sync:
        report = asyncio.run(engine.push_statuses(sync, kind="fulfilment"))
        work = engine.open_work(sync.database)
    context.log.info(
        f"Shipments and statuses: {counts_in_words(report, 'parcels', 'pushed', 'refused', 'failed')}"
    )
    return dg.MaterializeResult(
        metadata={
            **numbers(report, "parcels", "pushed", "refused", "failed", "requests", "seconds"),
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
    pool="messages",
)
def customer_messages(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Emails customers whose orders were imported, shipped or cancelled, once per event.

    While the mail server is down, messages wait; nothing else fails.
    """
    with midas.sync_context(context) as sync:
        report = engine.send_mails(sync.database, sync.settings, sync.run_id)
    counts = {state: report.states[state] for state in ("sent", "waiting", "failed")}
    context.log.info(f"Messages: {', '.join(f'{count} {state}' for state, count in counts.items())}.")
    return dg.MaterializeResult(metadata={**counts, "problems": table(report.problems[:20])})
