"""Triggers that keep three tables append-only: the audit log, the stock ledger and the log of orders.

No row is changed or deleted, and no table emptied. Erasing a buyer, retention and fixing what a check found use `amending`; the
audit log has no such door, and lets go of a row once it is `AUDIT_KEPT_DAYS` old.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from midas_pipelines.store.schema.gateway_tables import gateway_audit
from midas_pipelines.store.schema.tables import cursors, inventory_changes, order_processing_logs
from midas_pipelines.storefront.types import SQLITE_NOW

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

_PG_FUNCTION = """
CREATE OR REPLACE FUNCTION midas_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE = TG_ARGV[0];
END $$"""
_PG_CLOSED = f"coalesce(current_setting('midas.{DOOR}', true), '') <> 'open'"
_PG_YOUNG = f"OLD.at >= clock_timestamp() - interval '{AUDIT_KEPT_DAYS} days'"
_CLOSED = f"NOT EXISTS (SELECT 1 FROM {cursors.name} WHERE name = '{DOOR}')"
_YOUNG = "OLD.at >= " + SQLITE_NOW.replace("'now'", f"'now', '-{AUDIT_KEPT_DAYS} days'")


def _postgresql(table: str) -> dict[str, str]:
    refuse = f"EXECUTE FUNCTION midas_refuse_change('{GUARDED[table]}')"
    updated = "" if table == AUDIT else f"WHEN ({_PG_CLOSED}) "
    deleted = _PG_YOUNG if table == AUDIT else _PG_CLOSED
    return {
        f"midas_{table}_update": f"BEFORE UPDATE ON {table} FOR EACH ROW {updated}{refuse}",
        f"midas_{table}_delete": f"BEFORE DELETE ON {table} FOR EACH ROW WHEN ({deleted}) {refuse}",
        f"midas_{table}_truncate": f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}",
    }


def _sqlite(table: str) -> dict[str, str]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{GUARDED[table]}');"
    updated = "" if table == AUDIT else f"WHEN {_CLOSED} "
    return {
        f"midas_{table}_update": f"BEFORE UPDATE ON {table} {updated}{refuse}",
        f"midas_{table}_delete": f"BEFORE DELETE ON {table} WHEN {_YOUNG if table == AUDIT else _CLOSED} {refuse}",
        # INSERT OR REPLACE takes away a row without a delete trigger.
        f"midas_{table}_replace": f"BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) {refuse}",
    }


POSTGRESQL = {name: body for table in GUARDED for name, body in _postgresql(table).items()}
SQLITE = {name: body for table in GUARDED for name, body in _sqlite(table).items()}


def guards(dialect: str) -> list[str]:
    """Statements that install them; safe to repeat."""
    if dialect == "postgresql":
        made = [f"CREATE OR REPLACE TRIGGER {name} {body}" for name, body in POSTGRESQL.items()]
        return [_PG_FUNCTION, *made]
    return [
        line
        for name, body in SQLITE.items()
        for line in (f"DROP TRIGGER IF EXISTS {name}", f"CREATE TRIGGER {name} {body} END")
    ]


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
