"""Ids, words and prices that our columns cannot hold stop nobody but their own item."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines_tests.shop import add_product, value
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases


@pytest.mark.parametrize("odd", ["x" * 150, "x\0y", "the same"])
def test_an_odd_id_quarantines_its_item_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    products = [add_product(world.database) for _ in range(6)]
    skus = list(world.wanted)
    create = FourSeller.create_product
    made: dict[str, Any] = {}

    async def oddly(self: FourSeller, draft: Any, **how: Any) -> Any:
        product = await create(self, draft, **how)
        made[draft.sku] = product
        return product.model_copy(update={"id": odd}) if draft.sku in skus[:2] else product

    monkeypatch.setattr(FourSeller, "create_product", oddly)
    report = world.full()
    assert report.scanned == 6
    states = [world.mapping(product).state for product in products]
    assert states.count("quarantined") == (1 if odd == "the same" else 2)
    assert states[2:] == ["listed"] * 4
    assert world.dirty == 0
    assert "4Seller" in value(world.database, "SELECT min(reason) FROM fourseller_product_mappings")


@pytest.mark.parametrize("odd", ["a\0b", "y" * 150])
def test_an_item_whose_id_cannot_be_used_gets_no_second_product(
    world: World, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    item, other = (add_product(world.database) for _ in range(2))
    state, number, names = world.sandbox.state, world.sandbox.state._number, iter([odd])
    monkeypatch.setattr(state, "_number", lambda kind, letter: next(names, None) or number(kind, letter))
    world.full()
    for left in (4, 2):
        for product in (item, other):
            world.set(product, stock_quantity=left)
        world.inventory()
        world.full(ignore_delays=True)
    assert len(world.listed) == 2
    assert world.mapping(item).state in (
        "new",
        "quarantined",
    )  # tried again, later each time, or left to a person
    assert (world.mapping(other).state, world.mapping(other).acked_quantity) == ("listed", 2)
    assert "4Seller" in world.mapping(item).reason


def test_a_price_that_cannot_be_kept_sets_its_item_aside(world: World) -> None:
    products = [add_product(world.database) for _ in range(3)]
    if world.database.is_postgresql:
        with world.database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE products ALTER COLUMN price TYPE NUMERIC(14, 2)")
    world.set(products[1], price=Decimal(100_000_000))
    world.full()
    assert [world.mapping(product).state for product in products] == ["listed", "quarantined", "listed"]
    assert "is not below 100,000,000" in world.mapping(products[1]).reason
