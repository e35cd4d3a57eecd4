"""Who is signed in to the console, by a random token that is stored as a hash."""

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

SIGNED_IN, LINK, REQUEST = "signed_in", "link", "request"
SEEN_SECONDS = 60
"""A session is marked as seen at most this often."""

session = console_sessions.c


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
    more: dict[str, Any] = {} if recheck_minutes is None else {"recheck_at": utc_now(60 * recheck_minutes)}
    if until is not None:
        more["valid_until"] = until
    return issue_token(connection, SIGNED_IN, caller, seconds=hours * 3600, **more)


def find_person(connection: sa.Connection, token: str, *, idle_minutes: int) -> Person | None:
    """The person behind a token; None where none is signed in by it any more.

    The role is that of the key now: a revoked key ends its sessions.
    """
    key = gateway_keys.c
    shown = {
        "session_id": session.id,
        "name": sa.func.coalesce(session.name, ""),
        "role": sa.func.coalesce(key.role, session.role),
        "key_id": sa.func.coalesce(session.key_id, ""),
        "notice": session.notice,
        "valid_until": session.valid_until,
        "recheck": sa.func.coalesce(session.recheck_at < utc_now(), sa.false()),
        "seen_is_due": session.seen_at < utc_now(-SEEN_SECONDS),
    }
    query = (
        sa.select(*(column.label(name) for name, column in shown.items()))
        .select_from(console_sessions.outerjoin(gateway_keys, key.key_id == session.key_id))
        .where(_holds(SIGNED_IN, token), session.seen_at > utc_now(-60 * idle_minutes))
        .where(sa.or_(session.key_id.is_(None), sa.and_(key.id.is_not(None), key_is_valid())))
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else Person(**{**row, "role": Role(row["role"])})


def update_session(connection: sa.Connection, session_id: int, /, **values: Any) -> None:
    """Writes columns of a session: `seen_at` puts off its idle time-out, `notice` is what the next page shows once."""
    connection.execute(sa.update(console_sessions).where(session.id == session_id).values(values))


def end_session(connection: sa.Connection, token: str) -> None:
    """Signs out."""
    connection.execute(sa.delete(console_sessions).where(session.token_hash == _hash(token)))


def make_link(connection: sa.Connection, caller: Caller, *, minutes: int) -> str:
    """A token that signs in once, in place of the caller's key."""
    return issue_token(connection, LINK, caller, seconds=minutes * 60)


def issue_token(
    connection: sa.Connection, kind: str, caller: Caller | None, /, *, seconds: float, **more: Any
) -> str:
    """A new token of a kind: a session, a link, or what a sign-in under way must be answered with (`request`)."""
    token = secrets.token_urlsafe(32)
    row: dict[str, Any] = {"token_hash": _hash(token), "kind": kind, "valid_until": utc_now(int(seconds))}
    if caller is not None:
        row |= {"name": caller.name, "role": caller.role.value, "key_id": caller.key_id or None}
    connection.execute(sa.insert(console_sessions).values(row | more))
    return token


def take_token(connection: sa.Connection, kind: str, token: str) -> sa.Row[Any] | None:
    """What a token of that kind was issued for, once; None for one that is not valid."""
    taken = sa.delete(console_sessions).where(_holds(kind, token)).returning(console_sessions)
    return connection.execute(taken).first()


def _holds(kind: str, token: str) -> sa.ColumnElement[bool]:
    return sa.and_(session.token_hash == _hash(token), session.kind == kind, session.valid_until > utc_now())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
