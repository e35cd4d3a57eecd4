"""What the gateway did: counted for Prometheus, and summed by the minute for Dagster and the sync log.

An asset has at most 1,440 events of a worker a day. A thread of its own reports to Dagster, so that a slow one delays nothing.
A killed process loses a minute of sums; the shop's own tables still record each change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
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
from midas_pipelines.store.items.acknowledge import PushCounts, PushOutcome, PushResult
from midas_pipelines.store.operations.backlog import read_backlog
from midas_pipelines.store.operations.sync_log import note_work
from midas_pipelines.store.operations.sync_metrics import GATEWAY
from midas_pipelines.store.orders.listing import sales_between
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.sync_log import calls_of

REPORT_SECONDS = 15.0  # between two looks for what is to be reported to Dagster
ORDERS = "imported_orders"
"""The asset that orders' webhooks are reported to, for today: it has a partition for each day."""
PUSHED = {
    PushResult.QUANTITY: "inventory_levels",
    PushResult.LISTED: "fourseller_listings",
    PushResult.REMOVED: "fourseller_listings",
}
"""The asset that a push is reported to. It is the one that the runs of Dagster write too."""

MINUTE_SECONDS = 60.0  # what one row sums up

BOUNDS = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 3600)
"""Seconds that a minute's deliveries are counted by, so that percentiles of a day are known."""

MOST_UNWRITTEN = 1440  # rows kept while the database is away, a day of them, and events while Dagster is; older ones are lost

LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

log = logging.getLogger(__name__)


Facts = dict[str, int | float]
"""What the UI shows and plots of an event."""


@dataclass
class Sum:
    """Counts and latencies of one asset in a minute."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def add(self, count: str, seconds: float) -> None:
        """Adds one change."""
        self.counts[count] += 1
        self.latencies.append(max(0.0, seconds))

    def metadata(self) -> Facts:
        """Counts and latencies as the UI plots them."""
        ordered = sorted(self.latencies)
        shares = {"p50_seconds": 0.5, "p99_seconds": 0.99, "slowest_seconds": 1.0}
        found = {name: round(ordered[int(share * (len(ordered) - 1))], 4) for name, share in shares.items()}
        return {**self.counts, **found}


class DagsterEvents:
    """Reports what was summed up, from `start` to `stop`; `add` never blocks and never raises.

    Args:
        settings: say where Dagster's home is, if there is one, and which day it is.
        history: a `DagsterInstance` in place of that one.
        database: the shop's, whose orders of the day are reported with what was done.
    """

    def __init__(self, settings: Settings, history: Any = None, database: Database | None = None) -> None:
        self._home, self._settings, self._database = settings.dagster_home, settings, database
        self._history = history
        self._unreported: deque[tuple[str, Facts]] = deque(maxlen=MOST_UNWRITTEN)
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

    def add(self, asset: str, facts: Facts) -> None:
        """Adds an event to those to be reported."""
        if self._thread is not None:
            self._unreported.append((asset, facts))

    def _work(self) -> None:
        while not self._stopping.wait(REPORT_SECONDS):
            self._report_all()
        self._report_all()

    def _report_all(self) -> None:
        while self._unreported:
            asset, facts = self._unreported.popleft()
            try:
                self._report(asset, facts)
            except Exception as failed:
                log.warning("The report of %s to Dagster failed: %s", asset, type(failed).__name__)
                self._unreported.appendleft((asset, facts))  # for the next try
                return

    def _report(self, asset: str, facts: Facts) -> None:
        import dagster as dg  # two seconds to import: here they delay no call

        if self._history is None:
            self._history = dg.DagsterInstance.from_config(str(self._home))
        day, metadata = self._settings.today() if asset == ORDERS else None, dict(facts)
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

    def __init__(self, context: SyncContext, client: FourSeller, events: DagsterEvents) -> None:
        self._context = context
        self._client = client
        self._events = events
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._begin()

    def note_push(self, outcome: PushOutcome, seconds: float) -> None:
        """Counts the outcome of an item, and, if it was confirmed, the seconds since its change."""
        self._tally.count(outcome)
        if (asset := PUSHED.get(outcome.result)) is not None:
            self._sums[asset].add("pushed", seconds)

    def note_order(self, outcome: str, seconds: float) -> None:
        """Counts the outcome of an order's webhook, and the seconds since its arrival."""
        self._sums[ORDERS].add(outcome, seconds)

    def close_minute(self, *, early: bool = False) -> None:
        """Closes the sums once they are a minute old, or at once; empty ones are dropped."""
        if not early and time.monotonic() - self._began < MINUTE_SECONDS:
            return
        sums = self._client.sums.since(self._before)
        if sums.requests or self._tally.claimed:
            self._unwritten.append(self._row(sums.requests, sums.busy_seconds))
        for asset, found in self._sums.items():
            self._events.add(asset, found.metadata())
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
        self._sums: defaultdict[str, Sum] = defaultdict(Sum)

    def _row(self, requests: int, busy_seconds: float) -> dict[str, Any]:
        failed = self._tally.failed + self._tally.released
        counts = asdict(self._tally) | {"scanned": self._tally.claimed, "failed": failed}
        delivered = [one for asset, found in self._sums.items() if asset != ORDERS for one in found.latencies]
        return {
            "kind": GATEWAY,
            "scope": "at once",
            "run_id": self._context.run_id,
            "started_at": self._began_at,
            "outcome": "partial" if failed else "done",
            "counts": counts | _deliveries(delivered) | calls_of(self._client, self._before),
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
