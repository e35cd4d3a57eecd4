"""SQLite keeps whatever is written into a column: one odd cell sets its own item aside and no other."""

from __future__ import annotations

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.conftest import world  # noqa: F401 - the fixture, on SQLite alone below
from midas_pipelines_tests.sync.world import World

ODD_STOCK = {"no number": "''", "a fraction": "2.5", "too large": "1099511627776"}


@pytest.fixture
def shop(sqlite_shop: Database) -> Database:
    """The shop of `world`, on SQLite."""
    return sqlite_shop


@pytest.mark.parametrize("cell", ODD_STOCK.values(), ids=ODD_STOCK)
def test_an_odd_stock_count_sets_its_item_aside_and_no_other(world: World, cell: str) -> None:  # noqa: F811
    odd, _ = add_product(world.database, sku="ODD"), add_product(world.database, sku="EVEN")
    run(world.database, f"UPDATE products SET stock_quantity = {cell} WHERE id = {odd}")
    report = world.full()
    assert (report.created, report.quarantined, list(world.shown)) == (1, 1, ["EVEN"])
    assert report.problems[0]["sku"] == "ODD"
    assert "whole number" in report.problems[0]["reason"]


def test_bytes_for_a_sku_are_read_as_text(world: World) -> None:  # noqa: F811
    product = add_product(world.database)
    run(world.database, f"UPDATE products SET sku = x'4142' WHERE id = {product}")
    assert world.full().created == 1
    assert list(world.shown) == ["AB"]
