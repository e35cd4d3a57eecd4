"""The triggers on PostgreSQL, and the functions that they call.

NOTIFY takes one lock for the whole server when its transaction commits. So an item is announced only when it becomes
claimable, not for each change to one that waits already: a hundred changes cost one.
"""

from __future__ import annotations

from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.triggers import (
    AUDIT,
    AUDIT_KEPT_DAYS,
    CHANNEL,
    CLEARED,
    DOOR,
    GUARDED,
    ITEMS,
    LEDGER,
    MAPPINGS,
    MOVE_VARIANT,
    NOT_PUSHED,
    ORDER_MOVED,
    OWNER,
    PUSHED,
    TOGETHER,
    WEBHOOKS,
    explain_stock,
    marked_dirty,
)

_DIRTY = marked_dirty("clock_timestamp()")
# All are plpgsql, which keeps the plan of a statement for the session; a function of SQL is planned again at each call.
_HELPERS = {
    "midas_mark_dirty(product integer, variant integer, whole boolean)": f"""
  UPDATE {MAPPINGS} SET {_DIRTY}
  WHERE product_id = product AND (whole OR coalesce(variant_id, 0) = coalesce(variant, 0));""",
    "midas_ensure_item(product integer, variant integer)": f"""
  INSERT INTO {MAPPINGS} (product_id, variant_id)
  SELECT product, variant WHERE EXISTS (SELECT 1 FROM products WHERE id = product) ON CONFLICT DO NOTHING;""",
    "midas_record_stock(product integer, variant integer, why text)": f"""
  IF variant IS NULL THEN {explain_stock("products", "s.id = product", "why")};
  ELSE {explain_stock("product_variants", "s.id = variant", "why")}; END IF;""",
    # A reused id: earlier sales under it were of the other item. A new id has no ledger rows.
    "midas_detach_lines(product integer, variant integer, called text)": f"""
  UPDATE marketplace_order_lines SET product_id = NULL, variant_id = NULL
  WHERE product_id = product AND variant_id IS NOT DISTINCT FROM variant AND sku IS DISTINCT FROM called
    AND EXISTS (SELECT 1 FROM {LEDGER} WHERE product_id = product
                AND coalesce(variant_id, 0) = coalesce(variant, 0));""",
}
"""What the functions below call, by signature."""

