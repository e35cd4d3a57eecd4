"""Triggers on our own tables that notify workers of work.

PostgreSQL's NOTIFY takes one lock for the whole server when its transaction commits. So an item is announced only
when it becomes claimable, not for each change to one that waits already: a hundred changes cost one.
"""

from __future__ import annotations

from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import mappings

CHANNEL = "midas_work"
ITEMS, WEBHOOKS = "items", "webhooks"
"""The channel that workers listen on, and its messages."""


def _ready(row: str) -> str:
    return f"({row}.dirty_since IS NOT NULL AND {row}.claimed_by IS NULL AND {row}.next_attempt_at IS NULL)"


POSTGRESQL = {
    "midas_items_new": f"AFTER INSERT ON {mappings.name} FOR EACH ROW WHEN {_ready('NEW')} "
    f"EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_items_ready": f"AFTER UPDATE ON {mappings.name} FOR EACH ROW "
    f"WHEN ({_ready('NEW')} AND NOT {_ready('OLD')}) EXECUTE FUNCTION midas_announce('{ITEMS}')",
    "midas_webhooks_new": f"AFTER INSERT ON {marketplace_webhooks.name} FOR EACH STATEMENT "
    f"EXECUTE FUNCTION midas_announce('{WEBHOOKS}')",
}

_FUNCTION = f"""
CREATE OR REPLACE FUNCTION midas_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', TG_ARGV[0]);
  RETURN NULL;
END $$"""

SQLITE: dict[str, str] = {}
"""SQLite has no notifications: workers there poll `PRAGMA data_version`."""


def statements(dialect: str) -> list[str]:
    """Statements that install them; safe to repeat."""
    if dialect != "postgresql":
        return []
    return [_FUNCTION, *(f"CREATE OR REPLACE TRIGGER {name} {body}" for name, body in POSTGRESQL.items())]
