"""The workflows: what runs together, how often."""

import dagster as dg

from midas_pipelines.defs.catalog import catalog_snapshot
from midas_pipelines.defs.intervals import daily_schedule, interval_schedule
from midas_pipelines.defs.inventory import inventory_levels
from midas_pipelines.defs.listings import ListingsConfig, fourseller_listings, listing_observation, sync_plan
from midas_pipelines.defs.orders import (
    customer_messages,
    imported_orders,
    order_fulfilment,
    order_poll,
    order_statuses,
)
from midas_pipelines.defs.stock import channel_availability, daily_digest, low_stock
from midas_pipelines.settings import Settings

full_sync = dg.define_asset_job(
    "full_sync",
    selection=dg.AssetSelection.assets(catalog_snapshot, fourseller_listings),
    config=dg.RunConfig(ops={"fourseller_listings": ListingsConfig(full=True)}),
    description="Considers every item: reads 4Seller's listing, pushes what differs.",
)
incremental_sync = dg.define_asset_job(
    "incremental_sync",
    selection=dg.AssetSelection.assets(fourseller_listings),
    description="Pushes the items that changed since they were last confirmed.",
)
plan_sync = dg.define_asset_job(
    "plan_sync",
    selection=dg.AssetSelection.assets(sync_plan),
    description="Says what a sync would do; sends nothing.",
)
inventory_push = dg.define_asset_job(
    "inventory_push",
    selection=dg.AssetSelection.assets(inventory_levels),
    description="Pushes the quantities of items whose stock changed.",
)
order_import = dg.define_asset_job(
    "order_import",
    selection=dg.AssetSelection.assets(order_poll, customer_messages),
    description="Imports marketplace sales since the watermark, and confirms them to customers.",
)
order_backfill = dg.define_asset_job(
    "order_backfill",
    selection=dg.AssetSelection.assets(imported_orders),
    description="Reads whole days of sales from 4Seller again; what is imported already stays as it is.",
)
status_sync = dg.define_asset_job(
    "status_sync",
    selection=dg.AssetSelection.assets(order_statuses, order_fulfilment, customer_messages),
    description="Brings order statuses together, both ways, with parcels and messages to customers.",
)
consistency_check = dg.define_asset_job(
    "consistency_check",
    selection=dg.AssetSelection.assets(listing_observation),
    description="Reads back what 4Seller shows and checks it against the shop.",
)

stock_watch = dg.define_asset_job(
    "stock_watch",
    selection=dg.AssetSelection.assets(channel_availability, low_stock),
    description="Finds what runs out and tells staff, once per crossing.",
)
digest = dg.define_asset_job(
    "digest",
    selection=dg.AssetSelection.assets(daily_digest),
    description="Writes and sends the day's digest to staff.",
)

JOBS = [
    full_sync,
    incremental_sync,
    plan_sync,
    inventory_push,
    order_import,
    order_backfill,
    status_sync,
    consistency_check,
    stock_watch,
    digest,
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
        daily_schedule(
            consistency_check.name,
            (settings.full_sync_hour + 1) % 24,
            settings,
            "What 4Seller shows, an hour later.",
        ),
        interval_schedule(
            stock_watch.name, settings.stock_watch_interval, settings, "What runs out, told to staff."
        ),
        daily_schedule(digest.name, settings.digest_hour, settings, "The day's digest to staff."),
    ]
