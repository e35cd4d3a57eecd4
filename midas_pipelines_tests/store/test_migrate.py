"""An upgrade adds our tables and triggers, touches nothing else, and run again changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.store.schema.tables import store
from midas_pipelines.store.schema.version import NotUpgraded, read_version, require_upgraded
from midas_pipelines.store.stock.ledger import unexplained_stock
from midas_pipelines.storefront.schema import NEEDED, missing_tables
from midas_pipelines_tests.conftest import create_shop
from midas_pipelines_tests.shop import add_product, add_variant, drop_watched_column, rows, run, value
from midas_pipelines_tests.store.dump import contents, definitions, writes

SEED_TABLES = {
    "fourseller_product_mappings",
    "fourseller_sync_logs",
    "fourseller_api_errors",
    "inventory_changes",
    "order_processing_logs",
    "marketplace_webhooks",
}
"""Names that are not ours to change."""


def test_a_second_upgrade_changes_nothing(shop: Database) -> None:
    add_variant(shop, add_product(shop))
    before = definitions(shop), contents(shop), writes(shop)
    upgrade(shop)
    assert (definitions(shop), contents(shop), writes(shop)) == before


def test_an_upgrade_touches_nothing_of_a_shop_with_data(bare_shop: Database) -> None:
    add_variant(bare_shop, add_product(bare_shop, sku=None))
    run(
        bare_shop, "CREATE TABLE midas_touch (id INTEGER PRIMARY KEY, note TEXT)"
    )  # the shop's, whatever its name
    before = definitions(bare_shop) | contents(bare_shop)
    upgrade(bare_shop)
    after = definitions(bare_shop) | contents(bare_shop)
    assert {name: after.get(name) for name in before} == before


def test_an_upgrade_finds_the_items_that_are_there_and_opens_their_ledger(bare_shop: Database) -> None:
    plain, parent = add_product(bare_shop), add_product(bare_shop)
    variant = add_variant(bare_shop, parent)
    upgrade(bare_shop)
    query = "SELECT product_id, variant_id FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL"
    assert set(rows(bare_shop, query)) == {(plain, None), (parent, variant)}
    assert unexplained_stock(bare_shop) == []


def test_an_upgrade_before_the_shops_tables_is_completed_by_one_after_them(database: Database) -> None:
    at = upgrade(database)
    assert (at.current, at.shop_tables_missing, at.ready) == (at.newest, list(NEEDED), False)
    create_shop(database)
    product = add_product(database)
    assert upgrade(database).ready
    assert rows(database, "SELECT product_id FROM fourseller_product_mappings") == [(product,)]


def test_an_upgrade_makes_every_table_that_the_code_knows(shop: Database) -> None:
    assert set(store.tables) <= set(sa.inspect(shop.engine).get_table_names())
    assert set(store.tables) >= SEED_TABLES


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        ([], "The database has no table categories"),
        ([create_shop], "run `midas db upgrade`"),
        ([create_shop, upgrade, lambda database: _drop_a_trigger(database)], "run `midas db upgrade`"),
    ],
)
def test_a_sync_on_a_database_that_is_not_ready_is_told_what_to_do(
    database: Database, prepare: list[Callable[[Database], object]], says: str
) -> None:
    for step in prepare:
        step(database)
    with pytest.raises(NotUpgraded, match=says):
        require_upgraded(database)


@pytest.mark.both_databases
def test_a_dropped_column_that_a_trigger_watches_is_named(shop: Database) -> None:
    drop_watched_column(shop)
    for step in (require_upgraded, upgrade):
        with pytest.raises(NotUpgraded, match=r"orders\.payment_status should be .* and is no column"):
            step(shop)


def test_an_upgraded_shop_is_ready(shop: Database) -> None:
    require_upgraded(shop)
    assert shop.read(read_version).ready


def test_an_upgrade_restores_a_trigger_and_the_ledger_of_what_happened_without_it(shop: Database) -> None:
    product = add_product(shop, stock_quantity=5)
    _drop_a_trigger(shop)
    run(shop, "UPDATE products SET stock_quantity = 2 WHERE id = :id", id=product)
    upgrade(shop)
    run(shop, "UPDATE products SET stock_quantity = 1 WHERE id = :id", id=product)
    deltas = rows(shop, "SELECT delta, cause FROM inventory_changes ORDER BY id")
    assert deltas == [(5, "opening"), (-3, "changed"), (-1, "changed")]


def test_the_shop_may_have_an_alembic_history_of_its_own(bare_shop: Database) -> None:
    run(bare_shop, "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    run(bare_shop, "INSERT INTO alembic_version VALUES ('shop-7')")
    upgrade(bare_shop)
    assert rows(bare_shop, "SELECT version_num FROM alembic_version") == [("shop-7",)]


def test_an_upgrade_that_fails_leaves_nothing_behind(bare_shop: Database) -> None:
    run(bare_shop, "CREATE TABLE fourseller_sync_logs (id INTEGER)")
    before = definitions(bare_shop)
    with pytest.raises(sa.exc.DatabaseError):
        upgrade(bare_shop)
    assert definitions(bare_shop) == before


def test_the_shops_tables_in_a_schema_of_their_own_are_found(postgresql_schema: Database) -> None:
    with postgresql_schema.reading() as connection:
        assert missing_tables(connection) == []
    assert upgrade(postgresql_schema).ready
    product = add_product(postgresql_schema)
    run(postgresql_schema, "UPDATE products SET name = 'New' WHERE id = :id", id=product)
    assert value(postgresql_schema, "SELECT version FROM fourseller_product_mappings") > 1


def _drop_a_trigger(database: Database) -> None:
    if database.is_postgresql:
        run(database, "DROP TRIGGER midas_products_update ON products")
    else:
        run(database, "DROP TRIGGER midas_products_stock")
