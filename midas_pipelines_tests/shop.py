"""Building a shop in a test, one line for each thing in it, and doing to it what a shop's own code would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.triggers import amending
from midas_pipelines.storefront.schema import (
    categories,
    orders,
    product_images,
    product_variants,
    products,
)

_numbers = count(1)


@contextmanager
def unguarded(shop: Database, table: str) -> Iterator[sa.Connection]:
    """A transaction of somebody who owns the database: the triggers on a table of ours do not fire."""
    with shop.writing() as connection:
        if shop.is_postgresql:
            connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            yield connection
            connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
            return
        query = f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'"
        triggers = connection.exec_driver_sql(query).all()
        for name, _ in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        yield connection
        for _, statement in triggers:
            connection.exec_driver_sql(statement)


def amend(shop: Database, statement: str) -> None:
    """Runs a statement through the door to the stock ledger and the order log."""
    with shop.writing() as connection, amending(connection):
        connection.exec_driver_sql(statement)


def add_category(shop: Database, name: str = "Screens") -> int:
    """A category; returns its id."""
    return _insert(shop, categories, {"name": name, "slug": f"category-{next(_numbers)}"})


def add_product(shop: Database, **columns: Any) -> int:
    """A product at 10.00 with 5 in stock and a SKU of its own, but for what `columns` say; returns its id."""
    number = next(_numbers)
    row = {
        "name": f"Part {number}",
        "slug": f"part-{number}",
        "sku": f"SKU-{number}",
        "price": Decimal("10.00"),
        "stock_quantity": 5,
    }
    return _insert(shop, products, row | columns)


def add_variant(shop: Database, product_id: int | None, **columns: Any) -> int:
    """A variant with 5 in stock and a SKU of its own, but for what `columns` say; returns its id."""
    number = next(_numbers)
    row = {
        "product_id": product_id,
        "variant_type": "Color",
        "variant_value": f"Colour {number}",
        "stock_quantity": 5,
        "sku": f"SKU-V{number}",
    }
    return _insert(shop, product_variants, row | columns)


def add_image(
    shop: Database, product_id: int, url: str = "https://shop.example.com/1.jpg", **columns: Any
) -> int:
    """An image of a product; returns its id."""
    return _insert(shop, product_images, {"product_id": product_id, "image_url": url} | columns)


def add_order(shop: Database, **columns: Any) -> int:
    """An order of the shop's own, pending, over 10.00; returns its id."""
    row = {
        "order_number": f"WEB-{next(_numbers)}",
        "total_amount": Decimal("10.00"),
        "shipping_address": {},
        "billing_address": {},
    }
    return _insert(shop, orders, row | columns)


def run(database: Database, statement: str, **parameters: Any) -> None:
    """Runs one statement in a transaction of its own, as the shop's code or a person at a console would."""
    with database.writing() as connection:
        connection.execute(sa.text(statement), parameters)


def rows(database: Database, query: str, **parameters: Any) -> list[Any]:
    """What a query finds."""
    with database.reading() as connection:
        return list(connection.execute(sa.text(query), parameters))


def value(database: Database, query: str, **parameters: Any) -> Any:
    """The first column of the first row that a query finds."""
    return rows(database, query, **parameters)[0][0]


def shift_rules(shop: Database, seconds: int) -> None:
    """Moves every rule's dates, as if time went by."""
    for table, names in (
        ("channel_rules", ("valid_from", "valid_until")),
        ("channel_rule_agenda", ("due_at",)),
    ):
        for name in names:
            later = (
                f"{name} + interval '{seconds} seconds'"
                if shop.is_postgresql
                else f"strftime('%Y-%m-%d %H:%M:%f', {name}, '{seconds} seconds') || '000'"
            )
            run(shop, f"UPDATE {table} SET {name} = {later} WHERE {name} IS NOT NULL")


def drop_watched_column(shop: Database) -> None:
    """Drops orders.payment_status, which triggers watch, with those triggers, as a migration of the shop would."""
    if shop.is_postgresql:
        run(shop, "ALTER TABLE orders DROP COLUMN payment_status CASCADE")
        return
    named = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%payment_status%'"
    for (trigger,) in rows(shop, named):
        run(shop, f"DROP TRIGGER {trigger}")
    run(shop, "ALTER TABLE orders DROP COLUMN payment_status")


def _insert(shop: Database, table: sa.Table, row: dict[str, Any]) -> int:
    with shop.writing() as connection:
        made: int = connection.execute(sa.insert(table).values(row).returning(table.c.id)).scalar_one()
    return made


def assert_ledger_explains(database: Database) -> None:
    """Sum of deltas and last quantity equal the stock of every item, and nothing is negative."""
    for table, product, variant in (("products", "s.id", "0"), ("product_variants", "s.product_id", "s.id")):
        mine = f"l.product_id = {product} AND coalesce(l.variant_id, 0) = {variant}"
        wrong = rows(
            database,
            f"SELECT s.id, s.stock_quantity FROM {table} s WHERE s.stock_quantity < 0 OR s.stock_quantity <> "
            f"(SELECT sum(delta) FROM inventory_changes l WHERE {mine}) OR s.stock_quantity <> "
            f"(SELECT quantity_after FROM inventory_changes l WHERE {mine} ORDER BY l.id DESC LIMIT 1)",
        )
        assert wrong == []


def broken_links(database: Database) -> list[Any]:
    """The rows of the ledger that do not begin with the quantity after the row before them of the same item."""
    item = "OVER (PARTITION BY product_id, coalesce(variant_id, 0) ORDER BY id)"
    before = (
        f"SELECT ledger.*, coalesce(lag(quantity_after) {item}, 0) AS before FROM inventory_changes ledger"
    )
    return rows(database, f"SELECT * FROM ({before}) linked WHERE before + delta <> quantity_after")


HARM = {
    "zeroed": "UPDATE products SET stock_quantity = 0 WHERE id <= :most",
    "removed": "UPDATE products SET status = 'archived' WHERE id <= :most",
    "repriced": "UPDATE products SET price = price + 1 WHERE id <= :most",
}
