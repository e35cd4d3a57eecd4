"""Operations assets: sync performance, capacity plan and daily report."""

import dagster as dg

from midas_pipelines.defs.inventory.assets import inventory_levels
from midas_pipelines.defs.inventory.stock import low_stock
from midas_pipelines.defs.listings.assets import fourseller_listings
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import OWNERS, PEOPLE, table

GROUP = "operations"


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    pool="operations",
    deps=[fourseller_listings, inventory_levels],
)
def sync_performance(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Throughput, latency, error rate and age of the queue over the last hour, to be plotted over time.

    Includes the gateway. `requests_per_second` covers only the seconds in which a sync or the gateway was working.
    """
    with midas.sync_context(context) as sync:
        rows = engine.sync_metrics.finished_syncs(sync.database, seconds=3600)
        queue = engine.sync_metrics.stock_measured(sync.database)
    return dg.MaterializeResult(
        metadata={
            **engine.sync_metrics.sum_up(rows),
            "queue": queue.waiting,
            "oldest_in_queue_seconds": queue.oldest_seconds,
            "by_kind": table(engine.sync_metrics.by_kind(rows)),
        }
    )


@dg.asset(group_name=GROUP, kinds={"python"}, owners=OWNERS, pool="operations", deps=[sync_performance])
def capacity_plan(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """How long a full sync takes today, in 30 and in 90 days, and what to raise first, with the arithmetic shown.

    Worst case: every item has to be written. Growth is that of the last 30 days; the pace that of the last day's large
    pushes, or of the last 30 days' where it had none.
    """
    with midas.sync_context(context) as sync:
        day = rows = engine.sync_metrics.finished_syncs(sync.database)
        in_flight = sync.settings.in_flight
        if not any(engine.capacity.is_large(row, in_flight) for row in day):
            rows = engine.sync_metrics.older_pushes(sync.database, engine.capacity.ROUNDS * in_flight) + day
        stock = engine.sync_metrics.stock_measured(sync.database)
        measured = engine.capacity.measure(rows, day, stock, sync.settings)
    plan = engine.capacity.plan_capacity(measured)
    seconds = {
        f"full_sync_seconds_in_{days}_days": round(measured.full_sync_seconds(days), 1)
        for days in engine.capacity.HORIZONS
    }
    return dg.MaterializeResult(
        metadata={
            "plan": dg.MetadataValue.md(plan.markdown),
            "raise_first": plan.raise_first,
            "advice": plan.words,
            "calls_per_second": round(measured.sync_pace, 4),
            "pace_from": measured.pace.source,
            **seconds,
        }
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    tags=PEOPLE,
    pool="operations",
    deps=[sync_performance, capacity_plan, low_stock],
)
def staff_report(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """One letter a day to staff: what was synced, what waits, what runs out, what needs a person."""
    with midas.sync_context(context) as sync:
        report = engine.write_report(sync)
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(engine.plain(report.text)),
            "new": report.new,
            **report.numbers,
        }
    )
