"""The audit log: who changed what, when, from where. Rows are added, never changed: the database itself refuses.

Each row carries the hash of the one before, so that `verify_audit` finds a changed, added or missing row. Writers take
turns on the row of `gateway_audit_head`, so a row is written in a short transaction of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.gateway_tables import gateway_audit, gateway_audit_head
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert

FIRST_HASH = "0" * 64
MOST_KEPT = 50
MOST_SHOWN = 20
SENSIBLE = re.compile(r"[\w.:#/+*=-]{1,100}")
"""A code, an id, a SKU, a date: no blank and no @, so no name of two words, no address, no e-mail."""

NOT_KEPT = "(not kept)"
PERSONAL = frozenset(
    {"address", "because", "buyer", "customer", "email", "name", "note", "notes", "phone", "text"}
)
"""Fields of requests and options of commands that may name a person, whatever they hold."""

Event = Literal["asked", "answered", "refused"]

table = gateway_audit.c
head = gateway_audit_head.c


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request for a change. `detail` holds no secret and no personal data; see `kept`."""

    actor: str
    action: str
    role: str | None = None
    target: str | None = None
    detail: dict[str, Any] | None = None
    remote: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuditState:
    """What `verify_audit` found: rows read, the hash of the newest one, and what is wrong, each in a sentence."""

    rows: int
    last_hash: str
    problems: tuple[str, ...]


def note_audit(connection: sa.Connection, entry: AuditEntry, event: Event, status: int | None = None) -> None:
    """Writes that something was `asked`, before anything is done, so that every effect has a row; that it was `answered`, with
    an HTTP status or a command's exit code; or that someone was `refused`."""
    ends = _lock_head(connection)
    row = asdict(entry) | {"event": event, "status": status, "at": ends.now, "previous": ends.last_hash}
    row["actor"], row["action"] = row["actor"][:120], row["action"][:100]
    row["hash"] = row_hash(row)
    added = connection.execute(sa.insert(gateway_audit).values(row).returning(table.id)).scalar_one()
    connection.execute(sa.update(gateway_audit_head).values(last_id=added, last_hash=row["hash"]))


def kept(value: Any) -> Any:
    """What the audit log keeps of a value: numbers, words like codes and ids, and lists and objects of them."""
    if isinstance(value, dict):
        return {str(name): NOT_KEPT if name in PERSONAL else kept(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [kept(part) for part in value[:MOST_KEPT]]
    if value is None or isinstance(value, bool | int):
        return value
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return text if SENSIBLE.fullmatch(text) else NOT_KEPT


def read_audit(
    connection: sa.Connection,
    *,
    before: int | None,
    limit: int,
    who: str = "",
    action: str = "",
    event: str = "",
    since: datetime | None = None,
) -> list[dict[str, Any]]:
    """The newest rows, or those before one, newest first: by parts of the actor's name and of the action, an event, and
    rows at or after a moment."""
    query = sa.select(gateway_audit).order_by(table.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.id < before)
    for text, column in ((who, table.actor), (action, table.action)):
        if text:
            query = query.where(column.icontains(text, autoescape=True))
    if event:
        query = query.where(table.event == event)
    if since is not None:
        query = query.where(table.at >= since)
    return [dict(row) for row in connection.execute(query).mappings()]


def verify_audit(connection: sa.Connection) -> AuditState:
    """Reads the whole log and compares each row with its hash, each hash with the row after, both ends with the head."""
    ends = connection.execute(sa.select(gateway_audit_head)).first()
    expected = ends.start_hash if ends is not None else FIRST_HASH
    problems: list[str] = []
    count, last_id = 0, 0
    query = sa.select(gateway_audit).order_by(table.id).execution_options(yield_per=1000)
    for row in connection.execute(query).mappings():
        if row["previous"] != expected:
            problems.append(f"Rows are missing, added or in another order before row {row['id']}.")
        if row_hash(row) != row["hash"]:
            problems.append(f"Row {row['id']} was changed.")
        count, last_id, expected = count + 1, row["id"], row["hash"]
    if count and ends is None:
        problems.append("The head of the log is missing.")
    elif ends is not None and expected != ends.last_hash:
        problems.append(f"Rows are missing after row {last_id}: the last one was row {ends.last_id}.")
    shown = problems[:MOST_SHOWN]
    if len(problems) > MOST_SHOWN:
        shown.append(f"There are {len(problems) - MOST_SHOWN} more.")
    return AuditState(count, expected, tuple(shown))


def row_hash(row: sa.RowMapping | dict[str, Any]) -> str:
    """SHA-256 of a row and of the hash before it."""
    parts = {name: row[name] for name in table.keys() if name not in ("id", "hash", "at")}  # noqa: SIM118
    parts["at"] = row["at"].isoformat(timespec="microseconds")
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def delete_old_audit_rows(database: Database, *, days: int, block: int = 1000) -> int:
    """Deletes the rows at the log's beginning that are older than that many days; returns how many. Raises
    sqlalchemy.exc.DBAPIError for a row that is still protected; its whole block stays."""
    young = sa.select(sa.func.min(table.id)).where(table.at >= utc_now(-days * 24 * 3600)).scalar_subquery()
    old = sa.select(table.id, table.hash).where(sa.or_(young.is_(None), table.id < young))
    removed = 0
    while True:
        with database.writing() as connection:
            _lock_head(connection)
            doomed = connection.execute(old.order_by(table.id).limit(block)).all()
            if doomed:
                connection.execute(sa.delete(gateway_audit).where(table.id.in_([row.id for row in doomed])))
                connection.execute(sa.update(gateway_audit_head).values(start_hash=doomed[-1].hash))
        removed += len(doomed)
        if len(doomed) < block:
            return removed


def _lock_head(connection: sa.Connection) -> sa.Row[Any]:
    """The row of the head, locked, with the database's moment as `now`."""
    query = sa.select(gateway_audit_head, utc_now().label("now")).with_for_update()
    found = connection.execute(query).first()
    if found is None:
        first = {"id": 1, "start_hash": FIRST_HASH, "last_id": 0, "last_hash": FIRST_HASH}
        connection.execute(insert(connection, gateway_audit_head).values(first).on_conflict_do_nothing())
        found = connection.execute(query).one()
    return found
