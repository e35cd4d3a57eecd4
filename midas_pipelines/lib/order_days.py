"""The days by which imported orders are kept apart in Dagster."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from midas_pipelines.lib import engine
from midas_pipelines.settings import Settings, SettingsError, load_settings

FIRST_DAY = "2024-01-01"
"""The first day where MIDAS_ORDERS_SINCE names none."""


def first_day(settings: Settings | None) -> str:
    """The first partition: the day from which orders are imported at all."""
    since = settings.orders_since if settings is not None else None
    return FIRST_DAY if since is None else f"{since.astimezone(UTC):%Y-%m-%d}"


def _settings() -> Settings | None:
    try:
        return load_settings()
    except SettingsError:  # the run that needs them reports it
        return None


order_days = dg.DailyPartitionsDefinition(start_date=first_day(_settings()), timezone="UTC", end_offset=1)
"""Days of creation in UTC, today included."""


def window_of(span: dg.TimeWindow) -> "engine.Window":
    """What 4Seller is asked for a span of days; its own filter includes both ends."""
    return engine.Window(span.start.astimezone(UTC), span.end.astimezone(UTC) - timedelta(microseconds=1))


def is_a_day(day: str) -> bool:
    """Whether orders of that day belong to a partition."""
    return order_days.has_partition_key(day)


def days_begun(since: datetime | None, now: datetime) -> set[str]:
    """The days that have begun after one moment and not after another, in UTC; today where the first is unknown."""
    first = now.date() if since is None else since.astimezone(UTC).date() + timedelta(days=1)
    return {(first + timedelta(days=number)).isoformat() for number in range((now.date() - first).days + 1)}
