"""A SKU finds the item that is sold under it."""

from __future__ import annotations

from midas_pipelines.store.database import Database
from midas_pipelines.storefront.catalog import items_by_sku
from midas_pipelines_tests.shop import add_product, add_variant


def test_a_sku_finds_a_product_or_a_variant_and_an_unknown_one_nothing(shop: Database) -> None:
    plain, parent = add_product(shop, sku="P-1"), add_product(shop, sku="P-2")
    variant = add_variant(shop, parent, sku="P-2-BLK")
    add_variant(shop, None, sku="LOOSE")
    with shop.reading() as connection:
        found = items_by_sku(connection, {"P-1", "P-2", "P-2-BLK", "LOOSE", "NONE"})
    assert found == {"P-1": (plain, None), "P-2-BLK": (parent, variant)}


def test_no_skus_find_nothing(shop: Database) -> None:
    with shop.reading() as connection:
        assert items_by_sku(connection, set()) == {}
