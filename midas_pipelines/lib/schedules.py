"""Schedules at the intervals that the settings ask for, one run of a workflow at a time."""

from datetime import datetime
from math import lcm

import dagster as dg

from midas_pipelines.lib.runs.tags import whole_run
from midas_pipelines.lib.shards import SHARDS
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings

DAY = 24 * 60
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def every(minutes: int) -> list[str]:
    """The cron lines that together tick every `minutes`.

    Where the minutes do not divide a day, as with 7, cron cannot express it: they tick each minute (see `due`).
    """
    if 60 % minutes == 0:
        return ["0 * * * *"] if minutes == 60 else [f"*/{minutes} * * * *"]
    if DAY % minutes:
        return ["* * * * *"]
    hours = lcm(minutes, 60) // 60  # then the pattern repeats
    ticks = [[at for at in range(60) if (hour * 60 + at) % minutes == 0] for hour in range(hours)]
    return [f"{','.join(map(str, at))} {hour}-23/{hours} * * *" for hour, at in enumerate(ticks) if at]


def due(minutes: int, at: datetime) -> bool:
    """Whether a tick at that moment is one of every `minutes`; cron's own `*/7` would restart each hour."""
    return DAY % minutes == 0 or int(at.timestamp()) // 60 % minutes == 0


def interval_schedule(
    job_name: str, minutes: int, settings: Settings, description: str
) -> dg.ScheduleDefinition:
    """A schedule that starts that job every `minutes`, and skips with a reason while a run is in progress.

    Its name does not include the interval: a switch set in the UI is remembered by name, and outlives a new interval.
    """

    @dg.schedule(
        name=f"{job_name}_schedule",
        job_name=job_name,
        cron_schedule=every(minutes) if len(every(minutes)) > 1 else every(minutes)[0],
        execution_timezone="UTC",
        default_status=_status(settings, job_name),
        description=f"{description} {entry(settings, job_name).in_words}",
        metadata=shown(settings, job_name),
    )
    def at_interval(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not due(minutes, context.scheduled_execution_time):
            return dg.SkipReason(f"Not due yet: this workflow runs every {minutes} minutes.")
        return unless_running(context, job_name)

    return at_interval


def daily_schedule(job_name: str, hour: int, settings: Settings, description: str) -> dg.ScheduleDefinition:
    """A schedule that starts that job once a night at that hour, UTC."""
    spread = settings.spread_full_sync and job_name == "full_sync"

    @dg.schedule(
        name=f"{job_name}_nightly",
        job_name=job_name,
        cron_schedule=f"0 {hour} * * *",
        execution_timezone="UTC",
        default_status=_status(settings, job_name),
        description=f"{description} {entry(settings, job_name).in_words}",
        metadata=shown(settings, job_name),
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        found = unless_running(context, job_name)
        if isinstance(found, dg.SkipReason):
            return found
        return one_run_a_shard(job_name, context.scheduled_execution_time) if spread else [found]

    return nightly


def one_run_a_shard(job_name: str, at: datetime) -> list[dg.RunRequest]:
    """A run for each shard, for as many workers as there are; asked for once for that moment."""
    return [
        dg.RunRequest(run_key=f"{at.isoformat()}:{name}", partition_key=name)
        for name in SHARDS.get_partition_keys()
    ]


def unless_running(
    context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext, job_name: str
) -> dg.RunRequest | dg.SkipReason:
    """A run, unless one of that workflow is under way: a pile-up is skipped, not replayed."""
    running = context.instance.get_runs_count(dg.RunsFilter(job_name=job_name, statuses=UNFINISHED))
    if running:
        return dg.SkipReason(f"A run of {job_name} is in progress; the next tick looks again.")
    return whole_run(job_name)


def _status(settings: Settings, job_name: str) -> dg.DefaultScheduleStatus:
    on = settings.is_automatic(job_name)
    return dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED
