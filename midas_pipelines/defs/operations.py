"""Operations: how well the syncs run, what they will need, and a daily report."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.defs.intervals import every
from midas_pipelines.defs.inventory import inventory_levels
from midas_pipelines.defs.listings import fourseller_listings
from midas_pipelines.defs.metadata import OWNERS, PEOPLE, numbers, table
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.timetable import entry, shown
from midas_pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from midas_pipelines.sync import capacity
    from midas_pipelines.sync.engine import Engine

SETTINGS = load_settings()
GROUP = "operations"
REPORT = "daily_report"
PUSHES = ("products", "inventory")


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    deps=[fourseller_listings, inventory_levels],
    automation_condition=dg.AutomationCondition.cron_tick_passed(every(SETTINGS.performance_interval)[0])
    & ~dg.AutomationCondition.in_progress(),
)
def sync_performance(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """Throughput, latency, error rate and age of the queue over the last hour, to be plotted over time.

    `requests_per_second` counts the seconds in which a sync was at work, not those between two syncs.
    """
    from midas_pipelines.store import measures
    from midas_pipelines.sync.performance import by_kind, sum_up

    with midas.engine(context) as engine:
        rows = measures.finished_syncs(engine.database, seconds=3600)
        hour = sum_up(rows, measures.failed_calls(engine.database, seconds=3600))
        queue = measures.stock(engine.database)
    return dg.MaterializeResult(
        metadata={
            **numbers(hour, "syncs", "failed_syncs", "items", "requests", "failed_calls", "seconds"),
            **numbers(hour, "items_per_second", "requests_per_second", "error_rate"),
            "seconds_per_request": round(hour.seconds / hour.requests, 4) if hour.requests else 0.0,
            "queue": queue.waiting,
            "oldest_in_queue_seconds": queue.oldest_seconds,
            "by_kind": table(by_kind(rows)),
        }
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    deps=[sync_performance],
    automation_condition=dg.AutomationCondition.on_cron(f"0 {(SETTINGS.report_hour - 1) % 24} * * *"),
)
def capacity_plan(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """How long a full sync takes today, in 30 and in 90 days, and what to raise first, with the arithmetic shown.

    Worst case: every item has to be written. Growth is that of the last 30 days, the pace that of the last day.
    """
    from midas_pipelines.sync import capacity

    with midas.engine(context) as engine:
        measured = _measured(engine)
    found = capacity.plan(measured)
    if found is None:
        return dg.MaterializeResult(
            metadata={"advice": "Too few calls were made in the last day to say anything yet."}
        )
    steps = [{"in days": one.days, "items": one.items, "how": one.arithmetic} for one in found.steps]
    return dg.MaterializeResult(
        metadata={
            **{f"full_sync_seconds_in_{one.days}_days": one.seconds for one in found.steps},
            "calls_per_second": found.pace,
            "backlog_seconds": round(found.backlog_seconds, 1),
            "raise_first": found.raise_first,
            "advice": dg.MetadataValue.md(found.advice),
            "pace": found.pace_arithmetic,
            "arithmetic": table(steps),
        }
    )


def _measured(engine: "Engine") -> "capacity.Measured":
    from midas_pipelines.store import measures
    from midas_pipelines.sync import capacity

    settings = engine.settings
    pushes = [row for row in measures.finished_syncs(engine.database) if row.kind in PUSHES]
    busy = [row for row in pushes if row.requests]
    queue = measures.stock(engine.database)
    written = ("created", "updated", "deleted", "pushed")
    return capacity.Measured(
        items=queue.items,
        new_in_30_days=queue.new_in_30_days,
        waiting=queue.waiting,
        changes_per_day=sum(int(row.counts.get(name) or 0) for row in pushes for name in written),
        requests=sum(row.requests for row in busy),
        seconds=sum(row.seconds for row in busy),
        in_flight=settings.in_flight,
        workers=settings.shards_at_once if settings.spread_full_sync else 1,
        rate_limit=settings.rate_limit,
        interval_minutes=settings.products_interval,
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    owners=OWNERS,
    tags=PEOPLE,
    deps=[sync_performance],
    automation_condition=dg.AutomationCondition.on_cron(f"0 {SETTINGS.report_hour} * * *"),
)
def sync_report(context: dg.AssetExecutionContext, midas: Midas) -> dg.MaterializeResult:
    """The day in one page: what was synced, what waits, what needs a person. Its short form is sent to staff."""
    from midas_pipelines.store import measures
    from midas_pipelines.store.overview import overview
    from midas_pipelines.sync.performance import by_kind, sum_up
    from midas_pipelines.sync.report import markdown, short

    with midas.engine(context) as engine:
        rows = measures.finished_syncs(engine.database)
        day = sum_up(rows, measures.failed_calls(engine.database))
        seen = overview(engine.database)
        _send(engine, short(seen, day))
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(markdown(seen, day, by_kind(rows))),
            **numbers(day, "syncs", "failed_syncs", "requests", "failed_calls", "error_rate"),
            "waiting": seen.dirty,
            "need_a_look": len(seen.waiting),
            "orders_need_a_person": seen.order_exceptions,
        }
    )


def _send(engine: "Engine", text: str) -> None:
    """One message a day, however often the report is made; yesterday's is closed, sent or not."""
    from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert

    today = datetime.now(UTC).date().isoformat()
    with engine.database.writing() as connection:
        for subject in open_subjects(connection, REPORT) - {today}:
            clear_alert(connection, kind=REPORT, subject=subject)
        raise_alert(connection, kind=REPORT, subject=today, text=text)


def automation(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """The sensor that runs these assets when their conditions hold: after their cron tick, once what they read is new."""
    on = settings.runs_by_itself(GROUP)
    return dg.AutomationConditionSensorDefinition(
        "operations_automation",
        target=dg.AssetSelection.groups(GROUP),
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        description=f"Renews performance, capacity plan and report. {entry(settings, GROUP).in_words}",
        metadata=shown(settings, GROUP),
    )
