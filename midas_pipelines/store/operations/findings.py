"""What is seen again and again, each with its count: writes that shadow mode kept from leaving, and differences between
4Seller's answers and the contract."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import SINCE
from midas_pipelines.store.schema.operation_tables import contract_findings, shadow_writes
from midas_pipelines.store.schema.tables import cursors
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert, write_each

FOUND = ("kind", "call", "place", "what", "times", "first_at", "last_at", "example")
"""What people see of a finding."""


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """One write that was kept: kind (listing, quantity, status, order), subject, call and content."""

    kind: str
    subject: str
    call: str
    content: dict[str, Any]


def record_shadow_writes(database: Database, rows: Iterable[ShadowRow], run_id: str | None) -> None:
    """Adds the rows; one that is known already counts once more."""
    known = {json.dumps([*asdict(row).values()], sort_keys=True, default=str): row for row in rows}
    values = {text: asdict(row) | {"run_id": run_id, "times": 1} for text, row in known.items()}
    _add(database, shadow_writes, values, changing="run_id")


def record_findings(database: Database, findings: Sequence[Mapping[str, Any]]) -> None:
    """Adds findings, each with kind, call, place, what, example and times; a known one counts on."""
    named = {"\n".join(str(one[name]) for name in ("kind", "call", "place")): one for one in findings}
    _add(database, contract_findings, named, changing="what")


def _add(
    database: Database, table: sa.Table, rows: Mapping[str, Mapping[str, Any]], *, changing: str
) -> None:
    """Adds the rows, by what makes two of them the same; a known one counts its `times` on and gets the new value of that
    column."""
    by_digest = {hashlib.sha256(text.encode()).hexdigest(): row for text, row in rows.items()}
    if not by_digest:
        return
    with database.writing() as connection:
        statement = insert(connection, table)
        new = statement.excluded
        known = {"last_at": utc_now(), "times": table.c.times + new.times, changing: new[changing]}
        adding = statement.on_conflict_do_update(index_elements=["digest"], set_=known)
        ordered = [{**by_digest[digest], "digest": digest} for digest in sorted(by_digest)]
        write_each(connection, ordered, lambda part: connection.execute(adding, list(part)))


def newest_shadow_writes(database: Database) -> list[dict[str, Any]]:
    """The last write of each kind and subject that was kept since shadow mode began, the newest first."""
    table = shadow_writes.c
    since = sa.select(cursors.c.moment).where(cursors.c.name == SINCE).scalar_subquery()
    query = sa.select(shadow_writes).where(sa.or_(since.is_(None), table.last_at >= since))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in database.rows(query.order_by(table.last_at.desc())):
        found.setdefault((row["kind"], row["subject"]), row)
    return list(found.values())


def read_findings(database: Database) -> list[dict[str, Any]]:
    """The differences from the contract, the last seen first."""
    return database.rows(sa.select(contract_findings).order_by(contract_findings.c.last_at.desc()))


def recent_findings(database: Database, days: int) -> list[dict[str, str]]:
    """The findings of that many days, without examples."""
    since = database.now() - timedelta(days=days)
    found = [row for row in read_findings(database) if row["last_at"] > since]
    return [{name: str(row[name]) for name in FOUND[:-1]} for row in found]