_ON_SHOP = {
    "midas_product_changed": """
  IF TG_OP <> 'INSERT' THEN PERFORM midas_mark_dirty(OLD.id, NULL, true); END IF;
  IF TG_OP = 'UPDATE' AND OLD.id = NEW.id THEN
    IF OLD.stock_quantity IS DISTINCT FROM NEW.stock_quantity THEN
      PERFORM midas_record_stock(NEW.id, NULL, 'changed');
    END IF;
  ELSIF TG_OP <> 'DELETE' THEN  -- a new id, or one that was used before: a restored row has its mapping still
    PERFORM midas_ensure_item(NEW.id, NULL);
    PERFORM midas_mark_dirty(NEW.id, NULL, true);
    IF TG_OP = 'INSERT' THEN PERFORM midas_detach_lines(NEW.id, NULL, NEW.sku); END IF;
    PERFORM midas_record_stock(NEW.id, NULL, 'opening');
  END IF;""",
    # The same for all products that a statement of ours changes. A full join is never made row by row.
    "midas_products_changed": f"""
  UPDATE {MAPPINGS} SET {_DIRTY} WHERE product_id = ANY (ARRAY(
    SELECT before.id FROM before FULL JOIN after ON after.id = before.id WHERE before.* IS DISTINCT FROM after.*));
  {explain_stock("products", "s.id = ANY (ARRAY(SELECT id FROM after))")};""",
    # A trigger of the shop's kept the old quantity, and the ledger may have a row of ours for the new one already.
    "midas_stock_kept": """
  IF TG_TABLE_NAME = 'products' THEN PERFORM midas_record_stock(NEW.id, NULL, 'changed');
  ELSE PERFORM midas_record_stock(NEW.product_id, NEW.id, 'changed'); END IF;""",
    "midas_variant_changed": f"""
  IF TG_OP <> 'DELETE' THEN NEW.product_id := {OWNER}; END IF;
  IF TG_OP = 'UPDATE' AND (OLD.product_id, OLD.id) IS NOT DISTINCT FROM (NEW.product_id, NEW.id) THEN
    PERFORM midas_mark_dirty(NEW.product_id, NEW.id, false);
    IF NEW.product_id IS NOT NULL AND OLD.stock_quantity IS DISTINCT FROM NEW.stock_quantity THEN
      PERFORM midas_record_stock(NEW.product_id, NEW.id, 'changed');
    END IF;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN  -- it left its product, which may be sold without variants from now on
    PERFORM midas_ensure_item(OLD.product_id, NULL);
    PERFORM midas_mark_dirty(OLD.product_id, NULL, true);
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.product_id IS NOT NULL THEN
    {MOVE_VARIANT}
    PERFORM midas_ensure_item(NEW.product_id, NEW.id);
    PERFORM midas_mark_dirty(NEW.product_id, NULL, true);
    IF TG_OP = 'INSERT' THEN PERFORM midas_detach_lines(NEW.product_id, NEW.id, NEW.sku); END IF;
    PERFORM midas_record_stock(NEW.product_id, NEW.id, 'opening');
  END IF;""",
    "midas_image_changed": """
  IF TG_OP <> 'INSERT' THEN PERFORM midas_mark_dirty(OLD.product_id, NULL, true); END IF;
  IF TG_OP <> 'DELETE' THEN PERFORM midas_mark_dirty(NEW.product_id, NULL, true); END IF;""",
    "midas_category_changed": """
  PERFORM midas_mark_dirty(p.id, NULL, true) FROM products p WHERE p.category_id = NEW.id;""",
    "midas_table_emptied": f"""
  UPDATE {MAPPINGS} SET {_DIRTY};""",
    "midas_order_status_changed": f"""
  UPDATE marketplace_orders SET shop_status_since = coalesce(shop_status_since, clock_timestamp()),
         push_after = NULL, push_attempts = 0
  WHERE local_order_id = NEW.id AND {NOT_PUSHED};""",
    "midas_order_deleted": """
  UPDATE marketplace_orders SET local_order_id = NULL, shop_status_since = NULL,
         exception = concat_ws(',', exception, 'deleted')
  WHERE local_order_id = OLD.id;""",
}
"""What the triggers on the shop's tables call."""

_ON_OURS = {
    "midas_announce": f"""
  PERFORM pg_notify('{CHANNEL}', TG_ARGV[0]);
  RETURN NULL;""",
    "midas_shipment_changed": f"""
  {" ".join(f"NEW.{column} := NULL;" for column in CLEARED)}
  RETURN NEW;""",
    "midas_refuse_change": """
  RAISE EXCEPTION USING MESSAGE = TG_ARGV[0];""",
}
"""What the triggers on our own tables call."""


