"""The workflows as Dagster jobs with their schedules, from the table of workflows."""

from typing import Any

import dagster as dg

from midas_pipelines.defs.catalog.assets import columns_as_expected
from midas_pipelines.defs.inventory.assets import CHECKS
from midas_pipelines.defs.operations.assets import newest_backup_restores
from midas_pipelines.defs.operations.retention import buyer_erasure, retention
from midas_pipelines.defs.orders import checks as order_checks
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib.metadata import OWNERS
from midas_pipelines.lib.partitions import ops_config
from midas_pipelines.lib.schedules import described, schedule_of
from midas_pipelines.settings import Settings
from midas_pipelines.workflows import WORKFLOWS, Workflow

SHOP_CHECKS = dg.AssetSelection.checks(*CHECKS, *order_checks.CHECKS, order_checks.orders_are_fresh)
"""Checks that read the shop's database alone: they run by themselves, also while 4Seller is away and their assets fail."""

COLUMNS = dg.AssetSelection.checks(columns_as_expected)
ALSO = {
    "stock_watch": SHOP_CHECKS,
    "restore_drill": dg.AssetSelection.checks(newest_backup_restores),
    **dict.fromkeys(("incremental_sync", "full_sync", "order_import", "status_sync"), COLUMNS),
    "inventory_push": COLUMNS | dg.AssetSelection.checks_for_assets("inventory_ledger"),
}
"""The checks that a workflow runs beside those of its assets."""


def _job(workflow: Workflow) -> Any:
    """The job over a workflow's assets and their checks; its description says how often it runs."""
    keys = [dg.AssetKey.from_user_string(name) for name in workflow.makes]
    selection: dg.AssetSelection = dg.AssetSelection.assets(*keys) - SHOP_CHECKS
    if workflow.name == "backup":
        selection = selection - ALSO["restore_drill"]
    if workflow.name in ALSO:
        selection = selection | ALSO[workflow.name]
    return dg.define_asset_job(
        workflow.name,
        selection=selection,
        owners=OWNERS,
        config=ops_config(workflow.name) or None,
        tags={} if workflow.hour else {"dagster/priority": "1"},  # before the shards of a backfill
        description=described(SETTINGS, workflow),
    )


JOBS: list[Any] = [
    *(_job(workflow) for workflow in WORKFLOWS if workflow.makes or workflow.name in ALSO),
    dg.define_asset_job(
        "plan_sync", selection=["sync_plan"], description="Shows what a sync would do; sends nothing."
    ),
    dg.define_asset_job(
        "order_backfill",
        selection=["imported_orders"],
        description="Reads whole days of sales from 4Seller again; what is imported already stays as it is.",
    ),
    retention,
    buyer_erasure,
]


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """The schedule of each workflow that has one."""
    return [schedule_of(settings, workflow) for workflow in WORKFLOWS if workflow.interval or workflow.hour]


@dg.definitions
def workflow_jobs() -> dg.Definitions:
    """The job of each workflow, and its schedule where it has one."""
    return dg.Definitions(jobs=JOBS, schedules=schedules(SETTINGS))
