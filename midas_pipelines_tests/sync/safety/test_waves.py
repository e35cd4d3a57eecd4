"""Waves: a large plan goes to a few listings first; a wave that fails is put back, and the rest waits."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from midas_pipelines.fourseller.models import ProductDraft
from midas_pipelines.sandbox.state import Json
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.sync.safety.waves import cut_waves
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.world import World

OPEN = "SELECT kind FROM alerts WHERE cleared_at IS NULL"


def change(number: int, category: str, price: int) -> Change:
    mapping = Mapping(
        number,
        number,
        None,
        f"S{number}",
        f"P{number}",
        "listed",
        2,
        1,
        "h",
        Decimal(1),
        1,
        None,
        None,
        0,
        None,
        None,
    )
    draft = ProductDraft(title="T", sku=f"S{number}", price=Decimal(price), category=category)
    return Change(mapping, Action.UPDATE, draft)


def test_waves_are_spread_over_categories_and_prices() -> None:
    changes = [change(n, "abcde"[n % 5], n) for n in range(1, 501)]
    by_id = {one.mapping.id: one for one in changes}
    first, second = cut_waves(changes)
    assert (len(first), len(second), len({*first, *second})) == (5, 50, 55)
    assert Counter(by_id[one].draft.category for one in first) == dict.fromkeys("abcde", 1)  # type: ignore[union-attr]
    assert set(Counter(by_id[one].draft.category for one in second).values()) == {10}  # type: ignore[union-attr]
    prices = [int(by_id[one].draft.price) for one in second]  # type: ignore[union-attr]
    assert (min(prices) < 100, max(prices) > 400) == (True, True)


@pytest.fixture
def large(world: World) -> World:
    """Thirty listings, of which more than ten changes go in waves, and a brake that is off."""
    world.changes |= {"canary_items": 10, "brake_percent": 100}
    for number in range(30):
        add_product(world.database, sku=f"S{number:02}")
    world.full()
    return world


def renamed(world: World) -> None:
    run(world.database, "UPDATE products SET name = name || ' new', stock_quantity = 4")


def test_a_large_plan_that_goes_well_is_sent_whole(large: World) -> None:
    renamed(large)
    report = large.incremental()
    assert (report.updated, report.held, report.failed) == (30, 0, 0)
    assert large.shown == large.wanted
    assert not large.dirty


def test_a_wave_that_is_not_shown_as_sent_stops_the_plan_and_is_put_back(
    large: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, state = large.shown, large.sandbox.state
    whole = state.replace

    def spoil(key: str, draft: Json) -> Json:
        answer = dict(whole(key, draft))
        if draft["title"].endswith("new"):
            state.products[key]["title"] = "Spoiled"
        return answer

    monkeypatch.setattr(state, "replace", spoil)
    renamed(large)
    report = large.incremental()
    assert "Wave" in str(report.stopped)
    assert Counter(one[0] == "Spoiled" for one in large.shown.values())[True] <= 1
    assert [one[2] for one in large.shown.values()] == [4] * 30  # quantities go on
    assert len([sku for sku in before if large.shown[sku][0] != before[sku][0]]) <= 1
    assert ("canary",) in rows(large.database, OPEN)
    writes = large.writes(large.incremental)
    assert writes == 0

    monkeypatch.setattr(state, "replace", whole)
    plan = make_plan(large.sync_context())
    applied = large.incremental(agreed=plan)
    assert applied.failed == 0
    large.full()  # what 4Seller spoiled itself is found by reading it back
    assert large.shown == large.wanted
    assert rows(large.database, OPEN) == []


def test_leaping_prices_go_in_waves_though_they_are_few(large: World) -> None:
    large.changes |= {"canary_items": 100, "brake_items": 10}
    run(large.database, "UPDATE products SET price = price * 9 WHERE id <= 12")
    large.refuse(422, *(f"S{number:02}" for number in range(30)))
    report = large.incremental()
    assert "Wave" in str(report.stopped)
    assert report.quarantined < 12


def test_the_shop_that_reverts_ends_the_wait(large: World, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed(large)
    large.refuse(422, *(f"S{number:02}" for number in range(30)))
    large.incremental()
    large.refused.clear()
    run(large.database, "UPDATE products SET name = replace(name, ' new', '')")
    large.full()
    assert large.shown == large.wanted
    assert rows(large.database, OPEN) == []


def test_a_hub_that_refuses_one_in_five_stops_the_second_wave_and_the_rest_is_as_before(large: World) -> None:
    for number in range(30, 100):
        add_product(large.database, sku=f"S{number:02}")
    large.full()
    before = large.shown
    renamed(large)
    large.refuse(422, *(f"S{number:02}" for number in range(100) if number // 10 % 5 == 1))
    report = large.incremental()
    (alert,) = rows(large.database, "SELECT text FROM alerts WHERE cleared_at IS NULL AND kind = 'canary'")
    assert "Wave 2 of the changes failed: 2 of 10 listings" in alert.text
    assert "8 are put back as they were, 0 could not be" in alert.text
    changed = [sku for sku, one in large.shown.items() if one[0] != before[sku][0]]
    assert (report.quarantined, len(changed)) == (2, 1)  # the first wave went well
