"""How fast one worker pushes, and how fast 4Seller lets all of them: what the capacity plan rests on.

Pure: rows of the sync log in, rates with their arithmetic out. Syncs that found little to push say how long scanning
takes, not pushing: only large pushes are measured by their time, and else the latency of single calls is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midas_pipelines.store.operations.sync_metrics import GATEWAY, SyncRow
from midas_pipelines.sync.operations.formatting import counted, duration_in_words, number
from midas_pipelines.sync.operations.performance import PUSHES, of_calls

ROUNDS = 2
"""A push is large when it writes this many times what may be under way: then its slots were full for most of it."""

ENOUGH_CALLS = 20
"""Fewer calls than this say nothing about how long 4Seller takes to answer."""

FULL = 0.7
"""With this share of the slots in use on average more slots would make it faster; below it something else holds it."""

LIMITED = 0.01
"""With this share of the calls answered 429 the pace measured is 4Seller's limit, whatever the settings say."""

MOST_OF_ONE = 600.0
"""Calls a second that one worker reaches with quick answers (benchmarks: 556 items in 0.9 s); latency knows no bound."""

ASSUMED_SECONDS = 0.5
"""What a call is taken to last as long as none was timed: slow for a web API, so that the plan promises too little."""

Source = Literal["pushes", "latency", "assumed"]


@dataclass(frozen=True)
class Throughput:
    """Calls a second that one worker makes while it pushes, before 4Seller's limit.

    Args:
        per_second: above zero.
        source: large pushes measured, the latency of calls, or nothing but an assumption.
        words: the arithmetic.
        by_slots: whether `MIDAS_IN_FLIGHT` is what holds it.
    """

    per_second: float
    source: Source
    words: str
    by_slots: bool

    def __post_init__(self) -> None:
        if not self.per_second > 0:
            raise ValueError(f"A worker that makes {self.per_second} calls a second never ends.")


@dataclass(frozen=True)
class Limit:
    """Calls a second that 4Seller takes from all workers together; None where no limit is known."""

    per_second: float | None
    words: str

    def __post_init__(self) -> None:
        if self.per_second is not None and not self.per_second > 0:
            raise ValueError(f"A limit of {self.per_second} calls a second lets nothing through.")


def is_large(row: SyncRow, in_flight: int) -> bool:
    """Whether the row is a sync that wrote enough for its time to tell the pace of pushing."""
    return (
        row.kind in PUSHES
        and row.kind != GATEWAY  # it pushes what comes, when it comes
        and of_calls(row, "writes") >= ROUNDS * in_flight
        and _push_seconds(row) > 0
    )


def throughput_of(rows: Sequence[SyncRow], in_flight: int) -> Throughput:
    """One worker's pace from large pushes; without one from the latency of calls; without calls an assumption."""
    large = [row for row in rows if is_large(row, in_flight)]
    if large:
        return _of_pushes(large, in_flight)
    latency = _of_latency(rows, in_flight, "writes", "write_seconds") or _of_latency(
        rows, in_flight, "requests", "seconds"
    )
    return latency or _assumed(in_flight)


def limit_of(rows: Sequence[SyncRow], in_flight: int, configured: float | None) -> Limit:
    """The lowest of the limit that is set, the one that 429s taught, and the pace at which they came.

    Args:
        rows: oldest first.
        in_flight: requests that one worker may have under way.
        configured: `MIDAS_RATE_LIMIT`.
    """
    known = [(configured, "set as MIDAS_RATE_LIMIT")] if configured is not None else []
    learnt = [of_calls(row, "learnt_rate") for row in rows if of_calls(row, "requests") >= ENOUGH_CALLS]
    if learnt and learnt[-1] > 0:
        known.append((learnt[-1], "learnt from answers 429 (one process, at its last sync)"))
    met = _met(rows, in_flight)
    if met is not None:
        known.append(met)
    if not known:
        return Limit(
            None, "None known: MIDAS_RATE_LIMIT is not set, and no pause was learnt from answers 429."
        )
    lowest, source = min(known)
    return Limit(lowest, f"{number(lowest)} calls a second, {source}.")


def _of_pushes(large: Sequence[SyncRow], in_flight: int) -> Throughput:
    writes = sum(of_calls(row, "writes") for row in large)
    seconds = sum(_push_seconds(row) for row in large)
    under_way = sum(of_calls(row, "write_seconds") for row in large) / seconds
    words = (
        f"{writes:,.0f} writes / {number(seconds)} s of pushing in {counted(len(large), 'sync', 'syncs')} "
        f"= {number(writes / seconds)} calls a second, with {number(min(under_way, in_flight))} of {in_flight} "
        "requests under way on average"
    )
    return Throughput(writes / seconds, "pushes", words, under_way >= FULL * in_flight)


def _of_latency(rows: Sequence[SyncRow], in_flight: int, count: str, time: str) -> Throughput | None:
    calls = sum(of_calls(row, count) for row in rows)
    seconds = sum(of_calls(row, time) for row in rows)
    if calls < ENOUGH_CALLS or seconds <= 0:
        return None
    latency = seconds / calls
    most = in_flight / latency
    words = (
        f"No sync pushed {ROUNDS * in_flight} items or more, so no pace was measured. From the latency of "
        f"{calls:,.0f} calls: {in_flight} requests under way / {number(latency)} s = {number(most)} calls a second at most"
    )
    if most > MOST_OF_ONE:
        words += f"; one worker was never seen to make more than {number(MOST_OF_ONE)}"
    return Throughput(min(most, MOST_OF_ONE), "latency", words, most <= MOST_OF_ONE)


def _assumed(in_flight: int) -> Throughput:
    most = in_flight / ASSUMED_SECONDS
    words = (
        f"Nothing was measured: fewer than {ENOUGH_CALLS} calls were timed. Assumed, not measured: "
        f"{in_flight} requests under way / {duration_in_words(ASSUMED_SECONDS)} a call = {number(most)} calls a second"
    )
    return Throughput(min(most, MOST_OF_ONE), "assumed", words, most <= MOST_OF_ONE)


def _met(rows: Sequence[SyncRow], in_flight: int) -> tuple[float, str] | None:
    """The pace of the large pushes, where 4Seller refused so many of their calls that it held them."""
    large = [row for row in rows if is_large(row, in_flight)]
    calls, limited = (sum(of_calls(row, name) for row in large) for name in ("requests", "limited"))
    if not limited or limited < LIMITED * calls:
        return None
    source = f"the pace at which 4Seller answered 429 to {limited:,.0f} of {calls:,.0f} calls"
    return _of_pushes(large, in_flight).per_second, source


def _push_seconds(row: SyncRow) -> float:
    """How long the row's push took; all of a sync that does nothing else."""
    return float(row.counts.get("push_seconds") or row.seconds)
