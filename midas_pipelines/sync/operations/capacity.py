"""The capacity plan: how long a full sync takes now and later, and what to raise first. Pure arithmetic, shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from midas_pipelines.fourseller.contract import PAGE_LIMIT
from midas_pipelines.sync.operations.advice import Advice, advise
from midas_pipelines.sync.operations.forecast import (
    HORIZONS,
    Measured,
    backlog_seconds,
    calls_of,
    items_in,
    pages_of,
    sync_seconds,
)
from midas_pipelines.sync.operations.formatting import counted, duration_in_words, number

CAUTION = {
    "pushes": "",
    "latency": "The pace is worked out from latency, not measured: read this as the best case. ",
    "assumed": "Too few calls were made to measure anything: this rests on an assumed latency and on the settings. ",
}


@dataclass(frozen=True)
class GrowthStep:
    """A full sync, so many days ahead, that has to write every item."""

    days: int
    items: int
    seconds: float


@dataclass(frozen=True)
class CapacityPlan:
    """The forecast, the advice with its reason, and every line of the arithmetic, with units.

    Args:
        pace: calls a second of a full sync.
        backlog_seconds: until nothing waits; None where it never ends.
    """

    pace: float
    steps: list[GrowthStep]
    backlog_seconds: float | None
    advice: Advice
    words: str
    arithmetic: list[tuple[str, str]]


def plan_capacity(measured: Measured) -> CapacityPlan:
    """The capacity plan; where nothing was measured it says so, and what it rests on instead."""
    advice = advise(measured)
    backlog = backlog_seconds(measured)
    return CapacityPlan(
        pace=measured.sync_pace,
        steps=[GrowthStep(days, items_in(measured, days), sync_seconds(measured, days)) for days in HORIZONS],
        backlog_seconds=None if math.isinf(backlog) else backlog,
        advice=advice,
        words=CAUTION[measured.pace.source] + advice.words,
        arithmetic=[
            ("one worker", f"{measured.pace.words}."),
            ("4Seller's limit", measured.limit.words),
            ("a full sync's pace", _pace(measured)),
            ("changes", _changes(measured)),
            ("backlog", _backlog(measured)),
            *((f"full sync {_when(days)}", _full(measured, days)) for days in HORIZONS),
            ("reading", _reading(measured)),
        ],
    )


def capacity_markdown(found: CapacityPlan) -> str:
    """The plan as a person reads it: the advice, the times, and the arithmetic line by line."""
    times = "\n".join(
        f"- {_when(step.days).capitalize()}: {counted(step.items, 'item', 'items')}, **{duration_in_words(step.seconds)}**"
        for step in found.steps
    )
    lines = "\n".join(f"| {name} | {how} |" for name, how in found.arithmetic)
    return (
        f"**What to raise first.** {found.words}\n\n"
        f"A full sync that has to write every item takes:\n\n{times}\n\n| line | arithmetic |\n|---|---|\n{lines}"
    )


def _when(days: int) -> str:
    return f"in {days} days" if days else "today"


def _pace(measured: Measured) -> str:
    one = f"{number(measured.pace.per_second)} calls a second x {counted(measured.workers, 'worker', 'workers')}"
    together = f"{one} = {number(measured.pace.per_second * measured.workers)}"
    if measured.sync_pace < measured.pace.per_second * measured.workers:
        together += f", of which the limit lets through {number(measured.sync_pace)}"
    return f"{together} calls a second."


def _changes(measured: Measured) -> str:
    pushes = f"{number(measured.pushes_per_day)} pushes in the last day / 86,400 s"
    share = measured.arriving / measured.push_pace
    return (
        f"{pushes} = {number(measured.arriving)} a second, {number(100 * share)} % of the "
        f"{number(measured.push_pace)} calls a second there are for them."
    )


def _backlog(measured: Measured) -> str:
    if not measured.waiting:
        return "Nothing waits."
    return (
        f"{counted(measured.waiting, 'item waits', 'items wait')} / ({number(measured.push_pace)} - "
        f"{number(measured.arriving)}) calls a second = {duration_in_words(backlog_seconds(measured))}."
    )


def _full(measured: Measured, days: int) -> str:
    items = items_in(measured, days)
    sign = "-" if measured.new_in_30_days < 0 else "+"
    growth = f"{sign} {abs(measured.new_in_30_days):,} / 30 days x {days} days"
    grown = f"{measured.items:,} {growth} = {items:,} items; " if days else ""
    reads = pages_of(items) * measured.readings
    return (
        f"{grown}({items:,} writes + {reads:,} pages) / {number(measured.sync_pace)} calls a second "
        f"= {duration_in_words(calls_of(measured, items) / measured.sync_pace)}."
    )


def _reading(measured: Measured) -> str:
    pages = pages_of(measured.items)
    listing = f"{counted(measured.items, 'item', 'items')} / {PAGE_LIMIT} a page = {counted(pages, 'page', 'pages')}"
    if not measured.spread:
        return f"{listing}, read once: the full sync is one run over all shards. Unchanged items cost nothing more."
    return (
        f"{listing}, x {counted(measured.shards, 'shard', 'shards')} = {pages * measured.readings:,} calls: each shard's run "
        "reads the whole listing; one run over all shards reads it once. Unchanged items cost nothing more."
    )
