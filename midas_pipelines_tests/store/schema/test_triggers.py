"""Whoever changes the shop's tables, the items concerned are marked dirty, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.store.schema.triggers import mark_together
from midas_pipelines.store.stock.ledger import unexplained_stock
from midas_pipelines_tests.copies import connect
from midas_pipelines_tests.shop import (
    add_category,
    add_image,
    add_order,
    add_product,
    add_variant,
    rows,
    run,
    value,
)

Item = tuple[int, int | None]

A, B, C = (1, None), (2, None), (3, None)
C1, C2 = (3, 1), (3, 2)


@pytest.fixture
def parts(shop: Database) -> Database:
    """Products A and B, and C with the variants C1 and C2; A and C in category 1, B in 2; all pushed."""
    for name in ("Screens", "Batteries"):
        add_category(shop, name)
    for category in (1, 2, 1):
        add_image(shop, add_product(shop, category_id=category))
    for _ in range(2):
        add_variant(shop, 3)
    _push_all(shop)
    return shop


@pytest.mark.parametrize(
    ("statement", "marked"),
    [
        ("UPDATE products SET name = 'New' WHERE id = 1", {A}),
        ("UPDATE products SET description = 'New' WHERE id = 1", {A}),
        ("UPDATE products SET price = 11 WHERE id = 1", {A}),
        ("UPDATE products SET discount_percentage = 5 WHERE id = 1", {A}),
        ("UPDATE products SET stock_quantity = stock_quantity - 1 WHERE id = 1", {A}),
        ("UPDATE products SET sku = 'NEW' WHERE id = 1", {A}),
        ("UPDATE products SET sku = NULL WHERE id = 1", {A}),
        ("UPDATE products SET image_url = 'new.jpg' WHERE id = 1", {A}),
        ("UPDATE products SET weight = 2 WHERE id = 1", {A}),
        ("UPDATE products SET dimensions = '1x1' WHERE id = 1", {A}),
        ("UPDATE products SET category_id = 2 WHERE id = 1", {A}),
        ("UPDATE products SET brand = 'LG' WHERE id = 1", {A}),
        ("UPDATE products SET status = 'archived' WHERE id = 1", {A}),
        ("UPDATE products SET status = 'draft' WHERE id = 3", {C, C1, C2}),
        ("UPDATE products SET price = price + 1", {A, B, C, C1, C2}),
        ("UPDATE products SET price = price + 1 WHERE id = 99", set()),
        ("DELETE FROM products WHERE id = 1", {A}),
        ("DELETE FROM products WHERE id = 3", {C, C1, C2}),
        ("UPDATE product_variants SET stock_quantity = 1 WHERE id = 1", {C1}),
        ("UPDATE product_variants SET sku = 'NEW' WHERE id = 1", {C1}),
        ("UPDATE product_variants SET price_adjustment = 3 WHERE id = 2", {C2}),
        ("UPDATE product_variants SET variant_value = 'Pink' WHERE id = 2", {C2}),
        ("DELETE FROM product_variants WHERE id = 1", {C, C1, C2}),
        ("UPDATE product_variants SET product_id = 1 WHERE id = 1", {A, (1, 1), C, C2}),
        ("UPDATE product_variants SET product_id = NULL WHERE id = 1", {C, C1, C2}),
        ("UPDATE product_variants SET id = 9 WHERE id = 1", {C, C1, C2, (3, 9)}),
        ("INSERT INTO product_images (product_id, image_url) VALUES (1, 'x')", {A}),
        ("INSERT INTO product_images (product_id, image_url) VALUES (3, 'x')", {C, C1, C2}),
        ("INSERT INTO product_images (product_id, image_url) VALUES (NULL, 'x')", set()),
        ("UPDATE product_images SET display_order = 3 WHERE product_id = 2", {B}),
        ("UPDATE product_images SET product_id = 2 WHERE product_id = 1", {A, B}),
        ("DELETE FROM product_images WHERE product_id = 1", {A}),
        ("UPDATE categories SET name = 'Displays' WHERE id = 1", {A, C, C1, C2}),
        ("UPDATE categories SET name = name", set()),
        ("UPDATE categories SET description = 'x' WHERE id = 1", set()),
        ("INSERT INTO categories (name, slug) VALUES ('New', 'new')", set()),
        ("INSERT INTO products (id, name, slug, price) VALUES (9, 'N', 'n', 1)", {(9, None)}),
        (
            "INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES (9, 1, 'a', 'b')",
            {A, (1, 9)},
        ),
        ("INSERT INTO product_variants (variant_type, variant_value) VALUES ('a', 'b')", set()),
    ],
)
def test_a_change_marks_exactly_the_items_it_concerns(
    parts: Database, statement: str, marked: set[Item]
) -> None:
    before = _versions(parts)
    run(parts, statement)
    after = _versions(parts)
    assert _dirty(parts) == marked
    assert {item for item in after if after[item] != before.get(item)} == marked
    assert all(after[item] > before.get(item, 0) for item in marked)
    assert unexplained_stock(parts) == []


def test_renumbering_a_product_marks_both_numbers(parts: Database) -> None:
    run(parts, "DELETE FROM product_images WHERE product_id = 1")
    _push_all(parts)
    run(parts, "UPDATE products SET id = 9 WHERE id = 1")
    assert _dirty(parts) == {A, (9, None)}
    assert unexplained_stock(parts) == []


@pytest.mark.parametrize(
    ("statement", "marked"),
    [
        ("UPDATE products SET stock_quantity = stock_quantity - id", {A, B, C, C1, C2}),
        ("UPDATE products SET price = price + 1 WHERE id < 3", {A, B}),
        ("UPDATE products SET price = price + 1 WHERE id = 99", set()),
        ("UPDATE products SET id = id + 10 WHERE id = 2", {B, (12, None)}),
    ],
)
def test_products_marked_together_are_those_that_changed(
    parts: Database, statement: str, marked: set[Item]
) -> None:
    run(parts, "DELETE FROM product_images")
    _push_all(parts)
    with parts.writing() as connection:
        mark_together(connection)
        connection.exec_driver_sql(statement)
    assert _dirty(parts) == marked
    assert unexplained_stock(parts) == []


def test_a_change_that_is_rolled_back_marks_nothing(parts: Database) -> None:
    with suppress(ZeroDivisionError), parts.writing() as connection:
        connection.exec_driver_sql("UPDATE products SET stock_quantity = 0")
        raise ZeroDivisionError
    assert _dirty(parts) == set()
    assert unexplained_stock(parts) == []


def test_every_change_raises_the_version_and_the_first_one_says_since_when(parts: Database) -> None:
    seen = []
    for quantity in (9, 10, 9):
        run(parts, "UPDATE products SET stock_quantity = :quantity WHERE id = 1", quantity=quantity)
        seen.append(_of(parts, A, "version, dirty_since"))
    versions, since = zip(*seen, strict=True)
    assert list(versions) == sorted(set(versions))
    assert len(set(since)) == 1


def test_a_change_makes_a_waiting_item_due_at_once(parts: Database) -> None:
    run(parts, "UPDATE fourseller_product_mappings SET next_attempt_at = '2099-01-01 00:00:00'")
    run(parts, "UPDATE products SET price = 12 WHERE id = 1")
    assert _of(parts, A, "next_attempt_at") == (None,)


def test_a_product_that_comes_back_under_its_old_id_is_marked(parts: Database) -> None:
    run(parts, "DELETE FROM products WHERE id = 1")
    _push_all(parts)
    run(
        parts, "INSERT INTO products (id, name, slug, price, stock_quantity) VALUES (1, 'Back', 'back', 1, 8)"
    )
    assert _dirty(parts) == {A}
    assert unexplained_stock(parts) == []


def test_a_variant_that_moves_takes_its_mapping_along(parts: Database) -> None:
    run(parts, "UPDATE fourseller_product_mappings SET fourseller_product_id = 'fs-1' WHERE variant_id = 1")
    for statement in (
        "UPDATE product_variants SET product_id = 1 WHERE id = 1",
        "UPDATE product_variants SET product_id = NULL WHERE id = 1",
        "UPDATE product_variants SET product_id = 2 WHERE id = 1",
    ):
        run(parts, statement)
    query = "SELECT product_id, fourseller_product_id FROM fourseller_product_mappings WHERE variant_id = 1"
    assert rows(parts, query) == [(2, "fs-1")]


def test_a_variant_may_move_though_an_older_mapping_stands_in_the_way(parts: Database) -> None:
    run(parts, "INSERT INTO fourseller_product_mappings (product_id, variant_id) VALUES (1, 1), (2, 1)")
    run(parts, "UPDATE product_variants SET product_id = 1 WHERE id = 1")
    assert (1, 1) in _dirty(parts)


def test_the_last_variant_gone_its_product_is_an_item(bare_shop: Database) -> None:
    product = add_product(bare_shop)
    variant = add_variant(bare_shop, product)
    upgrade(bare_shop)
    run(bare_shop, "DELETE FROM product_variants")
    assert _dirty(bare_shop) == {(product, None), (product, variant)}


@pytest.mark.parametrize(
    ("shop_status", "told"), [("shipped", True), ("processing", False), ("pending", False)]
)
def test_a_status_the_shop_gives_a_marketplace_order_waits_to_be_told(
    shop: Database, shop_status: str, told: bool
) -> None:
    order = add_order(shop)
    run(
        shop,
        "INSERT INTO marketplace_orders (marketplace_order_id, local_order_id, status, outcome) "
        "VALUES ('M-1', :order, 'processing', 'imported')",
        order=order,
    )
    run(shop, "UPDATE orders SET status = :status WHERE id = :order", status=shop_status, order=order)
    assert value(shop, "SELECT shop_status_since IS NOT NULL FROM marketplace_orders") == told


def test_an_order_that_the_shop_deletes_is_let_go_and_shown(shop: Database) -> None:
    for order_id, exception in (("M-1", None), ("M-2", "unmapped")):
        run(
            shop,
            "INSERT INTO marketplace_orders "
            "(marketplace_order_id, local_order_id, status, outcome, exception, shop_status_since) "
            "VALUES (:id, :order, 'pending', 'imported', :exception, CURRENT_TIMESTAMP)",
            id=order_id,
            order=add_order(shop),
            exception=exception,
        )
    run(shop, "DELETE FROM orders")
    query = "SELECT local_order_id, shop_status_since, exception FROM marketplace_orders ORDER BY id"
    assert rows(shop, query) == [(None, None, "deleted"), (None, None, "unmapped,deleted")]
    run(
        shop, "UPDATE orders SET status = 'shipped' WHERE id = :id", id=add_order(shop)
    )  # SQLite: an old id again
    assert [row.shop_status_since for row in rows(shop, query)] == [None, None]


def test_a_status_of_the_shops_own_order_concerns_nobody_else(shop: Database) -> None:
    run(shop, "UPDATE orders SET status = 'shipped' WHERE id = :id", id=add_order(shop))
    assert rows(shop, "SELECT * FROM marketplace_orders") == []


# --- SQLite -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "marked"),
    [
        ("INSERT OR REPLACE INTO products (id, name, slug, price) VALUES (1, 'New', 'new', 1)", {A}),
        ("INSERT OR REPLACE INTO products (name, slug, sku, price) VALUES ('N', 'n', 'S-1', 1)", {A, C}),
        ("INSERT OR REPLACE INTO products (name, slug, price) VALUES ('N', 'slug-2', 1)", {B, C}),
        ("INSERT OR IGNORE INTO products (id, name, slug, price) VALUES (1, 'New', 'new', 1)", set()),
        (
            "INSERT INTO products (id, name, slug, price) VALUES (1, 'N', 'n', 1) "
            "ON CONFLICT (id) DO UPDATE SET name = 'N'",
            {A},
        ),
    ],
)
def test_a_row_that_an_insert_replaces_is_marked_too(
    sqlite_shop: Database, statement: str, marked: set[Item]
) -> None:
    for number in (1, 2):
        add_product(sqlite_shop, slug=f"slug-{number}", sku=f"S-{number}")
    _push_all(sqlite_shop)
    run(sqlite_shop, statement)
    assert _dirty(sqlite_shop) == marked
    assert unexplained_stock(sqlite_shop) == []


def test_a_variant_replaced_by_its_sku_marks_the_product_it_had(sqlite_shop: Database) -> None:
    for _ in range(2):
        add_product(sqlite_shop)
    add_variant(sqlite_shop, 1, sku="V")
    _push_all(sqlite_shop)
    run(
        sqlite_shop,
        "INSERT OR REPLACE INTO product_variants (product_id, variant_type, variant_value, sku) "
        "VALUES (2, 'Color', 'Red', 'V')",
    )
    assert {A, (1, 1), B, (2, 2)} == _dirty(sqlite_shop)


@pytest.mark.parametrize(("status", "told"), [("shipped", True), ("pending", False)])
def test_an_order_that_an_insert_replaces_is_told_by_its_new_status(
    sqlite_shop: Database, status: str, told: bool
) -> None:
    order = add_order(sqlite_shop)
    run(
        sqlite_shop,
        "INSERT INTO marketplace_orders (marketplace_order_id, local_order_id, status, outcome) "
        "VALUES ('M-1', :order, 'pending', 'imported')",
        order=order,
    )
    run(
        sqlite_shop,
        "INSERT OR REPLACE INTO orders (id, order_number, total_amount, shipping_address, billing_address, status) "
        "VALUES (:order, 'WEB-R', 1, '{}', '{}', :status)",
        order=order,
        status=status,
    )
    query = "SELECT local_order_id, shop_status_since IS NOT NULL, exception FROM marketplace_orders"
    assert rows(sqlite_shop, query) == [(order, told, None)]


def test_an_id_that_sqlite_gives_again_continues_the_ledger(sqlite_shop: Database) -> None:
    first = add_product(sqlite_shop, stock_quantity=5)
    run(sqlite_shop, "DELETE FROM products")
    assert add_product(sqlite_shop, stock_quantity=7) == first
    assert rows(sqlite_shop, "SELECT delta, quantity_after FROM inventory_changes") == [(5, 5), (2, 7)]
    assert unexplained_stock(sqlite_shop) == []


def test_a_shop_that_keeps_updated_at_by_a_trigger_of_its_own_stays_exact(sqlite_shop: Database) -> None:
    run(
        sqlite_shop,
        "CREATE TRIGGER touch AFTER UPDATE ON products WHEN NEW.updated_at IS OLD.updated_at BEGIN "
        "UPDATE products SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END",
    )
    product = add_product(sqlite_shop, stock_quantity=5)
    run(
        sqlite_shop,
        "UPDATE products SET stock_quantity = 3, updated_at = updated_at WHERE id = :id",
        id=product,
    )
    assert rows(sqlite_shop, "SELECT delta FROM inventory_changes") == [(5,), (-2,)]


# --- PostgreSQL -------------------------------------------------------------------------------------------------


@contextmanager
def _as_shop_role(owner: Database) -> Iterator[Database]:
    """The shop's own role: it may do everything to the shop's tables, and nothing to ours."""
    role = f"shop_{owner.engine.url.database}"
    run(owner, f"CREATE ROLE {role} LOGIN")
    run(owner, f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {role}")
    for (table,) in rows(
        owner, "SELECT tablename FROM pg_tables WHERE tablename ~ '^(four|inv|market|midas|order_proc)'"
    ):
        run(owner, f"REVOKE ALL ON {table} FROM {role}")
    run(owner, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    try:
        with connect(owner.engine.url.set(username=role).render_as_string(hide_password=False)) as shop:
            yield shop
    finally:
        run(owner, f"DROP OWNED BY {role}")
        run(owner, f"DROP ROLE {role}")


def test_a_role_that_owns_nothing_of_ours_can_change_the_shop(postgresql_shop: Database) -> None:
    with _as_shop_role(postgresql_shop) as shop:
        product = add_product(shop, stock_quantity=5)
        run(shop, "UPDATE products SET stock_quantity = 3 WHERE id = :id", id=product)
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            rows(shop, "SELECT * FROM fourseller_product_mappings")
    assert rows(postgresql_shop, "SELECT delta FROM inventory_changes") == [(5,), (-2,)]


@pytest.mark.parametrize(
    "call",
    [
        "midas_mark_dirty(1, NULL, true)",
        "midas_ensure_item(1, NULL)",
        "midas_record_stock(1, NULL, 'sale')",
    ],
)
def test_the_shops_role_cannot_write_our_tables_through_the_functions(
    postgresql_shop: Database, call: str
) -> None:
    with (
        _as_shop_role(postgresql_shop) as shop,
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
    ):
        run(shop, f"SELECT {call}")


def test_a_temporary_table_of_the_same_name_changes_nothing(postgresql_shop: Database) -> None:
    product = add_product(postgresql_shop)
    _push_all(postgresql_shop)
    with postgresql_shop.writing() as connection:
        for table in ("products", "fourseller_product_mappings", "inventory_changes"):
            connection.exec_driver_sql(f"CREATE TEMP TABLE {table} (LIKE public.{table}) ON COMMIT DROP")
        connection.exec_driver_sql(f"UPDATE public.products SET stock_quantity = 1 WHERE id = {product}")
    assert _dirty(postgresql_shop) == {(product, None)}
    assert unexplained_stock(postgresql_shop) == []


@pytest.mark.parametrize("table", ["products", "product_variants", "product_images"])
def test_emptying_a_table_marks_every_item(postgresql_shop: Database, table: str) -> None:
    product = add_product(postgresql_shop)
    _push_all(postgresql_shop)
    run(postgresql_shop, f"TRUNCATE {table} CASCADE")
    assert _dirty(postgresql_shop) == {(product, None)}


def test_what_a_trigger_of_the_shops_changes_beside_it_is_marked_too(postgresql_shop: Database) -> None:
    for _ in range(3):
        add_product(postgresql_shop)
    run(
        postgresql_shop,
        "CREATE FUNCTION unbundle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN "
        "UPDATE products SET stock_quantity = stock_quantity - 1 WHERE id IN (OLD.id, 3) "
        "AND pg_trigger_depth() = 1; RETURN NULL; END'",
    )
    run(
        postgresql_shop,
        "CREATE TRIGGER unbundle AFTER UPDATE ON products FOR EACH ROW EXECUTE FUNCTION unbundle()",
    )
    _push_all(postgresql_shop)
    with postgresql_shop.writing() as connection:
        mark_together(connection)
        connection.exec_driver_sql("UPDATE products SET stock_quantity = 9, name = name WHERE id < 3")
    run(postgresql_shop, "DROP FUNCTION unbundle CASCADE")
    stock = rows(postgresql_shop, "SELECT stock_quantity FROM products ORDER BY id")
    assert [row[0] for row in stock] == [8, 8, 3]
    assert _dirty(postgresql_shop) == {A, B, C}
    assert unexplained_stock(postgresql_shop) == []


def test_the_shops_own_trigger_still_keeps_updated_at(postgresql_shop: Database) -> None:
    product = add_product(postgresql_shop)
    query = "SELECT updated_at > created_at FROM products"
    run(postgresql_shop, "UPDATE products SET price = :price WHERE id = :id", price=Decimal(3), id=product)
    assert value(postgresql_shop, query)


def _push_all(shop: Database) -> None:
    run(
        shop,
        "UPDATE fourseller_product_mappings SET dirty_since = NULL, acked_version = version, state = 'listed'",
    )


def _dirty(shop: Database) -> set[Item]:
    query = "SELECT product_id, variant_id FROM fourseller_product_mappings WHERE dirty_since IS NOT NULL"
    return {(row.product_id, row.variant_id) for row in rows(shop, query)}


def _versions(shop: Database) -> dict[Item, int]:
    found = rows(shop, "SELECT product_id, variant_id, version FROM fourseller_product_mappings")
    return {(row.product_id, row.variant_id): row.version for row in found}


def _of(shop: Database, item: Item, columns: str) -> tuple[object, ...]:
    where = "product_id = :product AND coalesce(variant_id, 0) = :variant"
    query = f"SELECT {columns} FROM fourseller_product_mappings WHERE {where}"
    return tuple(rows(shop, query, product=item[0], variant=item[1] or 0)[0])
