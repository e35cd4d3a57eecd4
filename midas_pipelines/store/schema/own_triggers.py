"""Triggers on our own tables: they notify workers, push a changed shipment again, and keep three tables append-only.

PostgreSQL's NOTIFY takes one lock for the whole server when its transaction commits. So an item is announced only when
it becomes claimable, not for each change to one that waits already: a hundred changes cost one. SQLite has no
notifications: workers there poll `PRAGMA data_version`.

In the audit log, the stock ledger and the log of orders no row is changed or deleted, and no table emptied. Erasing a
buyer, retention and fixing what a check found use `amending`; the audit log has no such door, and lets go of a row once
it is `AUDIT_KEPT_DAYS` old.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from midas_pipelines.store.schema.gateway_tables import gateway_audit, marketplace_webhooks
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import cursors, inventory_changes, mappings, order_processing_logs
from midas_pipelines.storefront.types import SQLITE_NOW

CHANNEL = "midas_work"
ITEMS, WEBHOOKS = "items", "webhooks"
"""The channel that workers listen on, and its messages."""

PUSHED = ("carrier", "tracking_number", "tracking_url")
"""The columns of a shipment that are pushed to 4Seller."""
_CLEARED = ("pushed_at", "next_attempt_at", "reason")

AUDIT_KEPT_DAYS = 365
"""The setting MIDAS_KEEP_AUDIT_DAYS cannot be less."""
DOOR = "door"
AUDIT, LEDGER, LOGS = gateway_audit.name, inventory_changes.name, order_processing_logs.name
GUARDED = {
    AUDIT: "The audit log is append-only: no row is changed, "
    f"and none deleted before it is {AUDIT_KEPT_DAYS} days old.",
    LEDGER: "The stock ledger is append-only: no row is changed or deleted. Change the stock instead.",
    LOGS: "The log of orders is append-only: no row is changed or deleted, except by erasing a buyer or by age.",
}

FUNCTIONS = (
    f"""
CREATE OR REPLACE FUNCTION midas_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', TG_ARGV[0]);
  RETURN NULL;
END $$""",
    f"""
CREATE OR REPLACE FUNCTION midas_parcel_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  {" ".join(f"NEW.{column} := NULL;" for column in _CLEARED)}
  RETURN NEW;
END $$""",
    """
CREATE OR REPLACE FUNCTION midas_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE = TG_ARGV[0];
END $$""",
)
"""What the triggers on PostgreSQL call."""


def _ready(row: str) -> str:
    return f"({row}.dirty_since IS NOT NULL AND {row}.claimed_by IS NULL AND {row}.next_attempt_at IS NULL)"


def _guards_on_postgresql(table: str) -> dict[str, str]:
    closed = f"coalesce(current_setting('midas.{DOOR}', true), '') <> 'open'"
    young = f"OLD.at >= clock_timestamp() - interval '{AUDIT_KEPT_DAYS} days'"
    refuse = f"EXECUTE FUNCTION midas_refuse_change('{GUARDED[table]}')"
    updated = "" if table == AUDIT else f"WHEN ({closed}) "
    deleted = young if table == AUDIT else closed
    return {
        f"midas_{table}_update": f"BEFORE UPDATE ON {table} FOR EACH ROW {updated}{refuse}",
        f"midas_{table}_delete": f"BEFORE DELETE ON {table} FOR EACH ROW WHEN ({deleted}) {refuse}",
        f"midas_{table}_truncate": f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}",
    }


def _guards_on_sqlite(table: str) -> dict[str, str]:
    closed = f"NOT EXISTS (SELECT 1 FROM {cursors.name} WHERE name = '{DOOR}')"
    young = "OLD.at >= " + SQLITE_NOW.replace("'now'", f"'now', '-{AUDIT_KEPT_DAYS} days'")
    refuse = f"BEGIN SELECT RAISE(ABORT, '{GUARDED[table]}');"
    updated = "" if table == AUDIT else f"WHEN {closed} "
    return {
        f"midas_{table}_update": f"BEFORE UPDATE ON {table} {updated}{refuse}",
        f"midas_{table}_delete": f"BEFORE DELETE ON {table} WHEN {young if table == AUDIT else closed} {refuse}",
        # INSERT OR REPLACE takes away a row without a delete trigger.
        f"midas_{table}_replace": f"BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) {refuse}",
    }


_SHIPMENT = f"UPDATE OF {', '.join(PUSHED)} ON {order_shipments.name}"
POSTGRESQL = {
    "midas_items_new": f"AFTER INSERT ON {mappings.name} FOR EACH ROW WHEN {_ready('NEW')} "
    f"EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_items_ready": f"AFTER UPDATE ON {mappings.name} FOR EACH ROW "
    f"WHEN ({_ready('NEW')} AND NOT {_ready('OLD')}) EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_webhooks_new": f"AFTER INSERT ON {marketplace_webhooks.name} FOR EACH STATEMENT "
    f"EXECUTE FUNCTION midas_announce('{WEBHOOKS}')",
    "midas_parcels_update": f"BEFORE {_SHIPMENT} FOR EACH ROW "
    f"WHEN ({' OR '.join(f'OLD.{one} IS DISTINCT FROM NEW.{one}' for one in PUSHED)}) "
    "EXECUTE FUNCTION midas_parcel_changed()",
    **{name: body for table in GUARDED for name, body in _guards_on_postgresql(table).items()},
}
SQLITE = {
    "midas_parcels_update": f"AFTER {_SHIPMENT} "
    f"WHEN {' OR '.join(f'OLD.{one} IS NOT NEW.{one}' for one in PUSHED)} BEGIN UPDATE {order_shipments.name} "
    f"SET {', '.join(f'{column} = NULL' for column in _CLEARED)} WHERE id = NEW.id;",
    **{name: body for table in GUARDED for name, body in _guards_on_sqlite(table).items()},
}


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
