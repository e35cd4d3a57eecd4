"""Triggers of the shop's own beside ours: whatever they change, the ledger explains the stock and every item is mapped."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.migrate import upgrade
from midas_pipelines.store.schema.triggers import mark_together
from midas_pipelines.store.stock.ledger import StockMove, move_stock, unexplained_stock
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines_tests.shop import add_product, add_variant, rows, run, value

EACH_STATEMENT = "UPDATE products SET stock_quantity = 4 WHERE stock_quantity > 4"
SAME = "UPDATE products SET stock_quantity = stock_quantity"
AFTER: dict[str, tuple[str, str]] = {
    "rounds": (
        "UPDATE ON products",
        "UPDATE products SET stock_quantity = stock_quantity / 2 * 2 WHERE id = NEW.id",
    ),
    "restores": (
        "UPDATE ON products",
        "UPDATE products SET stock_quantity = OLD.stock_quantity WHERE id = NEW.id",
    ),
    "takes from the others": ("UPDATE ON products", f"{SAME} - 1 WHERE id <> NEW.id"),
    "keeps variants alike": (
        "UPDATE ON products",
        "UPDATE product_variants SET stock_quantity = NEW.stock_quantity WHERE product_id = NEW.id",
    ),
    "renumbers": ("UPDATE ON products", "UPDATE products SET id = id + 100 WHERE id = NEW.id AND id = 2"),
    "deletes what is sold out": (
        "UPDATE ON products",
        "DELETE FROM products WHERE id = NEW.id AND stock_quantity < 1",
    ),
    "is of the statement": ("UPDATE ON products", EACH_STATEMENT),
    "fills a new one": ("INSERT ON products", f"{SAME} + 7 WHERE id = NEW.id"),
    "sums variants": (
        "UPDATE ON product_variants",
        "UPDATE products SET stock_quantity = (SELECT coalesce(sum(stock_quantity), 0) FROM product_variants "
        "WHERE product_id = products.id) WHERE id = NEW.product_id",
    ),
    "rounds variants": (
        "UPDATE ON product_variants",
        "UPDATE product_variants SET stock_quantity = stock_quantity / 2 * 2 WHERE id = NEW.id",
    ),
    "moves variants": (
        "UPDATE ON product_variants",
        "UPDATE product_variants SET product_id = 3 WHERE id = NEW.id",
    ),
    "fills a new variant": (
        "INSERT ON product_variants",
        "UPDATE product_variants SET stock_quantity = stock_quantity + 7, product_id = 3 WHERE id = NEW.id",
    ),
    "deletes variants": (
        "UPDATE ON product_variants",
        "DELETE FROM product_variants WHERE id = NEW.id AND stock_quantity < 1",
    ),
}
"""The event of a trigger that runs after ours or before them, and its statement."""
BEFORE: dict[str, tuple[str, str]] = {
    f"{name} ({table})": (f"UPDATE ON {table}", body)
    for table in ("products", "product_variants")
    for name, body in (
        ("keeps three", "NEW.stock_quantity := greatest(NEW.stock_quantity, 3)"),
        ("refuses", "NEW.stock_quantity := OLD.stock_quantity"),
        ("skips", "IF NEW.stock_quantity < 4 THEN RETURN NULL; END IF"),
    )
}
"""On PostgreSQL alone: SQLite's triggers change no row that is to be written, they only skip it."""
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 6))]


@pytest.fixture
def parts(shop: Database) -> Database:
    """A shop with three products, of which one has two variants."""
    return _fill(shop)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["a_shop", "z_shop"])
