"""What is seen again and again, one row each with its count: writes that shadow mode kept from leaving, and differences
between 4Seller's answers and the contract."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.operation_tables import contract_findings, shadow_writes
from midas_pipelines.store.schema.tables import cursors, mappings, marketplace_orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert, upsert, write_each

SINCE = "shadow mode"
"""The row of `midas_cursors` that says since when shadow mode is on."""

SPEED = "speed: "
ENOUGH, SLOWER, LEAST_SECONDS = 20, 3.0, 0.2
"""Answers whose mean counts; how many times it may be what it was at first, and by how many seconds at least."""


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
        return _digest(json.dumps(list(asdict(self).values()), sort_keys=True, default=str))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def record_shadow_writes(database: Database, rows: Iterable[ShadowRow], run_id: str | None) -> None:
    """Adds the rows; one that is known already counts once more."""
    values = [asdict(row) | {"digest": row.digest, "run_id": run_id, "times": 1} for row in rows]
    _add(database, shadow_writes, values, changing="run_id")


def record_findings(database: Database, findings: Sequence[Mapping[str, Any]]) -> None:
    """Adds findings, each with kind, call, place, what, example and times; a known one counts on."""
    rows = [
        {**one, "digest": _digest("\n".join(str(one[name]) for name in ("kind", "call", "place")))}
        for one in findings
    ]
    _add(database, contract_findings, rows, changing="what")


def _add(database: Database, table: sa.Table, rows: Iterable[dict[str, Any]], *, changing: str) -> None:
    """Adds the rows by their digest; a known one counts its `times` on and gets the new value of that column."""
    by_digest = {row["digest"]: row for row in rows}
    if not by_digest:
        return
    with database.writing() as connection:
        statement = insert(connection, table)
        new = statement.excluded
        known = {"last_at": utc_now(), "times": table.c.times + new.times, changing: new[changing]}
        adding = statement.on_conflict_do_update(index_elements=["digest"], set_=known)
        ordered = [by_digest[digest] for digest in sorted(by_digest)]
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


def read_findings(connection: sa.Connection, *, days: int | None = None) -> list[dict[str, Any]]:
    """The differences from the contract, the last seen first; with `days` those seen since."""
    query = sa.select(contract_findings).order_by(contract_findings.c.last_at.desc())
    if days is not None:
        query = query.where(contract_findings.c.last_at > utc_now(-days * 86_400))
    return [dict(row) for row in connection.execute(query).mappings()]


FOUND = ("kind", "call", "place", "what", "times", "first_at", "last_at", "example")
"""What people see of a finding."""


def recent_findings(database: Database, days: int) -> list[dict[str, str]]:
    """The findings of that many days, without examples."""
    with database.reading() as connection:
        found = read_findings(connection, days=days)
    return [{name: str(row[name]) for name in FOUND[:-1]} for row in found]


def compare_speed(database: Database, seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Findings about calls that take far longer than when they were first measured; the first measure is kept."""
    found = []
    for call, (count, total) in seconds.items():
        mean, name = total / count, (SPEED + call)[:50]
        with database.writing() as connection:
            adding = insert(connection, cursors).values(name=name, value=f"{mean:.4f}", moment=utc_now())
            connection.execute(adding.on_conflict_do_nothing())
            first = float(connection.scalars(sa.select(cursors.c.value).where(cursors.c.name == name)).one())
        if mean > max(first * SLOWER, first + LEAST_SECONDS):
            what = f"It takes {mean:.2f} s on average; at first it took {first:.2f} s."
            found.append(
                {"kind": "slower", "call": call, "place": "time", "what": what, "example": "", "times": 1}
            )
    return found
