"""The log of a sync: its row in `fourseller_sync_logs` however it ends, and its progress in words."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.fourseller.http.rate_limit import CallSums
from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.acknowledge import PushCounts
from midas_pipelines.store.items.mappings import count_dirty
from midas_pipelines.store.schema.tables import sync_logs
from midas_pipelines.sync.context import CHANNEL_DOWN, ChannelDown, SyncContext
from midas_pipelines.text import duration_in_words

PROGRESS_SECONDS = 1.0

OnProgress = Callable[[int, int, int], None]
"""Called with how many items are done, how many of them failed, and of how many."""


@dataclass
class PushReport:
    """What each kind of push reports: counts of items, calls, seconds, and examples."""

    scanned: int = 0
    unchanged: int = 0
    failed: int = 0
    held: int = 0
    shadowed: int = 0
    requests: int = 0
    seconds: float = 0.0
    problems: list[dict[str, str]] = field(default_factory=list)
    stopped: str | None = None  # why those held were not pushed: the brake
    held_items: list[dict[str, str]] = field(default_factory=list)

    def fill(self, tally: PushCounts) -> None:
        """Takes over what a push counted."""
        self.scanned, self.unchanged = tally.claimed, tally.unchanged
        self.failed, self.problems = tally.failed + tally.released, self.problems + tally.problems
        self.held, self.held_items, self.shadowed = tally.held, tally.held_items, tally.shadowed


class Report(Protocol):
    """What every sync's report has beside its counts; a dataclass."""

    failed: int
    requests: int
    seconds: float


@dataclass
class SyncClock:
    """Where a sync leaves its client, so that the requests it sent are counted even when it fails."""

    context: SyncContext
    log_id: int
    client: FourSeller | None = None
    requests: int = 0  # sent by other clients for this sync
    _kept_at: float = 0.0

    def follow(self, total: int | None, on_progress: OnProgress | None) -> Callable[[PushCounts], None]:
        """A callback for a push of `total` items, or of all dirty ones, that also keeps its progress in the log, once a second."""
        if total is None:
            total = self.context.database.read(count_dirty)

        def progress(tally: PushCounts) -> None:
            of = max(total, tally.claimed)
            if on_progress is not None:
                on_progress(tally.claimed, tally.failed, of)
            now = time.monotonic()
            if now - self._kept_at >= PROGRESS_SECONDS:
                self._kept_at = now
                known = (self.context.database, self.log_id, tally.claimed, of)
                asyncio.get_running_loop().run_in_executor(None, _note_progress, *known)

        return progress


@contextmanager
def logged_sync(context: SyncContext, kind: str, scope: str, report: Report) -> Iterator[SyncClock]:
    """Opens the sync's log row, fills `requests` and `seconds` of the report, and closes the row with the outcome."""
    opening = sa.insert(sync_logs).values(kind=kind, scope=scope, run_id=context.run_id)
    with context.database.writing() as connection:
        log_id = connection.execute(opening.returning(sync_logs.c.id)).scalar_one()
    clock = SyncClock(context, log_id)
    started = time.perf_counter()
    reason: str | None = "The run was stopped from outside."
    try:
        yield clock
        reason = None
    except Exception as error:
        reason = str(error)
        of_key = isinstance(error, BadCredentials) and error.of_key  # has an alert of its own
        if isinstance(error, FourSellerError | ChannelDown) and not of_key:
            text = f"{kind.capitalize()} sync stopped. {reason}"
            context.database.write(raise_alert, kind=CHANNEL_DOWN, subject="fourseller", text=text)
        raise
    finally:
        report.seconds = round(time.perf_counter() - started, 3)
        report.requests = clock.requests + (clock.client.requests if clock.client is not None else 0)
        if reason is None and report.requests > report.failed:
            end_outage(context)
        held, kept = getattr(report, "stopped", None), asdict(report)  # type: ignore[call-overload]
        for grows_with_the_catalogue in ("above", "doubled"):
            kept.pop(grows_with_the_catalogue, None)
        outcome = "failed" if reason is not None else "partial" if report.failed or held else "done"
        closing = {"outcome": outcome, "reason": reason, "counts": kept | calls_of(clock.client)}
        closing |= {"requests": report.requests, "seconds": report.seconds}
        with context.database.writing() as connection:
            connection.execute(sa.update(sync_logs).where(sync_logs.c.id == log_id).values(closing))


def channel_is_down(database: Database) -> bool:
    """Whether the last run found 4Seller down, and none has reached it since."""
    return bool(database.read(open_subjects, CHANNEL_DOWN))


def end_outage(context: SyncContext) -> None:
    """Clears the alert of an outage, if there is one; looks before it writes, for mostly there is none."""
    if channel_is_down(context.database):
        context.database.write(clear_alert, kind=CHANNEL_DOWN, subject="fourseller")


def calls_of(client: FourSeller | None, earlier: CallSums | None = None) -> dict[str, Any]:
    """What the client's calls came to since `earlier`, as it is kept with a sync's counts; nothing without a client."""
    if client is None:
        return {}
    sums = client.sums.since(earlier or CallSums())
    return {"calls": sums.as_counts() | {"learnt_rate": client.learnt_rate}}


def progress_lines(say: Callable[[str], None], things: str) -> Callable[[int, int, int | None], None]:
    """A callback that says, at most once a second, how many of `things` (such as `items`) are done and failed of how many, how
    fast, and how long the rest will take."""
    started, last = time.monotonic(), -math.inf

    def report(done: int, failed: int, of: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PROGRESS_SECONDS:
            return
        last, rate = now, done / max(now - started, 0.001)
        left = max(0, (of or 0) - done)
        ahead = f", about {duration_in_words(left / rate)} left" if rate > 0 and left else ""
        share = f"{done} of {max(of, done)}" if of is not None else f"{done}"
        say(f"{share} {things} done, {failed} failed; {rate:.0f} a second{ahead}.")

    return report


def _note_progress(database: Database, log_id: int, done: int, total: int) -> None:
    """Writes the progress of a running sync, for readers in other processes."""
    counts = {"done": done, "total": total, "at": datetime.now(UTC).isoformat()}
    running = sa.and_(sync_logs.c.id == log_id, sync_logs.c.outcome == "running")
    with database.writing() as connection:
        connection.execute(sa.update(sync_logs).where(running).values(counts=counts))
