"""The safety net under the gateway: what it left undone is found here, and taken up by a workflow."""

import dagster as dg

from midas_pipelines.defs.intervals import unless_running
from midas_pipelines.defs.jobs import consistency_check, order_import
from midas_pipelines.defs.shop import shop
from midas_pipelines.defs.workflows import whole_run
from midas_pipelines.settings import Settings

HEALED_BY = {"order": "order_import", "inventory": "consistency_check", "product": "consistency_check"}
"""The workflow that makes good an event that was never processed: the engine asks what is, not what was told."""


def left_over_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor for dirty items, one for webhooks; both launch nothing when there is nothing."""
    seconds = settings.left_over_seconds

    @dg.sensor(
        name="dirty_items_left_over",
        job_name="incremental_sync",
        minimum_interval_seconds=30,
        default_status=_status(settings, "incremental_sync"),
        description=f"Pushes items that wait longer than {seconds} s, should the gateway be away or stuck.",
    )
    def dirty_items(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from midas_pipelines.store import left_over

        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            found = left_over.dirty_items(database, seconds)
        newest = found.newest.isoformat() if found.newest else None
        if newest is None:
            return dg.SkipReason(f"No item has waited for longer than {seconds} s.")
        if context.cursor is not None and newest <= context.cursor:
            return dg.SkipReason(
                f"{found.count} items wait that a run has tried already; the schedule tries them again."
            )
        return _start(context, "incremental_sync", newest)

    @dg.sensor(
        name="webhooks_left_over",
        jobs=[order_import, consistency_check],
        minimum_interval_seconds=30,
        default_status=_status(settings, "order_import"),
        description=f"Heals what webhooks told that are still unprocessed after {seconds} s.",
    )
    def webhooks(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from midas_pipelines.store import left_over

        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            found = left_over.webhooks(database, seconds)
        fresh = {
            HEALED_BY[subject]: waiting.newest.isoformat()
            for subject, waiting in sorted(found.items())
            if subject in HEALED_BY
            and waiting.newest is not None
            and waiting.newest.isoformat() > (context.cursor or "")
        }
        if not fresh:
            waits = sum(waiting.count for waiting in found.values())
            return dg.SkipReason(f"{waits} webhooks are unprocessed, and none of them is new.")
        workflow, newest = min(fresh.items(), key=lambda one: one[1])  # the other one at the next tick
        return _start(context, workflow, newest)

    return [dirty_items, webhooks]


def _start(
    context: dg.SensorEvaluationContext, workflow: str, newest: str
) -> dg.SensorResult | dg.SkipReason:
    """One run for all that waits, unless one is under way; the cursor moves only when a run is asked for."""
    allowed = unless_running(context, workflow)
    if isinstance(allowed, dg.SkipReason):
        return allowed
    return dg.SensorResult(run_requests=[whole_run(workflow, run_key=f"{workflow}:{newest}")], cursor=newest)


def _status(settings: Settings, workflow: str) -> dg.DefaultSensorStatus:
    on = settings.runs_by_itself(workflow)
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
