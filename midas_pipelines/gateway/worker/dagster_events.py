"""Reports the gateway's work to Dagster, at most one event per asset and minute, so that the UI's history is complete.

The first change after a quiet minute is reported within a second, later ones are summed: an asset has at most 1,440
events a day. A thread of its own does it, so that a slow Dagster delays nothing. A killed process loses up to a minute
of sums; the shop's own tables still record each change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.listing import DayOfOrders, orders_by_day

EVERY_SECONDS = 1.0
APART_SECONDS = 60.0
"""The least time between two events of one asset."""
KEPT_LATENCIES = 10_000
MOST_PAUSE_SECONDS = 60.0
BY_DAY = {"imported_orders"}
"""Assets with a partition for each day: what the gateway did is reported for today."""

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
        self.reported = 0
        self.failures = 0

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
        with self._lock:
            assets = list(self._sums) if all_of_it else due(self._reported_at, self._sums, time.monotonic())
            sums = {asset: self._sums.pop(asset) for asset in assets}
        while sums:
            asset, found = sums.popitem()
            try:
                self._report(asset, found)
                self._reported_at[asset] = time.monotonic()
                self.reported += 1
            except Exception as failed:
                self.failures += 1
                log.warning("The report of %s to Dagster failed: %s", asset, type(failed).__name__)
                sums[asset] = found
                self._keep(sums)
                return False
        return True

    def _keep(self, sums: dict[str, Sum]) -> None:
        """Puts back the sums that could not be reported, for the next try."""
        with self._lock:
            for asset, found in sums.items():
                found.add(self._sums.get(asset, Sum()))
                self._sums[asset] = found

    def _report(self, asset: str, found: Sum) -> None:
        import dagster as dg  # two seconds to import: here they delay no call

        if self._history is None:
            self._history = dg.DagsterInstance.from_config(str(self._home))
        day, metadata = self._settings.today() if asset in BY_DAY else None, found.metadata()
        if day is not None and self._database is not None:
            ends = (self._settings.midnight(one) for one in (day, day + timedelta(days=1)))
            sold = orders_by_day(self._database, self._settings.day_of, *ends).get(day, DayOfOrders())
            metadata |= {"dagster/partition_row_count": sold.orders, **sold.sales}
        tags = {"midas/driver": "gateway", "dagster/data_version": "live"}  # as `lib.metadata.LIVE_TAG`
        event = dg.AssetMaterialization(
            asset, metadata=metadata, partition=None if day is None else f"{day}", tags=tags
        )
        self._history.report_runless_asset_event(event)
