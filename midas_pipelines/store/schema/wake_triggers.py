"""Triggers on our own tables: they notify workers of work, and keep the audit log append-only.

No row of that log is ever changed, and none is deleted before it is `AUDIT_KEPT_DAYS` old.

PostgreSQL's NOTIFY takes one lock for the whole server when its transaction commits. So an item is announced only
when it becomes claimable, not for each change to one that waits already: a hundred changes cost one.
"""

from __future__ import annotations

from midas_pipelines.store.schema.gateway_tables import gateway_audit, marketplace_webhooks
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.types import SQLITE_NOW

CHANNEL = "midas_work"
ITEMS, WEBHOOKS = "items", "webhooks"
"""The channel that workers listen on, and its messages."""

AUDIT_KEPT_DAYS = 90
"""The setting MIDAS_KEEP_AUDIT_DAYS cannot be less."""


def _ready(row: str) -> str:
    return f"({row}.dirty_since IS NOT NULL AND {row}.claimed_by IS NULL AND {row}.next_attempt_at IS NULL)"


POSTGRESQL = {
    "midas_items_new": f"AFTER INSERT ON {mappings.name} FOR EACH ROW WHEN {_ready('NEW')} "
    f"EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_items_ready": f"AFTER UPDATE ON {mappings.name} FOR EACH ROW "
    f"WHEN ({_ready('NEW')} AND NOT {_ready('OLD')}) EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_webhooks_new": f"AFTER INSERT ON {marketplace_webhooks.name} FOR EACH STATEMENT "
    f"EXECUTE FUNCTION midas_announce('{WEBHOOKS}')",
    "midas_audit_unchanged": f"BEFORE UPDATE ON {gateway_audit.name} FOR EACH ROW "
    "EXECUTE FUNCTION midas_refuse_change()",
    "midas_audit_young_kept": f"BEFORE DELETE ON {gateway_audit.name} FOR EACH ROW "
    f"WHEN (OLD.at >= clock_timestamp() - interval '{AUDIT_KEPT_DAYS} days') "
    "EXECUTE FUNCTION midas_refuse_change()",
}

_REFUSAL = (
    "The audit log is append-only: no row is changed, "
    f"and none deleted before it is {AUDIT_KEPT_DAYS} days old."
)
_FUNCTIONS = (
    f"""
CREATE OR REPLACE FUNCTION midas_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', TG_ARGV[0]);
  RETURN NULL;
END $$""",
    f"""
CREATE OR REPLACE FUNCTION midas_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '{_REFUSAL}';
END $$""",
)

_REFUSE = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}');"
_YOUNG = SQLITE_NOW.replace("'now'", f"'now', '-{AUDIT_KEPT_DAYS} days'")
SQLITE = {
    "midas_audit_unchanged": f"BEFORE UPDATE ON {gateway_audit.name} {_REFUSE}",
    "midas_audit_young_kept": f"BEFORE DELETE ON {gateway_audit.name} WHEN OLD.at >= {_YOUNG} {_REFUSE}",
}
"""SQLite has no notifications: workers there poll `PRAGMA data_version`."""


def statements(dialect: str) -> list[str]:
    """Statements that install them and drop earlier ones; safe to repeat."""
    if dialect == "postgresql":
        made = [f"CREATE OR REPLACE TRIGGER {name} {body}" for name, body in POSTGRESQL.items()]
        return [*_FUNCTIONS, f"DROP TRIGGER IF EXISTS midas_audit_kept ON {gateway_audit.name}", *made]
    made = ["DROP TRIGGER IF EXISTS midas_audit_undeleted"]
    for name, body in SQLITE.items():
        made += [f"DROP TRIGGER IF EXISTS {name}", f"CREATE TRIGGER {name} {body} END"]
    return made
