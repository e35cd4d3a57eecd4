"""Which workflows run by themselves, how often, in what portions and how many at once. Knows nothing of Dagster."""

from __future__ import annotations

from dataclasses import dataclass

from midas_pipelines.settings import Settings


@dataclass(frozen=True)
class Entry:
    """One workflow as the settings have it."""

    workflow: str
    on: bool
    every: str
    batch: int | None  # items or orders per transaction
    at_once: int  # runs of it at the same time
    setting: str  # what changes its interval

    @property
    def in_words(self) -> str:
        """For a description in the UI."""
        return f"{'On' if self.on else 'Off'}; {self.every}; {self.at_once} at once ({self.setting})."


def timetable(settings: Settings) -> list[Entry]:
    """Every workflow that the settings start."""
    night, batch, shards = settings.full_sync_hour, settings.batch, settings.shards_at_once
    rows = [
        ("incremental_sync", _minutes(settings.products_interval), batch, shards, "MIDAS_PRODUCTS_INTERVAL"),
        ("inventory_push", _minutes(settings.inventory_interval), batch, 1, "MIDAS_INVENTORY_INTERVAL"),
        ("order_import", _minutes(settings.orders_interval), batch, 1, "MIDAS_ORDERS_INTERVAL"),
        ("status_sync", _minutes(settings.status_interval), batch, 1, "MIDAS_STATUS_INTERVAL"),
        ("full_sync", f"daily at {night:02}:00 UTC", batch, shards, "MIDAS_FULL_SYNC_HOUR"),
        (
            "consistency_check",
            f"daily at {(night + 1) % 24:02}:00 UTC",
            None,
            1,
            "MIDAS_FULL_SYNC_HOUR",
        ),
    ]
    return [Entry(row[0], settings.runs_by_itself(row[0]), *row[1:]) for row in rows]


def _minutes(minutes: int) -> str:
    return "every minute" if minutes == 1 else f"every {minutes} minutes"
