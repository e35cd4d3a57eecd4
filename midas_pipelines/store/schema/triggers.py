"""What the triggers of both databases share, and the door through which rows of an append-only table are changed.

Triggers on the shop's tables mark items dirty: they raise `version` on the item's mapping, so that a push knows whether the
item changed under it. A statement that sets `stock_quantity` writes a ledger row with source `website`, unless the item's last
row already explains the quantity: the engine writes its own row, with its cause, before it sets the quantity. The quantity is
that of the table, not of the change that fired: a trigger of the shop's own may have changed it again since. The shop's
statement never waits for ours: the engine takes mapping rows with SKIP LOCKED (see `claims.py`).

Triggers on our own tables notify workers, push a changed shipment again, and keep three tables append-only: in the audit
log, the stock ledger and the log of orders no row is changed or deleted, and no table emptied. Erasing a buyer, retention
and fixing what a check found use `amending`; the audit log has no such door, and lets go of a row once it is
`AUDIT_KEPT_DAYS` old.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from midas_pipelines.store.schema.gateway_tables import gateway_audit
from midas_pipelines.store.schema.tables import cursors, inventory_changes, mappings, order_processing_logs

CHANNEL = "midas_work"
ITEMS, WEBHOOKS = "items", "webhooks"  # the channel that workers listen on, and its messages

MAPPINGS, LEDGER, AUDIT = mappings.name, inventory_changes.name, gateway_audit.name

OWNER = "(SELECT product_id FROM product_variants WHERE id = NEW.id)"
"""The product of the variant that fires, by now: NULL where it has none or is gone."""
MOVE_VARIANT = (
    f"UPDATE {MAPPINGS} SET product_id = {OWNER} WHERE {OWNER} IS NOT NULL "
    f"AND id = (SELECT max(id) FROM {MAPPINGS} WHERE variant_id = NEW.id) AND NOT EXISTS "
    f"(SELECT 1 FROM {MAPPINGS} WHERE product_id = {OWNER} AND coalesce(variant_id, 0) = NEW.id);"
)
"""A variant that moves to another product takes its mapping, and so its 4Seller product, along."""

ORDER_MOVED = (
    "OLD.status <> NEW.status OR (NEW.payment_status = 'refunded' AND OLD.payment_status <> 'refunded')"
)
NOT_PUSHED = "(status <> NEW.status OR (NEW.payment_status = 'refunded' AND status <> 'refunded'))"
"""Which changes of the shop's order are news to 4Seller: its status, and a refund, which the shop keeps as a payment status."""

PUSHED = ("carrier", "tracking_number", "tracking_url")
"""The columns of a shipment that are pushed to 4Seller."""
CLEARED = ("pushed_at", "next_attempt_at", "reason")

AUDIT_KEPT_DAYS = 365  # the setting MIDAS_KEEP_AUDIT_DAYS cannot be less
DOOR, TOGETHER = "door", "together"
GUARDED = {
    AUDIT: "The audit log is append-only: no row is changed, "
    f"and none deleted before it is {AUDIT_KEPT_DAYS} days old.",
    LEDGER: "The stock ledger is append-only: no row is changed or deleted. Change the stock instead.",
    order_processing_logs.name: "The log of orders is append-only: no row is changed or deleted, except by erasing a buyer "
    "or by age.",
}


def marked_dirty(now: str) -> str:
    """What an UPDATE sets on the mapping of an item that becomes dirty; `now` is the database's expression for the moment."""
    return f"version = version + 1, dirty_since = coalesce(dirty_since, {now}), next_attempt_at = NULL"


def explain_stock(table: str, which: str, cause: str = "'changed'") -> str:
    """The statement that writes a ledger row for each item whose stock is not what its last row says; `table` is the shop's
    products or variants, `which` the condition on its rows `s`, `cause` an SQL expression for items that have rows."""
    product, variant = ("s.id", "CAST(NULL AS integer)") if table == "products" else ("s.product_id", "s.id")
    return (
        f"INSERT INTO {LEDGER} (product_id, variant_id, delta, quantity_after, source, cause) "
        "SELECT counts.product, counts.variant, quantity - coalesce(last, 0), quantity, 'website', "
        f"CASE WHEN last IS NULL THEN 'opening' ELSE {cause} END FROM ("
        f"SELECT {product} AS product, {variant} AS variant, s.stock_quantity AS quantity, "
        f"(SELECT l.quantity_after FROM {LEDGER} l WHERE l.product_id = {product} "
        f"AND coalesce(l.variant_id, 0) = coalesce({variant}, 0) ORDER BY l.id DESC LIMIT 1) AS last "
        f"FROM {table} s WHERE {which}) counts WHERE counts.product IS NOT NULL AND (last IS NULL OR last <> quantity)"
    )


@contextmanager
def amending(connection: sa.Connection) -> Iterator[None]:
    """Lets this transaction change rows of the stock ledger and of the log of orders while the block runs."""
    if connection.dialect.name == "postgresql":
        set_door = sa.text(f"SELECT set_config('midas.{DOOR}', :state, true)")
        connection.execute(set_door, {"state": "open"})
        yield
        connection.execute(set_door, {"state": ""})
        return
    connection.execute(sa.insert(cursors).values(name=DOOR))  # no other transaction sees it
    yield
    connection.execute(sa.delete(cursors).where(cursors.c.name == DOOR))


def mark_together(connection: sa.Connection) -> None:
    """Lets the triggers on PostgreSQL mark the products that a statement of this transaction changes all at once: a quarter of
    the work where they are many, and more than for one."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT set_config('midas.{TOGETHER}', 'on', true)")
