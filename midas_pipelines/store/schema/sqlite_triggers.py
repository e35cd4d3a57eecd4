"""The triggers on SQLite, each with its event and what it does.

SQLite has no notifications: workers there poll `PRAGMA data_version`. INSERT OR REPLACE takes away rows without a delete
trigger, and the id of a deleted last row is used again.
"""

from __future__ import annotations

from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.store.schema.triggers import (
    AUDIT,
    AUDIT_KEPT_DAYS,
    CLEARED,
    DOOR,
    GUARDED,
    LEDGER,
    MAPPINGS,
    MOVE_VARIANT,
    NOT_PUSHED,
    ORDER_MOVED,
    OWNER,
    PUSHED,
    explain_stock,
    marked_dirty,
)
from midas_pipelines.storefront.types import SQLITE_NOW


def _mark(condition: str) -> str:
    return f"UPDATE {MAPPINGS} SET {marked_dirty(SQLITE_NOW)} WHERE {condition};"


def _ensure(product: str, variant: str) -> str:
    return (
        f"INSERT INTO {MAPPINGS} (product_id, variant_id) SELECT {product}, {variant} "
        f"WHERE EXISTS (SELECT 1 FROM products WHERE id = {product}) AND NOT EXISTS (SELECT 1 FROM {MAPPINGS} "
        f"WHERE product_id = {product} AND coalesce(variant_id, 0) = coalesce({variant}, 0));"
    )


def _ledger(table: str, cause: str) -> str:
    return explain_stock(table, "s.id = NEW.id", f"'{cause}'") + ";"


def _order_news(condition: str) -> str:
    now = (
        f"shop_status_since = coalesce(shop_status_since, {SQLITE_NOW}), push_after = NULL, push_attempts = 0"
    )
    return f"UPDATE marketplace_orders SET {now} WHERE local_order_id = NEW.id AND {condition};"


def _detach(condition: str) -> str:
    """Earlier sales under a reused id were of another item."""
    lines = "UPDATE marketplace_order_lines SET product_id = NULL, variant_id = NULL"
    return f"{lines} WHERE {condition} AND sku IS NOT NEW.sku;"


def _guards(table: str) -> dict[str, tuple[str, ...]]:
    """The triggers that keep a table append-only."""
    closed = f"NOT EXISTS (SELECT 1 FROM {cursors.name} WHERE name = '{DOOR}')"
    young = "OLD.at >= " + SQLITE_NOW.replace("'now'", f"'now', '-{AUDIT_KEPT_DAYS} days'")
    updated, deleted = ("true", young) if table == AUDIT else (closed, closed)
    replaced = f"EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id)"
    refuse = f"SELECT RAISE(ABORT, '{GUARDED[table]}');"
    return {
        f"midas_{table}_update": (f"BEFORE UPDATE ON {table} WHEN {updated}", refuse),
        f"midas_{table}_delete": (f"BEFORE DELETE ON {table} WHEN {deleted}", refuse),
        f"midas_{table}_replace": (f"BEFORE INSERT ON {table} WHEN {replaced}", refuse),
    }


_DATE = "strftime('%Y-%m-%d %H:%M:%f', NEW.shipped_at, '+0 days')"  # which makes March 2 of February 30


def _read_date(event: str) -> tuple[str, str]:
    """A date that the shop's own code wrote in some form; one that none can read is that of its recording."""
    read = f"CASE WHEN {_DATE} > '1' THEN {_DATE} ELSE {SQLITE_NOW} END"
    return (
        f"AFTER {event} ON {order_shipments.name} WHEN NEW.shipped_at IS NOT {_DATE}",
        f"UPDATE {order_shipments.name} SET shipped_at = {read} WHERE id = NEW.id;",
    )


_PRODUCT, _VARIANT = ("NEW.id", "NULL"), (OWNER, "NEW.id")

