"""What there is to push now and later, how long it takes, and which pace it asks for. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.sync.operations.throughput import Limit, Throughput

HORIZONS = (0, 30, 90)
"""Days ahead that the plan looks."""

DAY, HOUR = 86_400, 3_600

GOAL_SECONDS = HOUR
"""Within this a full sync should end, and a backlog be gone."""

MOST_SHARE = 0.8
"""The share of the pace that the day's changes may take: the rest is for full syncs, and for busier hours."""


@dataclass(frozen=True)
class Measured:
    """What the plan is worked out from.

    Args:
        items: sellable items now.
        new_in_30_days: items by which the catalogue grew in the last thirty days; below zero where it shrinks.
        waiting: items that wait to be pushed.
        pushes_per_day: items written in the last day, by syncs and gateways.
        stock_changes: changes of quantities in the last day.
        stock_items: how many items these were of.
        pace: one worker's.
        limit: 4Seller's, for all workers together.
        in_flight: requests under way at once in one worker (`MIDAS_IN_FLIGHT`).
        spread: whether the full sync is one run for each shard (`MIDAS_SPREAD_FULL_SYNC`).
        shards: `MIDAS_SHARDS`.
        shards_at_once: `MIDAS_SHARDS_AT_ONCE`.
        pushers: workers that push changes.
        interval_minutes: how often changed quantities are pushed; None where a gateway pushes them at once.
    """

    items: int
    new_in_30_days: int
    waiting: int
    pushes_per_day: float
    stock_changes: int
    stock_items: int
    pace: Throughput
    limit: Limit
    in_flight: int
    spread: bool
    shards: int
    shards_at_once: int
    interval_minutes: int | None
    pushers: int = 1

    @property
    def most(self) -> float:
        """Calls a second that 4Seller takes; infinite where no limit is known."""
        return self.limit.per_second if self.limit.per_second is not None else math.inf

    @property
    def workers(self) -> int:
        """Runs of the full sync at once."""
        return min(self.shards, self.shards_at_once) if self.spread else 1

    @property
    def readings(self) -> int:
        """How often a full sync reads the whole listing: each run of it does."""
        return self.shards if self.spread else 1

    @property
    def arriving(self) -> float:
        """Items to push that come up each second."""
        return self.pushes_per_day / DAY

    @property
    def push_pace(self) -> float:
        """Calls a second for changes."""
        return min(self.pace.per_second * self.pushers, self.most)

    @property
    def sync_pace(self) -> float:
        """Calls a second of a full sync."""
        return min(self.pace.per_second * self.workers, self.most)


@dataclass(frozen=True)
class Need:
    """Something to be done, the calls a second that it asks for, and those there are."""

    what: str  # changes | backlog | full_sync
    asked: float
    there: float

    @property
    def met(self) -> bool:
        """Whether nothing has to be raised for it."""
        return self.asked <= self.there


def items_in(measured: Measured, days: int) -> int:
    """The items so many days ahead, at the growth of the last thirty."""
    return max(0, measured.items + round(measured.new_in_30_days * days / 30))


def pages_of(items: int) -> int:
    """The pages of 4Seller's listing of so many items; an empty one has one too."""
    return max(1, math.ceil(items / PAGE_LIMIT))


def calls_of(measured: Measured, items: int) -> int:
    """The calls of a full sync that writes every item."""
    return items + pages_of(items) * measured.readings


def sync_seconds(measured: Measured, days: int) -> float:
    """How long a full sync takes, so many days ahead, that has to write every item."""
    return calls_of(measured, items_in(measured, days)) / measured.sync_pace


def backlog_seconds(measured: Measured) -> float:
    """Until nothing waits, while changes go on coming; infinite where they come faster than they are pushed."""
    if not measured.waiting:
        return 0.0
    spare = measured.push_pace - measured.arriving
    return measured.waiting / spare if spare > 0 else math.inf


def needs(measured: Measured) -> list[Need]:
    """What asks for a pace, the most pressing first."""
    there = measured.push_pace
    backlog = measured.waiting / GOAL_SECONDS + measured.arriving if measured.waiting else 0.0
    calls = calls_of(measured, items_in(measured, HORIZONS[-1]))
    return [
        Need("changes", measured.arriving / MOST_SHARE, there),
        Need("backlog", backlog, there),
        Need("full_sync", calls / GOAL_SECONDS, measured.sync_pace),
    ]


def with_interval(measured: Measured, minutes: int) -> float:
    """The pushes a day were changed quantities pushed every `minutes`: several changes of one item become one push.

    The changes of an item are taken to come at random, so that of `n` an interval holds one at least with the
    probability 1 - e^-n.
    """
    if not measured.stock_items or not measured.interval_minutes:
        return measured.pushes_per_day
    now, then = _pushed(measured, measured.interval_minutes), _pushed(measured, minutes)
    return measured.pushes_per_day * min(1.0, then / now)


def _pushed(measured: Measured, minutes: int) -> float:
    """Pushes a day of the items whose quantity changes."""
    intervals = DAY / 60 / minutes
    each = measured.stock_changes / measured.stock_items / intervals
    return measured.stock_items * intervals * -math.expm1(-each)
