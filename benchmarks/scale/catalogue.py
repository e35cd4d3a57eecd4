"""A shop of any size, written by SQL: parts as repair shops sell them, each listed and confirmed; and what 4Seller shows of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.models import read_product
from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.storefront.sample import create_shop_tables
from midas_pipelines.storefront.schema import categories
from midas_pipelines.sync.listings.plan import content_hash

NAME = "LCD Assembly With Frame Compatible For Sample Phone 12 Pro (Refurbished), Part "
DESCRIPTION = (
    "Fits without soldering; tools are not included. Tested before shipping, with a 90-day warranty. " * 10
)
IMAGE = "https://shop.example.com/images/part-"
IMAGES, CATEGORIES, STOCK = range(1, 5), 20, 5
AT_ONCE = 10_000

PRODUCTS = (
    "INSERT INTO products (id, name, slug, sku, description, price, stock_quantity, category_id, brand, weight, "
    "dimensions, status) SELECT i, :name || i, 'part-' || i, 'SKU-' || i, :description, 10, :stock, "
    "1 + i % :categories, 'Sample', 0.12, '12x6x2 cm', 'active' FROM n"
)
PICTURES = (
    "INSERT INTO product_images (product_id, image_url, display_order) "
    "SELECT i, :image || i || '-' || :place || '.jpg', :place FROM n"
)
CONFIRMED = (
    "UPDATE fourseller_product_mappings SET sku = 'SKU-' || product_id, state = 'listed', fourseller_product_id = "
    "'P' || product_id, acked_quantity = 5, acked_price = '10.00', acked_version = version, "
    "acked_at = '2026-01-01 00:00:00.000000', dirty_since = NULL"
)


def fill(database: Database, size: int, stock: int = STOCK) -> None:
    """Writes a shop of that many items with our tables; all are listed, the content of none is confirmed yet. Its pictures have
    the index that `midas doctor` asks for: without it each batch reads all of them."""
    with database.writing() as connection:
        create_shop_tables(connection)
        names = [{"name": f"Category {one}", "slug": f"category-{one}"} for one in range(1, 1 + CATEGORIES)]
        connection.execute(sa.insert(categories), names)
        add_products(connection, 1, size, stock)
        connection.exec_driver_sql("CREATE INDEX product_images_owner ON product_images (product_id)")
    upgrade(database)
    with database.writing() as connection:
        connection.exec_driver_sql(CONFIRMED)


def add_products(connection: sa.Connection, first: int, last: int, stock: int = STOCK) -> None:
    """Adds the items of these numbers to the shop."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
    parts = {"name": NAME, "description": DESCRIPTION, "stock": stock, "categories": CATEGORIES}
    connection.execute(sa.text(numbers + PRODUCTS), parts)
    for place in IMAGES:
        connection.execute(sa.text(numbers + PICTURES), {"image": IMAGE, "place": place})


def confirm(database: Database, numbers: Sequence[int]) -> None:
    """Confirms the content of the items of these numbers, as after a first full sync."""
    statement = sa.text("UPDATE fourseller_product_mappings SET acked_hash = :hash WHERE product_id = :item")
    for start in range(0, len(numbers), AT_ONCE):
        part = numbers[start : start + AT_ONCE]
        hashes = [{"item": one, "hash": content_hash(read_product(product(one)))} for one in part]
        with database.writing() as connection:
            connection.execute(statement, hashes)
    if database.is_postgresql:
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def product(number: int) -> dict[str, Any]:
    """The product of the item with that number, as `fill` wants it on 4Seller."""
    title, measures = f"{NAME}{number}", {"weight": "0.12", "dimensions": "12x6x2 cm"}
    return {
        "id": f"P{number}",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-02T00:00:00Z",
        "title": title,
        "description": DESCRIPTION,
        "sku": f"SKU-{number}",
        "price": "10.00",
        "currency": "USD",
        "category": f"Category {1 + number % CATEGORIES}",
        "brand": "Sample",
        "condition": "new",
        "images": [{"url": f"{IMAGE}{number}-{place}.jpg", "alt": title} for place in IMAGES],
        "attributes": measures,
        "inventory": {"quantity": STOCK, "track_quantity": True},
        "shipping": measures,
        "status": "active",
        "metadata": {"source": "midastechnical", "product_id": number, "variant_id": None},
    }
