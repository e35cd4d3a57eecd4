"""The table of workflows: jobs, schedules, sensors, freshness, pools, `midas workflows`, `/status` and MIDAS_PAUSED follow.

It holds no values: an interval, an hour or a batch is the name of a setting. `lib/timetable.py` reads it by the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

AHEAD = 3
"""A push claims at most so many times what it sends at once, ahead of sending it: the next is ready when the last of one leaves."""


@dataclass(frozen=True)
class Workflow:
    """One automatic workflow."""

    name: str  # its job's, and as MIDAS_PAUSED names it
    what: str  # in sentences for the UI
    interval: str | None = None  # the setting with the minutes between two runs
    hour: str | None = None  # the setting with the hour of its daily run
    early: int = 0  # minutes by which it runs before that hour
    looks: str = ""  # of a sensor, for what it looks
    seconds: int = 0  # of a sensor, how often it looks
    batch: str | None = None  # the setting with the number of items or orders taken at once
    at_once: str | None = None  # the setting with the number of runs at a time; else one
    also: tuple[str, ...] = ()  # other settings that change it
    note: str = ""  # what it shares with another one
    kind: str | None = None  # of its rows in the sync log
    makes: tuple[str, ...] = ()  # the assets that its job makes
    pool: str = ""  # what its runs wait for in turn; else each asset, or a job without, has one of its name
    starts: tuple[str, ...] = ()  # of a sensor, the workflows that it starts; it is off while all of them are
    writes: tuple[str, ...] = ()  # kept back by MIDAS_SHADOW: listing, quantity, status, the shop's order


WORKFLOWS = (
    Workflow(
        "incremental_sync",
        "Pushes the items that changed since they were last confirmed.",
        interval="products_interval",
        batch="products_batch",
        at_once="shards_at_once",
        note="the last two are shared with full_sync",
        kind="products",
        makes=("fourseller_listings",),
        writes=("listing",),
    ),
    Workflow(
        "full_sync",
        "Checks every item: reads 4Seller's listings, pushes what differs. Backfill it to split it by shard.",
        hour="full_sync_hour",
        batch="products_batch",
        at_once="shards_at_once",
        note="the last two are shared with incremental_sync",
        makes=("catalog_snapshot", "listing_snapshot", "fourseller_listings"),
        writes=("listing",),
    ),
    Workflow(
        "inventory_push",
        "Pushes the quantities of items whose stock changed.",
        interval="inventory_interval",
        batch="inventory_batch",
        kind="inventory",
        makes=("inventory_levels",),
        writes=("quantity",),
    ),
    Workflow(
        "order_import",
        "Imports marketplace sales since the last import.",
        interval="orders_interval",
        batch="orders_batch",
        kind="orders",
        makes=("imported_orders",),
        writes=("order",),
    ),
    Workflow(
        "status_sync",
        "Syncs order statuses both ways, with shipments.",
        interval="status_interval",
        batch="status_batch",
        kind="status",
        makes=("order_statuses",),
        writes=("status",),
    ),
    Workflow(
        "consistency_check",
        "Reads back what 4Seller shows and checks it against the shop.",
        interval="reconcile_interval",
        kind="reconcile",
        makes=("catalog_snapshot", "listing_snapshot", "listing_observation"),
        writes=("listing", "quantity"),
    ),
    Workflow(
        "stock_watch",
        "Finds low stock, and runs the checks that need only the shop, 4Seller away or not.",
        interval="stock_watch_interval",
        makes=("storefront/products", "inventory_ledger", "low_stock"),
    ),
    Workflow(
        "performance",
        "Measures how well syncs run: throughput, latency, error rate, queue.",
        interval="performance_interval",
        makes=("sync_performance",),
        pool="operations",
    ),
    Workflow(
        "daily_report",
        "Writes the capacity plan and the day's report for staff.",
        hour="report_hour",
        makes=("capacity_plan", "staff_report"),
        pool="operations",
    ),
    Workflow(
        "buyer_erasure",
        "Erases the buyers of orders whose time has come: name, addresses, phone, e-mail, notes.",
        hour="full_sync_hour",
        early=60,
        also=("erase_buyers_after_days",),
        note="an hour before it",
        pool="operations",
        writes=("order",),
    ),
    Workflow(
        "retention",
        "Deletes old history: runs, events, webhooks, audit rows, snapshots.",
        hour="full_sync_hour",
        early=30,
        note="half an hour before it",
    ),
    Workflow(
        "backup",
        "Writes an encrypted backup of tables and history, and removes those that are too old.",
        interval="backup_interval",
        also=("backup_to", "backup_keep_days"),
        note="off while MIDAS_BACKUP_TO is not set",
        makes=("backups",),
        pool="operations",
    ),
    Workflow(
        "restore_drill",
        "Restores the newest backup into a scratch database and checks every invariant on it.",
        hour="drill_hour",
        also=("backup_to", "backup_identity_file"),
        note="off while one of the last two is not set",
        pool="operations",
    ),
    Workflow(
        "compliance_report",
        "Compares the figures that marketplaces and the law ask for with what runs here.",
        hour="report_hour",
        early=30,
        note="half an hour before the daily report",
        makes=("compliance",),
        pool="operations",
    ),
    Workflow(
        "stale_work",
        "Takes up what the gateway left: pushes items and makes up for webhooks that wait for too long.",
        looks="work waits for too long",
        seconds=30,
        also=("stale_work_seconds",),
        note="off with incremental_sync, order_import and consistency_check",
        starts=("incremental_sync", "order_import", "consistency_check"),
    ),
    Workflow(
        "health_watch",
        "Raises an alert for each failed check, late asset and dead worker; clears it, and those of failed runs, when it is over.",
        looks="something failed or recovered",
        seconds=60,
    ),
    Workflow(
        "failure_alerts",
        "Raises an alert for each run that failed, also one of the command line.",
        looks="a run failed",
        seconds=30,
    ),
    Workflow(
        "alert_delivery",
        "Sends to staff the alerts that are due, the day's report among them.",
        looks="an alert is due",
        seconds=30,
        also=("notify_urls",),
    ),
    Workflow(
        "customer_mail",
        "Sends the messages to customers that are due: received, shipped, cancelled, each once.",
        looks="a message is due",
        seconds=30,
        also=("smtp_url",),
    ),
)

BY_NAME = {workflow.name: workflow for workflow in WORKFLOWS}


def pool_of(name: str) -> str:
    """The pool of an asset, or of the job of that name: one run at once, unless `midas instance prepare` lets in more."""
    return next((row.pool for row in WORKFLOWS if row.pool and name in (row.name, *row.makes)), name)


@cache
def writes_of(names: str) -> frozenset[str]:
    """What workflows write, given comma separated, with those that they start."""
    named = [BY_NAME[name.strip()] for name in names.split(",") if name.strip()]
    return frozenset(
        kind for one in named for row in (one, *map(BY_NAME.__getitem__, one.starts)) for kind in row.writes
    )


SHADOWED = tuple(workflow.name for workflow in WORKFLOWS if writes_of(workflow.name))
"""The workflows that MIDAS_SHADOW may name."""
