"""Orders: what is new on the marketplaces, the status of each order both ways, and what customers are told."""

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

STATUS_COUNTS = ("scanned", "told", "parcels", "refused", "moved_on", "failed")

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
    """New and changed marketplace sales since the last look, imported within minutes of being placed.

    A line that no item matches, or that stock cannot cover, is imported with an exception; a sale is never refused.
    """
    from midas_pipelines.store.orders.checks import orders_by_day
    from midas_pipelines.sync.orders.intake.poll import import_orders
    from midas_pipelines.sync.progress import order_progress

    last = _last_poll(context)
    with midas.engine(context) as engine:
        report = asyncio.run(import_orders(engine, on_progress=order_progress(context.log.info)))
        known = orders_by_day(engine.database, since=last)
        where = links(engine, report.preview)
    context.log.info(f"Orders: {counts_in_words(report, *COUNTS)}")
    touched = {day for day, found in known.items() if found.new} | days_begun(last, datetime.now(UTC))
    for day in sorted(filter(is_a_day, touched)):
        context.log_event(dg.AssetMaterialization(DAYS, partition=day, metadata=rows_of(known, day)))
    total = sum(found.orders for found in known.values())
    return dg.MaterializeResult(metadata={"dagster/row_count": total, **order_metadata(report), **where})


def _last_poll(context: dg.AssetExecutionContext) -> datetime | None:
    """Since when an order may be of which Dagster has not been told, whichever driver imported it."""
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
    """Where each order stands, the same in the shop and on its marketplace; a status never goes back."""
    from midas_pipelines.sync.orders.status_sync import sync_statuses

    with midas.engine(context) as engine:
        report = asyncio.run(sync_statuses(engine))
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
    """Parcels that left since, with their tracking numbers on the marketplace; and what is still to be shipped."""
    from midas_pipelines.store.orders.checks import open_work
    from midas_pipelines.sync.orders.status_sync import push_statuses

    with midas.engine(context) as engine:
        report = asyncio.run(push_statuses(engine, kind="fulfilment"))
        work = open_work(engine.database)
    context.log.info(
        f"Parcels and statuses told: {counts_in_words(report, 'parcels', 'told', 'refused', 'failed')}"
    )
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
    pool="messages",
)
def customer_messages(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Messages to customers whose orders arrived, left or were cancelled, by mail, each once.

    A mail server that is down leaves them waiting and fails nothing else.
    """
    from midas_pipelines.sync.orders.customer_mail.send import send_mails

    with midas.engine(context) as engine:
        report = send_mails(engine.database, engine.settings, engine.run_id)
    context.log.info(f"Messages: {report.sent} sent, {report.waiting} waiting, {report.failed} failed.")
    return dg.MaterializeResult(
        metadata={**numbers(report, "sent", "waiting", "failed"), "problems": table(report.problems[:20])}
    )
