"""The audit log: who changed what, when, from where. Rows are added, never changed: the database itself refuses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.gateway_tables import gateway_audit


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing somebody asked for. `detail` holds no secret and no personal data."""

    actor: str
    action: str
    role: str | None = None
    target: str | None = None
    detail: dict[str, Any] | None = None
    remote: str | None = None
    request_id: str | None = None


def note_asked(connection: sa.Connection, deed: Deed) -> None:
    """Writes the deed down before anything is done, so that no effect is without its row."""
    connection.execute(sa.insert(gateway_audit).values(asdict(deed) | {"event": "asked"}))


def note_answered(connection: sa.Connection, deed: Deed, status: int | None = None) -> None:
    """Writes down how it ended."""
    connection.execute(
        sa.insert(gateway_audit).values(asdict(deed) | {"event": "answered", "status": status})
    )


def read_audit(connection: sa.Connection, *, before: int | None, limit: int) -> list[dict[str, Any]]:
    """The newest rows, or those before one, newest first."""
    query = sa.select(gateway_audit).order_by(gateway_audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(gateway_audit.c.id < before)
    return [dict(row) for row in connection.execute(query).mappings()]
