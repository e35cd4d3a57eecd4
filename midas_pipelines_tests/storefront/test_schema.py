"""The tables as the program knows them are the tables as the shop made them."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.version import differing_columns
from midas_pipelines.storefront.catalog import has_product_status
from midas_pipelines.storefront.sample import create_shop_tables, seed_shop
from midas_pipelines.storefront.schema import NEEDED, missing_tables, shop
from midas_pipelines_tests.conftest import create_shop
from midas_pipelines_tests.copies import PostgresCopies, connect
from midas_pipelines_tests.shop import run, value


def test_the_sample_shop_has_the_columns_of_the_real_one(postgresql_copies: PostgresCopies) -> None:
    with (
        connect(postgresql_copies.fresh(create_shop)) as real,
        connect(postgresql_copies.fresh(_create_sample)) as made,
    ):
        assert [_columns(made, table) for table in NEEDED] == [_columns(real, table) for table in NEEDED]


def test_an_empty_database_lacks_every_table(database: Database) -> None:
    with database.reading() as connection:
        assert missing_tables(connection) == list(NEEDED)


def test_a_single_missing_table_is_named(bare_shop: Database) -> None:
    run(bare_shop, "DROP TABLE order_status_history")
    with bare_shop.reading() as connection:
        assert missing_tables(connection) == ["order_status_history"]


def test_the_status_column_is_noticed_when_present_and_when_not(bare_shop: Database) -> None:
    with bare_shop.reading() as connection:
        assert has_product_status(connection)
    run(bare_shop, "ALTER TABLE products DROP COLUMN status")
    with bare_shop.reading() as connection:
        assert not has_product_status(connection)


@pytest.mark.both_databases
def test_only_a_column_of_another_kind_differs(bare_shop: Database) -> None:
    with bare_shop.reading() as connection:
        assert differing_columns(connection) == []
    run(bare_shop, "ALTER TABLE products DROP COLUMN status")  # optional
    run(bare_shop, "ALTER TABLE order_items DROP COLUMN total_price")
    run(bare_shop, "ALTER TABLE order_items ADD COLUMN total_price VARCHAR(20)")
    with bare_shop.reading() as connection:
        assert differing_columns(connection) == [
            {
                "column": "order_items.total_price",
                "expected": "NUMERIC(10, 2)",
                "found": "VARCHAR(20)",
            }
        ]


def test_seeding_gives_the_asked_number_of_items_once(shop: Database) -> None:
    for expected in (60, 0):
        with shop.writing() as connection:
            assert seed_shop(connection, items=60) == expected
    assert _items(shop) == 60


def test_seeding_works_where_products_have_no_status(bare_shop: Database) -> None:
    run(bare_shop, "ALTER TABLE products DROP COLUMN status")
    with bare_shop.writing() as connection:
        assert seed_shop(connection, items=5) == 5


def test_creating_the_shop_again_changes_nothing(bare_shop: Database) -> None:
    with bare_shop.writing() as connection:
        assert not create_shop_tables(connection)


def _items(shop: Database) -> int:
    variants = value(shop, "SELECT count(*) FROM product_variants")
    plain = "SELECT count(*) FROM products WHERE id NOT IN (SELECT product_id FROM product_variants)"
    return int(variants + value(shop, plain))


def _create_sample(database: Database) -> None:
    with database.writing() as connection:
        shop.create_all(connection)


def _columns(database: Database, table: str) -> dict[str, tuple[Any, ...]]:
    """Name, nullability, kind and references; the length of a number differs, and does not matter."""
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        keys = {
            key["constrained_columns"][0]: (key["referred_table"], key.get("options"))
            for key in inspector.get_foreign_keys(table)
        }
        return {
            column["name"]: (
                column["nullable"],
                column["default"] is not None,
                type(column["type"]).__name__,
                getattr(column["type"], "length", None),
                keys.get(column["name"]),
            )
            for column in inspector.get_columns(table)
        }
