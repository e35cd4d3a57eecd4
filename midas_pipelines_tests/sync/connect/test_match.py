"""Which listing is which item."""

from __future__ import annotations

from midas_pipelines.fourseller.models import Product
from midas_pipelines.sync.connect.match import Sought, match_listings


def listing(key: str, sku: str | None, title: str = "", **more: object) -> Product:
    return Product.model_validate({"id": key, "sku": sku, "title": title, **more})


def test_each_way_of_matching_finds_its_pair() -> None:
    items = [
        Sought(1, "SCR-1", "Screen for Phone A"),
        Sought(2, "BAT 20-x", "Battery"),
        Sought(3, "0012345678905", "Cable"),
        Sought(4, "ours-only", "OLED Screen Assembly for Phone Nine Pro"),
        Sought(5, "NEW-1", "A part that nobody lists"),
    ]
    listings = [
        listing("a", "SCR-1"),
        listing("b", "bat20X"),
        listing("c", "hub-7", upc="12345678905".zfill(12)),
        listing("d", "theirs", "Phone Nine Pro - OLED screen assembly (for)"),
        listing("e", "else", "Something else altogether"),
        listing("f", "TWICE"),
        listing("g", "TWICE"),
    ]
    matched = match_listings(items, listings)
    found = {(pair.item.mapping_id, pair.product.id, pair.how) for pair in matched.pairs}
    assert found == {(1, "a", "sku"), (2, "b", "spelling"), (3, "c", "barcode"), (4, "d", "title")}
    assert [one.sku for one in matched.only_here] == ["NEW-1"]
    assert [one.id for one in matched.only_there] == ["e"]
    assert [one.id for one in matched.doubled] == ["f", "g"]


def test_what_two_would_fit_is_left_for_a_person() -> None:
    items = [Sought(1, "AB-1", "One"), Sought(2, "A B1", "Two")]
    matched = match_listings(items, [listing("a", "ab1")])
    assert matched.pairs == []
    assert len(matched.only_here) == 2
