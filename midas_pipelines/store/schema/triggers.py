"""Triggers on the shop's tables: they mark items dirty and write the stock ledger for every change.

A trigger raises `version` on the item's mapping, so that a push knows whether the item changed under it. A change
of `stock_quantity` writes a ledger row with source `website`, unless the item's last row already explains the new
quantity: the engine writes its own row, with its cause, before it sets the quantity.

The shop's statement never waits for ours: the engine takes mapping rows with SKIP LOCKED (see `claims.py`).
"""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema import own_triggers
from midas_pipelines.store.schema.tables import inventory_changes
from midas_pipelines.store.schema.tables import mappings as mappings_table
from midas_pipelines.storefront.types import SQLITE_NOW

MAPPINGS = mappings_table.name
LEDGER = inventory_changes.name


MOVE_VARIANT = (
    f"UPDATE {MAPPINGS} SET product_id = NEW.product_id WHERE NEW.product_id IS NOT NULL "
    f"AND id = (SELECT max(id) FROM {MAPPINGS} WHERE variant_id = NEW.id) AND NOT EXISTS "
    f"(SELECT 1 FROM {MAPPINGS} WHERE product_id = NEW.product_id AND coalesce(variant_id, 0) = NEW.id)"
)
"""A variant that moves to another product takes its mapping, and so its 4Seller product, along."""


ORDER_MOVED = (
    "OLD.status <> NEW.status OR (NEW.payment_status = 'refunded' AND OLD.payment_status <> 'refunded')"
)
NOT_PUSHED = "(status <> NEW.status OR (NEW.payment_status = 'refunded' AND status <> 'refunded'))"
"""Which changes of the shop's order are news to 4Seller: its status, and a refund, which the shop keeps as a payment status."""


# --- SQLite -----------------------------------------------------------------------------------------------------


def _mark(condition: str) -> str:
    return (
        f"UPDATE {MAPPINGS} SET version = version + 1, dirty_since = coalesce(dirty_since, {SQLITE_NOW}), "
        f"next_attempt_at = NULL WHERE {condition};"
    )


def _ensure(product: str, variant: str) -> str:
    return (
        f"INSERT INTO {MAPPINGS} (product_id, variant_id) SELECT {product}, {variant} "
        f"WHERE EXISTS (SELECT 1 FROM products WHERE id = {product}) AND NOT EXISTS (SELECT 1 FROM {MAPPINGS} "
        f"WHERE product_id = {product} AND coalesce(variant_id, 0) = coalesce({variant}, 0));"
    )


def _ledger(product: str, variant: str, cause: str) -> str:
    last = (
        f"coalesce((SELECT quantity_after FROM {LEDGER} WHERE product_id = {product} "
        f"AND coalesce(variant_id, 0) = coalesce({variant}, 0) ORDER BY id DESC LIMIT 1), {{missing}})"
    )
    return (
        f"INSERT INTO {LEDGER} (product_id, variant_id, delta, quantity_after, source, cause) "
        f"SELECT {product}, {variant}, NEW.stock_quantity - {last.format(missing=0)}, NEW.stock_quantity, "
        f"'website', '{cause}' WHERE {product} IS NOT NULL "
        f"AND {last.format(missing='NEW.stock_quantity - 1')} <> NEW.stock_quantity;"
    )


def _tell(condition: str) -> str:
    return (
        f"UPDATE marketplace_orders SET shop_status_since = coalesce(shop_status_since, {SQLITE_NOW}) "
        f"WHERE {condition};"
    )


def _detach(condition: str) -> str:
    return (
        "UPDATE marketplace_order_lines SET product_id = NULL, variant_id = NULL "
        f"WHERE {condition} AND sku IS NOT NEW.sku;"
    )


