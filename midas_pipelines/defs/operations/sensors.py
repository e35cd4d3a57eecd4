"""The safety net under the gateway: what it left undone is found here, and taken up by a workflow."""

import json
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.defs.operations.jobs import consistency_check, order_import
from midas_pipelines.lib.runs.tags import whole_run
from midas_pipelines.lib.schedules import unless_running
from midas_pipelines.lib.shop import shop
from midas_pipelines.lib.workflows import automatic, entry, shown
from midas_pipelines.settings import Settings

if TYPE_CHECKING:
    from midas_pipelines.store.operations.stale_work import StaleWork

DIRTY, WEBHOOKS = "dirty_items_left_over", "webhooks_left_over"
HEALED_BY = {"order": "order_import", "inventory": "consistency_check", "product": "consistency_check"}
"""The workflow that makes good an event that was never processed: the engine asks what is, not what was told."""


def stale_work_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor for dirty items, one for webhooks; both launch nothing when there is nothing."""
    return [_dirty_items(settings), _webhooks(settings)]


def _dirty_items(settings: Settings) -> dg.SensorDefinition:
    seconds = settings.stale_work_seconds

    @dg.sensor(
        name=DIRTY,
        job_name="incremental_sync",
        minimum_interval_seconds=30,
        default_status=_status(settings, DIRTY),
        description=f"Pushes items that wait, should the gateway be away or stuck. {entry(settings, DIRTY).in_words}",
        metadata=shown(settings, DIRTY),
    )
    def dirty_items(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from midas_pipelines.store.operations import stale_work

        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            found = stale_work.stale_items(database, seconds)
        newest = found.newest.isoformat() if found.newest else None
        if newest is None:
            return dg.SkipReason(f"No item has waited for longer than {seconds} s.")
        if context.cursor is not None and newest <= context.cursor:
            return dg.SkipReason(
                f"{found.count} items wait that a run has tried already; the schedule tries them again."
            )
        asked = _ask(context, "incremental_sync", newest)
        return asked if isinstance(asked, dg.SkipReason) else dg.SensorResult([asked], cursor=newest)

    return dirty_items


def _webhooks(settings: Settings) -> dg.SensorDefinition:
    seconds = settings.stale_work_seconds

    @dg.sensor(
        name=WEBHOOKS,
        jobs=[order_import, consistency_check],
        minimum_interval_seconds=30,
        default_status=_status(settings, WEBHOOKS),
        description=f"Heals what webhooks told and nobody processed. {entry(settings, WEBHOOKS).in_words}",
        metadata=shown(settings, WEBHOOKS),
    )
    def webhooks(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from midas_pipelines.store.operations import stale_work

        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            waiting = by_workflow(stale_work.stale_webhooks(database, seconds))
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


def by_workflow(found: "dict[str, StaleWork]") -> dict[str, datetime]:
    """When the newest webhook came that waits for each workflow; what none heals is left out."""
    newest: dict[str, datetime] = {}
    for subject, waiting in found.items():
        workflow = HEALED_BY.get(subject)
        if workflow is not None and waiting.newest is not None:
            newest[workflow] = max(waiting.newest, newest.get(workflow, waiting.newest))
    return newest


def read_sensor_cursor(cursor: str | None) -> dict[str, str]:
    """For which webhook each workflow was asked for last; what cannot be read counts as none."""
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
        return dg.SkipReason(f"Webhooks wait for {workflow}, which MIDAS_PAUSED leaves off.")
    if asked_for is not None and newest.isoformat() <= asked_for:
        return dg.SkipReason(
            f"Webhooks wait that a run of {workflow} was started for; its schedule tries again."
        )
    return _ask(context, workflow, newest.isoformat())


def _ask(context: dg.SensorEvaluationContext, workflow: str, newest: str) -> dg.RunRequest | dg.SkipReason:
    """One run for all that waits, unless one is under way."""
    allowed = unless_running(context, workflow)
    if isinstance(allowed, dg.SkipReason):
        return allowed
    return whole_run(workflow, run_key=f"{workflow}:{newest}")


def _status(settings: Settings, workflow: str) -> dg.DefaultSensorStatus:
    on = automatic(settings, workflow)
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
