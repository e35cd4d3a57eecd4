"""Telling staff that a workflow fails, once, and that it works again, once."""

import dagster as dg

from midas_pipelines.defs.shop import shop
from midas_pipelines.settings import Settings

RUN_FAILED, RECOVERED = "run_failed", "run_recovered"
WILL_RETRY = "dagster/will_retry"


def run_alert_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor for failures, one for the first success after them."""
    on = dg.DefaultSensorStatus.RUNNING if settings.schedules else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name="tell_of_failures",
        default_status=on,
        minimum_interval_seconds=15,
        description="Raises one alert when a workflow fails and no retry is to come, until it has worked again.",
    )
    def tell_of_failures(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        from midas_pipelines.notify.alerts import clear_alert, raise_alert

        run = context.dagster_run
        if is_tried_again(context.instance, run):
            return dg.SkipReason(f"Run {run.run_id} of {run.job_name} is tried again by Dagster.")
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            with database.writing() as connection:
                raise_alert(connection, kind=RUN_FAILED, subject=run.job_name, text=_story(context))
                clear_alert(connection, kind=RECOVERED, subject=run.job_name)
        return None

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="tell_of_recovery",
        default_status=on,
        minimum_interval_seconds=15,
        description="Closes the alert of a workflow that works again, and tells it.",
    )
    def tell_of_recovery(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
        from midas_pipelines.notify.alerts import clear_alert, raise_alert

        workflow = context.dagster_run.job_name
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            with database.writing() as connection:
                if clear_alert(connection, kind=RUN_FAILED, subject=workflow):
                    text = f"The workflow {workflow} works again."
                    raise_alert(connection, kind=RECOVERED, subject=workflow, text=text)
        return None

    return [tell_of_failures, tell_of_recovery]


def is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether Dagster starts another run in place of this one.

    The tag alone does not say so: of a backfill that has ended, no run is tried again, whatever its tags.
    """
    backfill_id = run.tags.get("dagster/backfill")
    backfill = instance.get_backfill(backfill_id) if backfill_id else None
    over = backfill is not None and backfill.status.value != "REQUESTED"
    return run.tags.get(WILL_RETRY) == "true" and not over


def _story(context: dg.RunFailureSensorContext) -> str:
    """What failed, why, and where to look: the sentence that the step failed with where it has one."""
    run = context.dagster_run
    reasons = []
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            reasons.append(data.user_failure_data.description)
    # Any other error's text may hold a row of the shop's: it stays in Dagster.
    why = " ".join(dict.fromkeys(reasons)) or "Its error is in Dagster."
    return f"The workflow {run.job_name} failed. {why} See run {run.run_id} in the Dagster UI."