SQLITE_TRIGGERS = {
    # INSERT OR REPLACE takes away rows without a delete trigger: those of another id are marked before they go.
    "midas_products_replace": "BEFORE INSERT ON products BEGIN "
    + _mark("product_id IN (SELECT id FROM products WHERE slug = NEW.slug OR sku = NEW.sku)"),
    "midas_variants_replace": "BEFORE INSERT ON product_variants BEGIN "
    + _mark("product_id IN (SELECT product_id FROM product_variants WHERE sku = NEW.sku)"),
    "midas_products_insert": "AFTER INSERT ON products BEGIN "
    + _ensure("NEW.id", "NULL")
    + _mark("product_id = NEW.id")
    + _ledger("NEW.id", "NULL", "opening"),
    "midas_products_update": "AFTER UPDATE ON products BEGIN " + _mark("product_id IN (OLD.id, NEW.id)"),
    "midas_products_stock": "AFTER UPDATE OF stock_quantity ON products "
    "WHEN OLD.stock_quantity <> NEW.stock_quantity BEGIN " + _ledger("NEW.id", "NULL", "changed"),
    "midas_products_renumber": "AFTER UPDATE OF id ON products WHEN OLD.id <> NEW.id BEGIN "
    + _ensure("NEW.id", "NULL")
    + _ledger("NEW.id", "NULL", "opening"),
    "midas_products_delete": "AFTER DELETE ON products BEGIN " + _mark("product_id = OLD.id"),
    "midas_variants_insert": "AFTER INSERT ON product_variants WHEN NEW.product_id IS NOT NULL BEGIN "
    + _ensure("NEW.product_id", "NEW.id")
    + _mark("product_id = NEW.product_id")
    + _ledger("NEW.product_id", "NEW.id", "opening"),
    "midas_variants_update": "AFTER UPDATE ON product_variants BEGIN "
    + _mark("product_id = OLD.product_id AND coalesce(variant_id, 0) = OLD.id"),
    "midas_variants_stock": "AFTER UPDATE OF stock_quantity ON product_variants "
    "WHEN OLD.stock_quantity <> NEW.stock_quantity AND NEW.product_id IS NOT NULL BEGIN "
    + _ledger("NEW.product_id", "NEW.id", "changed"),
    "midas_variants_move": "AFTER UPDATE OF id, product_id ON product_variants "
    "WHEN OLD.id <> NEW.id OR OLD.product_id IS NOT NEW.product_id BEGIN "
    + _mark("product_id = OLD.product_id")
    + f"{MOVE_VARIANT};"
    + _ensure("NEW.product_id", "NEW.id")
    + _ensure("OLD.product_id", "NULL")
    + _mark("product_id = NEW.product_id")
    + _ledger("NEW.product_id", "NEW.id", "opening"),
    "midas_variants_delete": "AFTER DELETE ON product_variants BEGIN "
    + _ensure("OLD.product_id", "NULL")
    + _mark("product_id = OLD.product_id"),
    "midas_images_insert": "AFTER INSERT ON product_images BEGIN " + _mark("product_id = NEW.product_id"),
    "midas_images_update": "AFTER UPDATE ON product_images BEGIN "
    + _mark("product_id IN (OLD.product_id, NEW.product_id)"),
    "midas_images_delete": "AFTER DELETE ON product_images BEGIN " + _mark("product_id = OLD.product_id"),
    "midas_categories_update": "AFTER UPDATE OF name ON categories WHEN OLD.name IS NOT NEW.name BEGIN "
    + _mark("product_id IN (SELECT id FROM products WHERE category_id = NEW.id)"),
    "midas_orders_status": f"AFTER UPDATE OF status, payment_status ON orders WHEN {ORDER_MOVED} BEGIN "
    + _tell(f"local_order_id = NEW.id AND {NOT_PUSHED}"),
    "midas_orders_replace": "BEFORE INSERT ON orders WHEN EXISTS (SELECT 1 FROM orders WHERE id = NEW.id) BEGIN "
    + _tell("local_order_id = NEW.id AND status <> NEW.status"),
    "midas_orders_delete": "AFTER DELETE ON orders BEGIN "
    "UPDATE marketplace_orders SET local_order_id = NULL, shop_status_since = NULL, "
    "exception = coalesce(exception || ',', '') || 'deleted' WHERE local_order_id = OLD.id;",
    # SQLite reuses the id of a deleted last row: earlier sales under it were of another item.
    "midas_products_reuse": "AFTER INSERT ON products "
    f"WHEN EXISTS (SELECT 1 FROM {LEDGER} WHERE product_id = NEW.id) BEGIN "
    + _detach("product_id = NEW.id AND variant_id IS NULL"),
    "midas_variants_reuse": "AFTER INSERT ON product_variants "
    f"WHEN EXISTS (SELECT 1 FROM {MAPPINGS} WHERE variant_id = NEW.id) BEGIN "
    + _detach("variant_id = NEW.id"),
}


def _sqlite() -> list[str]:
    return [
        statement
        for name, body in (SQLITE_TRIGGERS | own_triggers.SQLITE).items()
        for statement in (f"DROP TRIGGER IF EXISTS {name}", f"CREATE TRIGGER {name} {body} END")
    ]


# --- PostgreSQL -------------------------------------------------------------------------------------------------


def _call(function: str, event: str, condition: str = "") -> str:
    """A trigger's body on PostgreSQL: after the event it calls one of the functions below."""
    each = "STATEMENT" if event.startswith("TRUNCATE") else "ROW"
    return f"AFTER {event} FOR EACH {each} {condition} EXECUTE FUNCTION {function}()"


