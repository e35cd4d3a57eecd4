"""Keeping a row in `fourseller_sync_logs` for a sync, however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError, NeedsNewKey
from midas_pipelines.fourseller.http.calls import CallSums
from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.sync_log import begin_sync, end_sync, note_progress
from midas_pipelines.sync.context import CHANNEL_DOWN, ChannelDown, SyncContext
from midas_pipelines.sync.push_counts import PushCounts

PROGRESS_SECONDS = 1.0


class Report(Protocol):
    """What every sync's report has beside its counts; a dataclass."""

    failed: int
    requests: int
    seconds: float


@dataclass
class SyncClock:
    """Where a sync leaves its client, so that the requests it sent are counted even when it fails."""

    client: FourSeller | None = None
    context: SyncContext | None = None
    log_id: int = 0
    _told_at: float = 0.0

    def follow(
        self, total: int, on_progress: Callable[[PushCounts], None] | None
    ) -> Callable[[PushCounts], None]:
        """A callback for a push of `total` items that also keeps its progress in the log, once a second."""

        def progress(tally: PushCounts) -> None:
            if on_progress is not None:
                on_progress(tally)
            now = time.monotonic()
            if self.context is not None and now - self._told_at >= PROGRESS_SECONDS:
                self._told_at = now
                known = (self.context.database, self.log_id, tally.claimed, max(total, tally.claimed))
                asyncio.get_running_loop().run_in_executor(None, note_progress, *known)

        return progress


@contextmanager
def logged_sync(context: SyncContext, kind: str, scope: str, report: Report) -> Iterator[SyncClock]:
    """Opens the sync's log row, fills `requests` and `seconds` of the report, and closes the row with the outcome."""
    log_id = begin_sync(context.database, kind, scope, context.run_id)
    clock = SyncClock(context=context, log_id=log_id)
    started = time.perf_counter()
    reason: str | None = "The run was stopped from outside."
    try:
        yield clock
        reason = None
    except Exception as error:
        reason = str(error)
        if isinstance(error, FourSellerError | ChannelDown) and not _has_its_own_alert(error):
            _alert(context, f"{kind.capitalize()} sync stopped. {reason}")
        raise
    finally:
        report.seconds = round(time.perf_counter() - started, 3)
        report.requests = clock.client.requests if clock.client is not None else 0
        if reason is None and report.requests > report.failed:
            end_outage(context)
        held = getattr(report, "stopped", None)
        outcome = "failed" if reason is not None else "partial" if report.failed or held else "done"
        end_sync(
            context.database,
            log_id,
            outcome=outcome,
            counts=_kept(asdict(report)) | calls_of(clock.client),  # type: ignore[call-overload]
            requests=report.requests,
            seconds=report.seconds,
            reason=reason,
        )


def _has_its_own_alert(error: Exception) -> bool:
    """Whether it is about a refused key, of which staff hear once."""
    return isinstance(error, NeedsNewKey) or (
        isinstance(error, BadCredentials) and error.status in (401, 403)
    )


def _alert(context: SyncContext, text: str) -> None:
    """One alert for one outage: while it is open, no run raises another."""
    with context.database.writing() as connection:
        raise_alert(connection, kind=CHANNEL_DOWN, subject="fourseller", text=text)


def channel_is_down(database: Database) -> bool:
    """Whether the last run found 4Seller down, and none has reached it since."""
    with database.reading() as connection:
        return bool(open_subjects(connection, CHANNEL_DOWN))


def end_outage(context: SyncContext) -> None:
    """Clears the alert of an outage, if there is one; looks before it writes, for mostly there is none."""
    if channel_is_down(context.database):
        with context.database.writing() as connection:
            clear_alert(connection, kind=CHANNEL_DOWN, subject="fourseller")


def calls_of(client: FourSeller | None, earlier: CallSums | None = None) -> dict[str, Any]:
    """What the client's calls came to since `earlier`, as it is kept with a sync's counts; nothing without a client."""
    if client is None:
        return {}
    sums = client.sums.since(earlier or CallSums())
    return {"calls": sums.as_counts() | {"learnt_rate": client.learnt_rate}}


def _kept(report: dict[str, Any]) -> dict[str, Any]:
    """The report without what grows with the catalogue."""
    return {name: value for name, value in report.items() if name not in ("plan", "above", "doubled")}
