"""Differences between 4Seller's answers and the contract, one row each, with first and last time and count."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.safety_tables import contract_findings
from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.storefront.bulk import insert
from midas_pipelines.storefront.types import utc_now

SPEED = "speed: "
ENOUGH, SLOWER, LEAST_SECONDS = 20, 3.0, 0.2
"""Answers whose mean counts; how many times it may be what it was at first, and by how many seconds at least."""


def record_findings(database: Database, findings: Sequence[Mapping[str, Any]]) -> None:
    """Adds findings, each with kind, call, place, what, example and times; a known one counts on."""
    rows = {_digest(one): {**one, "digest": _digest(one)} for one in findings}
    with database.writing() as connection:
        statement = insert(connection, contract_findings)
        new = statement.excluded
        adding = statement.on_conflict_do_update(
            index_elements=["digest"],
            set_={"times": contract_findings.c.times + new.times, "last_at": utc_now(), "what": new.what},
        )
        connection.execute(adding, [rows[digest] for digest in sorted(rows)])


def _digest(finding: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        "\n".join(str(finding[name]) for name in ("kind", "call", "place")).encode()
    ).hexdigest()


def read_findings(connection: sa.Connection, *, days: int | None = None) -> list[dict[str, Any]]:
    """The findings, the last seen first; with `days` those seen since."""
    query = sa.select(contract_findings).order_by(contract_findings.c.last_at.desc())
    if days is not None:
        query = query.where(contract_findings.c.last_at > utc_now(-days * 86_400))
    return [dict(row) for row in connection.execute(query).mappings()]


def compare_speed(database: Database, seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Findings about calls that take far longer than when they were first measured; the first measure is kept."""
    found = []
    for call, (count, total) in seconds.items():
        mean, name = total / count, (SPEED + call)[:50]
        with database.reading() as connection:
            kept = connection.scalar(sa.select(cursors.c.value).where(cursors.c.name == name))
        if kept is None:
            with database.writing() as connection:
                adding = insert(connection, cursors).values(name=name, value=f"{mean:.4f}", moment=utc_now())
                connection.execute(adding.on_conflict_do_nothing())
        first = float(kept or mean)
        if mean > first * SLOWER and mean > first + LEAST_SECONDS:
            what = f"It takes {mean:.2f} s on average; at first it took {first:.2f} s."
            found.append(
                {"kind": "slower", "call": call, "place": "time", "what": what, "example": "", "times": 1}
            )
    return found
