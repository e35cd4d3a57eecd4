"""Prometheus metrics of the gateway; backlogs are read from the database on each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.schema.tables import mappings

LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Metrics:
    """The counters and histograms of one process."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "midas_http_requests", "Calls answered", ["method", "route", "status"], registry=self.registry
        )
        self.call_seconds = Histogram(
            "midas_http_request_seconds",
            "From a call's arrival to its answer",
            ["method", "route"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.refused = Counter(
            "midas_http_refused",
            "Calls refused before they were read: key, headers, signature, timestamp, rate, shed",
            ["reason"],
            registry=self.registry,
        )
        self.clocks = Gauge(
            "midas_clock_ahead_seconds",
            "How far a clock is ahead of this machine's: database, 4Seller",
            ["clock"],
            registry=self.registry,
        )
        self.received = Counter(
            "midas_webhooks_received", "Webhooks accepted", ["new"], registry=self.registry
        )
        self.finished = Counter(
            "midas_webhooks_finished", "Webhooks finished, by outcome", ["outcome"], registry=self.registry
        )
        self.webhook_seconds = Histogram(
            "midas_webhook_seconds",
            "From a webhook's arrival to its outcome",
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.pushes = Counter(
            "midas_pushes", "Items acknowledged, by result", ["result"], registry=self.registry
        )
        self.push_seconds = Histogram(
            "midas_push_seconds",
            "From a change in the shop to 4Seller's confirmation",
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.registry.register(_Backlogs(database))

    def text(self) -> bytes:
        """Everything, as Prometheus reads it; asks the database."""
        return generate_latest(self.registry)


class _Backlogs(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: what there is, is only known when it is asked."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The backlogs as they are now; none when the database does not answer."""
        try:
            yield from self._read()
        except sa.exc.SQLAlchemyError:
            return

    def _read(self) -> Iterator[GaugeMetricFamily]:
        dirty = mappings.c.dirty_since
        query = sa.select(sa.func.count(), sa.func.min(dirty, type_=dirty.type)).where(dirty.is_not(None))
        with self._database.reading() as connection:
            items, oldest_item = connection.execute(query).one()
            inbox = webhooks.backlog(connection)
            quarantined = connection.scalar(
                sa.select(sa.func.count()).where(mappings.c.state == "quarantined")
            )
        yield GaugeMetricFamily("midas_items_dirty", "Items that wait to be pushed", value=items)
        yield GaugeMetricFamily("midas_items_oldest_seconds", "Age of the oldest", value=_age(oldest_item))
        yield GaugeMetricFamily("midas_items_quarantined", "Quarantined items", value=quarantined or 0)
        yield GaugeMetricFamily("midas_webhooks_pending", "Webhooks that wait", value=inbox.pending)
        yield GaugeMetricFamily(
            "midas_webhooks_oldest_seconds", "Age of the oldest", value=_age(inbox.oldest)
        )
        yield GaugeMetricFamily("midas_webhooks_quarantined", "Quarantined webhooks", value=inbox.quarantined)


def _age(moment: datetime | None) -> float:
    return 0.0 if moment is None else max(0.0, (datetime.now(UTC) - moment).total_seconds())
