"""The automatic workflows: interval, batch size, concurrency and settings of each. Does not import Dagster."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from midas_pipelines.settings import Settings

CLAIMS_PER_CALL = 4
"""The most items that a push claims per call in flight."""
STARTS = {
    "stale_items": ("incremental_sync",),
    "stale_webhooks": ("order_import", "consistency_check"),
}
"""The workflows that the stale work sensors start; with all of them paused the sensor is off."""


@dataclass(frozen=True)
class Entry:
    """One schedule or sensor as the settings have it."""

    workflow: str  # as MIDAS_PAUSED names it
    on: bool
    every: str
    batch: int | None  # items or orders taken at once; None where all is one portion
    at_once: int  # runs of it at the same time
    at_once_is_fixed: bool
    setting: str  # what changes these, and what of it is shared or fixed
    started_by: str  # the schedule or sensor in the UI

    @property
    def in_words(self) -> str:
        """For a description in the UI."""
        portion = f"; up to {self.batch} in a portion" if self.batch else ""
        fixed = ", which is fixed" if self.at_once_is_fixed else ""
        return (
            f"{'On' if self.on else 'Off'}; {self.every}{portion}; {self.at_once} at once{fixed}. "
            f"Set by {self.setting}. Left off by MIDAS_PAUSED={self.workflow}."
        )


def timetable(settings: Settings) -> list[Entry]:
    """Every schedule and sensor there is."""
    return [*_syncs(settings), *_nightly(settings), *_for_people(settings), *_sensors(settings)]


def entry(settings: Settings, workflow: str) -> Entry:
    """That workflow's entry."""
    return next(found for found in timetable(settings) if found.workflow == workflow)


def shown(settings: Settings, workflow: str) -> dict[str, str | int | bool]:
    """The row of that workflow, for the metadata of its schedule or sensor in the UI."""
    return {name: value for name, value in asdict(entry(settings, workflow)).items() if value is not None}


def automatic(settings: Settings, workflow: str) -> bool:
    """Whether its schedule or sensor is on from the start."""
    started = STARTS.get(workflow, (workflow,))
    return settings.is_automatic(workflow) and any(settings.is_automatic(name) for name in started)


def minutes(count: int) -> str:
    """An interval in words."""
    return "every minute" if count == 1 else f"every {count} minutes"


def _syncs(settings: Settings) -> list[Entry]:
    products, inventory = (
        min(batch, CLAIMS_PER_CALL * settings.in_flight)
        for batch in (settings.products_batch, settings.inventory_batch)
    )
    night = settings.full_sync_hour
    return [
        _entry(
            settings,
            "incremental_sync",
            minutes(settings.products_interval),
            "MIDAS_PRODUCTS_INTERVAL; MIDAS_PRODUCTS_BATCH, shared with full_sync",
            batch=products,
        ),
        _entry(
            settings,
            "full_sync",
            _daily(night),
            "MIDAS_FULL_SYNC_HOUR, MIDAS_SHARDS_AT_ONCE; MIDAS_PRODUCTS_BATCH, shared with incremental_sync",
            "nightly",
            batch=products,
            at_once=settings.shards_at_once,
        ),
        _entry(
            settings,
            "inventory_push",
            minutes(settings.inventory_interval),
            "MIDAS_INVENTORY_INTERVAL, MIDAS_INVENTORY_BATCH",
            batch=inventory,
        ),
        _entry(
            settings,
            "order_import",
            minutes(settings.orders_interval),
            "MIDAS_ORDERS_INTERVAL, MIDAS_ORDERS_BATCH; takes turns with status_sync",
            batch=settings.orders_batch,
        ),
        _entry(
            settings,
            "status_sync",
            minutes(settings.status_interval),
            "MIDAS_STATUS_INTERVAL, MIDAS_STATUS_BATCH; takes turns with order_import",
            batch=settings.status_batch,
        ),
    ]


def _nightly(settings: Settings) -> list[Entry]:
    night = settings.full_sync_hour
    return [
        _entry(
            settings,
            "consistency_check",
            minutes(settings.reconcile_interval),
            "MIDAS_RECONCILE_INTERVAL",
        ),
        _entry(
            settings,
            "retention",
            _daily(night - 1, 30),
            "MIDAS_FULL_SYNC_HOUR, half an hour before it",
            "nightly",
        ),
    ]


def _for_people(settings: Settings) -> list[Entry]:
    return [
        _entry(settings, "stock_watch", minutes(settings.stock_watch_interval), "MIDAS_STOCK_WATCH_INTERVAL"),
        _entry(settings, "performance", minutes(settings.performance_interval), "MIDAS_PERFORMANCE_INTERVAL"),
        _entry(settings, "daily_report", _daily(settings.report_hour), "MIDAS_REPORT_HOUR", "nightly"),
    ]


def _sensors(settings: Settings) -> list[Entry]:
    waits = f"waits for {settings.stale_work_seconds} s; looks every 30 s"
    return [
        _entry(
            settings,
            "stale_items",
            f"when an item {waits}",
            "MIDAS_STALE_WORK_SECONDS; starts incremental_sync and is off with it",
            None,
        ),
        _entry(
            settings,
            "stale_webhooks",
            f"when a webhook {waits}",
            "MIDAS_STALE_WORK_SECONDS; starts order_import and consistency_check and is off with both",
            None,
        ),
        _entry(
            settings,
            "run_failure_alerts",
            "when a run fails; looks every 15 s",
            "nothing, the interval is fixed",
            None,
        ),
        _entry(
            settings,
            "health_watch",
            "looks every minute",
            "nothing, the interval is fixed",
            None,
        ),
        replace(
            _entry(
                settings,
                "alert_delivery",
                "when an alert is due; looks every 30 s",
                "MIDAS_NOTIFY_URLS; the interval is fixed",
            ),
            started_by="alerts_waiting",
        ),
    ]


def _entry(
    settings: Settings,
    workflow: str,
    every: str,
    setting: str,
    starter: str | None = "schedule",
    *,
    batch: int | None = None,
    at_once: int | None = None,
) -> Entry:
    """The row; `starter` ends the name of its schedule, and is None for a sensor of the same name."""
    return Entry(
        workflow=workflow,
        on=automatic(settings, workflow),
        every=every,
        batch=batch,
        at_once=at_once or 1,
        at_once_is_fixed=at_once is None,
        setting=setting,
        started_by=f"{workflow}_{starter}" if starter else workflow,
    )


def _daily(hour: int, minute: int = 0) -> str:
    return f"daily at {hour % 24:02}:{minute:02} UTC"
