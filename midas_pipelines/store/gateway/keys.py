"""API keys, and the console's sessions: made at random, stored as hashes. A key is shown once, and valid for a year at
most or until revoked; a session that was begun with it ends with it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.schema.gateway_tables import console_sessions, gateway_keys, gateway_lockouts
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert

PREFIX = "midas"
KEY_DAYS = 365
MOST_FAILURES = 10  # wrong keys after which the gateway locks a key id or an address out

LOCK_SECONDS, LONGEST_LOCK_SECONDS = 60, 3600
"""How long the tenth wrong key locks; each further one locks for twice as long. What was quiet for the longest starts from none."""

USED_SECONDS = 3600  # how old the record of a key's last use may be

SIGNED_IN, LINK, REQUEST = "signed_in", "link", "request"
SEEN_SECONDS = 60  # A session is marked as seen at most this often

table, session = gateway_keys.c, console_sessions.c
_LOCKED = gateway_lockouts.c


class Role(StrEnum):
    """Role of a caller; each may do what the one before it may."""

    VIEWER = "viewer"  # look
    OPERATOR = "operator"  # look, start syncs, move orders on
    ADMIN = "admin"  # all of it, and read the audit log

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        return list(Role).index(self) >= list(Role).index(needed)


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a call's key, or who is signed in."""

    key_id: str
    name: str
    role: Role

    @property
    def actor(self) -> str:
        """As the audit log names them."""
        return f"{self.key_id} {self.name}"[:120]


@dataclass(frozen=True, slots=True)
class Person(Caller):
    """Who is signed in, `console` in place of a key by OpenID Connect; `recheck`: the provider must be asked again."""

    session_id: int
    notice: dict[str, Any] | None
    valid_until: datetime
    recheck: bool
    seen_is_due: bool


def create_key(
    connection: sa.Connection, *, name: str, role: Role, days: int = KEY_DAYS
) -> tuple[Caller, str]:
    """Creates a key, valid for so many days; returns its owner and the key itself, which is not stored."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = {"key_id": key_id, "name": name, "role": role.value, "secret_hash": _hash(secret)}
    connection.execute(sa.insert(gateway_keys).values(row | {"valid_until": utc_now(days * 86_400)}))
    return Caller(key_id, name, role), f"{PREFIX}_{key_id}_{secret}"


def find_caller(connection: sa.Connection, key: str) -> Caller | None:
    """The key's owner; None for one that is unknown, revoked or no key at all. Takes the same time for each."""
    prefix, _, rest = key.partition("_")
    secret = rest.partition("_")[2]
    query = sa.select(gateway_keys).where(table.key_id == id_of(key), key_is_valid())
    row = connection.execute(query).first()
    stored = row.secret_hash if row is not None else "0" * 64
    if not hmac.compare_digest(stored, _hash(secret)) or row is None or prefix != PREFIX:
        return None
    return Caller(row.key_id, row.name, Role(row.role))


def id_of(key: str) -> str:
    """The readable part of a key; of what is no key, any text of 20 characters at most."""
    return key.partition("_")[2].partition("_")[0].replace("\x00", "")[:20]


def note_key_used(connection: sa.Connection, key_id: str) -> None:
    """Records that the key is in use, and forgets wrong keys with its id."""
    connection.execute(sa.delete(gateway_lockouts).where(_LOCKED.subject == f"key {key_id}"))
    used = sa.update(gateway_keys).where(table.key_id == key_id)
    connection.execute(used.values(last_used_at=utc_now()))


def locked_seconds(connection: sa.Connection, subject: str) -> float:
    """How long wrong keys have locked a subject out, such as `key ID` or `address IP`; 0 when they have not."""
    query = sa.select(_LOCKED.locked_until, utc_now().label("now")).where(_LOCKED.subject == subject)
    row = connection.execute(query).first()
    if row is None or row.locked_until is None:
        return 0.0
    return float(max(0.0, (row.locked_until - row.now).total_seconds()))


def count_wrong_key(connection: sa.Connection, subjects: Iterable[str]) -> list[str]:
    """Counts a wrong key against each subject; returns those that this one locks out."""
    connection.execute(sa.delete(gateway_lockouts).where(_LOCKED.failed_at < utc_now(-LONGEST_LOCK_SECONDS)))
    locked = []
    for subject in sorted(subjects):
        first = {"subject": subject, "failures": 1, "failed_at": utc_now()}
        again = {"failures": _LOCKED.failures + 1, "failed_at": utc_now()}
        counted = insert(connection, gateway_lockouts).values(first)
        counted = counted.on_conflict_do_update(index_elements=["subject"], set_=again)
        failures = connection.execute(counted.returning(_LOCKED.failures)).scalar_one()
        if failures >= MOST_FAILURES:
            seconds = min(LONGEST_LOCK_SECONDS, LOCK_SECONDS * 2 ** min(failures - MOST_FAILURES, 10))
            lock = sa.update(gateway_lockouts).where(_LOCKED.subject == subject)
            connection.execute(lock.values(locked_until=utc_now(seconds)))
        if failures == MOST_FAILURES:
            locked.append(subject)
    return locked


