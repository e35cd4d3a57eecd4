"""The capacity plan: how long a full sync takes now and later, and what to raise first, with the arithmetic shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.sync_metrics import (
    DAY,
    GATEWAY,
    StockMeasured,
    SyncRow,
    finished_syncs,
    large_pushes,
    stock_measured,
)
from midas_pipelines.text import duration_in_words, number

HORIZONS = {0: "today", 30: "in 30 days", 90: "in 90 days"}
LAST = 90  # days ahead that the plan looks
HOUR = 3_600  # seconds within which a full sync should end, and a backlog be gone
MOST_SHARE = 0.8  # of the pace for the day's changes: the rest is for full syncs, and for busier hours
ROUNDS = 2  # a push is large when it writes this many times what may be under way: then its slots were full
ENOUGH_CALLS = 20  # fewer say nothing about 4Seller's limit
FULL = 0.7  # with this share of the slots in use, they hold the pace
USED = 0.9  # with this share of 4Seller's limit in use, it does
ASSUMED_SECONDS = 0.5  # of a call while no large push was timed: slow, so that the plan promises too little
MOST_IN_FLIGHT, MOST_WORKERS = 500, 1000  # the most that the settings take


@dataclass(frozen=True)
class CallRate:
    """Calls a second, how they were worked out in words, whether measured, and whether MIDAS_IN_FLIGHT is what holds them."""

    per_second: float
    words: str
    measured: bool = True
    slots_full: bool = False


@dataclass(frozen=True)
class Measured:
    """What the plan is worked out from; `limit` is infinite where none is known."""

    stock: StockMeasured
    pushes_per_day: int  # items written in the last day, by syncs and gateways
    pace: CallRate  # of one worker that pushes
    limit: CallRate  # what 4Seller takes from all workers together
    in_flight: int  # requests under way at once in one worker
    workers: int = 1  # runs of a full sync at once
    interval_minutes: int | None = None  # between pushes of changes; None where a gateway pushes at once

    @property
    def push_pace(self) -> float:
        """Calls a second for changes, which one worker pushes."""
        return min(self.pace.per_second, self.limit.per_second)

    @property
    def sync_pace(self) -> float:
        """Calls a second of a full sync."""
        return min(self.pace.per_second * self.workers, self.limit.per_second)

    def items(self, days: int) -> int:
        """The items so many days ahead, at the growth of the last thirty."""
        return max(0, self.stock.items + round(self.stock.new_in_30_days * days / 30))

    def pages(self, days: int) -> int:
        """The pages of 4Seller's listing of so many items; an empty one has one too."""
        return max(1, math.ceil(self.items(days) / PAGE_LIMIT))

    def full_sync_seconds(self, days: int) -> float:
        """How long a full sync takes, so many days ahead, that reads the listing and has to write every item."""
        return (self.items(days) + self.pages(days)) / self.sync_pace


@dataclass(frozen=True)
class CapacityPlan:
    """What to raise first, why, and every line of the arithmetic, with units."""

    raise_first: str  # nothing | interval | concurrency | workers | api_limit
    words: str
    arithmetic: list[tuple[str, str]]

    @property
    def markdown(self) -> str:
        """The plan as a person reads it."""
        lines = "\n".join(f"| {name} | {how}. |" for name, how in self.arithmetic)
        return f"**What to raise first.** {self.words}\n\n| line | arithmetic |\n|---|---|\n{lines}"


def measure(database: Database, settings: Settings) -> Measured:
    """Reads what the plan rests on: the last day, the catalog, and the last large pushes of 30 days."""
    day, pushes = finished_syncs(database), large_pushes(database, ROUNDS * settings.in_flight)
    at_once = any(row.kind == GATEWAY for row in day)
    return Measured(
        stock=stock_measured(database),
        pushes_per_day=sum(row.written for row in day),
        pace=pace_of(pushes, settings.in_flight),
        limit=limit_of([*pushes, *day], settings.rate_limit),
        in_flight=settings.in_flight,
        workers=min(settings.shards, settings.shards_at_once) if settings.spread_full_sync else 1,
        interval_minutes=None if at_once else min(settings.inventory_interval, settings.products_interval),
    )


def pace_of(pushes: Sequence[SyncRow], in_flight: int) -> CallRate:
    """One worker's pace from pushes that wrote enough for their time to show it; without one an assumption."""
    large = [row for row in pushes if row.push_seconds > 0 and row.calls("writes") >= ROUNDS * in_flight]
    if not large:
        pace = in_flight / ASSUMED_SECONDS
        calls = f"{in_flight} requests under way / {number(ASSUMED_SECONDS)} s a call = {number(pace)} calls a second"
        return CallRate(pace, f"No large push: assumed, not measured: {calls}", False, True)
    writes, took = (sum(row.calls(name) for row in large) for name in ("writes", "write_seconds"))
    seconds = sum(row.push_seconds for row in large)
    pace, under_way = writes / seconds, min(in_flight, took / seconds)
    words = (
        f"{writes:,.0f} writes / {number(seconds)} s of pushing in {counted(len(large), 'sync', 'syncs')} = "
        f"{number(pace)} calls a second, with {number(under_way)} of {in_flight} requests under way"
    )
    return CallRate(pace, words, slots_full=under_way >= FULL * in_flight)


