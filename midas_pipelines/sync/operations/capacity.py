"""The capacity plan: how long a full sync takes now and later, and what to raise first. Pure arithmetic, shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.settings import Settings
from midas_pipelines.store.operations.sync_metrics import DAY, GATEWAY, StockMeasured, SyncRow
from midas_pipelines.sync.operations.formatting import counted, duration_in_words, number

HORIZONS = {0: "today", 30: "in 30 days", 90: "in 90 days"}
LAST = 90
"""Days ahead that the plan looks."""

HOUR = 3_600
"""Seconds within which a full sync should end, and a backlog be gone."""

MOST_SHARE = 0.8
"""The share of the pace that the day's changes may take: the rest is for full syncs, and for busier hours."""

ROUNDS = 2
"""A push is large when it writes this many times what may be under way: then its slots were full for most of it."""

ENOUGH_CALLS = 20
"""Fewer calls than this say nothing about how long 4Seller takes to answer."""

FULL, USED = 0.7, 0.9
"""With this share of the slots, or of 4Seller's limit, in use that is what holds the pace."""

MOST_OF_ONE = 600.0
"""Calls a second that one worker reaches with quick answers (benchmarks: 556 items in 0.9 s)."""

ASSUMED_SECONDS = 0.5
"""What a call is taken to last while none was timed: slow for a web API, so that the plan promises too little."""

MOST_IN_FLIGHT, MOST_WORKERS = 500, 1000
"""The most that the settings take."""


@dataclass(frozen=True)
class CallRate:
    """Calls a second, how they were worked out, and in a word from what."""

    per_second: float
    words: str
    source: str = ""  # pushes | latency | assumed
    slots_full: bool = False  # whether MIDAS_IN_FLIGHT is what holds it


@dataclass(frozen=True)
class Measured:
    """What the plan is worked out from.

    Args:
        stock: the catalog, its growth and its queue.
        pushes_per_day: items written in the last day, by syncs and gateways.
        pace: of one worker that pushes.
        limit: what 4Seller takes from all workers together; infinite where no limit is known.
        in_flight: requests under way at once in one worker.
        workers: runs of a full sync at once.
        interval_minutes: how often changes are pushed; None where a gateway pushes them at once.
    """

    stock: StockMeasured
    pushes_per_day: int
    pace: CallRate
    limit: CallRate
    in_flight: int
    workers: int = 1
    interval_minutes: int | None = None

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


def is_large(row: SyncRow, in_flight: int) -> bool:
    """Whether the row is a sync that wrote enough for its time to show the pace of pushing."""
    sync = row.pushes and row.kind != GATEWAY and row.push_seconds > 0
    return sync and row.calls("writes") >= ROUNDS * in_flight


def measure(
    rows: Sequence[SyncRow], day: Sequence[SyncRow], stock: StockMeasured, settings: Settings
) -> Measured:
    """What the plan rests on.

    Args:
        rows: what the pace is read from, oldest first: those of the day, or large pushes before it too.
        day: the rows of the last day.
        stock: the catalog and its queue.
        settings: those in force.
    """
    spread, at_once = settings.spread_full_sync, any(row.kind == GATEWAY for row in day)
    return Measured(
        stock=stock,
        pushes_per_day=sum(row.written for row in day),
        pace=pace_of(rows, settings.in_flight),
        limit=limit_of(rows, settings.rate_limit),
        in_flight=settings.in_flight,
        workers=min(settings.shards, settings.shards_at_once) if spread else 1,
        interval_minutes=None if at_once else min(settings.inventory_interval, settings.products_interval),
    )


