"""The capacity plan: how long a full sync takes now and later, and what to raise first. Pure arithmetic, shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

HORIZONS = (0, 30, 90)
"""Days ahead that the plan looks."""

ENOUGH_REQUESTS = 20
"""Fewer measured calls than this say nothing about 4Seller's pace."""


@dataclass(frozen=True)
class Measured:
    """What the plan is worked out from.

    Args:
        items: sellable items now.
        new_in_30_days: items that were new in the last thirty days.
        waiting: items that wait to be pushed.
        changes_per_day: items pushed in the last day.
        requests: calls in the last day's product and inventory syncs.
        seconds: how long those syncs were at work.
        in_flight: requests under way at once in one worker (`MIDAS_IN_FLIGHT`).
        workers: runs of product syncs at once (`MIDAS_SHARDS_AT_ONCE` where the full sync is spread, else 1).
        rate_limit: calls a second that 4Seller allows; None where it is not known.
        interval_minutes: how often changed products are pushed.
    """

    items: int
    new_in_30_days: int
    waiting: int
    changes_per_day: int
    requests: int
    seconds: float
    in_flight: int
    workers: int
    rate_limit: float | None
    interval_minutes: int


@dataclass(frozen=True)
class Step:
    """A full sync, so many days ahead, that has to write every item; `arithmetic` shows where `seconds` is from."""

    days: int
    items: int
    seconds: float
    arithmetic: str


@dataclass(frozen=True)
class Plan:
    """The forecast, the pace it rests on, and the advice with its reason."""

    pace: float
    pace_arithmetic: str
    steps: list[Step]
    backlog_seconds: float
    raise_first: str  # nothing | interval | workers | api_limit
    advice: str


def plan(measured: Measured) -> Plan | None:
    """The capacity plan, or None where too little was measured to say anything."""
    if measured.requests < ENOUGH_REQUESTS or measured.seconds <= 0:
        return None
    one = measured.requests / measured.seconds
    together = one * measured.workers
    pace = min(together, measured.rate_limit or math.inf)
    steps = [_step(measured, days, pace) for days in HORIZONS]
    first, advice = _advice(measured, one, pace, steps)
    return Plan(
        round(pace, 2), _pace_words(measured, one, pace), steps, measured.waiting / pace, first, advice
    )


def _step(measured: Measured, days: int, pace: float) -> Step:
    items = measured.items + round(measured.new_in_30_days * days / 30)
    pages = math.ceil(items / 100)
    seconds = (items + pages) / pace
    grown = f"{measured.items} + {measured.new_in_30_days} / 30 x {days} = {items} items; " if days else ""
    return Step(
        days,
        items,
        round(seconds, 1),
        f"{grown}({items} writes + {pages} pages) / {pace:.1f} a second = {in_words(seconds)}",
    )


def _pace_words(measured: Measured, one: float, pace: float) -> str:
    words = f"{measured.requests} calls / {measured.seconds:.1f} s = {one:.1f} a second for one worker"
    if measured.workers > 1:
        words += f", x {measured.workers} workers = {one * measured.workers:.1f}"
    if measured.rate_limit is not None:
        words += f", 4Seller allows {measured.rate_limit:g}"
    return f"{words}: {pace:.1f} a second"


def _advice(measured: Measured, one: float, pace: float, steps: list[Step]) -> tuple[str, str]:
    night = steps[-1].seconds
    pushed = measured.changes_per_day / (24 * 60) * measured.interval_minutes / pace
    limited = measured.rate_limit is not None and one * measured.workers >= measured.rate_limit * 0.9
    if pushed > measured.interval_minutes * 60 * 0.8:
        return (
            "interval",
            f"The changes of one interval take {in_words(pushed)} of its {measured.interval_minutes} minutes: "
            "runs will overlap. Raise MIDAS_PRODUCTS_INTERVAL, or MIDAS_IN_FLIGHT and the workers.",
        )
    if night <= 3600:
        return (
            "nothing",
            f"In 90 days a full sync of everything takes {in_words(night)}: nothing has to be raised.",
        )
    if limited:
        return (
            "api_limit",
            f"4Seller's limit of {measured.rate_limit:g} calls a second is used up: more workers gain nothing. "
            f"A full sync within an hour in 90 days needs {steps[-1].items / 3600:.0f} a second: ask 4Seller for it.",
        )
    if measured.workers == 1:
        return (
            "workers",
            f"One worker sends {one:.1f} a second; {math.ceil(night / 3600)} of them end within an hour in 90 days: "
            "set MIDAS_SPREAD_FULL_SYNC and MIDAS_SHARDS_AT_ONCE, on as many processors.",
        )
    return (
        "workers",
        f"{measured.workers} workers take {in_words(night)} in 90 days; within an hour it takes "
        f"{math.ceil(measured.workers * night / 3600)}: raise MIDAS_SHARDS_AT_ONCE, or MIDAS_IN_FLIGHT "
        f"({measured.in_flight} now) where processors are idle.",
    )


def in_words(seconds: float) -> str:
    """A duration for a person."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
