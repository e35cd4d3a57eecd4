"""Low stock: by threshold, by days of cover, with one alert per crossing."""

from __future__ import annotations

from typing import Any

import pytest

from midas_pipelines.settings import load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.stock.ledger import top_movers
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.operations.stock_levels import Level, LowStockReport, check_low_stock
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines_tests.shop import add_category, add_product, add_variant, run, value


def watched(shop: Database, **changes: Any) -> LowStockReport:
    url = shop.engine.url.render_as_string(hide_password=False)
    return check_low_stock(SyncContext(load_settings(database_url=url, **changes), shop), alert=True)


def stock(shop: Database, quantity: int) -> None:
    run(shop, "UPDATE products SET stock_quantity = :quantity WHERE sku = 'A-1'", quantity=quantity)


@pytest.mark.parametrize(
    ("on_hand", "per_day", "cover", "low"),
    [
        (5, 0.0, 0, True),
        (6, 0.0, 0, False),
        (100, 10.0, 14, True),
        (140, 10.0, 14, False),
        (0, 0.0, 14, True),
    ],
)
def test_an_item_is_low_by_count_or_by_days_of_cover(
    on_hand: int, per_day: float, cover: int, low: bool
) -> None:
    assert Level((1, None), "A-1", on_hand, per_day, 5, cover).low is low


def test_one_alert_per_crossing_and_none_while_it_hovers(shop: Database) -> None:
    add_product(shop, sku="A-1", stock_quantity=20)
    told = []
    for quantity in (20, 5, 6, 5, 6, 4, 20, 5):
        stock(shop, quantity)
        report = watched(shop)
        told.append((report.raised, report.cleared))
        if quantity == 4:
            assert "has 4 left" in value(
                shop, "SELECT text FROM alerts"
            )  # as it is now, not as it was raised
    assert told == [(0, 0), (1, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 1), (1, 0)]


@pytest.mark.both_databases
@pytest.mark.parametrize(
    "end",
    ["UPDATE products SET status = 'archived' WHERE id = :id", "DELETE FROM products WHERE id = :id"],
    ids=["archived", "deleted"],
)
def test_the_alert_of_an_item_that_is_no_longer_sold_closes(shop: Database, end: str) -> None:
    gone = add_product(shop, sku="A-1", stock_quantity=1)
    add_product(shop, sku="A-2", stock_quantity=1)
    watched(shop)
    run(shop, end, id=gone)
    report = watched(shop)
    assert (report.raised, report.cleared) == (0, 1)
    assert "A-2" in value(shop, "SELECT text FROM alerts WHERE cleared_at IS NULL")


@pytest.mark.both_databases
def test_the_threshold_is_the_items_the_categorys_or_the_default(shop: Database) -> None:
    category = add_category(shop)
    slug = value(shop, "SELECT slug FROM categories WHERE id = :id", id=category)
    for number in (1, 2):
        add_product(shop, sku=f"A-{number}", stock_quantity=8, category_id=category)
    add_product(shop, sku="A-3", stock_quantity=8)
    set_rule(shop, {"low_stock": 10}, category=slug)
    set_rule(shop, {"low_stock": 2}, sku="A-2")
    assert [row["sku"] for row in watched(shop).low] == ["A-1"]
    assert watched(shop, low_stock=8).low_items == 2


def test_a_product_sold_by_variant_and_one_that_is_archived_are_not_looked_at(shop: Database) -> None:
    parent = add_product(shop, stock_quantity=0)
    add_variant(shop, parent, sku="V-1", stock_quantity=1)
    add_product(shop, stock_quantity=0, status="archived")
    report = watched(shop)
    assert (report.scanned, [row["sku"] for row in report.low]) == (1, ["V-1"])


@pytest.mark.both_databases
def test_days_of_cover_come_from_what_the_ledger_says_was_sold(shop: Database) -> None:
    add_product(shop, sku="A-1", stock_quantity=156)
    stock(shop, 100)
    (row,) = watched(shop, cover_days=60).low
    assert (row["sold_per_day"], row["days_left"]) == (2.0, 50.0)
    assert top_movers(shop) == [{"sku": "A-1", "sold": 56, "on_hand": 100}]
