"""Sensors that start a run for stale work: the safety net under the gateway."""

import json
from datetime import datetime

import dagster as dg

from midas_pipelines.defs.operations.jobs import JOBS
from midas_pipelines.defs.resources import shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.schedules import sensor_options, unless_running
from midas_pipelines.lib.shards import whole_run
from midas_pipelines.settings import Settings

DIRTY, WEBHOOKS = "stale_items", "stale_webhooks"
HEALED_BY = {"order": "order_import", "inventory": "consistency_check", "product": "consistency_check"}
"""The workflow that makes up for an unprocessed webhook: it reads the current state, not the event."""


@dg.definitions
def work_sensors() -> dg.Definitions:
    """The sensors, by the settings of this process."""
    return dg.Definitions(sensors=stale_work_sensors(SETTINGS))


def stale_work_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor for dirty items, one for webhooks; neither launches anything when nothing is stale."""
    return [_dirty_items(settings), _webhooks(settings)]


def _dirty_items(settings: Settings) -> dg.SensorDefinition:
    seconds = settings.stale_work_seconds

    @dg.sensor(job_name="incremental_sync", **sensor_options(settings, DIRTY))
    def dirty_items(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            found = engine.stale_work.stale_items(database, seconds)
        newest = found.newest.isoformat() if found.newest else None
        if newest is None:
            return dg.SkipReason(f"No item has waited for longer than {seconds} s.")
        if context.cursor is not None and newest <= context.cursor:
            return dg.SkipReason(
                f"{found.count} items are waiting that a run has already tried; the schedule tries them again."
            )
        asked = _ask(context, "incremental_sync", newest)
        return asked if isinstance(asked, dg.SkipReason) else dg.SensorResult([asked], cursor=newest)

    return dirty_items


def _webhooks(settings: Settings) -> dg.SensorDefinition:
    seconds = settings.stale_work_seconds

    healing = [job for job in JOBS if job.name in HEALED_BY.values()]

    @dg.sensor(jobs=healing, **sensor_options(settings, WEBHOOKS))
    def webhooks(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            waiting = by_workflow(engine.stale_work.stale_webhooks(database, seconds))
        asked_for = read_sensor_cursor(context.cursor)
        requests, reasons = [], []
        for workflow, newest in sorted(waiting.items()):
            found = _healing(context, settings, workflow, newest, asked_for.get(workflow))
            if isinstance(found, dg.SkipReason):
                reasons.append(str(found.skip_message))
            else:
                requests.append(found)
                asked_for[workflow] = newest.isoformat()
        if not requests:
            nothing = f"No webhook has waited for longer than {seconds} s."
            return dg.SkipReason(" ".join(reasons) or nothing)
        return dg.SensorResult(requests, cursor=json.dumps(asked_for))

    return webhooks


def by_workflow(found: "dict[str, engine.StaleWork]") -> dict[str, datetime]:
    """When the newest webhook waiting for each workflow was received; skips those that no workflow handles."""
    newest: dict[str, datetime] = {}
    for subject, waiting in found.items():
        workflow = HEALED_BY.get(subject)
        if workflow is not None and waiting.newest is not None:
            newest[workflow] = max(waiting.newest, newest.get(workflow, waiting.newest))
    return newest


def read_sensor_cursor(cursor: str | None) -> dict[str, str]:
    """The webhook for which each workflow was last requested; an unreadable cursor counts as empty."""
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _healing(
    context: dg.SensorEvaluationContext,
    settings: Settings,
    workflow: str,
    newest: datetime,
    asked_for: str | None,
) -> dg.RunRequest | dg.SkipReason:
    if settings.is_paused(workflow):
        return dg.SkipReason(f"Webhooks are waiting for {workflow}, which MIDAS_PAUSED turns off.")
    if asked_for is not None and newest.isoformat() <= asked_for:
        return dg.SkipReason(
            f"Webhooks are waiting that a run of {workflow} was started for; its schedule tries again."
        )
    return _ask(context, workflow, newest.isoformat())


def _ask(context: dg.SensorEvaluationContext, workflow: str, newest: str) -> dg.RunRequest | dg.SkipReason:
    """One run for everything that is waiting, unless one is in progress."""
    allowed = unless_running(context, workflow)
    if isinstance(allowed, dg.SkipReason):
        return allowed
    return whole_run(workflow, run_key=f"{workflow}:{newest}")