_TRIGGERS: dict[str, tuple[str, ...]] = {
    "midas_products_replace": (
        "BEFORE INSERT ON products",
        _mark("product_id IN (SELECT id FROM products WHERE slug = NEW.slug OR sku = NEW.sku)"),
    ),
    "midas_variants_replace": (
        "BEFORE INSERT ON product_variants",
        _mark("product_id IN (SELECT product_id FROM product_variants WHERE sku = NEW.sku)"),
    ),
    "midas_products_insert": (
        "AFTER INSERT ON products",
        _ensure(*_PRODUCT) + _mark("product_id = NEW.id") + _ledger("products", "opening"),
    ),
    "midas_products_update": ("AFTER UPDATE ON products", _mark("product_id IN (OLD.id, NEW.id)")),
    "midas_products_stock": ("AFTER UPDATE OF stock_quantity ON products", _ledger("products", "changed")),
    "midas_products_renumber": (
        "AFTER UPDATE OF id ON products WHEN OLD.id <> NEW.id",
        _ensure(*_PRODUCT) + _ledger("products", "opening"),
    ),
    "midas_products_delete": ("AFTER DELETE ON products", _mark("product_id = OLD.id")),
    "midas_products_reuse": (
        f"AFTER INSERT ON products WHEN EXISTS (SELECT 1 FROM {LEDGER} WHERE product_id = NEW.id)",
        _detach("product_id = NEW.id AND variant_id IS NULL"),
    ),
    "midas_variants_insert": (
        "AFTER INSERT ON product_variants WHEN NEW.product_id IS NOT NULL",
        _ensure(*_VARIANT) + _mark(f"product_id = {OWNER}") + _ledger("product_variants", "opening"),
    ),
    "midas_variants_update": (
        "AFTER UPDATE ON product_variants",
        _mark("product_id = OLD.product_id AND coalesce(variant_id, 0) = OLD.id"),
    ),
    "midas_variants_stock": (
        "AFTER UPDATE OF stock_quantity ON product_variants",
        _ledger("product_variants", "changed"),
    ),
    "midas_variants_move": (
        "AFTER UPDATE OF id, product_id ON product_variants "
        "WHEN OLD.id <> NEW.id OR OLD.product_id IS NOT NEW.product_id",
        _mark("product_id = OLD.product_id") + MOVE_VARIANT,
        _ensure(*_VARIANT) + _ensure("OLD.product_id", "NULL"),
        _mark(f"product_id = {OWNER}") + _ledger("product_variants", "opening"),
    ),
    "midas_variants_delete": (
        "AFTER DELETE ON product_variants",
        _ensure("OLD.product_id", "NULL") + _mark("product_id = OLD.product_id"),
    ),
    "midas_variants_reuse": (
        f"AFTER INSERT ON product_variants WHEN EXISTS (SELECT 1 FROM {MAPPINGS} WHERE variant_id = NEW.id)",
        _detach("variant_id = NEW.id"),
    ),
    "midas_images_insert": ("AFTER INSERT ON product_images", _mark("product_id = NEW.product_id")),
    "midas_images_update": (
        "AFTER UPDATE ON product_images",
        _mark("product_id IN (OLD.product_id, NEW.product_id)"),
    ),
    "midas_images_delete": ("AFTER DELETE ON product_images", _mark("product_id = OLD.product_id")),
    "midas_categories_update": (
        "AFTER UPDATE OF name ON categories WHEN OLD.name IS NOT NEW.name",
        _mark("product_id IN (SELECT id FROM products WHERE category_id = NEW.id)"),
    ),
    "midas_orders_status": (
        f"AFTER UPDATE OF status, payment_status ON orders WHEN {ORDER_MOVED}",
        _order_news(NOT_PUSHED),
    ),
    "midas_orders_replace": (
        "BEFORE INSERT ON orders WHEN EXISTS (SELECT 1 FROM orders WHERE id = NEW.id)",
        _order_news("status <> NEW.status"),
    ),
    "midas_orders_delete": (
        "AFTER DELETE ON orders",
        "UPDATE marketplace_orders SET local_order_id = NULL, shop_status_since = NULL, "
        "exception = coalesce(exception || ',', '') || 'deleted' WHERE local_order_id = OLD.id;",
    ),
    "midas_shipments_update": (
        f"AFTER UPDATE OF {', '.join(PUSHED)} ON {order_shipments.name} "
        f"WHEN {' OR '.join(f'OLD.{one} IS NOT NEW.{one}' for one in PUSHED)}",
        f"UPDATE {order_shipments.name} SET {', '.join(f'{column} = NULL' for column in CLEARED)} WHERE id = NEW.id;",
    ),
    "midas_shipments_insert": _read_date("INSERT"),
    "midas_shipments_date": _read_date("UPDATE OF shipped_at"),
    **{name: parts for table in GUARDED for name, parts in _guards(table).items()},
}
TRIGGERS = {name: f"{event} BEGIN {' '.join(actions)} END" for name, (event, *actions) in _TRIGGERS.items()}
"""The body of each trigger."""