_DIFFERS = "WHEN (OLD.* IS DISTINCT FROM NEW.*)"
_ORDER_NEWS = ("UPDATE OF status, payment_status ON orders", f"WHEN ({ORDER_MOVED})")
POSTGRESQL_TRIGGERS = {
    "midas_products_insert": _call("midas_product_changed", "INSERT ON products"),
    "midas_products_update": _call("midas_product_changed", "UPDATE ON products", _DIFFERS),
    "midas_products_delete": _call("midas_product_changed", "DELETE ON products"),
    "midas_variants_insert": _call("midas_variant_changed", "INSERT ON product_variants"),
    "midas_variants_update": _call("midas_variant_changed", "UPDATE ON product_variants", _DIFFERS),
    "midas_variants_delete": _call("midas_variant_changed", "DELETE ON product_variants"),
    "midas_images_change": _call("midas_image_changed", "INSERT OR UPDATE OR DELETE ON product_images"),
    "midas_categories_update": _call(
        "midas_category_changed", "UPDATE OF name ON categories", "WHEN (OLD.name IS DISTINCT FROM NEW.name)"
    ),
    "midas_products_truncate": _call("midas_table_emptied", "TRUNCATE ON products"),
    "midas_variants_truncate": _call("midas_table_emptied", "TRUNCATE ON product_variants"),
    "midas_images_truncate": _call("midas_table_emptied", "TRUNCATE ON product_images"),
    "midas_orders_status": _call("midas_order_status_changed", *_ORDER_NEWS),
    "midas_orders_delete": _call("midas_order_deleted", "DELETE ON orders"),
}

_PG_MARK = f"""
CREATE OR REPLACE FUNCTION midas_mark_dirty(product integer, variant integer, whole boolean) RETURNS void
LANGUAGE plpgsql {{security}} AS $$
BEGIN  -- plpgsql keeps the plan of a statement for the session; a function of SQL is planned again at each call
  UPDATE {MAPPINGS} SET version = version + 1, dirty_since = coalesce(dirty_since, clock_timestamp()),
         next_attempt_at = NULL
  WHERE product_id = product AND (whole OR coalesce(variant_id, 0) = coalesce(variant, 0));
END $$"""

_PG_ENSURE = f"""
CREATE OR REPLACE FUNCTION midas_ensure_item(product integer, variant integer) RETURNS void
LANGUAGE sql {{security}} AS $$
  INSERT INTO {MAPPINGS} (product_id, variant_id)
  SELECT product, variant WHERE EXISTS (SELECT 1 FROM products WHERE id = product)
  ON CONFLICT DO NOTHING;
$$"""

_PG_LEDGER = f"""
CREATE OR REPLACE FUNCTION midas_record_stock(product integer, variant integer, quantity integer, why text)
RETURNS void LANGUAGE plpgsql {{security}} AS $$
DECLARE last integer;
BEGIN
  SELECT quantity_after INTO last FROM {LEDGER}
  WHERE product_id = product AND coalesce(variant_id, 0) = coalesce(variant, 0) ORDER BY id DESC LIMIT 1;
  IF last IS DISTINCT FROM quantity THEN
    INSERT INTO {LEDGER} (product_id, variant_id, delta, quantity_after, source, cause)
    VALUES (product, variant, quantity - coalesce(last, 0), quantity, 'website', why);
  END IF;
END $$"""

# A reused id: earlier sales under it were of the other item. A new id has no ledger rows.
_PG_DETACH = f"""
CREATE OR REPLACE FUNCTION midas_detach_lines(product integer, variant integer, called text) RETURNS void
LANGUAGE sql {{security}} AS $$
  UPDATE marketplace_order_lines SET product_id = NULL, variant_id = NULL
  WHERE product_id = product AND variant_id IS NOT DISTINCT FROM variant AND sku IS DISTINCT FROM called
    AND EXISTS (SELECT 1 FROM {LEDGER} WHERE product_id = product
                AND coalesce(variant_id, 0) = coalesce(variant, 0));
$$"""

_PG_PRODUCT = """
CREATE OR REPLACE FUNCTION midas_product_changed() RETURNS trigger LANGUAGE plpgsql {security} AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN PERFORM midas_mark_dirty(OLD.id, NULL, true); END IF;
  IF TG_OP = 'UPDATE' AND OLD.id = NEW.id THEN
    IF OLD.stock_quantity IS DISTINCT FROM NEW.stock_quantity THEN
      PERFORM midas_record_stock(NEW.id, NULL, NEW.stock_quantity, 'changed');
    END IF;
  ELSIF TG_OP <> 'DELETE' THEN  -- a new id, or one that was used before: a restored row has its mapping still
    PERFORM midas_ensure_item(NEW.id, NULL);
    PERFORM midas_mark_dirty(NEW.id, NULL, true);
    IF TG_OP = 'INSERT' THEN PERFORM midas_detach_lines(NEW.id, NULL, NEW.sku); END IF;
    PERFORM midas_record_stock(NEW.id, NULL, NEW.stock_quantity, 'opening');
  END IF;
  RETURN NULL;
END $$"""

