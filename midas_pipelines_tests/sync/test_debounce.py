"""Which items go now and which wait, by a clock that the test turns."""

from __future__ import annotations

from itertools import pairwise

import pytest

from midas_pipelines.store.items.claims import Claimable
from midas_pipelines.sync.hold_back import Debounce


def play(changes: list[float], *, push_seconds: float = 0.04, until: float = 120.0) -> list[float]:
    """When an item that changes at these moments is pushed, looked at every 10 ms, in seconds."""
    pacing, pushes, version, acked, now = Debounce(), [], 0, 0, 0.0
    busy_until, pushed_at = 0.0, None
    while now < until:
        version = sum(moment <= now for moment in changes)
        if now >= busy_until and version > acked:
            ago = None if pushed_at is None else now - pushed_at
            due, _ = pacing.sort([Claimable(1, version, ago)], now)
            if due:
                pacing.started(due, now)
                pushes.append(round(now, 2))
                acked, busy_until = version, now + push_seconds
                pushed_at = busy_until
        now += 0.01
    return pushes


def test_a_lone_change_goes_at_once() -> None:
    assert play([1.0]) == pytest.approx([1.0], abs=0.02)


def test_a_second_change_is_on_its_way_within_a_fifth_of_a_second() -> None:
    _, second = play([1.0, 1.5])
    assert second - 1.5 < 0.2


def test_an_item_that_changes_less_than_once_a_second_is_never_held() -> None:
    moments = [1.0 + 1.2 * number for number in range(20)]
    assert play(moments) == pytest.approx(moments, abs=0.02)


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0, 10.0, 25.0])
def test_a_burst_of_fifty_changes_costs_three_pushes(seconds: float) -> None:
    assert len(play([1.0 + seconds * number / 50 for number in range(50)])) <= 3


def test_an_item_that_never_rests_is_pushed_at_last() -> None:
    pushes = play([number / 10 for number in range(1200)])
    assert max(later - earlier for earlier, later in pairwise(pushes)) <= 31


def test_what_would_sell_what_is_not_there_goes_at_once() -> None:
    pacing = Debounce()
    pacing.sort([Claimable(1, 1, 0.1)], 0.0)
    assert pacing.sort([Claimable(1, 2, 0.1, urgent=True)], 0.01) == ([1], None)


def test_the_wait_is_told_so_that_nobody_has_to_look_in_vain() -> None:
    due, wait = Debounce().sort([Claimable(1, 1, None), Claimable(2, 1, 0.5)], 0.0)
    assert due == [1]
    assert wait == pytest.approx(0.12)