def pace_of(rows: Sequence[SyncRow], in_flight: int) -> CallRate:
    """One worker's pace from large pushes; without one from the latency of calls; without calls an assumption."""
    if large := [row for row in rows if is_large(row, in_flight)]:
        writes, took = (sum(row.calls(name) for row in large) for name in ("writes", "write_seconds"))
        seconds = sum(row.push_seconds for row in large)
        pace, under_way = writes / seconds, min(in_flight, took / seconds)
        words = (
            f"{writes:,.0f} writes / {number(seconds)} s of pushing in {counted(len(large), 'sync', 'syncs')} = "
            f"{number(pace)} calls a second, with {number(under_way)} of {in_flight} requests under way"
        )
        return CallRate(pace, words, "pushes", under_way >= FULL * in_flight)
    calls, took = (sum(row.calls(name) for row in rows) for name in ("requests", "seconds"))
    timed = calls >= ENOUGH_CALLS and took > 0
    latency, source = (took / calls, "latency") if timed else (ASSUMED_SECONDS, "assumed")
    pace = min(in_flight / latency, MOST_OF_ONE)
    why = (
        "No large push: the best case, by latency"
        if timed
        else "Too few calls were timed: assumed, not measured"
    )
    words = (
        f"{why}: {in_flight} requests under way / {number(latency)} s a call, {number(MOST_OF_ONE)} at most"
    )
    return CallRate(pace, f"{words} = {number(pace)} calls a second", source, pace < MOST_OF_ONE)


def limit_of(rows: Sequence[SyncRow], configured: float | None) -> CallRate:
    """The lower of the limit that is set and the one learned from 429 responses."""
    known = [(configured, "set as MIDAS_RATE_LIMIT")] if configured is not None else []
    learned = [row.calls("learnt_rate") for row in rows if row.calls("requests") >= ENOUGH_CALLS]
    if learned and learned[-1] > 0:
        known.append((learned[-1], "learned from 429 responses"))
    if not known:
        return CallRate(
            math.inf, "None is known: MIDAS_RATE_LIMIT is not set, and none was learned from 429 responses"
        )
    lowest, source = min(known)
    return CallRate(lowest, f"{number(lowest)} calls a second, {source}")


def plan_capacity(measured: Measured) -> CapacityPlan:
    """The first need that is not met, and the first of four rules that meets it."""
    arriving, waiting = measured.pushes_per_day / DAY, measured.stock.waiting
    needs = (
        ("The day's changes", arriving / MOST_SHARE, measured.push_pace),
        ("The backlog", waiting / HOUR + arriving if waiting else 0.0, measured.push_pace),
        (
            f"A full sync in {LAST} days",
            measured.full_sync_seconds(LAST) * measured.sync_pace / HOUR,
            measured.sync_pace,
        ),
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
    stock, push_pace = measured.stock, measured.push_pace
    arriving = measured.pushes_per_day / DAY
    spare, pace = push_pace - arriving, number(push_pace)
    clears = stock.waiting / spare if spare > 0 else math.inf if stock.waiting else 0.0
    workers = counted(measured.workers, "worker", "workers")
    one_worker = number(measured.pace.per_second)
    lines = [
        ("one worker", measured.pace.words),
        ("4Seller's limit", measured.limit.words),
        (
            "changes",
            f"{measured.pushes_per_day:,} pushes a day / 86,400 s = {number(arriving)} of {pace} calls a second",
        ),
        (
            "backlog",
            f"{stock.waiting:,} waiting / ({pace} - {number(arriving)}) = {duration_in_words(clears)}",
        ),
        (
            "a full sync's pace",
            f"{one_worker} x {workers}, within the limit = {number(measured.sync_pace)} calls a second",
        ),
    ]
    new = stock.new_in_30_days
    for days, when in HORIZONS.items():
        items = measured.items(days)
        grown = (
            f"{stock.items:,} {'-' if new < 0 else '+'} {abs(new):,} x {days} / 30 days = {items:,} items; "
        )
        takes = duration_in_words(measured.full_sync_seconds(days))
        calls = f"({items:,} writes + {measured.pages(days):,} pages) / {number(measured.sync_pace)} calls a second"
        lines.append((f"full sync {when}", f"{grown if days else ''}{calls} = {takes}"))
    return lines