_PG_VARIANT = f"""
CREATE OR REPLACE FUNCTION midas_variant_changed() RETURNS trigger LANGUAGE plpgsql {{security}} AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND (OLD.product_id, OLD.id) IS NOT DISTINCT FROM (NEW.product_id, NEW.id) THEN
    PERFORM midas_mark_dirty(NEW.product_id, NEW.id, false);
    IF NEW.product_id IS NOT NULL AND OLD.stock_quantity IS DISTINCT FROM NEW.stock_quantity THEN
      PERFORM midas_record_stock(NEW.product_id, NEW.id, NEW.stock_quantity, 'changed');
    END IF;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN  -- it left its product, which may be sold without variants from now on
    PERFORM midas_ensure_item(OLD.product_id, NULL);
    PERFORM midas_mark_dirty(OLD.product_id, NULL, true);
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.product_id IS NOT NULL THEN
    {MOVE_VARIANT};
    PERFORM midas_ensure_item(NEW.product_id, NEW.id);
    PERFORM midas_mark_dirty(NEW.product_id, NULL, true);
    IF TG_OP = 'INSERT' THEN PERFORM midas_detach_lines(NEW.product_id, NEW.id, NEW.sku); END IF;
    PERFORM midas_record_stock(NEW.product_id, NEW.id, NEW.stock_quantity, 'opening');
  END IF;
  RETURN NULL;
END $$"""

_PG_IMAGE = """
CREATE OR REPLACE FUNCTION midas_image_changed() RETURNS trigger LANGUAGE plpgsql {security} AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN PERFORM midas_mark_dirty(OLD.product_id, NULL, true); END IF;
  IF TG_OP <> 'DELETE' THEN PERFORM midas_mark_dirty(NEW.product_id, NULL, true); END IF;
  RETURN NULL;
END $$"""

_PG_CATEGORY = """
CREATE OR REPLACE FUNCTION midas_category_changed() RETURNS trigger LANGUAGE plpgsql {security} AS $$
BEGIN
  PERFORM midas_mark_dirty(p.id, NULL, true) FROM products p WHERE p.category_id = NEW.id;
  RETURN NULL;
END $$"""

_PG_EMPTIED = f"""
CREATE OR REPLACE FUNCTION midas_table_emptied() RETURNS trigger LANGUAGE plpgsql {{security}} AS $$
BEGIN
  UPDATE {MAPPINGS} SET version = version + 1, dirty_since = coalesce(dirty_since, clock_timestamp()),
         next_attempt_at = NULL;
  RETURN NULL;
END $$"""

_PG_ORDER = (
    """
CREATE OR REPLACE FUNCTION midas_order_status_changed() RETURNS trigger LANGUAGE plpgsql {security} AS $$
BEGIN
  UPDATE marketplace_orders SET shop_status_since = coalesce(shop_status_since, clock_timestamp())
  WHERE local_order_id = NEW.id AND """
    + NOT_PUSHED
    + """;
  RETURN NULL;
END $$"""
)

_PG_ORDER_GONE = """
CREATE OR REPLACE FUNCTION midas_order_deleted() RETURNS trigger LANGUAGE plpgsql {security} AS $$
BEGIN
  UPDATE marketplace_orders SET local_order_id = NULL, shop_status_since = NULL,
         exception = concat_ws(',', exception, 'deleted')
  WHERE local_order_id = OLD.id;
  RETURN NULL;
END $$"""


_PG_HELPERS = (
    "midas_mark_dirty(integer, integer, boolean)",
    "midas_ensure_item(integer, integer)",
    "midas_record_stock(integer, integer, integer, text)",
    "midas_detach_lines(integer, integer, text)",
)


def statements(connection: sa.Connection) -> list[str]:
    """What puts all triggers, also those on our own tables, on this kind of database."""
    if connection.dialect.name != "postgresql":
        return _sqlite()
    # The shop's own role need not own our tables: the functions run as the role that installed them, and see the
    # shop's schema alone, so that a temporary table of the same name changes nothing.
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    security = f"SECURITY DEFINER SET search_path = {schema}, pg_temp"
    bodies = (_PG_MARK, _PG_ENSURE, _PG_LEDGER, _PG_DETACH, _PG_PRODUCT, _PG_VARIANT, _PG_IMAGE, _PG_CATEGORY)
    others = (_PG_EMPTIED, _PG_ORDER, _PG_ORDER_GONE)
    found = [body.format(security=security) for body in (*bodies, *others)]
    found += [f"REVOKE EXECUTE ON FUNCTION {helper} FROM PUBLIC" for helper in _PG_HELPERS]
    triggers = POSTGRESQL_TRIGGERS | own_triggers.POSTGRESQL
    found += own_triggers.FUNCTIONS
    return found + [f"CREATE OR REPLACE TRIGGER {name} {body}" for name, body in triggers.items()]
