"""Shops for the capacity plan: a usual one, to be varied, and any at all."""

from __future__ import annotations

from hypothesis import strategies as st

from midas_pipelines.sync.operations.forecast import Measured
from midas_pipelines.sync.operations.throughput import Limit, Throughput

NO_LIMIT = Limit(None, "None known.")


def pace(per_second: float, *, by_slots: bool = False) -> Throughput:
    """A measured pace of one worker."""
    return Throughput(per_second, "pushes", f"{per_second:g} calls a second", by_slots)


def limit(per_second: float) -> Limit:
    """A limit that is set."""
    return Limit(per_second, f"{per_second:g} calls a second, set as MIDAS_RATE_LIMIT.")


USUAL = Measured(
    items=1000,
    new_in_30_days=100,
    waiting=0,
    pushes_per_day=200,
    stock_changes=0,
    stock_items=0,
    pace=pace(100),
    limit=NO_LIMIT,
    in_flight=50,
    spread=False,
    shards=16,
    shards_at_once=4,
    interval_minutes=1,
)

RATES = st.floats(1e-3, 1e4)
LIMITS = st.one_of(st.just(NO_LIMIT), RATES.map(limit))


@st.composite
def shops(draw: st.DrawFn) -> Measured:
    """Any shop: empty or huge, growing or shrinking, idle or flooded, with any setting that the settings take."""
    stock_items = draw(st.integers(0, 10_000))
    return Measured(
        items=draw(st.integers(0, 5_000_000)),
        new_in_30_days=draw(st.integers(-2_000_000, 2_000_000)),
        waiting=draw(st.one_of(st.just(0), st.integers(0, 5_000_000))),
        pushes_per_day=draw(st.one_of(st.just(0), st.integers(0, 10_000_000))),
        stock_changes=stock_items * draw(st.integers(1, 500)),
        stock_items=stock_items,
        pace=Throughput(
            draw(RATES), draw(st.sampled_from(["pushes", "latency", "assumed"])), "So", draw(st.booleans())
        ),
        limit=draw(LIMITS),
        in_flight=draw(st.integers(1, 500)),
        spread=draw(st.booleans()),
        shards=draw(st.integers(1, 1000)),
        shards_at_once=draw(st.integers(1, 1000)),
        interval_minutes=draw(st.one_of(st.none(), st.integers(1, 60))),
    )
