"""Waves: a large plan goes to a few listings first; a wave that fails is put back, and the rest waits."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import pytest

from midas_pipelines.fourseller.models import ProductDraft
from midas_pipelines.sandbox.state import Json, Refused
from midas_pipelines.store.items import mappings
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.sync.context import ChannelDown
from midas_pipelines.sync.listings import scan
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines.sync.safety import waves
from midas_pipelines.sync.safety.waves import Waiting, cut_waves, waiting
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
    first, second, last = cut_waves([waiting(one, 50) for one in changes])
    assert (len(first), len(second), len({*first, *second, *last})) == (5, 50, 500)
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


def test_no_more_than_some_changes_are_in_memory_while_the_waves_are_cut(
    large: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, cut = list[int](), cut_waves

    def counted(changes: Sequence[Waiting]) -> list[list[int]]:
        gc.collect()
        held.append(sum(isinstance(one, ProductDraft) for one in gc.get_objects()))
        return cut(changes)

    monkeypatch.setattr(mappings, "CHUNK", 5)
    monkeypatch.setattr(scan, "CHUNK", 5)
    monkeypatch.setattr(waves, "cut_waves", counted)
    gc.collect()
    before = sum(isinstance(one, ProductDraft) for one in gc.get_objects())
    renamed(large)
    assert large.incremental().updated == 30
    assert held[0] - before <= 5


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
    assert "Wave 1 of the changes failed: 1 of 1 listings" in str(report.stopped)
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


@pytest.mark.parametrize(
    ("accepted", "wave"), [(1, "2 of the changes failed: 3 of 3"), (4, "3 of the changes failed: 26 of 26")]
)
def test_a_wave_that_fails_puts_back_those_before_it_too(
    large: World, monkeypatch: pytest.MonkeyPatch, accepted: int, wave: str
) -> None:
    before, state, taken = large.shown, large.sandbox.state, set[str]()
    whole = state.replace

    def spoil(key: str, draft: Json) -> Json:
        if draft["title"].endswith("new") and key not in taken:
            taken.add(key)
            if len(taken) > accepted:
                raise Refused(422, "refused_by_test", "The category is closed.")
        return whole(key, draft)

    monkeypatch.setattr(state, "replace", spoil)
    renamed(large)
    report = large.incremental()
    (alert,) = rows(large.database, "SELECT text FROM alerts WHERE cleared_at IS NULL AND kind = 'canary'")
    assert f"Wave {wave} listings" in alert.text
    assert (
        f"{accepted} listings, those of earlier waves too, are put back as they were, 0 could not be"
        in alert.text
    )
    assert {sku: one[0] for sku, one in large.shown.items()} == {sku: one[0] for sku, one in before.items()}
    assert report.updated >= accepted


def test_what_the_brake_holds_is_no_failed_wave(large: World) -> None:
    large.changes["brake_percent"] = 20
    run(large.database, "UPDATE products SET price = price * 1.2 WHERE id <= 12")
    run(large.database, "UPDATE products SET name = name || ' new' WHERE id > 12")
    report = large.incremental()
    assert (report.updated, report.held, report.failed) == (18, 12, 0)
    assert rows(large.database, OPEN) == [("brake",)]


def test_a_listing_that_the_shop_changes_during_its_wave_has_not_failed(
    large: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = large.sandbox.state.replace

    def again(key: str, draft: Json) -> Json:
        answer = whole(key, draft)
        run(large.database, "UPDATE products SET name = name || ' again' WHERE sku = :sku", sku=draft["sku"])
        return answer

    renamed(large)
    monkeypatch.setattr(large.sandbox.state, "replace", again)
    assert large.incremental().stopped is None
    assert large.dirty == 30
    assert rows(large.database, OPEN) == []


def test_a_roll_back_that_ends_early_is_reported_and_the_rest_waits(
    large: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise ChannelDown("4Seller is down.")

    monkeypatch.setattr(waves, "undo_writes", refused)
    renamed(large)
    large.refuse(422, *(f"S{number:02}" for number in range(30)))
    with pytest.raises(ChannelDown):
        large.incremental()
    (alert,) = rows(large.database, "SELECT text FROM alerts WHERE cleared_at IS NULL AND kind = 'canary'")
    assert "It could not be put back: `midas undo`" in alert.text


def test_shadow_mode_of_other_writes_leaves_the_waves_on(large: World) -> None:
    large.changes["shadow"] = "status_sync"
    renamed(large)
    large.refuse(422, *(f"S{number:02}" for number in range(30)))
    assert "Wave 1" in str(large.incremental().stopped)