def limit_of(rows: Sequence[SyncRow], configured: float | None) -> CallRate:
    """The lower of the limit that is set and the one learned from 429 responses."""
    known = [(configured, "set as MIDAS_RATE_LIMIT")] if configured is not None else []
    learned = [row.calls("learnt_rate") for row in rows if row.calls("requests") >= ENOUGH_CALLS]
    if learned and learned[-1] > 0:
        known.append((learned[-1], "learned from 429 responses"))
    if not known:
        return CallRate(math.inf, "MIDAS_RATE_LIMIT is not set, and none was learned from 429 responses")
    lowest, source = min(known)
    return CallRate(lowest, f"{number(lowest)} calls a second, {source}")


def plan_capacity(measured: Measured) -> CapacityPlan:
    """The first need that is not met, and the first of four rules that meets it."""
    arriving, waiting = measured.pushes_per_day / DAY, measured.stock.waiting
    full_sync = measured.full_sync_seconds(LAST) * measured.sync_pace / HOUR
    needs = (
        ("The day's changes", arriving / MOST_SHARE, measured.push_pace),
        ("The backlog", waiting / HOUR + arriving if waiting else 0.0, measured.push_pace),
        (f"A full sync in {LAST} days", full_sync, measured.sync_pace),
    )
    arithmetic = _arithmetic(measured)
    for what, asked, there in needs:
        if asked > there:
            first, advice = _advice(measured, what, asked, there)
            why = f"{what} needs {number(asked)} calls a second, and there are {number(there)}."
            return CapacityPlan(first, f"{why} {advice}", arithmetic)
    takes = duration_in_words(measured.full_sync_seconds(LAST))
    words = f"Nothing has to be raised: a full sync in {LAST} days takes {takes}."
    return CapacityPlan("nothing", words, arithmetic)


def _advice(measured: Measured, what: str, asked: float, there: float) -> tuple[str, str]:
    """The four rules, in the order in which they cost: a longer interval, more at once, more workers, a higher limit."""
    stock, limit, one = measured.stock, measured.limit.per_second, measured.pace.per_second
    is_used, full_sync = there >= USED * limit, what.startswith("A full sync")
    several = stock.changes >= 2 * stock.changed_items > 0 and measured.interval_minutes is not None
    if is_used and several and what == "The day's changes":
        return "interval", (
            f"4Seller's limit is used up, and {stock.changes:,} changes of {stock.changed_items:,} items would be fewer "
            f"pushes with a longer MIDAS_INVENTORY_INTERVAL and MIDAS_PRODUCTS_INTERVAL (the shorter is "
            f"{measured.interval_minutes} minutes now)."
        )
    slots = min(MOST_IN_FLIGHT, math.ceil(measured.in_flight * min(asked, limit) / there))
    if not is_used and measured.pace.slots_full and slots > measured.in_flight:
        return "concurrency", f"Raise MIDAS_IN_FLIGHT from {measured.in_flight} to {slots}."
    now, most = measured.workers if full_sync else 1, int(min(MOST_WORKERS, limit / one))
    count = min(most, max(now + 1, math.ceil(asked / one)))
    if count > now and full_sync:
        names = f"MIDAS_SPREAD_FULL_SYNC=true, MIDAS_SHARDS={count} and MIDAS_SHARDS_AT_ONCE={count}"
        return "workers", f"Set {names}: {count} workers instead of {now}, each on its own processor."
    if count > now:
        return "workers", f"Run {count} of `midas worker`, each on its own processor."
    if math.isinf(limit):
        return "nothing", "No setting raises it any further: a faster processor or fewer changes would."
    return "api_limit", (
        f"4Seller's limit of {number(limit)} calls a second feeds no further worker: ask 4Seller for "
        f"{number(math.ceil(max(asked, limit)))}, or push fewer changes."
    )


def _arithmetic(measured: Measured) -> list[tuple[str, str]]:
    stock, pushes, arriving = measured.stock, measured.pushes_per_day, measured.pushes_per_day / DAY
    spare, pace, rate = measured.push_pace - arriving, number(measured.push_pace), number(arriving)
    clears = duration_in_words(stock.waiting / spare if spare > 0 else math.inf if stock.waiting else 0.0)
    workers = f"{number(measured.pace.per_second)} x {counted(measured.workers, 'worker', 'workers')}"
    lines = [
        ("one worker", measured.pace.words),
        ("4Seller's limit", measured.limit.words),
        ("changes", f"{pushes:,} pushes a day / 86,400 s = {rate} of {pace} calls a second"),
        ("backlog", f"{stock.waiting:,} waiting / ({pace} - {rate}) = {clears}"),
        ("a full sync's pace", f"{workers}, within the limit = {number(measured.sync_pace)} calls a second"),
    ]
    growth = f"{stock.items:,} {'-' if stock.new_in_30_days < 0 else '+'} {abs(stock.new_in_30_days):,}"
    for days, when in HORIZONS.items():
        items = measured.items(days)
        grown = f"{growth} x {days} / 30 days = {items:,} items; "
        takes = duration_in_words(measured.full_sync_seconds(days))
        calls = f"({items:,} writes + {measured.pages(days):,} pages) / {number(measured.sync_pace)} calls a second"
        lines.append((f"full sync {when}", f"{grown if days else ''}{calls} = {takes}"))
    return lines


def counted(count: int, one: str, many: str) -> str:
    """A count with its noun: 1 worker, 1,200 workers."""
    return f"{count:,} {one if count == 1 else many}"
