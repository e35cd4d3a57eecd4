"""Schedules, sensors and freshness policies as the table of workflows has them, one run of a workflow at a time.

An asset may get as old as a few of the intervals that it is really renewed at, so that one missed run is no alarm.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from math import lcm
from typing import Any

import dagster as dg

from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib.metadata import OWNERS
from midas_pipelines.lib.partitions import SHARDS
from midas_pipelines.lib.snapshot_io import TICK
from midas_pipelines.lib.timetable import daily_at, entry, is_on, minutes_apart
from midas_pipelines.settings import Settings
from midas_pipelines.workflows import BY_NAME, WORKFLOWS, Workflow

DAY = 24 * 60
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in FINISHED]


def every(minutes: int) -> list[str]:
    """The cron lines that together tick every `minutes`; each minute where those do not divide a day, as 7, which
    cron cannot express (see `due`)."""
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


def described(settings: Settings, workflow: Workflow) -> str:
    """The description of a workflow's job, schedule or sensor in the UI."""
    return f"{workflow.what}\n\n{entry(settings, workflow).in_words}"


def schedule_of(settings: Settings, workflow: Workflow) -> dg.ScheduleDefinition:
    """The schedule of a workflow with an interval or an hour; it skips with a reason while a run is in progress.

    Its name does not include the interval: a switch set in the UI is remembered by name, and outlives a new interval.
    """
    daily, minutes = daily_at(settings, workflow), minutes_apart(settings, workflow) or DAY
    lines = [f"{daily[1]} {daily[0]} * * *"] if daily else every(minutes)
    spread = settings.spread_full_sync and workflow.name == "full_sync"

    @dg.schedule(
        name=f"{workflow.name}_schedule",
        job_name=workflow.name,
        cron_schedule=lines if len(lines) > 1 else lines[0],
        execution_timezone=settings.timezone if daily else "UTC",  # where an interval has no gap of an hour
        default_status=dg.DefaultScheduleStatus[_status(settings, workflow)],
        description=described(settings, workflow),
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | list[dg.RunRequest] | dg.SkipReason:
        if not daily and not due(minutes, context.scheduled_execution_time):
            return dg.SkipReason(f"Not due yet: this workflow runs every {minutes} minutes.")
        found = unless_running(context, workflow.name)
        if spread and not isinstance(found, dg.SkipReason):
            return one_run_a_shard(context.scheduled_execution_time)
        return found

    return tick


def op_job(name: str, *steps: dg.OpDefinition) -> dg.JobDefinition:
    """A workflow's job that makes no asset: independent steps, described as its row in the table says."""

    def graph() -> None:
        for step in steps:
            step()

    make: Any = dg.job(
        name=name,
        executor_def=dg.in_process_executor,
        owners=OWNERS,
        description=described(SETTINGS, BY_NAME[name]),
    )
    job: dg.JobDefinition = make(graph)
    return job


def sensor_options(name: str) -> dict[str, Any]:
    """Name, interval, default status and description of a workflow's sensor, for `dg.sensor`."""
    workflow = BY_NAME[name]
    return {
        "name": f"{name}_sensor",
        "minimum_interval_seconds": workflow.seconds,
        "default_status": dg.DefaultSensorStatus[_status(SETTINGS, workflow)],
        "description": described(SETTINGS, workflow),
    }


def one_run_a_shard(at: datetime) -> list[dg.RunRequest]:
    """A run for the snapshots, and one for each shard, which waits for no pool but its own; asked for once for that moment."""
    tick = f"{at.astimezone(UTC):%Y%m%dT%H%M}"
    *snapshots, listings = map(dg.AssetKey, BY_NAME["full_sync"].makes)
    first = dg.RunRequest(f"{tick}:snapshots", asset_selection=snapshots, tags={TICK: tick})
    return [
        first,
        *(
            dg.RunRequest(f"{tick}:{name}", partition_key=name, asset_selection=[listings], tags={TICK: tick})
            for name in SHARDS.get_partition_keys()
        ),
    ]


def unless_running(
    context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext, job_name: str
) -> dg.RunRequest | dg.SkipReason:
    """A run, unless one of that workflow is under way: a pile-up is skipped, not replayed."""
    running = context.instance.get_runs_count(dg.RunsFilter(job_name=job_name, statuses=UNFINISHED))
    if running:
        return dg.SkipReason(f"A run of {job_name} is in progress; the next tick looks again.")
    return dg.RunRequest(job_name=job_name)


def _status(settings: Settings, workflow: Workflow) -> str:
    return "RUNNING" if is_on(settings, workflow) else "STOPPED"


START_UP = timedelta(minutes=2)  # what a run may take to be launched and to end

WITHOUT_POLICY = {"sync_plan", "storefront/products", "inventory_ledger", "fourseller/orders"}
"""Assets whose age says nothing: one is made when a person asks for it, the others are only observed."""


def renewals(settings: Settings) -> dict[str, int]:
    """The minutes after which each asset is renewed, by the workflow that renews it most often; without paused ones."""
    found: dict[str, int] = {}
    for workflow in WORKFLOWS:
        minutes = minutes_apart(settings, workflow)
        if minutes is not None and not settings.is_paused(workflow.name):
            for asset in set(workflow.makes) - WITHOUT_POLICY:
                found[asset] = min(minutes, found.get(asset, minutes))
    return found


def windows(minutes: int) -> tuple[timedelta, timedelta]:
    """The ages at which an asset that is renewed every `minutes` warns and is late: after two missed renewals and
    after four; of what is renewed daily after one and after two."""
    if minutes == DAY:
        return timedelta(hours=26), timedelta(hours=50)
    interval = timedelta(minutes=minutes)
    return 2 * interval + START_UP, 4 * interval + START_UP


def policies(settings: Settings) -> dict[str, dg.FreshnessPolicy]:
    """The policy of each asset by name; none where all workflows that renew it are paused."""
    made = {asset: windows(minutes) for asset, minutes in renewals(settings).items()}
    time_window = dg.FreshnessPolicy.time_window
    return {asset: time_window(warn_window=warn, fail_window=fail) for asset, (warn, fail) in made.items()}


def with_freshness(assets: Iterable[Any], settings: Settings) -> list[Any]:
    """The assets with their owners and policies."""
    known = policies(settings)

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = known.get(spec.key.to_user_string())
        return spec.replace_attributes(owners=OWNERS, freshness_policy=policy)

    return list(dg.map_asset_specs(attach, list(assets)))
