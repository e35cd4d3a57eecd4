"""Who is signed in to the console. A token is random, stored as a hash, and never used twice for two sign-ins."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.gateway.keys import Caller, Role, key_is_valid
from midas_pipelines.store.schema.gateway_tables import console_sessions, gateway_keys
from midas_pipelines.storefront.types import utc_now

table = console_sessions.c

SIGNED_IN, LINK, REQUEST = "signed_in", "link", "request"
SEEN_SECONDS = 60
"""A session is marked as seen at most this often."""


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
    connection.execute(sa.delete(console_sessions).where(table.valid_until < utc_now()))
    more: dict[str, Any] = {}
    if recheck_minutes is not None:
        more["recheck_at"] = utc_now(60 * recheck_minutes)
    if until is not None:
        more["valid_until"] = until
    return _insert(connection, SIGNED_IN, caller, seconds=hours * 3600, **more)


def find_person(connection: sa.Connection, token: str, *, idle_minutes: int) -> tuple[Person, bool] | None:
    """The person behind a token, and whether `mark_seen` is due; None where nobody is signed in by it any more.

    The role is that of the key now: a revoked key ends its sessions.
    """
    key = gateway_keys.c
    role = sa.func.coalesce(key.role, table.role).label("now")
    recheck = sa.func.coalesce(table.recheck_at < utc_now(), sa.false()).label("recheck")
    query = (
        sa.select(console_sessions, role, recheck, (table.seen_at < utc_now(-SEEN_SECONDS)).label("due"))
        .select_from(console_sessions.outerjoin(gateway_keys, key.key_id == table.key_id))
        .where(
            table.token_hash == _hash(token),
            table.kind == SIGNED_IN,
            table.valid_until > utc_now(),
            table.seen_at > utc_now(-60 * idle_minutes),
            sa.or_(table.key_id.is_(None), sa.and_(key.id.is_not(None), key_is_valid())),
        )
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    person = Person(
        row.id,
        row.name or "",
        Role(row.now),
        row.key_id or "",
        row.notice,
        row.valid_until,
        bool(row.recheck),
    )
    return person, bool(row.due)


def mark_seen(connection: sa.Connection, session_id: int) -> None:
    """Puts off the idle time-out of a session."""
    _set(connection, session_id, seen_at=utc_now())


def set_notice(connection: sa.Connection, session_id: int, notice: dict[str, Any] | None) -> None:
    """Keeps what the next page shows once, or clears it."""
    _set(connection, session_id, notice=sa.null() if notice is None else notice)


def end_session(connection: sa.Connection, token: str) -> None:
    """Signs out."""
    connection.execute(sa.delete(console_sessions).where(table.token_hash == _hash(token)))


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
    mine = sa.and_(table.token_hash == _hash(token), table.kind == kind, table.valid_until > utc_now())
    return connection.execute(sa.delete(console_sessions).where(mine).returning(console_sessions)).first()


def _set(connection: sa.Connection, session_id: int, **values: Any) -> None:
    connection.execute(sa.update(console_sessions).where(table.id == session_id).values(values))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
