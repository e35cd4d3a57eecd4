"""The workflows as Dagster jobs with their schedules, and the sensor that starts them for what the gateway left."""

import json
from datetime import datetime
from typing import Any

import dagster as dg

from midas_pipelines.defs.inventory.assets import CHECKS
from midas_pipelines.defs.listings.reconciliation import CHECKS as CONTRACT
from midas_pipelines.defs.operations.op_jobs import buyer_erasure, restore_drill, retention
from midas_pipelines.defs.orders import assets as orders
from midas_pipelines.defs.resources import shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.schedules import described, schedule_of, sensor_options, unless_running
from midas_pipelines.settings import Settings, load_settings
from midas_pipelines.workflows import WORKFLOWS, Workflow

SHOP_CHECKS = dg.AssetSelection.checks(*CHECKS, *CONTRACT, *orders.CHECKS, orders.orders_are_fresh)
"""Checks that read the shop's database alone: they run by themselves, also while 4Seller is away and their assets fail."""

ALSO = {"stock_watch": SHOP_CHECKS, "inventory_push": dg.AssetSelection.checks_for_assets("inventory_ledger")}
"""The checks that a workflow runs beside those of its assets."""


def _job(workflow: Workflow) -> Any:
    """The job over a workflow's assets and their checks; its description says how often it runs."""
    keys = [dg.AssetKey.from_user_string(name) for name in workflow.makes]
    selection: dg.AssetSelection = dg.AssetSelection.assets(*keys) - SHOP_CHECKS
    if workflow.name in ALSO:
        selection = selection | ALSO[workflow.name]
    return dg.define_asset_job(
        workflow.name,
        selection=selection,
        owners=ui.OWNERS,
        tags={} if workflow.hour else {"dagster/priority": "1"},  # before the shards of a backfill
        description=described(SETTINGS, workflow),
    )


JOBS: list[Any] = [
    *(_job(workflow) for workflow in WORKFLOWS if workflow.makes),
    dg.define_asset_job(
        "plan_sync",
        selection=dg.AssetSelection.assets("sync_plan"),
        owners=ui.OWNERS,
        description="Shows what a sync would do; sends nothing.",
    ),
    retention,
    buyer_erasure,
    restore_drill,
]


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """The schedule of each workflow that has one."""
    return [schedule_of(settings, workflow) for workflow in WORKFLOWS if workflow.interval or workflow.hour]


HEALED_BY = {"order": "order_import", "inventory": "consistency_check", "product": "consistency_check"}
"""The workflow that makes up for an unprocessed webhook: it reads the current state, not the event."""
STARTED = {"incremental_sync", *HEALED_BY.values()}


@dg.sensor(jobs=[job for job in JOBS if job.name in STARTED], **sensor_options("stale_work"))
def stale_work(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Starts one run of each workflow that makes up for waiting items or webhooks, once for the newest of them.

    The cursor holds by workflow the newest for which a run was started.
    """
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            return database
        settings = load_settings()
        seconds = settings.stale_work_seconds
        items = engine.backlog.stale_items(database, seconds)
        webhooks = engine.backlog.stale_webhooks(database, seconds)
    started: dict[str, str] = json.loads(context.cursor or "{}")
    requests, reasons = [], []
    for workflow, newest in sorted(newest_by_workflow(items, webhooks).items()):
        at = newest.isoformat()
        if settings.is_paused(workflow):
            reasons.append(f"Work is waiting for {workflow}, which MIDAS_PAUSED turns off.")
        elif at <= started.get(workflow, ""):
            reasons.append(f"A run of {workflow} has already tried what is waiting; the schedule goes on.")
        elif isinstance(allowed := unless_running(context, workflow), dg.SkipReason):
            reasons.append(str(allowed.skip_message))
        else:
            requests.append(dg.RunRequest(f"{workflow}:{at}", job_name=workflow))
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


@dg.definitions
def workflow_jobs() -> dg.Definitions:
    """The job of each workflow, its schedule where it has one, and the sensor."""
    return dg.Definitions(jobs=JOBS, schedules=schedules(SETTINGS), sensors=[stale_work])
