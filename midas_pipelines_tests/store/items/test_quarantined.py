"""What waits for a person is listed with its reason, and freed by hand."""

from __future__ import annotations

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.listing import quarantined_items, retry_items
from midas_pipelines_tests.shop import add_product, add_variant, rows, run


def _set_aside(shop: Database, product: int) -> None:
    run(
        shop,
        "UPDATE fourseller_product_mappings SET state = 'quarantined', reason = 'Refused.', attempts = 3, "
        "dirty_since = NULL, acked_version = version WHERE product_id = :product AND variant_id IS NULL",
        product=product,
    )


def test_set_aside_items_are_listed_with_their_reason(shop: Database) -> None:
    _set_aside(shop, add_product(shop, sku="A-1"))
    add_product(shop, sku="B-1")
    assert [(item["sku"], item["state"], item["reason"]) for item in quarantined_items(shop)] == [
        ("A-1", "quarantined", "Refused.")
    ]


def test_a_freed_item_is_dirty_again_with_all_its_attempts(shop: Database) -> None:
    for sku in ("A-1", "B-1"):
        _set_aside(shop, add_product(shop, sku=sku))
    assert retry_items(shop, ["A-1"]) == ["A-1"]
    found = rows(
        shop, "SELECT state, attempts, dirty_since IS NULL FROM fourseller_product_mappings ORDER BY id"
    )
    assert [tuple(row) for row in found] == [("new", 0, False), ("quarantined", 3, True)]


def test_all_can_be_freed_at_once_variants_too(shop: Database) -> None:
    product = add_product(shop, sku="A")
    add_variant(shop, product, sku="A-RED")
    run(shop, "UPDATE fourseller_product_mappings SET attempts = 1 WHERE variant_id IS NOT NULL")
    assert retry_items(shop) == ["A-RED"]
    assert retry_items(shop) == []
