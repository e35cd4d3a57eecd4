"""Prometheus metrics of the gateway; backlogs are read from the database on each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.backlog import read_backlog

LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Metrics:
    """The counters and histograms of one process."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        seconds = partial(Histogram, buckets=LATENCIES, registry=self.registry)
        self.calls = counter("midas_http_requests", "Calls answered", ["method", "route", "status"])
        took = "From a call's arrival to its answer"
        self.call_seconds = seconds("midas_http_request_seconds", took, ["method", "route"])
        refused = "Calls refused before they were read: key, headers, signature, timestamp, rate, shed"
        self.refused = counter("midas_http_refused", refused, ["reason"])
        ahead = "How far a clock is ahead of this machine's: database, 4Seller"
        self.clocks = Gauge("midas_clock_ahead_seconds", ahead, ["clock"], registry=self.registry)
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