def functions(schema: str) -> list[str]:
    """The statements that make all of them, the shop's tables in that schema.

    The shop's own role need not own our tables: the functions on its tables run as the role that installed them, and see
    the shop's schema alone, so that a temporary table of the same name changes nothing.
    """
    secure = f" SECURITY DEFINER SET search_path = {schema}, pg_temp"
    bodies = {f"{signature} RETURNS void": (body, secure) for signature, body in _HELPERS.items()}
    returns = "() RETURNS trigger"
    bodies |= {name + returns: (f"{body}\n  RETURN NULL;", secure) for name, body in _ON_SHOP.items()}
    bodies |= {name + returns: (body, "") for name, body in _ON_OURS.items()}
    made = [
        f"CREATE OR REPLACE FUNCTION {head} LANGUAGE plpgsql{rights} AS $$\nBEGIN{body}\nEND $$"
        for head, (body, rights) in bodies.items()
    ]
    return made + [f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC" for signature in _HELPERS]


def _ready(row: str) -> str:
    return f"({row}.dirty_since IS NOT NULL AND {row}.claimed_by IS NULL AND {row}.next_attempt_at IS NULL)"


def _call(event: str, function: str, condition: str = "", *, each: str = "ROW") -> str:
    when = f"WHEN ({condition}) " if condition else ""
    return f"{event} FOR EACH {each} {when}EXECUTE FUNCTION midas_{function}"


def _guards(table: str) -> dict[str, str]:
    """The triggers that keep a table append-only."""
    closed = f"coalesce(current_setting('midas.{DOOR}', true), '') <> 'open'"
    young = f"OLD.at >= clock_timestamp() - interval '{AUDIT_KEPT_DAYS} days'"
    updated, deleted = ("", young) if table == AUDIT else (closed, closed)
    refuse = f"refuse_change('{GUARDED[table]}')"
    return {
        f"midas_{table}_update": _call(f"BEFORE UPDATE ON {table}", refuse, updated),
        f"midas_{table}_delete": _call(f"BEFORE DELETE ON {table}", refuse, deleted),
        f"midas_{table}_truncate": _call(f"BEFORE TRUNCATE ON {table}", refuse, each="STATEMENT"),
    }


_SHIPMENT = f"BEFORE UPDATE OF {', '.join(PUSHED)} ON {order_shipments.name}"
_SHIPMENT_DIFFERS = " OR ".join(f"OLD.{one} IS DISTINCT FROM NEW.{one}" for one in PUSHED)
_ORDER = "AFTER UPDATE OF status, payment_status ON orders"
_DIFFERS, _RENAMED = "OLD.* IS DISTINCT FROM NEW.*", "OLD.name IS DISTINCT FROM NEW.name"
_KEPT = "OLD.stock_quantity = NEW.stock_quantity"
_TOGETHER = f"coalesce(current_setting('midas.{TOGETHER}', true), '') = 'on'"
_ALONE = f"{_DIFFERS} AND (OLD.id <> NEW.id OR NOT {_TOGETHER})"
_BOTH = "REFERENCING OLD TABLE AS before NEW TABLE AS after"
_BECAME_READY = f"{_ready('NEW')} AND NOT {_ready('OLD')}"
_WEBHOOK = f"AFTER INSERT ON {marketplace_webhooks.name}"
TRIGGERS = {
    "midas_products_insert": _call("AFTER INSERT ON products", "product_changed()"),
    "midas_products_update": _call("AFTER UPDATE ON products", "product_changed()", _ALONE),
    "midas_products_together": _call(
        f"AFTER UPDATE ON products {_BOTH}", "products_changed()", _TOGETHER, each="STATEMENT"
    ),
    "midas_products_kept": _call("AFTER UPDATE OF stock_quantity ON products", "stock_kept()", _KEPT),
    "midas_products_delete": _call("AFTER DELETE ON products", "product_changed()"),
    "midas_variants_insert": _call("AFTER INSERT ON product_variants", "variant_changed()"),
    "midas_variants_update": _call("AFTER UPDATE ON product_variants", "variant_changed()", _DIFFERS),
    "midas_variants_kept": _call("AFTER UPDATE OF stock_quantity ON product_variants", "stock_kept()", _KEPT),
    "midas_variants_delete": _call("AFTER DELETE ON product_variants", "variant_changed()"),
    "midas_images_change": _call("AFTER INSERT OR UPDATE OR DELETE ON product_images", "image_changed()"),
    "midas_categories_update": _call("AFTER UPDATE OF name ON categories", "category_changed()", _RENAMED),
    **{
        f"midas_{name}_truncate": _call(f"AFTER TRUNCATE ON {table}", "table_emptied()", each="STATEMENT")
        for name, table in (
            ("products", "products"),
            ("variants", "product_variants"),
            ("images", "product_images"),
        )
    },
    "midas_orders_status": _call(_ORDER, "order_status_changed()", ORDER_MOVED),
    "midas_orders_delete": _call("AFTER DELETE ON orders", "order_deleted()"),
    "midas_items_new": _call(f"AFTER INSERT ON {MAPPINGS}", f"announce('{ITEMS}')", _ready("NEW")),
    "midas_items_ready": _call(f"AFTER UPDATE ON {MAPPINGS}", f"announce('{ITEMS}')", _BECAME_READY),
    "midas_webhooks_new": _call(_WEBHOOK, f"announce('{WEBHOOKS}')", each="STATEMENT"),
    "midas_shipments_update": _call(_SHIPMENT, "shipment_changed()", _SHIPMENT_DIFFERS),
    **{name: body for table in GUARDED for name, body in _guards(table).items()},
}
"""The body of each trigger."""
