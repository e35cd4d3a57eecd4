"""The workflows as Dagster jobs with their schedules, from the table of workflows."""

from typing import Any

import dagster as dg

from midas_pipelines.defs.catalog.assets import columns_as_expected
from midas_pipelines.defs.inventory.assets import CHECKS
from midas_pipelines.defs.operations.retention import retention
from midas_pipelines.defs.orders import checks as order_checks
from midas_pipelines.defs.privacy import assets as privacy
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib.metadata import OWNERS
from midas_pipelines.lib.schedules import described, schedule_of
from midas_pipelines.lib.shards import ops_config
from midas_pipelines.settings import Settings
from midas_pipelines.workflows import WORKFLOWS, Workflow

SHOP_CHECKS = dg.AssetSelection.checks(
    *CHECKS, *order_checks.CHECKS, order_checks.orders_are_fresh, *privacy.CHECKS
)
"""Checks that read the shop's database alone: they also run while 4Seller is down and their assets fail."""


def _job(workflow: Workflow) -> Any:
    """The job over a workflow's assets and their checks; its description says how often it runs."""
    keys = [dg.AssetKey.from_user_string(name) for name in workflow.makes]
    selection: dg.AssetSelection = dg.AssetSelection.assets(*keys)
    if workflow.name == "stock_watch":
        selection = selection | SHOP_CHECKS
    elif workflow.name == "inventory_push":
        selection = selection | dg.AssetSelection.checks(*CHECKS, columns_as_expected)
    elif workflow.name in ("incremental_sync", "full_sync"):
        selection = selection | dg.AssetSelection.checks(columns_as_expected)
    return dg.define_asset_job(
        workflow.name,
        selection=selection,
        owners=OWNERS,
        config=ops_config(workflow.name) or None,
        tags={} if workflow.hour else {"dagster/priority": "1"},  # before the shards of a backfill
        **described(SETTINGS, workflow),
    )


JOBS: list[Any] = [
    *(_job(workflow) for workflow in WORKFLOWS if workflow.makes),
    dg.define_asset_job(
        "plan_sync", selection=["sync_plan"], description="Shows what a sync would do; sends nothing."
    ),
    dg.define_asset_job(
        "order_backfill",
        selection=["imported_orders"],
        description="Reads whole days of sales from 4Seller again; what is imported already stays as it is.",
    ),
    retention,
]


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """The schedule of each workflow that has one."""
    return [schedule_of(settings, workflow) for workflow in WORKFLOWS if workflow.interval or workflow.hour]


@dg.definitions
def workflow_jobs() -> dg.Definitions:
    """The job of each workflow, and its schedule where it has one."""
    return dg.Definitions(jobs=JOBS, schedules=schedules(SETTINGS))
