"""Writes that shadow mode kept from leaving: one row for each different write, with how often it would have been sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.safety_tables import shadow_writes
from midas_pipelines.store.schema.tables import cursors, mappings, marketplace_orders
from midas_pipelines.storefront.bulk import insert, upsert
from midas_pipelines.storefront.refusals import write_each
from midas_pipelines.storefront.types import utc_now

SINCE = "shadow mode"
"""The row of `midas_cursors` that says since when shadow mode is on."""


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """One write that was kept: kind (listing, quantity, status, order), subject, call and content."""

    kind: str
    subject: str
    call: str
    content: dict[str, Any]

    @property
    def digest(self) -> str:
        """What makes two writes the same."""
        text = json.dumps([self.kind, self.subject, self.call, self.content], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def record_shadow_writes(database: Database, rows: Iterable[ShadowRow], run_id: str | None) -> None:
    """Adds the rows; one that is known already counts once more."""
    values = {row.digest: asdict(row) | {"digest": row.digest, "run_id": run_id} for row in rows}
    if not values:
        return
    with database.writing() as connection:
        statement = insert(connection, shadow_writes)
        adding = statement.on_conflict_do_update(
            index_elements=["digest"],
            set_={
                "last_at": utc_now(),
                "times": shadow_writes.c.times + 1,
                "run_id": statement.excluded.run_id,
            },
        )
        ordered = [values[digest] for digest in sorted(values)]
        write_each(connection, ordered, lambda part: connection.execute(adding, list(part)))


def newest_shadow_writes(connection: sa.Connection) -> list[dict[str, Any]]:
    """The last write of each kind and subject that was kept since shadow mode began, the newest first."""
    table = shadow_writes.c
    since = sa.select(cursors.c.moment).where(cursors.c.name == SINCE).scalar_subquery()
    query = sa.select(shadow_writes).where(sa.or_(since.is_(None), table.last_at >= since))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in connection.execute(query.order_by(table.last_at.desc())).mappings():
        found.setdefault((row["kind"], row["subject"]), dict(row))
    return list(found.values())


def follow_shadow_mode(database: Database, *, on: bool) -> None:
    """Notes when shadow mode begins; when it has ended, makes everything due that it kept waiting.

    Nothing of what it kept was acknowledged, so all of it is still to be sent, as it should be by then.
    """
    query = sa.select(cursors.c.moment).where(cursors.c.name == SINCE)
    with database.reading() as connection:
        begun = connection.scalar(query) is not None
    if begun == on:
        return
    with database.writing() as connection:
        if on:
            upsert(connection, cursors, {"name": SINCE}, {"moment": utc_now()})
            return
        connection.execute(sa.delete(cursors).where(cursors.c.name == SINCE))
        waiting = sa.and_(mappings.c.dirty_since.is_not(None), mappings.c.attempts == 0)
        connection.execute(sa.update(mappings).where(waiting).values(next_attempt_at=None))
        pushing = marketplace_orders.c.push_after.is_not(None) & (marketplace_orders.c.push_attempts == 0)
        connection.execute(sa.update(marketplace_orders).where(pushing).values(push_after=None))