def expiring_keys(connection: sa.Connection, days: int) -> dict[str, str]:
    """A sentence for each valid key that ends within so many days, by key id, but for those that were replaced."""
    soon = sa.and_(key_is_valid(), table.revoked_at.is_(None), table.valid_until < utc_now(days * 86_400))
    return {
        row.key_id: f"The key {row.key_id} ({row.name}) ends on {row.valid_until:%Y-%m-%d}: replace it with "
        f"`midas keys rotate {row.key_id} --grace MINUTES`, and give its holder the new one."
        for row in connection.execute(sa.select(gateway_keys).where(soon).order_by(table.id))
    }


def revoke_all_keys(connection: sa.Connection) -> int:
    """Revokes every valid key at once; returns how many there were."""
    ended = sa.update(gateway_keys).where(key_is_valid()).values(valid_until=utc_now(), revoked_at=utc_now())
    return connection.execute(ended).rowcount


def revoke_key(connection: sa.Connection, key_id: str, *, after_minutes: int = 0) -> Caller:
    """Revokes a key, at once by default. Raises WrongInput where no valid key has the id."""
    end = utc_now(after_minutes * 60)
    ends = sa.case((table.valid_until < end, table.valid_until), else_=end)
    revoked = sa.update(gateway_keys).where(table.key_id == key_id, key_is_valid())
    revoked = revoked.values(valid_until=ends, revoked_at=utc_now())
    row = connection.execute(revoked.returning(table.key_id, table.name, table.role)).first()
    if row is None:
        raise WrongInput(f"No valid key has the id {key_id}: see `midas keys list`.")
    return Caller(row.key_id, row.name, Role(row.role))


def rotate_key(
    connection: sa.Connection, key_id: str, *, grace_minutes: int, days: int = KEY_DAYS
) -> tuple[Caller, str]:
    """A new key of the same name and role; the old one ends after `grace_minutes`. Raises WrongInput as `revoke_key`."""
    old = revoke_key(connection, key_id, after_minutes=grace_minutes)
    return create_key(connection, name=old.name, role=old.role, days=days)


def list_keys(connection: sa.Connection) -> list[dict[str, Any]]:
    """All keys, revoked ones included, the newest first, without their secrets."""
    columns = (table.key_id, table.name, table.role, table.created_at, table.valid_until, table.last_used_at)
    ended = (table.revoked_at.is_not(None), "revoked")
    valid = sa.case((key_is_valid(), "valid"), ended, else_="expired").label("state")
    query = sa.select(*columns, valid).order_by(table.id.desc())
    return [dict(row) for row in connection.execute(query).mappings()]


def any_valid_key(connection: sa.Connection) -> bool:
    """Whether any valid key exists."""
    return connection.execute(sa.select(table.id).where(key_is_valid()).limit(1)).first() is not None


def key_is_valid() -> sa.ColumnElement[bool]:
    """Whether the key of a row is neither revoked nor replaced."""
    return sa.or_(table.valid_until.is_(None), table.valid_until > utc_now())


def find_person(connection: sa.Connection, token: str, *, idle_minutes: int) -> Person | None:
    """The person behind a token, with the role of the key now: a revoked key ends its sessions; None where none is
    signed in by it any more."""
    shown = {
        "session_id": session.id,
        "name": sa.func.coalesce(session.name, ""),
        "role": sa.func.coalesce(table.role, session.role),
        "key_id": sa.func.coalesce(session.key_id, "console"),
        "notice": session.notice,
        "valid_until": session.valid_until,
        "recheck": sa.func.coalesce(session.recheck_at < utc_now(), sa.false()),
        "seen_is_due": session.seen_at < utc_now(-SEEN_SECONDS),
    }
    query = (
        sa.select(*(column.label(name) for name, column in shown.items()))
        .select_from(console_sessions.outerjoin(gateway_keys, table.key_id == session.key_id))
        .where(_holds(SIGNED_IN, token), session.seen_at > utc_now(-60 * idle_minutes))
        .where(sa.or_(session.key_id.is_(None), sa.and_(table.id.is_not(None), key_is_valid())))
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else Person(**{**row, "role": Role(row["role"])})


def update_session(connection: sa.Connection, session_id: int, /, **values: Any) -> None:
    """Writes columns of a session: `seen_at` puts off its idle time-out, `notice` is what the next page shows once."""
    connection.execute(sa.update(console_sessions).where(session.id == session_id).values(values))


def end_session(connection: sa.Connection, token: str) -> None:
    """Signs out, and forgets sessions that are over."""
    over = sa.or_(session.token_hash == _hash(token), session.valid_until < utc_now())
    connection.execute(sa.delete(console_sessions).where(over))


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


def _hash(secret: str) -> str:
    # A plain hash is enough: 256 random bits cannot be guessed, so a slow hash would protect nothing.
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
