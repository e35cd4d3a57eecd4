"""Alerts about the liveness of Dagster and the gateway, and about stuck items.

Dagster and the gateway each record a heartbeat, and each watches the other's.
"""

from __future__ import annotations

from datetime import timedelta

from midas_pipelines.notify.alerts import match_alerts, worst
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.listing import stuck_items
from midas_pipelines.store.operations.cursors import advance_cursor, read_cursor

DAGSTER, GATEWAY = "dagster", "gateway"
GONE, RETIRED = timedelta(minutes=5), timedelta(days=1)
"""Time without a heartbeat after which a part counts as gone, and then as retired."""

TEXTS = {
    DAGSTER: "Dagster's daemon has not reported for five minutes: no schedule, poll or check runs. Restart it, and see its "
    "log.",
    GATEWAY: "The gateway's worker has not reported for five minutes: changes and webhooks wait for Dagster's schedules. "
    "Restart it with `midas gateway`, and see its log.",
}


def beat(database: Database, me: str, *, watched: str) -> None:
    """Records the heartbeat of `me`, and updates the alert about the part it watches, unless that never ran."""
    now = database.now()
    advance_cursor(database, f"heartbeat:{me}", now)
    last = read_cursor(database, f"heartbeat:{watched}")
    gone = last is not None and GONE < now - last < RETIRED
    with database.writing() as connection:
        texts = {watched: TEXTS[watched]} if gone else {}
        match_alerts(connection, kind=f"{watched}_gone", texts=texts)


def report_stuck_items(database: Database) -> None:
    """Updates the one alert about all items that are quarantined, or have failed for an hour."""
    lines = [f"{row['sku'] or row['name']}: {row['reason']}" for row in stuck_items(database)]
    text = f"Items that cannot be pushed to 4Seller: {worst(lines)}\n`midas items list` shows all."
    with database.writing() as connection:
        match_alerts(connection, kind="items_stuck", texts={"items": text} if lines else {})
