"""What the gateway did: counted for Prometheus, and summed in memory for Dagster and the sync log, about once a minute.

The first change of an asset after a quiet minute is reported to Dagster within a second, so that the UI's history is
complete; an asset has at most 1,440 events a day. A thread of its own does it, so that a slow Dagster delays nothing.
A killed process loses up to a minute of sums; the shop's own tables still record each change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import prometheus_client as prometheus
import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.acknowledge import PushCounts, PushOutcome
from midas_pipelines.store.operations.backlog import read_backlog
from midas_pipelines.store.operations.sync_log import note_work
from midas_pipelines.store.operations.sync_metrics import GATEWAY
from midas_pipelines.store.orders.listing import sales_between
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.sync_log import calls_of

EVERY_SECONDS = 1.0
APART_SECONDS = 60.0  # the least time between two events of one asset
KEPT_LATENCIES = 10_000
MOST_PAUSE_SECONDS = 60.0
BY_DAY = {"imported_orders"}
"""Assets with a partition for each day: what the gateway did is reported for today."""

MINUTE_SECONDS = 60.0  # what one row sums up

BOUNDS = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 3600)
"""Seconds that a minute's deliveries are counted by, so that percentiles of a day are known."""

MOST_UNWRITTEN = 1440  # rows kept while the database is away, a day of them; older ones are lost

LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

log = logging.getLogger(__name__)


@dataclass
class Sum:
    """Counts and latencies of one asset since its last event."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def add(self, other: Sum) -> None:
        """Adds another sum."""
        self.counts.update(other.counts)
        self.latencies = (self.latencies + other.latencies)[-KEPT_LATENCIES:]

    def metadata(self) -> dict[str, int | float]:
        """Counts and latencies as the UI plots them."""
        found: dict[str, int | float] = dict(self.counts)
        if self.latencies:
            ordered = sorted(self.latencies)
            for name, share in (("p50_seconds", 0.5), ("p99_seconds", 0.99)):
                found[name] = round(ordered[int(share * (len(ordered) - 1))], 4)
            found["slowest_seconds"] = round(ordered[-1], 4)
        return found


def due(reported_at: Mapping[str, float], waiting: Mapping[str, object], now: float) -> list[str]:
    """The waiting assets without an event in the last minute. Times are in seconds of one clock."""
    return [asset for asset in waiting if now - reported_at.get(asset, -APART_SECONDS) >= APART_SECONDS]


class DagsterEvents:
    """Sums changes and reports them from `start` to `stop`; `note` never blocks and never raises.

    Args:
        settings: say where Dagster's home is, if there is one, and which day it is.
        history: a `DagsterInstance` in place of that one.
        database: the shop's, whose orders of the day are reported with what was done.
    """

    def __init__(self, settings: Settings, history: Any = None, database: Database | None = None) -> None:
        self._home, self._settings, self._database = settings.dagster_home, settings, database
        self._history = history
        self._sums: dict[str, Sum] = {}
        self._reported_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts reporting, if there is a Dagster to report to."""
        if self._home or self._history:
            self._thread = threading.Thread(target=self._work, name="midas-lineage", daemon=True)
            self._thread.start()

    def stop(self, patience: float = 3.0) -> None:
        """Reports the rest; waits at most `patience` seconds for it."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(patience)

    def note(self, asset: str, count: str, seconds: float | None = None) -> None:
        """Adds one change to the sum of that asset."""
        if self._thread is None:
            return
        with self._lock:
            found = self._sums.setdefault(asset, Sum())
            found.counts[count] += 1
            if seconds is not None and len(found.latencies) < KEPT_LATENCIES:
                found.latencies.append(seconds)

    def _work(self) -> None:
        pause = EVERY_SECONDS
        while True:
            last = self._stopping.wait(pause)
            pause = EVERY_SECONDS if self._report_due(all_of_it=last) else min(MOST_PAUSE_SECONDS, pause * 2)
            if last:
                return

    def _report_due(self, *, all_of_it: bool) -> bool:
        """Reports what is due, or everything at the end; returns False when Dagster could not be reached."""
        waiting = dict(self._sums)  # only here any is taken away
        for asset in waiting if all_of_it else due(self._reported_at, waiting, time.monotonic()):
            with self._lock:
                found = self._sums.pop(asset)
            try:
                self._report(asset, found)
                self._reported_at[asset] = time.monotonic()
            except Exception as failed:
                log.warning("The report of %s to Dagster failed: %s", asset, type(failed).__name__)
                with self._lock:  # for the next try
                    found.add(self._sums.get(asset, Sum()))
                    self._sums[asset] = found
                return False
        return True

    def _report(self, asset: str, found: Sum) -> None:
        import dagster as dg  # two seconds to import: here they delay no call

        if self._history is None:
            self._history = dg.DagsterInstance.from_config(str(self._home))
        day, metadata = self._settings.today() if asset in BY_DAY else None, found.metadata()
        if day is not None and self._database is not None:
            ends = (self._settings.midnight(one) for one in (day, day + timedelta(days=1)))
            sold = sales_between(self._database, *ends)
            metadata |= {"dagster/partition_row_count": sold.pop("orders"), **sold}
        tags = {"midas/driver": "gateway", "dagster/data_version": "live"}  # as `lib.metadata.LIVE_TAG`
        part = None if day is None else f"{day}"
        event = dg.AssetMaterialization(asset, metadata=metadata, partition=part, tags=tags)
        self._history.report_runless_asset_event(event)


class WorkerStats:
    """Sums up what one worker does with one client. All but `write` is called in the worker's event loop."""

    def __init__(self, context: SyncContext, client: FourSeller) -> None:
        self._context = context
        self._client = client
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._begin()

    def note(self, outcome: PushOutcome, delivered_after: float | None = None) -> None:
        """Counts the outcome of an item, and the seconds from its change to its confirmation, if confirmed."""
        self._tally.count(outcome)
        if delivered_after is not None:
            self._delivered.append(max(0.0, delivered_after))

    def close_minute(self, *, early: bool = False) -> None:
        """Closes the sum once it is a minute old, or at once; an empty one is dropped."""
        if not early and time.monotonic() - self._began < MINUTE_SECONDS:
            return
        sums = self._client.sums.since(self._before)
        if sums.requests or self._tally.claimed:
            self._unwritten.append(self._row(sums.requests, sums.busy_seconds))
        self._begin()

    def write(self) -> None:
        """Writes the closed sums; those that the database does not take are kept for the next time."""
        while self._unwritten:
            note_work(self._context.database, self._unwritten[0])
            self._unwritten.popleft()

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC)
        self._before = self._client.sums
        self._tally = PushCounts()
        self._delivered: list[float] = []

    def _row(self, requests: int, busy_seconds: float) -> dict[str, Any]:
        failed = self._tally.failed + self._tally.released
        counts = asdict(self._tally) | {"scanned": self._tally.claimed, "failed": failed}
        return {
            "kind": GATEWAY,
            "scope": "at once",
            "run_id": self._context.run_id,
            "started_at": self._began_at,
            "outcome": "partial" if failed else "done",
            "counts": counts | _deliveries(self._delivered) | calls_of(self._client, self._before),
            "requests": requests,
            "seconds": round(busy_seconds, 3),
        }


