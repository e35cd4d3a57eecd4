"""What to raise first: each setting is tried on the forecast, and only one that helps is advised. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from midas_pipelines.sync.operations.forecast import (
    GOAL_SECONDS,
    HORIZONS,
    Measured,
    Need,
    backlog_seconds,
    calls_of,
    items_in,
    needs,
    pages_of,
    sync_seconds,
    with_interval,
)
from midas_pipelines.sync.operations.formatting import counted, duration_in_words, number
from midas_pipelines.sync.operations.throughput import Limit

USED = 0.9
"""With this share of 4Seller's limit in use more workers or requests gain nothing worth having."""

WORTH = 1.1
"""What has to be gained at least for a setting to be advised."""

MOST_IN_FLIGHT, MOST_WORKERS = 500, 1000
"""The most that the settings take."""

INTERVALS = (2, 3, 5, 10, 15, 20, 30, 60)
"""Minutes to choose a longer interval from; the settings take sixty at most."""

LAST = HORIZONS[-1]


@dataclass(frozen=True)
class Advice:
    """What to raise first, in words, and the plan's figures once it is done."""

    first: str  # nothing | interval | concurrency | workers | api_limit
    words: str
    then: Measured


Move = Callable[[Measured, Need], Advice | None]


def advise(measured: Measured) -> Advice:
    """The first need that is not met, and the cheapest setting that helps it."""
    unmet = next((need for need in needs(measured) if not need.met), None)
    if unmet is None:
        takes = duration_in_words(sync_seconds(measured, LAST))
        return Advice(
            "nothing", f"Nothing has to be raised: a full sync in {LAST} days takes {takes}.", measured
        )
    found = next((one for move in MOVES if (one := move(measured, unmet)) is not None), None)
    if found is None:
        words = "No setting raises the pace any further: a faster processor or fewer changes would."
        found = Advice("nothing", words, measured)
    return replace(found, words=f"{_why(measured, unmet)} {found.words}")


def _why(measured: Measured, need: Need) -> str:
    asked, there = number(need.asked), number(need.there)
    if need.what == "changes":
        share = f"{measured.arriving / need.there:,.0%}"
        return f"The day's changes take {share} of the pace of {there} calls a second; with room to spare they need {asked}."
    if need.what == "backlog":
        takes = duration_in_words(backlog_seconds(measured))
        return f"The backlog of {counted(measured.waiting, 'item', 'items')} {_takes(takes)}; within an hour it needs {asked} calls a second."
    takes = duration_in_words(sync_seconds(measured, LAST))
    return f"A full sync in {LAST} days takes {takes}; within an hour it needs {asked} calls a second."


def _takes(duration: str) -> str:
    return duration if duration == "never ends" else f"takes {duration}"


def _longer_interval(measured: Measured, need: Need) -> Advice | None:
    """Fewer pushes for the same changes, where 4Seller takes no more of them."""
    now = measured.interval_minutes
    if need.what != "changes" or now is None or not _is_used(measured, need):
        return None
    for minutes in (one for one in INTERVALS if one > now):
        then = replace(measured, pushes_per_day=with_interval(measured, minutes), interval_minutes=minutes)
        if needs(then)[0].met:
            words = (
                "4Seller's limit is used up, so push less often: set MIDAS_INVENTORY_INTERVAL and "
                f"MIDAS_PRODUCTS_INTERVAL to at least {minutes} minutes; the shorter is {now} now. {measured.stock_changes:,} changes of {measured.stock_items:,} "
                f"items are then {number(then.pushes_per_day)} pushes a day instead of "
                f"{number(measured.pushes_per_day)}."
            )
            return Advice("interval", words, then)
    return None


def _more_in_flight(measured: Measured, need: Need) -> Advice | None:
    """More requests at once in each worker, where waiting for answers is what holds them."""
    if not measured.pace.by_slots or _is_used(measured, need):
        return None
    wanted = min(need.asked, measured.most) / need.there * measured.in_flight
    slots = min(MOST_IN_FLIGHT, math.ceil(wanted))
    pace = replace(measured.pace, per_second=measured.pace.per_second * slots / measured.in_flight)
    then = replace(measured, in_flight=slots, pace=pace)
    if not _gains(measured, then, need):
        return None
    words = f"Raise MIDAS_IN_FLIGHT from {measured.in_flight} to {slots}, on the same processors. {_outcome(then, need)}"
    return Advice("concurrency", words, then)


def _more_workers(measured: Measured, need: Need) -> Advice | None:
    """More processes, as many as 4Seller's limit feeds."""
    if _is_used(measured, need):
        return None
    better = [one for one in _workforces(measured, need) if _gains(measured, one, need)]
    if not better:
        return None
    enough = (one for one in better if _need(one, need.what).met)
    then = next(enough, None) or min(better, key=lambda one: _seconds(one, need.what))
    return Advice("workers", f"{_hiring(measured, then, need)} {_outcome(then, need)}", then)


