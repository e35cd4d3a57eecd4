"""Records what was checked, and reads the newest record of each name."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.proof_tables import proofs


def record_proof(
    connection: sa.Connection, name: str, *, passed: bool, by: str, detail: dict[str, Any] | None = None
) -> None:
    """Adds a proof. `detail` holds no personal data."""
    connection.execute(sa.insert(proofs).values(name=name, passed=passed, by=by, detail=detail))


def last_proofs(connection: sa.Connection) -> dict[str, sa.Row[Any]]:
    """The newest proof of each name."""
    newest = sa.select(sa.func.max(proofs.c.id)).group_by(proofs.c.name)
    found = connection.execute(sa.select(proofs).where(proofs.c.id.in_(newest)))
    return {row.name: row for row in found}
