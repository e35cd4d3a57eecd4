"""A SKU of the hub's that no item has: mapped once by hand, or spelled otherwise, it needs nobody the next time."""

from __future__ import annotations

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import link_sku, linked_items, linked_skus, unlink_sku
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.stock.pending_lines import map_known_lines, map_line
from midas_pipelines.text import spellings
from midas_pipelines_tests.shop import add_product, value
from midas_pipelines_tests.sync.world import World

TAKEN = "SELECT coalesce(sum(allocated), 0) FROM marketplace_order_lines"


def test_what_was_mapped_once_by_hand_is_not_asked_for_again(world: World) -> None:
    product = add_product(world.database, sku="A-1", stock_quantity=10)
    world.place(("HUB-1", 2))
    world.import_orders()
    assert map_line(world.database, 1, 1, (product, None), OrderContext(None))
    world.place(("HUB-1", 3))
    world.import_orders()
    assert value(world.database, TAKEN) == 5


@pytest.mark.both_databases
def test_a_link_maps_what_waits_for_it_and_can_be_taken_back(world: World) -> None:
    product = add_product(world.database, sku="A-1", stock_quantity=10)
    world.place(("HUB-1", 2))
    world.import_orders()
    with world.database.writing() as connection:
        link_sku(connection, "HUB-1", (product, None))
        assert [row["hub_sku"] for row in linked_skus(connection)] == ["HUB-1"]
    assert map_known_lines(world.database) == 1
    with world.database.writing() as connection:
        assert (unlink_sku(connection, "HUB-1"), unlink_sku(connection, "HUB-1")) == (True, False)
    world.place(("HUB-1", 3))
    world.import_orders()
    assert value(world.database, TAKEN) == 2


@pytest.mark.both_databases
def test_a_later_link_replaces_the_earlier_one(shop: Database) -> None:
    with shop.writing() as connection:
        link_sku(connection, "HUB-1", (1, None))
        link_sku(connection, "HUB-1", (2, 3))
        assert linked_items(connection, {"HUB-1", "HUB-2"}) == {"HUB-1": (2, 3)}


@pytest.mark.parametrize(
    ("sku", "hub_sku"),
    [
        ("B&C 1", "b&amp;c 1"),
        ("B&C 1", " B&C  1 "),
        ("B&C 1", "B&C1"),
        ("b&c1", "B&C 1"),
        ("B&C 1", "b\u200b&c\u00a01"),
        ("\u00c4B-1", "\u00e4b-1"),
        ("\u00e4b-1", "A\u0308B-1"),
    ],
)
def test_another_spelling_of_one_listed_items_sku_is_taken_as_that_item(
    world: World, sku: str, hub_sku: str
) -> None:
    add_product(world.database, sku=sku, stock_quantity=10)
    world.full()
    world.place((hub_sku, 2))
    world.import_orders()
    assert value(world.database, TAKEN) == 2
    remark = value(world.database, "SELECT detail FROM order_processing_logs WHERE step = 'mapped'")
    assert "is another spelling of the SKU" in remark


def test_a_spelling_of_two_items_skus_stays_unmapped(world: World) -> None:
    for sku in ("ABC", "abc"):
        add_product(world.database, sku=sku, stock_quantity=10)
    world.full()
    world.place(("Abc", 2))
    world.import_orders()
    assert value(world.database, TAKEN) == 0


@pytest.mark.parametrize("other", ["É-1", "E\u0301-1", "é-1", " É-1"])
def test_the_forms_of_one_sku_share_a_spelling(other: str) -> None:
    assert spellings("É-1") & spellings(other)
