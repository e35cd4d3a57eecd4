"""The workflows as Dagster jobs, with their schedules."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from midas_pipelines.defs.catalog.assets import catalog_snapshot
from midas_pipelines.defs.inventory.assets import CHECKS, inventory_levels
from midas_pipelines.defs.inventory.stock import channel_availability, low_stock
from midas_pipelines.defs.listings.assets import changed_listings, fourseller_listings, sync_plan
from midas_pipelines.defs.listings.reconciliation import listing_observation
from midas_pipelines.defs.operations import assets as operations
from midas_pipelines.defs.operations.retention import retention
from midas_pipelines.defs.orders import checks as order_checks
from midas_pipelines.defs.orders.assets import (
    customer_messages,
    order_fulfilment,
    order_poll,
    order_statuses,
)
from midas_pipelines.defs.orders.imported_orders import DAYS
from midas_pipelines.lib.schedules import daily_schedule, interval_schedule
from midas_pipelines.lib.workflows import timetable
from midas_pipelines.settings import Settings, load_settings

SETTINGS = load_settings()
SHOP_CHECKS = [*CHECKS, *order_checks.CHECKS, order_checks.orders_are_fresh]
"""Checks that read the shop's database alone: they also run while 4Seller is down and their assets fail."""


def _job(name: str, assets: Sequence[Any], description: str, checks: Sequence[Any] = ()) -> Any:
    """A job over these assets and their checks, and other checks; its description says how often it runs."""
    selection: dg.AssetSelection = dg.AssetSelection.assets(*assets)
    if checks:
        selection = selection | dg.AssetSelection.checks(*checks)
    planned = {entry.workflow: entry for entry in timetable(SETTINGS)}.get(name)
    return dg.define_asset_job(
        name,
        selection=selection,
        description=f"{description}\n\n{planned.in_words}" if planned else description,
        metadata={name: value for name, value in asdict(planned).items() if value is not None}
        if planned
        else None,
    )


full_sync = _job(
    "full_sync",
    [catalog_snapshot, fourseller_listings],
    "Checks every item: reads 4Seller's listings, pushes what differs. Backfill it to split it by shard.",
)
incremental_sync = _job(
    "incremental_sync",
    [changed_listings],
    "Pushes the items that changed since they were last confirmed.",
)
plan_sync = _job("plan_sync", [sync_plan], "Shows what a sync would do; sends nothing.")
inventory_push = _job(
    "inventory_push", [inventory_levels], "Pushes the quantities of items whose stock changed."
)
order_import = _job(
    "order_import",
    [order_poll, customer_messages],
    "Imports marketplace sales since the watermark, and confirms them to customers.",
)
order_backfill = _job(
    "order_backfill",
    [DAYS],
    "Reads whole days of sales from 4Seller again; what is imported already stays as it is.",
)
status_sync = _job(
    "status_sync",
    [order_statuses, order_fulfilment, customer_messages],
    "Syncs order statuses both ways, with shipments and messages to customers.",
)
consistency_check = _job(
    "consistency_check",
    [listing_observation],
    "Reads back what 4Seller shows and checks it against the shop.",
)

stock_watch = _job(
    "stock_watch",
    [channel_availability, low_stock],
    "Finds low stock and alerts staff, once per crossing; runs the checks that need only the shop.",
    checks=SHOP_CHECKS,
)
performance = _job("performance", [operations.sync_performance], "Measures how well syncs run.")
daily_report = _job(
    "daily_report",
    [operations.capacity_plan, operations.daily_report],
    "Writes the capacity plan and the day's report, and sends the report to staff.",
)

JOBS: list[Any] = [
    full_sync,
    incremental_sync,
    plan_sync,
    inventory_push,
    order_import,
    order_backfill,
    status_sync,
    consistency_check,
    stock_watch,
    performance,
    daily_report,
    retention,
]


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule per workflow, at the intervals of the settings."""
    return [
        interval_schedule(
            incremental_sync.name, settings.products_interval, settings, "Changed products to 4Seller."
        ),
        interval_schedule(
            inventory_push.name, settings.inventory_interval, settings, "Changed quantities to 4Seller."
        ),
        interval_schedule(order_import.name, settings.orders_interval, settings, "New sales from 4Seller."),
        interval_schedule(status_sync.name, settings.status_interval, settings, "Order statuses, both ways."),
        daily_schedule(full_sync.name, settings.full_sync_hour, settings, "Every item, nightly."),
        interval_schedule(
            consistency_check.name, settings.reconcile_interval, settings, "What 4Seller really shows."
        ),
        interval_schedule(
            stock_watch.name, settings.stock_watch_interval, settings, "Low stock, with alerts to staff."
        ),
        interval_schedule(
            performance.name, settings.performance_interval, settings, "How well the syncs run."
        ),
        daily_schedule(daily_report.name, settings.report_hour, settings, "The day's report to staff."),
    ]
