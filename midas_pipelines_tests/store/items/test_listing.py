"""Searching items: the same rows on both databases, whether or not PostgreSQL looks words up table by table."""

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.store.items import listing
from midas_pipelines_tests.shop import add_product, add_variant, run

FOUND = (
    ("screen", ["A-1", "B-1", "B-BLK", "B-1"]),
    ("SCREEN a-1", ["A-1"]),
    ("b-1 white screen", ["B-1"]),  # the variant without a SKU has its product's
    ("black screen b-blk", ["B-BLK"]),
    ("old-9 battery", ["OLD-9"]),  # the shop took its SKU away
    ("gone-7", ["GONE-7"]),  # the shop took the product away
    ("écran", ["C_1%"]),
    ("_1%", ["C_1%"]),
    ("screen battery", []),
)
"""A text, and the SKUs that a search for it finds."""


@pytest.mark.parametrize("near", [0, 500])
def test_a_search_finds_every_word_wherever_it_is(
    shop: Database, monkeypatch: pytest.MonkeyPatch, near: int
) -> None:
    monkeypatch.setattr(listing, "NEAR", near)
    add_product(shop, sku="A-1", name="Screen")
    product = add_product(shop, sku="B-1", name="Screen")
    add_variant(shop, product, sku="B-BLK", variant_value="Black")
    add_variant(shop, product, sku=None, variant_value="White")
    battery = add_product(shop, sku=None, name="Battery")
    gone = add_product(shop, sku="GONE-7")
    add_product(shop, sku="C_1%", name="écran")
    run(shop, f"UPDATE fourseller_product_mappings SET sku = 'OLD-9' WHERE product_id = {battery}")
    run(shop, f"UPDATE fourseller_product_mappings SET sku = 'GONE-7' WHERE product_id = {gone}")
    run(shop, f"DELETE FROM products WHERE id = {gone}")
    for text, skus in FOUND:
        with shop.reading() as connection:
            found = [row["sku"] for row in listing.list_items(connection, text=text)]
            first = [row["sku"] for row in listing.list_items(connection, text=text, limit=1)]
        assert (sorted(found), first) == (sorted(skus), found[:1])
