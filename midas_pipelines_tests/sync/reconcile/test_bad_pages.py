"""Listings over several pages that repeat, move while they are read, or hold a SKU twice; and half of the items new."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from midas_pipelines.fourseller.listed import ListedProducts, Listing, read_listed_row
from midas_pipelines.sandbox.state import Json, State
from midas_pipelines.sync.reconcile import run as reconcile_run
from midas_pipelines.sync.reconcile.run import _lacking, reconcile
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.world import World

Turn = Callable[[list[Json], int], list[Json]]


@pytest.fixture
def pages(world: World) -> World:
    """Sixty items, all listed, in pages of twenty."""
    for number in range(60):
        add_product(world.database, sku=f"A-{number:02d}")
    world.full()
    world.habits("small-pages=20")
    return world


def tied(world: World) -> list[Any]:
    return rows(
        world.database,
        "SELECT id, state, fourseller_product_id, dirty_since FROM fourseller_product_mappings ORDER BY id",
    )


def test_half_of_the_items_are_new_and_each_is_created_once(pages: World) -> None:
    for number in range(60, 120):
        add_product(pages.database, sku=f"A-{number:03d}")
    report = pages.full()
    assert (report.created, report.unchanged, report.failed) == (60, 60, 0)
    assert pages.shown == pages.wanted


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(lambda found, calls: found[:20] * 2 + found[40:], id="a page repeats"),
        pytest.param(lambda found, calls: found + found[:calls], id="the total moves"),
    ],
)
def test_a_list_that_cannot_be_whole_changes_nothing(
    pages: World, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, before, calls = pages.sandbox.state, tied(pages), 0
    pages.sandbox.calls.clear()

    def find(**asked: Any) -> list[Json]:
        nonlocal calls
        calls += 1
        found = State.find(state, **asked)
        return found if asked["sku"] else turn(found, calls)

    monkeypatch.setattr(state, "find", find)
    report = asyncio.run(reconcile(pages.sync_context(read_back_grace_seconds=0)))
    assert (report.complete, report.equal) == (False, 60)
    assert tied(pages) == before
    assert pages.writes() == 0


def test_a_sku_on_two_pages_is_reported_and_left_to_a_person(pages: World) -> None:
    for sku in ("A-03", "A-41"):
        pages.sandbox.state.create({"sku": sku, "title": "By hand", "price": "1.00"})
    before = tied(pages)
    report = asyncio.run(reconcile(pages.sync_context(read_back_grace_seconds=0)))
    assert [one["sku"] for one in report.doubled] == ["A-03", "A-41"]
    assert (report.complete, report.equal, report.orphans) == (True, 60, 2)
    assert tied(pages) == before
    assert len(pages.sandbox.state.products) == 62


@pytest.mark.only_on("postgresql")  # a statement takes the fewest parameters there
def test_ids_in_other_letters_are_known_again_however_many_there_are(world: World) -> None:
    count, products = 70_000, ListedProducts()
    added = "INSERT INTO fourseller_product_mappings (product_id, fourseller_product_id) "
    run(world.database, added + f"SELECT n, 'P' || n FROM generate_series(1, {count}) AS n")
    products.add(read_listed_row({"id": f"p{number}"}) for number in range(1, count + 1))
    lacking, known, _ = _lacking(world.sync_context(), Listing(products, complete=True), None)
    assert (lacking, known) == ([], count)


def test_a_list_that_lacks_all_takes_little_memory_for_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_run, "READ_AT_ONCE", 100)
    added = "INSERT INTO fourseller_product_mappings (product_id, fourseller_product_id, acked_at) "
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
    run(world.database, f"{numbers}{added}SELECT i, 'P' || i, '2026-01-01 00:00:00.000000' FROM n")
    context, nothing = world.sync_context(), Listing(ListedProducts(), complete=True)
    _lacking(context, nothing, None)
    tracemalloc.start()
    try:
        lacking, known, settled = _lacking(context, nothing, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(lacking), known, settled) == (5000, 5000, 5000)
    assert peak / known < 220
