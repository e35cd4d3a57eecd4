"""The sensor that starts a run for stale work: the safety net under the gateway."""

import json
from datetime import datetime

import dagster as dg

from midas_pipelines.defs.operations.jobs import JOBS
from midas_pipelines.defs.resources import shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.partitions import whole_run
from midas_pipelines.lib.schedules import sensor_options, unless_running
from midas_pipelines.settings import load_settings

HEALED_BY = {"order": "order_import", "inventory": "consistency_check", "product": "consistency_check"}
"""The workflow that makes up for an unprocessed webhook: it reads the current state, not the event."""
STARTED = {"incremental_sync", *HEALED_BY.values()}


@dg.sensor(jobs=[job for job in JOBS if job.name in STARTED], **sensor_options(SETTINGS, "stale_work"))
def stale_work(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Starts one run of each workflow that makes up for waiting items or webhooks, once for the newest of them.

    The cursor holds by workflow the newest for which a run was started.
    """
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            return database
        settings = load_settings()
        seconds = settings.stale_work_seconds
        items = engine.stale_items(database, seconds)
        webhooks = engine.stale_webhooks(database, seconds)
    started: dict[str, str] = json.loads(context.cursor or "{}")
    requests, reasons = [], []
    for workflow, newest in sorted(newest_by_workflow(items, webhooks).items()):
        at = newest.isoformat()
        if settings.is_paused(workflow):
            reasons.append(f"Work is waiting for {workflow}, which MIDAS_PAUSED turns off.")
        elif at <= started.get(workflow, ""):
            reasons.append(
                f"A run of {workflow} has already tried what is waiting; its schedule tries again."
            )
        elif isinstance(allowed := unless_running(context, workflow), dg.SkipReason):
            reasons.append(str(allowed.skip_message))
        else:
            requests.append(whole_run(workflow, run_key=f"{workflow}:{at}"))
            started[workflow] = at
    if not requests:
        return dg.SkipReason(" ".join(reasons) or f"Nothing has waited for longer than {seconds} s.")
    return dg.SensorResult(requests, cursor=json.dumps(started))


def newest_by_workflow(items: datetime | None, webhooks: dict[str, datetime]) -> dict[str, datetime]:
    """When the newest work that waits for each workflow began to wait; skips what no workflow handles."""
    newest = {} if items is None else {"incremental_sync": items}
    for subject, moment in webhooks.items():
        if workflow := HEALED_BY.get(subject):
            newest[workflow] = max(moment, newest.get(workflow, moment))
    return newest
