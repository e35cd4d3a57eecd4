"""Plans made in the console, until they are approved or forgotten."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.gateway_tables import console_plans
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert

KEPT_SECONDS = 30 * 86_400
table = console_plans.c


def keep_plan(
    connection: sa.Connection, *, digest: str, made_at: str, by: str, steps: list[dict[str, Any]]
) -> None:
    """Keeps a plan by its hash; the same plan again only renews its date. Those of a month ago go."""
    connection.execute(sa.delete(console_plans).where(table.created_at < utc_now(-KEPT_SECONDS)))
    row = {"hash": digest, "made_at": made_at, "made_by": by, "steps": steps}
    statement = insert(connection, console_plans).values(row)
    renewed = {"made_at": made_at, "created_at": utc_now(), "approved_at": None, "result": None}
    connection.execute(statement.on_conflict_do_update(index_elements=["hash"], set_=renewed))


def read_plan_row(connection: sa.Connection, digest: str) -> dict[str, Any] | None:
    """A plan with its steps."""
    row = connection.execute(sa.select(console_plans).where(table.hash == digest)).mappings().first()
    return dict(row) if row is not None else None


def newest_plans(connection: sa.Connection, limit: int = 10) -> list[dict[str, Any]]:
    """The newest plans, without their steps."""
    names = ("hash", "made_at", "made_by", "created_at", "approved_at", "approved_by", "result")
    query = sa.select(*(table[name] for name in names)).order_by(table.created_at.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def approve_plan(connection: sa.Connection, digest: str, by: str) -> bool:
    """Marks the plan as approved; False where it was approved before, or is not there."""
    mine = sa.and_(table.hash == digest, table.approved_at.is_(None))
    statement = sa.update(console_plans).where(mine).values(approved_at=utc_now(), approved_by=by)
    return connection.execute(statement).rowcount > 0


def note_result(connection: sa.Connection, digest: str, result: str) -> None:
    """Writes the result of applying it."""
    connection.execute(sa.update(console_plans).where(table.hash == digest).values(result=result))
