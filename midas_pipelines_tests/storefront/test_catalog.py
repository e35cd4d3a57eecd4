"""What the shop sells, at which price, read from its tables as they really are."""

from __future__ import annotations

from decimal import Decimal

import pytest

from midas_pipelines.store.database import Database
from midas_pipelines.storefront.catalog import (
    ItemKey,
    ShopItem,
    read_items,
    selling_price,
)
from midas_pipelines_tests.shop import add_category, add_image, add_product, add_variant, run


@pytest.mark.parametrize(
    ("price", "adjustment", "discount", "expected"),
    [
        ("10.00", None, None, "10.00"),
        ("10.00", "2.50", None, "12.50"),
        ("10.00", "-2.50", None, "7.50"),
        ("10.00", None, "0.00", "10.00"),
        ("10.00", None, "15.00", "8.50"),
        ("0.05", None, "50.00", "0.03"),  # half-up, where half-even gives 0.02
        ("0.25", None, "10.00", "0.23"),  # 0.225
        ("19.99", None, "33.33", "13.33"),  # 13.327333
        ("10.00", "0.10", "50.00", "5.05"),  # the discount is on the sum
        ("10.00", None, "100.00", "0.00"),
        ("10.00", None, "150.00", "-5.00"),
        ("10.00", "-20.00", None, "-10.00"),
        ("99999999.99", "99999999.99", None, "199999999.98"),
        ("NaN", None, None, "0.00"),
        ("10.00", "NaN", None, "0.00"),
    ],
)
def test_the_selling_price_is_price_and_adjustment_less_discount_half_up(
    price: str, adjustment: str | None, discount: str | None, expected: str
) -> None:
    amounts = [None if text is None else Decimal(text) for text in (adjustment, discount)]
    assert str(selling_price(Decimal(price), *amounts)) == expected


def test_a_product_without_variants_is_an_item(shop: Database) -> None:
    category = add_category(shop, "Batteries")
    product = add_product(
        shop,
        name="Battery",
        sku="B-1",
        description="Long-lasting",
        price=Decimal("19.90"),
        discount_percentage=Decimal("10"),
        stock_quantity=7,
        weight=Decimal("0.05"),
        dimensions="5x3x1 cm",
        brand="Apple",
        category_id=category,
    )
    assert _read(shop, (product, None)) == {
        (product, None): ShopItem(
            product_id=product,
            variant_id=None,
            sku="B-1",
            name="Battery",
            option=None,
            description="Long-lasting",
            price=Decimal("17.91"),
            on_hand=7,
            category="Batteries",
            brand="Apple",
            weight=Decimal("0.05"),
            dimensions="5x3x1 cm",
            images=(),
            active=True,
            category_id=category,
        )
    }


def test_a_variant_has_its_own_sku_stock_and_price_and_the_products_name(shop: Database) -> None:
    product = add_product(shop, name="Cover", price=Decimal("10.00"), discount_percentage=Decimal("50"))
    variant = add_variant(
        shop,
        product,
        variant_value="Black",
        sku="C-BLK",
        stock_quantity=3,
        price_adjustment=Decimal("1.01"),
    )
    item = _read(shop, (product, variant))[(product, variant)]
    assert (item.sku, item.on_hand, item.price) == ("C-BLK", 3, Decimal("5.51"))
    assert (item.name, item.option) == ("Cover", "Color: Black")


def test_a_product_with_variants_is_no_item_itself(shop: Database) -> None:
    product = add_product(shop)
    add_variant(shop, product)
    assert _read(shop, (product, None)) == {}


@pytest.mark.parametrize("key", [(99, None), (99, 99), (1, 99)])
def test_an_item_that_is_gone_is_not_in_the_answer(shop: Database, key: ItemKey) -> None:
    add_product(shop)
    assert _read(shop, key) == {}


def test_a_variant_without_a_product_is_no_item(shop: Database) -> None:
    variant = add_variant(shop, None)
    assert _read(shop, (1, variant)) == {}


def test_many_items_are_read_at_once(shop: Database) -> None:
    keys: list[ItemKey] = [(add_product(shop), None) for _ in range(3)]
    keys += [(product, add_variant(shop, product)) for product in [add_product(shop)] for _ in range(2)]
    assert set(_read(shop, *keys)) == set(keys)


def test_a_null_adjustment_counts_as_zero(shop: Database) -> None:
    product = add_product(shop, price=Decimal("4.00"))
    variant = add_variant(shop, product, price_adjustment=None)
    assert _read(shop, (product, variant))[(product, variant)].price == Decimal("4.00")


def test_the_primary_image_comes_first_then_the_shops_order_then_the_oldest(shop: Database) -> None:
    product = add_product(shop, image_url="ignored")
    for url, primary, order in [
        ("d", False, 2),
        ("b", None, None),
        ("c", False, 0),
        ("a", True, 9),
        ("", False, 1),
    ]:
        add_image(shop, product, url, is_primary=primary, display_order=order)
    assert _only(shop, product).images == ("a", "b", "c", "d")


@pytest.mark.parametrize(("url", "expected"), [("main.jpg", ("main.jpg",)), ("", ()), (None, ())])
def test_without_images_the_products_own_image_counts(
    shop: Database, url: str | None, expected: tuple[str, ...]
) -> None:
    assert _only(shop, add_product(shop, image_url=url)).images == expected


@pytest.mark.parametrize(("status", "active"), [("active", True), ("draft", False), ("archived", False)])
def test_only_active_products_are_active(shop: Database, status: str, active: bool) -> None:
    assert _only(shop, add_product(shop, status=status)).active is active


def test_where_products_have_no_status_every_product_is_active(bare_shop: Database) -> None:
    run(bare_shop, "ALTER TABLE products DROP COLUMN status")
    run(bare_shop, "INSERT INTO products (name, slug, price) VALUES ('Old', 'old', 1)")
    assert _read(bare_shop, (1, None))[(1, None)].active


@pytest.mark.parametrize(
    "name",
    [
        "<b>Screen</b> & 'quote' \"double\"",
        "🔋 Akku für Gerät — ½",
        "'; DROP TABLE products; --",
        "x" * 255,
        " ",
        "%_\\",
        "مكبر صوت",
    ],
)
def test_a_hostile_name_is_read_as_it_is(shop: Database, name: str) -> None:
    assert _only(shop, add_product(shop, name=name, brand=name[:100])).name == name


@pytest.mark.parametrize(("sku", "expected"), [(None, None), ("", None), ("  ", None), (" A-1 ", "A-1")])
def test_a_blank_sku_is_none_and_white_space_around_it_is_dropped(
    shop: Database, sku: str | None, expected: str | None
) -> None:
    assert _only(shop, add_product(shop, sku=sku)).sku == expected


def test_a_price_that_is_no_number_does_not_stop_the_others(shop: Database) -> None:
    broken, sound = add_product(shop), add_product(shop)
    run(shop, "UPDATE products SET price = 'NaN', weight = 'NaN' WHERE id = :id", id=broken)
    items = _read(shop, (broken, None), (sound, None))
    assert (items[(broken, None)].price, items[(sound, None)].price) == (Decimal("0.00"), Decimal("10.00"))
    assert items[(broken, None)].weight is None


def _read(shop: Database, *keys: ItemKey) -> dict[ItemKey, ShopItem]:
    with shop.reading() as connection:
        return read_items(connection, keys)


def _only(shop: Database, product_id: int) -> ShopItem:
    return _read(shop, (product_id, None))[(product_id, None)]
