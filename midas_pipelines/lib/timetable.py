"""The table of workflows by the settings in force: when each runs, with what batch, and which setting changes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from midas_pipelines.settings import VARIABLES, Settings
from midas_pipelines.workflows import AHEAD, WORKFLOWS, Workflow


@dataclass(frozen=True)
class Entry:
    """One workflow as the settings have it."""

    workflow: str  # as MIDAS_PAUSED names it
    on: bool
    every: str
    batch: int | None  # items or orders taken at once; None where all is one portion
    at_once: int  # runs of it at the same time
    at_once_is_fixed: bool
    setting: str  # what changes these, and what of it is shared

    @property
    def in_words(self) -> str:
        """For a description in the UI."""
        batch = f"; batches of up to {self.batch}" if self.batch else ""
        return (
            f"{'On' if self.on else 'Off'}; {self.every}{batch}; {self.at_once} run{'s' * (self.at_once > 1)} at once. "
            f"Settings: {self.setting}. MIDAS_PAUSED={self.workflow} turns it off."
        )


def timetable(settings: Settings) -> list[Entry]:
    """Every workflow."""
    return [entry(settings, workflow) for workflow in WORKFLOWS]


def entry(settings: Settings, workflow: Workflow) -> Entry:
    """That workflow's entry."""
    names = (workflow.interval, workflow.hour, workflow.batch, workflow.at_once, *workflow.also)
    set_by = ", ".join(VARIABLES[name] for name in names if name) or "none"
    return Entry(
        workflow=workflow.name,
        on=is_on(settings, workflow),
        every=_when(settings, workflow),
        batch=_batch(settings, workflow),
        at_once=getattr(settings, workflow.at_once) if workflow.at_once else 1,
        at_once_is_fixed=workflow.at_once is None,
        setting=f"{set_by}; {workflow.note}" if workflow.note else set_by,
    )


def is_on(settings: Settings, workflow: Workflow) -> bool:
    """Whether its schedule or sensor is on from the start."""
    starts = [settings.is_automatic(name) for name in workflow.starts]
    return settings.is_automatic(workflow.name) and (any(starts) or not starts)


def daily_at(settings: Settings, workflow: Workflow) -> tuple[int, int] | None:
    """The hour and minute of its daily run, in MIDAS_TIMEZONE; None for what runs by an interval or a sensor."""
    if workflow.hour is None:
        return None
    minutes: int = (getattr(settings, workflow.hour) * 60 - workflow.early) % (24 * 60)
    return divmod(minutes, 60)


def minutes_apart(settings: Settings, workflow: Workflow) -> int | None:
    """The minutes between two of its runs; None for a sensor's."""
    if workflow.interval is not None:
        found: int = getattr(settings, workflow.interval)
        return found
    return 24 * 60 if workflow.hour is not None else None


def next_run(settings: Settings, workflow: Workflow, now: datetime) -> datetime | None:
    """When its schedule ticks next after `now`, in UTC; None while it is off, and for a sensor."""
    apart, at = minutes_apart(settings, workflow), daily_at(settings, workflow)
    if apart is None or not is_on(settings, workflow):
        return None
    if at:
        here = now.astimezone(ZoneInfo(settings.timezone))
        today = here.replace(hour=at[0], minute=at[1], second=0, microsecond=0)
        ticks = [_moment(today + timedelta(days=days)) for days in range(2)]
        return next(tick for tick in ticks if tick > now).astimezone(now.tzinfo)
    step = apart * 60
    return datetime.fromtimestamp((int(now.timestamp()) // step + 1) * step, now.tzinfo)


def _moment(tick: datetime) -> datetime:
    """That time of a clock as Dagster's scheduler takes it: the later of two; the end of the gap that skips it."""
    first, second = (tick.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return second if second >= first else first - timedelta(minutes=tick.minute)


def _when(settings: Settings, workflow: Workflow) -> str:
    if at := daily_at(settings, workflow):
        return f"daily at {at[0]:02}:{at[1]:02} {settings.timezone}"
    if apart := minutes_apart(settings, workflow):
        return "every minute" if apart == 1 else f"every {apart} minutes"
    return f"when {workflow.looks}; looks every {workflow.seconds} s"


def _batch(settings: Settings, workflow: Workflow) -> int | None:
    if workflow.batch is None:
        return None
    batch: int = getattr(settings, workflow.batch)
    claims = workflow.batch in ("products_batch", "inventory_batch")
    return min(batch, AHEAD * settings.in_flight) if claims else batch
