"""The gateway's own rows in `fourseller_sync_logs`: one a minute while it worked, with what it pushed and its calls.

Nothing is written per item: changes are summed in memory, and housekeeping writes the sums.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.store.items.claims import PushOutcome
from midas_pipelines.store.operations.sync_log import note_work
from midas_pipelines.store.operations.sync_metrics import GATEWAY
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.push_counts import PushCounts
from midas_pipelines.sync.sync_log import calls_of

EVERY_SECONDS = 60.0
"""What one row sums up."""

MOST_UNWRITTEN = 1440
"""Rows kept while the database is away, a day of them; older ones are lost."""


@dataclass
class WorkerMinute:
    """Changes that 4Seller confirmed, and how long after the change in the shop; seconds."""

    delivered: int = 0
    delivered_seconds: float = 0.0
    slowest_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.delivered += 1
        self.delivered_seconds = round(self.delivered_seconds + seconds, 4)
        self.slowest_seconds = max(self.slowest_seconds, round(seconds, 4))


class WorkerStats:
    """Sums up what one worker does with one client. All but `write` is called in the worker's event loop."""

    def __init__(self, context: SyncContext, client: FourSeller) -> None:
        self._context = context
        self._client = client
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._writing = threading.Lock()
        self._begin()

    def note(self, outcome: PushOutcome, delivered_after: float | None = None) -> None:
        """Counts the outcome of an item, and the seconds from its change to its confirmation, if confirmed."""
        self._tally.count(outcome)
        if delivered_after is not None:
            self._delivered.add(max(0.0, delivered_after))

    def close_minute(self, *, early: bool = False) -> None:
        """Closes the sum once it is a minute old, or at once; an empty one is dropped."""
        if not early and time.monotonic() - self._began < EVERY_SECONDS:
            return
        sums = self._client.sums.since(self._before)
        if sums.requests or self._tally.claimed:
            self._unwritten.append(self._row(sums.requests, sums.busy_seconds))
        self._begin()

    def write(self) -> None:
        """Writes the closed sums; those that the database does not take are kept for the next time."""
        with self._writing:  # the last housekeeping may still be running when the worker ends
            while self._unwritten:
                note_work(self._context.database, self._unwritten[0])
                self._unwritten.popleft()

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC)
        self._before = self._client.sums
        self._tally = PushCounts()
        self._delivered = WorkerMinute()

    def _row(self, requests: int, busy_seconds: float) -> dict[str, Any]:
        failed = self._tally.failed + self._tally.released
        counts = asdict(self._tally) | {"scanned": self._tally.claimed, "failed": failed}
        return {
            "kind": GATEWAY,
            "scope": "at once",
            "run_id": self._context.run_id,
            "started_at": self._began_at,
            "outcome": "partial" if failed else "done",
            "counts": counts | asdict(self._delivered) | calls_of(self._client, self._before),
            "requests": requests,
            "seconds": round(busy_seconds, 3),
        }
