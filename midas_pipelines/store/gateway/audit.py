"""The audit log: who changed what, when, from where. Rows are added, never changed: the database itself refuses.

It also refuses to delete one before it is `wake_triggers.AUDIT_KEPT_DAYS` old.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.gateway_tables import gateway_audit
from midas_pipelines.storefront.types import utc_now


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request for a change. `detail` holds no secret and no personal data."""

    actor: str
    action: str
    role: str | None = None
    target: str | None = None
    detail: dict[str, Any] | None = None
    remote: str | None = None
    request_id: str | None = None


def note_asked(connection: sa.Connection, entry: AuditEntry) -> None:
    """Writes the entry before anything is done, so that every effect has a row."""
    connection.execute(sa.insert(gateway_audit).values(asdict(entry) | {"event": "asked"}))


def note_answered(connection: sa.Connection, entry: AuditEntry, status: int | None = None) -> None:
    """Writes the result."""
    connection.execute(
        sa.insert(gateway_audit).values(asdict(entry) | {"event": "answered", "status": status})
    )


def read_audit(connection: sa.Connection, *, before: int | None, limit: int) -> list[dict[str, Any]]:
    """The newest rows, or those before one, newest first."""
    query = sa.select(gateway_audit).order_by(gateway_audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(gateway_audit.c.id < before)
    return [dict(row) for row in connection.execute(query).mappings()]


def delete_old_audit_rows(database: Database, *, days: int, block: int = 1000) -> int:
    """Deletes rows older than that many days; returns how many.

    Raises:
        sqlalchemy.exc.DBAPIError: for a row that the database still protects; its whole block stays.
    """
    table = gateway_audit.c
    old = sa.select(table.id).where(table.at < utc_now(-days * 24 * 3600)).order_by(table.at).limit(block)
    forgotten = 0
    while True:
        with database.writing() as connection:
            removed = connection.execute(sa.delete(gateway_audit).where(table.id.in_(old))).rowcount
        forgotten += removed
        if removed < block:
            return forgotten
