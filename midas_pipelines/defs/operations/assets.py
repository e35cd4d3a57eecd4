"""Operations assets: sync performance, capacity plan and daily report."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.defs.inventory.assets import inventory_levels
from midas_pipelines.defs.listings.assets import changed_listings, fourseller_listings
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib.metadata import OWNERS, PEOPLE, numbers, table
from midas_pipelines.lib.schedules import every
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from midas_pipelines.sync.context import SyncContext
    from midas_pipelines.sync.operations import forecast

SETTINGS = load_settings()
GROUP = "operations"
REPORT = "daily_report"


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    pool="operations",
    deps=[fourseller_listings, changed_listings, inventory_levels],
    automation_condition=dg.AutomationCondition.cron_tick_passed(every(SETTINGS.performance_interval)[0])
    & ~dg.AutomationCondition.in_progress(),
)
def sync_performance(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Throughput, latency, error rate and age of the queue over the last hour, to be plotted over time.

    Includes the gateway. `requests_per_second` covers only the seconds in which a sync or the gateway was working.
    """
    from midas_pipelines.store.operations import sync_metrics
    from midas_pipelines.sync.operations.performance import by_kind, sum_up

    with midas.sync_context(context) as sync:
        rows = sync_metrics.finished_syncs(sync.database, seconds=3600)
        hour = sum_up(rows)
        queue = sync_metrics.stock_measured(sync.database)
    return dg.MaterializeResult(
        metadata={
            **numbers(
                hour, "syncs", "failed_syncs", "items", "written", "requests", "failed_calls", "seconds"
            ),
            **numbers(hour, "items_per_second", "requests_per_second", "error_rate", "seconds_per_call"),
            **numbers(hour, "seconds_to_channel", "slowest_seconds"),
            "queue": queue.waiting,
            "oldest_in_queue_seconds": queue.oldest_seconds,
            "by_kind": table(by_kind(rows)),
        }
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    pool="operations",
    deps=[sync_performance],
    automation_condition=dg.AutomationCondition.on_cron(f"0 {(SETTINGS.report_hour - 1) % 24} * * *"),
)
def capacity_plan(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """How long a full sync takes today, in 30 and in 90 days, and what to raise first, with the arithmetic shown.

    Worst case: every item has to be written. Growth is that of the last 30 days; the pace that of the last day's large
    pushes, or of the last 30 days' where it had none.
    """
    from midas_pipelines.sync.operations import capacity

    with midas.sync_context(context) as sync:
        measured = _measured(sync)
    found = capacity.plan_capacity(measured)
    backlog = {} if found.backlog_seconds is None else {"backlog_seconds": round(found.backlog_seconds, 1)}
    return dg.MaterializeResult(
        metadata={
            "plan": dg.MetadataValue.md(capacity.capacity_markdown(found)),
            "raise_first": found.advice.first,
            "advice": found.words,
            **{f"full_sync_seconds_in_{one.days}_days": round(one.seconds, 1) for one in found.steps},
            "calls_per_second": round(found.pace, 4),
            "pace_from": measured.pace.source,
            **backlog,
        }
    )


def _measured(sync: "SyncContext") -> "forecast.Measured":
    from midas_pipelines.store.operations import sync_metrics
    from midas_pipelines.sync.operations import forecast, performance, throughput

    settings, database = sync.settings, sync.database
    day = sync_metrics.finished_syncs(database)
    rows = day
    if not any(throughput.is_large(row, settings.in_flight) for row in day):
        rows = sync_metrics.older_pushes(database, throughput.ROUNDS * settings.in_flight) + day
    queue, changed = sync_metrics.stock_measured(database), sync_metrics.stock_changes(database)
    at_once = any(row.kind == sync_metrics.GATEWAY for row in day)
    return forecast.Measured(
        items=queue.items,
        new_in_30_days=queue.new_in_30_days,
        waiting=queue.waiting,
        pushes_per_day=sum(performance.written(row) for row in day),
        stock_changes=changed.changes,
        stock_items=changed.items,
        pace=throughput.throughput_of(rows, settings.in_flight),
        limit=throughput.limit_of(rows, settings.in_flight, settings.rate_limit),
        in_flight=settings.in_flight,
        spread=settings.spread_full_sync,
        shards=settings.shards,
        shards_at_once=settings.shards_at_once,
        interval_minutes=None if at_once else min(settings.inventory_interval, settings.products_interval),
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    tags=PEOPLE,
    pool="operations",
    deps=[sync_performance],
    automation_condition=dg.AutomationCondition.on_cron(f"0 {SETTINGS.report_hour} * * *"),
)
def sync_report(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """The day on one page: what was synced, what is waiting, what needs a person. Sends a short form to staff."""
    from midas_pipelines.store.operations import sync_metrics
    from midas_pipelines.store.operations.overview import overview
    from midas_pipelines.sync.operations.daily_report import report_markdown, short
    from midas_pipelines.sync.operations.performance import by_kind, sum_up

    with midas.sync_context(context) as sync:
        rows = sync_metrics.finished_syncs(sync.database)
        day = sum_up(rows)
        seen = overview(sync.database)
        _send(sync, short(seen, day))
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(report_markdown(seen, day, by_kind(rows))),
            **numbers(day, "syncs", "failed_syncs", "written", "requests", "failed_calls", "error_rate"),
            "waiting": seen.dirty,
            "need_a_look": seen.waiting_total,
            "orders_need_a_person": seen.order_exceptions,
        }
    )


def _send(sync: "SyncContext", text: str) -> None:
    """One message a day, however often the report is made; yesterday's is closed, sent or not."""
    from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert

    today = datetime.now(UTC).date().isoformat()
    with sync.database.writing() as connection:
        for subject in open_subjects(connection, REPORT) - {today}:
            clear_alert(connection, kind=REPORT, subject=subject)
        raise_alert(connection, kind=REPORT, subject=today, text=text)


def automation(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """The sensor that runs these assets when their conditions hold: after their cron tick, once what they read is new."""
    on = settings.is_automatic(GROUP)
    return dg.AutomationConditionSensorDefinition(
        "operations_automation",
        target=dg.AssetSelection.groups(GROUP),
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        description=f"Renews performance, capacity plan and report. {entry(settings, GROUP).in_words}",
        metadata=shown(settings, GROUP),
    )