def _higher_limit(measured: Measured, need: Need) -> Advice | None:
    """The last way out; asked for is what the need asks for, and what can be saved is said."""
    if measured.limit.per_second is None:
        return None
    limit = max(math.ceil(need.asked), measured.most)
    then = replace(measured, limit=Limit(limit, f"{limit} calls a second, if 4Seller grants it."))
    held = "is used up: more workers or requests gain nothing"
    if not _is_used(measured, need):
        one = number(measured.pace.per_second)
        held = f"feeds no further worker, at {one} calls a second each"
    words = (
        f"4Seller's limit of {number(measured.most)} calls a second {held}. "
        f"Ask 4Seller for {number(limit)} calls a second, or push fewer changes."
    )
    if measured.spread and measured.shards > 1:
        items = items_in(measured, LAST)
        saved = calls_of(measured, items) - calls_of(replace(measured, spread=False), items)
        words += f" Without MIDAS_SPREAD_FULL_SYNC a full sync reads the listing once: {saved:,} fewer of its calls."
    return Advice("api_limit", words, then)


MOVES: tuple[Move, ...] = (_longer_interval, _more_in_flight, _more_workers, _higher_limit)


def _workforces(measured: Measured, need: Need) -> Iterator[Measured]:
    """The same shop with more workers, one more each time, as far as the limit goes."""
    most = int(min(MOST_WORKERS, max(1.0, measured.most / measured.pace.per_second)))
    if need.what != "full_sync":
        yield from (replace(measured, pushers=count) for count in range(measured.pushers + 1, most + 1))
        return
    for count in range(measured.workers + 1, most + 1):
        shards = max(measured.shards, count)
        yield replace(measured, spread=True, shards=shards, shards_at_once=count)


def _hiring(measured: Measured, then: Measured, need: Need) -> str:
    if need.what != "full_sync":
        return f"Run `midas worker` until {counted(then.pushers, 'worker', 'workers')} push changes, on as many processors."
    settings = [] if measured.spread else ["MIDAS_SPREAD_FULL_SYNC=true"]
    settings.append(f"MIDAS_SHARDS_AT_ONCE={then.workers}")
    if then.shards != measured.shards:
        settings.append(f"MIDAS_SHARDS={then.shards}")
    extra = pages_of(items_in(then, LAST)) * (then.readings - measured.readings)
    reads = f" Each of the {then.shards} shards reads the listing, {extra:,} calls more." if extra else ""
    return f"Set {' and '.join(settings)}: {then.workers} workers instead of {measured.workers}, on as many processors.{reads}"


def _outcome(then: Measured, need: Need) -> str:
    """How it stands afterwards, and what it takes to go on from there."""
    after = _need(then, need.what)
    took = duration_in_words(_seconds(then, need.what))
    told = {
        "changes": f"The changes then take {then.arriving / after.there:.0%} of {number(after.there)} calls a second.",
        "backlog": f"The backlog then {_takes(took)}.",
        "full_sync": f"A full sync in {LAST} days then takes {took}.",
    }[need.what]
    if after.met:
        return told
    if _is_used(then, after):
        return f"{told} That uses up 4Seller's limit of {number(then.most)}: for more, ask 4Seller for {number(after.asked)} calls a second."
    return f"{told} More needs {number(after.asked)} calls a second: look again once it is measured."


def _need(measured: Measured, what: str) -> Need:
    return next(need for need in needs(measured) if need.what == what)


def _seconds(measured: Measured, what: str) -> float:
    """What a setting has to make shorter."""
    if what == "full_sync":
        return sync_seconds(measured, LAST)
    return backlog_seconds(measured) if what == "backlog" else measured.arriving / measured.push_pace


def _gains(before: Measured, after: Measured, need: Need) -> bool:
    """Whether it is enough, or at least worth it."""
    if need.what == "full_sync" and not _spares_today(before, after):
        return False
    was, becomes = _seconds(before, need.what), _seconds(after, need.what)
    if _need(after, need.what).met:
        return becomes <= was
    return after.push_pace >= before.push_pace * WORTH if math.isinf(was) else was >= becomes * WORTH


def _spares_today(before: Measured, after: Measured) -> bool:
    """Whether what will help a larger catalogue makes no full sync before too long: more shards read more."""
    return all(
        sync_seconds(after, days) <= max(GOAL_SECONDS, sync_seconds(before, days)) for days in HORIZONS
    )


def _is_used(measured: Measured, need: Need) -> bool:
    return need.there >= measured.most * USED
