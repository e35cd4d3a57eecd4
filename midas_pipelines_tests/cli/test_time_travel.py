"""`midas explain --at` and `midas diff`: what was shown on a past day, what changed since, and why."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from upath import UPath

from midas_pipelines.settings import load_settings
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, Snapshots, place
from midas_pipelines.sync.snapshots.take import snapshot_catalog, snapshot_listing
from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.shop import add_category, add_product, run, value
from midas_pipelines_tests.sync.world import World

TODAY = load_settings().today()
YESTERDAY = TODAY - timedelta(days=1)


def record(world: World, folder: Path, day: date | None = None) -> None:
    """Takes both snapshots, as of `day` or today, and reconciles, as `midas reconcile` does in one run."""
    kept, context = Snapshots(UPath(folder / "snapshots")), replace(world.sync_context(), run_id=f"{day}")
    catalog, _ = snapshot_catalog(context, "x")
    listing = asyncio.run(snapshot_listing(context, "x"))
    for kind, taken in ((CATALOG, catalog), (LISTING, listing)):
        place(taken.path, kept.path(kind, day or TODAY))
    asyncio.run(reconcile(context))


@pytest.mark.both_databases
def test_what_changed_between_two_days_comes_with_its_orders_rules_and_prices(
    world: World, midas: Midas, settings: dict[str, str], tmp_path: Path
) -> None:
    _sold, priced, edited, removed, _same = (
        add_product(world.database, sku=f"A-{number}", stock_quantity=9, price="10.00") for number in range(5)
    )
    parent, child = (add_category(world.database, name) for name in ("Parts", "Screens"))
    run(world.database, "UPDATE categories SET parent_id = :p WHERE id = :c", p=parent, c=child)
    run(world.database, "UPDATE products SET category_id = :c WHERE id = :id", c=child, id=edited)
    world.full()
    record(world, tmp_path, YESTERDAY)
    order = world.place(("A-0", 2))
    world.import_orders()
    world.set(priced, price="12.50")
    slug = value(world.database, "SELECT slug FROM categories WHERE id = :p", p=parent)
    set_rule(world.database, {"buffer": 4}, category=slug)
    world.remove(removed)
    add_product(world.database, sku="B-1", stock_quantity=1)
    world.full()
    record(world, tmp_path)
    found = midas("diff", "--from", f"{YESTERDAY}", "--json", **settings).json
    fields = {one["sku"]: (one["what"], one["fields"]) for one in found["changed"]}
    assert fields == {
        "A-0": ("changed", {"quantity": [9, 7]}),
        "A-1": ("changed", {"price": ["10.00", "12.50"]}),
        "A-2": ("changed", {"quantity": [9, 5]}),
        "A-3": ("removed", {"price": ["10.00", None], "quantity": [9, None]}),
        "B-1": ("added", {"price": [None, "10.00"], "quantity": [None, 1]}),
    }
    why = {one["sku"]: "\n".join(one["why"]) for one in found["changed"]}
    assert "-2 → 7, sale:" in why["A-0"]
    assert f"order {order}, line 1" in why["A-0"]
    assert "the shop's price went from 10.00 to 12.50" in why["A-1"]
    assert f"rule for category {parent} (fourseller): buffer 4, set by" in why["A-2"]
    assert "rule for" not in why["A-0"]
    printed = midas("diff", "--from", f"{YESTERDAY}", "--sku", "A-1", **settings).output
    assert "1 products changed" in printed
    assert "A-1 changed: price 10.00 → 12.50" in printed
    assert "A-0" not in printed


def test_an_edit_on_4seller_is_named_as_one(
    world: World, midas: Midas, settings: dict[str, str], tmp_path: Path
) -> None:
    add_product(world.database, sku="A-1")
    world.full()
    record(world, tmp_path, YESTERDAY)
    (product,) = world.sandbox.state.products.values()
    product["status"] = "paused"
    for quantity in (4, 5):  # explains no change of anything else
        world.set(1, stock_quantity=quantity)
    record(world, tmp_path)
    printed = midas("diff", "--from", f"{YESTERDAY}", **settings).output
    assert "A-1 changed: status active → paused" in printed
    assert "<- conflict 1: content" in printed
    assert "<- ledger" not in printed


def test_an_item_as_it_was_on_a_day(
    world: World, midas: Midas, settings: dict[str, str], tmp_path: Path
) -> None:
    product = add_product(world.database, sku="A-1", stock_quantity=9, price="10.00", name="Screen")
    world.full()
    record(world, tmp_path, YESTERDAY)
    world.set(product, stock_quantity=1, price="99.00")
    world.full()
    printed = midas("explain", "A-1", "--at", f"{YESTERDAY}", **settings).output
    assert "4Seller showed 9 at 10.00 USD, “Screen” (active)" in printed
    assert "9 on hand, 9 of them for 4Seller at 10.00" in printed
    told = midas("explain", "NOPE", "--at", f"{YESTERDAY}", **settings)
    assert (told.code, "had the SKU NOPE on" in told.errors) == (2, True)


@pytest.mark.parametrize(("hour", "named"), [("06:59", True), ("07:01", False)])
def test_a_past_day_ends_at_the_shops_midnight(
    world: World, midas: Midas, settings: dict[str, str], tmp_path: Path, hour: str, named: bool
) -> None:
    add_product(world.database, sku="A-1")
    world.full()
    record(world, tmp_path, date(2026, 3, 8))  # in Los Angeles an hour short, and over at 07:00 UTC
    set_rule(world.database, {"buffer": 4})
    run(world.database, "UPDATE channel_rules SET changed_at = :at", at=f"2026-03-09 {hour}:00.000000")
    zone = {"MIDAS_TIMEZONE": "America/Los_Angeles"}
    assert ("buffer 4" in midas("explain", "A-1", "--at", "2026-03-08", **settings, **zone).output) is named


def test_a_day_without_a_snapshot_names_the_nearest(
    world: World, midas: Midas, settings: dict[str, str]
) -> None:
    told = midas("explain", "A-1", "--at", "2026-11-01", **settings)
    assert (told.code, "none is kept yet" in told.errors) == (2, True)
    midas("reconcile", **settings)
    told = midas("diff", "--from", "2026-01-01", **settings)
    assert told.code == 2
    assert (
        f"There is no listing_snapshot of 2026-01-01 in {settings['MIDAS_SNAPSHOTS']}; "
        f"the nearest days that have one: {TODAY}." in " ".join(told.errors.split())
    )
    told = midas("diff", "--from", "2026-01-02", "--to", "2026-01-01", **settings)
    assert (told.code, "must be a later day" in told.errors) == (2, True)