@pytest.mark.parametrize("case", AFTER)
def test_a_trigger_that_changes_more(parts: Database, case: str, name: str, seed: int) -> None:
    _install(parts, name, "AFTER", *AFTER[case])
    _attack(parts, seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", BEFORE)
def test_a_trigger_that_changes_what_is_written(postgresql_shop: Database, case: str, seed: int) -> None:
    shop = _fill(postgresql_shop)
    _install(shop, "shops", "BEFORE", *BEFORE[case])
    _attack(shop, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_triggers_that_skip_what_is_written(parts: Database, seed: int) -> None:
    skip = "RETURN NULL" if parts.is_postgresql else "SELECT RAISE(IGNORE)"
    for table in ("products", "product_variants"):
        _install(parts, f"skips_{table}", "BEFORE", f"UPDATE ON {table}", skip)
    _attack(parts, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_several_triggers_at_once(parts: Database, seed: int) -> None:
    for case in ("takes from the others", "rounds", "rounds variants", "moves variants", "fills a new one"):
        _install(parts, f"a_{case.replace(' ', '_')}", "AFTER", *AFTER[case])
    _attack(parts, seed)


def _fill(shop: Database) -> Database:
    for units in (5, 9, 3):
        add_product(shop, stock_quantity=units)
    add_variant(shop, 1)
    add_variant(shop, 1)
    return shop


def _install(shop: Database, name: str, when: str, event: str, body: str) -> None:
    """A trigger of the shop's; one whose name begins with "a" runs before ours."""
    if not shop.is_postgresql:  # the newest trigger runs first
        run(shop, f"CREATE TRIGGER {name} {when} {event} BEGIN {body}; END")
        if name > "midas":
            run(shop, "DELETE FROM midas_cursors WHERE name = 'triggers'")
            upgrade(shop)
        return
    level = "STATEMENT" if body == EACH_STATEMENT else "ROW"
    once = f"IF pg_trigger_depth() < 3 THEN {body}; END IF; RETURN NULL"
    run(
        shop,
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        f"{once if when == 'AFTER' else f'{body}; RETURN NEW'}; END$$",
    )
    run(shop, f"CREATE TRIGGER {name} {when} {event} FOR EACH {level} EXECUTE FUNCTION {name}()")


def _attack(shop: Database, seed: int) -> None:
    """Random changes by the shop and by the engine: each kind twice, and in `make soak` five times."""
    chance = random.Random(seed)
    for step, kind in enumerate(
        kind for _ in range(5 if seed else 2) for kind in chance.sample(KINDS, len(KINDS))
    ):
        number, units = chance.randint(1, 4), chance.randint(0, 9)
        with shop.writing() as connection:
            for statement in BY_THE_SHOP.get(kind, ()):
                connection.execute(
                    sa.text(statement), {"number": number, "units": units, "slug": f"new-{step}"}
                )
            if kind == "sales":
                mark_together(connection)
            if kind in {"sale", "sales"}:
                _sell(connection, [(number, None), (1, number), (2, None)], units - 5, str(step))
        _check(shop, f"step {step}: {kind}")


KINDS = ("sale", "sales", "products", "variants", "insert", "moved")
BY_THE_SHOP = {
    "products": ("UPDATE products SET stock_quantity = :units WHERE id >= :number",),
    "variants": ("UPDATE product_variants SET stock_quantity = :units",),
    "moved": (
        "UPDATE product_variants SET stock_quantity = :units, product_id = (SELECT max(id) FROM products) "
        "WHERE id = :number",
    ),
    "insert": (
        "INSERT INTO products (name, slug, price, stock_quantity) VALUES ('Part', :slug, 1, :units)",
        "INSERT INTO product_variants (product_id, variant_type, variant_value, stock_quantity) "
        "SELECT max(id), 'a', 'b', :units FROM products",
    ),
}


def _sell(connection: sa.Connection, items: list[ItemKey], delta: int, reference: str) -> None:
    moves = [
        StockMove(item, delta, "fourseller", "sale", f"{reference}/{line}") for line, item in enumerate(items)
    ]
    moved = move_stock(connection, moves)
    query = "SELECT reference, delta FROM inventory_changes WHERE source = 'fourseller'"
    written = dict(map(tuple, connection.exec_driver_sql(query)))
    assert [written.get(move.reference, 0) for move in moves] == moved


def _check(shop: Database, where: str) -> None:
    """Each row continues the item's last one, the first of them opens the ledger, the last has the stock."""
    assert unexplained_stock(shop) == [], where
    last: dict[tuple[int, int], int] = {}
    query = "SELECT product_id, coalesce(variant_id, 0), delta, quantity_after, cause FROM inventory_changes ORDER BY id"
    for product, variant, delta, after, cause in rows(shop, query):
        known = last.get((product, variant))
        assert after == (known or 0) + delta, where
        assert known is not None or cause == "opening", where
        last[product, variant] = after
    unmapped = (
        "SELECT count(*) FROM product_variants v WHERE product_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "
        "fourseller_product_mappings m WHERE m.variant_id = v.id AND m.product_id = v.product_id)"
    )
    assert value(shop, unmapped) == 0, where
