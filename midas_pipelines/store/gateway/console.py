"""What the console keeps: who is signed in, by a random token that is stored as a hash; and the plans that were made."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.gateway.keys import Caller, Role, key_is_valid
from midas_pipelines.store.schema.gateway_tables import console_plans, console_sessions, gateway_keys
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import upsert

SIGNED_IN, LINK, REQUEST = "signed_in", "link", "request"
SEEN_SECONDS = 60
"""A session is marked as seen at most this often."""
KEPT_SECONDS = 30 * 86_400
"""How long a plan is kept."""

session, plan = console_sessions.c, console_plans.c


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in. `key_id` is empty for one who came by OpenID Connect; `recheck`: the provider must be asked again."""

    session_id: int
    name: str
    role: Role
    key_id: str
    notice: dict[str, Any] | None
    valid_until: datetime
    recheck: bool
    seen_is_due: bool

    @property
    def actor(self) -> str:
        """As the audit log names them."""
        return f"{self.key_id or 'console'} {self.name}"[:120]


def start_session(
    connection: sa.Connection,
    caller: Caller,
    *,
    hours: float,
    recheck_minutes: int | None = None,
    until: datetime | None = None,
) -> str:
    """Signs a caller in; returns the new token, which is not stored.

    Args:
        connection: writes.
        caller: without a key id it is judged by its role.
        hours: when the session ends.
        recheck_minutes: when the sign-in provider is to be asked again; None for a key.
        until: the end of the session that this one goes on from, if any.
    """
    connection.execute(sa.delete(console_sessions).where(session.valid_until < utc_now()))
    more: dict[str, Any] = {}
    if recheck_minutes is not None:
        more["recheck_at"] = utc_now(60 * recheck_minutes)
    if until is not None:
        more["valid_until"] = until
    return _insert(connection, SIGNED_IN, caller, seconds=hours * 3600, **more)


def find_person(connection: sa.Connection, token: str, *, idle_minutes: int) -> Person | None:
    """The person behind a token; None where none is signed in by it any more.

    The role is that of the key now: a revoked key ends its sessions.
    """
    key = gateway_keys.c
    query = (
        sa.select(
            session.id,
            sa.func.coalesce(session.name, ""),
            sa.func.coalesce(key.role, session.role),
            sa.func.coalesce(session.key_id, ""),
            session.notice,
            session.valid_until,
            sa.func.coalesce(session.recheck_at < utc_now(), sa.false()),
            session.seen_at < utc_now(-SEEN_SECONDS),
        )
        .select_from(console_sessions.outerjoin(gateway_keys, key.key_id == session.key_id))
        .where(
            session.token_hash == _hash(token),
            session.kind == SIGNED_IN,
            session.valid_until > utc_now(),
            session.seen_at > utc_now(-60 * idle_minutes),
            sa.or_(session.key_id.is_(None), sa.and_(key.id.is_not(None), key_is_valid())),
        )
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    number, name, role, key_id, notice, valid_until, recheck, due = row
    return Person(number, name, Role(role), key_id, notice, valid_until, bool(recheck), bool(due))


def update_session(connection: sa.Connection, session_id: int, /, **values: Any) -> None:
    """Writes columns of a session: `seen_at` puts off its idle time-out, `notice` is what the next page shows once."""
    connection.execute(sa.update(console_sessions).where(session.id == session_id).values(values))


def end_session(connection: sa.Connection, token: str) -> None:
    """Signs out."""
    connection.execute(sa.delete(console_sessions).where(session.token_hash == _hash(token)))


def make_link(connection: sa.Connection, caller: Caller, *, minutes: int) -> str:
    """A token that signs in once, in place of the caller's key."""
    return _insert(connection, LINK, caller, seconds=minutes * 60)


def use_link(connection: sa.Connection, token: str) -> Caller | None:
    """The caller whom a link signs in, which is used up by that; None for one that is not valid."""
    row = _take(connection, LINK, token)
    return Caller(row.key_id or "", row.name or "", Role(row.role)) if row is not None else None


def keep_request(connection: sa.Connection, request: dict[str, Any], *, minutes: int = 10) -> str:
    """Keeps what a sign-in under way must be answered with; returns the token that finds it."""
    return _insert(connection, REQUEST, None, seconds=minutes * 60, request=request)


def take_request(connection: sa.Connection, token: str) -> dict[str, Any] | None:
    """What was kept under the token, once."""
    row = _take(connection, REQUEST, token)
    return dict(row.request) if row is not None else None


def _insert(
    connection: sa.Connection, kind: str, caller: Caller | None, *, seconds: float, **more: Any
) -> str:
    token = secrets.token_urlsafe(32)
    row: dict[str, Any] = {"token_hash": _hash(token), "kind": kind, "valid_until": utc_now(int(seconds))}
    if caller is not None:
        row |= {"name": caller.name, "role": caller.role.value, "key_id": caller.key_id or None}
    connection.execute(sa.insert(console_sessions).values(row | more))
    return token


def _take(connection: sa.Connection, kind: str, token: str) -> sa.Row[Any] | None:
    mine = sa.and_(session.token_hash == _hash(token), session.kind == kind, session.valid_until > utc_now())
    return connection.execute(sa.delete(console_sessions).where(mine).returning(console_sessions)).first()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def keep_plan(
    connection: sa.Connection, digest: str, *, made_at: str, by: str, steps: list[dict[str, Any]]
) -> None:
    """Keeps a plan by its hash; the same plan again only renews its date. Those of a month ago go."""
    connection.execute(sa.delete(console_plans).where(plan.created_at < utc_now(-KEPT_SECONDS)))
    renewed = {"created_at": utc_now(), "approved_at": None, "result": None}
    values = {"made_at": made_at, "made_by": by, "steps": steps} | renewed
    upsert(connection, console_plans, {"hash": digest}, values)


def read_plan_row(connection: sa.Connection, digest: str) -> dict[str, Any] | None:
    """A plan with its steps."""
    row = connection.execute(sa.select(console_plans).where(plan.hash == digest)).mappings().first()
    return dict(row) if row is not None else None


def newest_plans(connection: sa.Connection, limit: int = 10) -> list[dict[str, Any]]:
    """The newest plans, without their steps."""
    columns = [column for column in plan if column.name != "steps"]
    query = sa.select(*columns).order_by(plan.created_at.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def approve_plan(connection: sa.Connection, digest: str, by: str) -> bool:
    """Marks the plan as approved; False where it was approved before, or is not there."""
    mine = sa.and_(plan.hash == digest, plan.approved_at.is_(None))
    statement = sa.update(console_plans).where(mine).values(approved_at=utc_now(), approved_by=by)
    return connection.execute(statement).rowcount > 0


def note_result(connection: sa.Connection, digest: str, result: str) -> None:
    """Writes the result of applying it."""
    connection.execute(sa.update(console_plans).where(plan.hash == digest).values(result=result))