def _deliveries(seconds: list[float]) -> dict[str, Any]:
    """How many changes 4Seller confirmed, and how long after the change in the shop: by the bound that each took at most."""
    bounds = (next((bound for bound in BOUNDS if one <= bound), one) for one in seconds)
    return {
        "delivered": len(seconds),
        "delivered_seconds": round(sum(seconds), 4),
        "slowest_seconds": round(max(seconds, default=0.0), 4),
        "delivered_within": dict(Counter(f"{bound:g}" for bound in bounds)),
    }


class Metrics:
    """The counters and histograms of one process."""

    def __init__(self, database: Database) -> None:
        self.registry = prometheus.CollectorRegistry()
        counter = partial(prometheus.Counter, registry=self.registry)
        seconds = partial(prometheus.Histogram, buckets=LATENCIES, registry=self.registry)
        self.calls = counter("midas_http_requests", "Calls answered", ["method", "route", "status"])
        took = "From a call's arrival to its answer"
        self.call_seconds = seconds("midas_http_request_seconds", took, ["method", "route"])
        refused = "Calls refused before they were read: key, headers, signature, timestamp, rate, shed"
        self.refused = counter("midas_http_refused", refused, ["reason"])
        ahead = "How far a clock is ahead of this machine's: database, 4Seller"
        self.clocks = prometheus.Gauge("midas_clock_ahead_seconds", ahead, ["clock"], registry=self.registry)
        self.received = counter("midas_webhooks_received", "Webhooks accepted", ["new"])
        self.finished = counter("midas_webhooks_finished", "Webhooks finished, by outcome", ["outcome"])
        self.webhook_seconds = seconds("midas_webhook_seconds", "From a webhook's arrival to its outcome")
        self.pushes = counter("midas_pushes", "Items acknowledged, by result", ["result"])
        pushed = "From a change in the shop to 4Seller's confirmation"
        self.push_seconds = seconds("midas_push_seconds", pushed)
        self.registry.register(_Backlogs(database))


class _Backlogs(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The backlogs as they are now; none when the database does not answer."""
        try:
            backlog = self._database.read(read_backlog)
        except sa.exc.SQLAlchemyError:
            return
        for name, what, value in (
            ("items_dirty", "Items that wait to be pushed", backlog.dirty),
            ("items_oldest_seconds", "Age of the oldest", _age(backlog.oldest_dirty)),
            ("items_quarantined", "Quarantined items", backlog.quarantined_items),
            ("webhooks_pending", "Webhooks that wait", backlog.webhooks),
            ("webhooks_oldest_seconds", "Age of the oldest", _age(backlog.oldest_webhook)),
            ("webhooks_quarantined", "Quarantined webhooks", backlog.quarantined_webhooks),
        ):
            yield GaugeMetricFamily(f"midas_{name}", what, value=value)


def _age(moment: datetime | None) -> float:
    return 0.0 if moment is None else max(0.0, (datetime.now(UTC) - moment).total_seconds())
