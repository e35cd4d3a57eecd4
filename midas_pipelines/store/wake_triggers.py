"""Triggers on our own tables: they tell workers that there is work, and keep the audit log append-only.

PostgreSQL's NOTIFY takes one lock for the whole server when its transaction commits. So an item is announced only
when it becomes ready to be claimed, not for each change to one that waits already: a hundred changes cost one.
"""

from __future__ import annotations

from midas_pipelines.store.gateway_tables import gateway_audit, marketplace_webhooks
from midas_pipelines.store.tables import mappings

CHANNEL = "midas_work"
ITEMS, WEBHOOKS = "items", "webhooks"
"""The channel that workers listen on, and what is said on it."""


def _ready(row: str) -> str:
    return f"({row}.dirty_since IS NOT NULL AND {row}.claimed_by IS NULL AND {row}.next_attempt_at IS NULL)"


POSTGRESQL = {
    "midas_items_new": f"AFTER INSERT ON {mappings.name} FOR EACH ROW WHEN {_ready('NEW')} "
    f"EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_items_ready": f"AFTER UPDATE ON {mappings.name} FOR EACH ROW "
    f"WHEN ({_ready('NEW')} AND NOT {_ready('OLD')}) EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_webhooks_new": f"AFTER INSERT ON {marketplace_webhooks.name} FOR EACH STATEMENT "
    f"EXECUTE FUNCTION midas_announce('{WEBHOOKS}')",
    "midas_audit_kept": f"BEFORE UPDATE OR DELETE ON {gateway_audit.name} FOR EACH ROW "
    "EXECUTE FUNCTION midas_refuse_change()",
}

_FUNCTIONS = (
    f"""
CREATE OR REPLACE FUNCTION midas_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', TG_ARGV[0]);
  RETURN NULL;
END $$""",
    """
CREATE OR REPLACE FUNCTION midas_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'The audit log is append-only: its rows are neither changed nor deleted.';
END $$""",
)

_REFUSE = (
    "BEGIN SELECT RAISE(ABORT, 'The audit log is append-only: its rows are neither changed nor deleted.');"
)
SQLITE = {
    "midas_audit_unchanged": f"BEFORE UPDATE ON {gateway_audit.name} {_REFUSE}",
    "midas_audit_undeleted": f"BEFORE DELETE ON {gateway_audit.name} {_REFUSE}",
}
"""SQLite tells nobody: workers there look at `PRAGMA data_version`."""


def statements(dialect: str) -> list[str]:
    """What installs them; run again it changes nothing."""
    if dialect == "postgresql":
        made = [f"CREATE OR REPLACE TRIGGER {name} {body}" for name, body in POSTGRESQL.items()]
        return [*_FUNCTIONS, *made]
    made = []
    for name, body in SQLITE.items():
        made += [f"DROP TRIGGER IF EXISTS {name}", f"CREATE TRIGGER {name} {body} END"]
    return made
