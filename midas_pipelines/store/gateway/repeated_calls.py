"""Calls that carry an Idempotency-Key: the first one is executed, and its answer is kept for 24 hours."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.safety_tables import repeated_calls
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import insert

KEPT_SECONDS = 24 * 3600
DEAD_SECONDS = 150
"""A call that has no answer after so long died with its process; the next one with its key is executed."""
_TABLE = repeated_calls.c


@dataclass(frozen=True)
class KeptCall:
    """A call with the same key: the digest of its body, and its answer, which has no status while it is executed."""

    body_digest: str
    status: int | None
    media_type: str | None
    body: str | None


def begin_call(database: Database, digest: str, body_digest: str) -> KeptCall | None:
    """None where this call is the first with its key and is to be executed; otherwise the one before it."""
    over = sa.or_(
        _TABLE.begun_at < utc_now(-KEPT_SECONDS),
        sa.and_(_TABLE.status.is_(None), _TABLE.begun_at < utc_now(-DEAD_SECONDS)),
    )
    with database.writing() as connection:
        connection.execute(sa.delete(repeated_calls).where(over))
        adding = insert(connection, repeated_calls).values(digest=digest, body_digest=body_digest)
        if connection.execute(adding.on_conflict_do_nothing().returning(_TABLE.digest)).first() is not None:
            return None
    return read_call(database, digest)


def read_call(database: Database, digest: str) -> KeptCall | None:
    """The call with that digest; None where it failed and was forgotten."""
    query = sa.select(_TABLE.body_digest, _TABLE.status, _TABLE.media_type, _TABLE.body)
    with database.reading() as connection:
        row = connection.execute(query.where(_TABLE.digest == digest)).first()
    return None if row is None else KeptCall(*row)


def keep_answer(database: Database, digest: str, status: int, media_type: str | None, body: str) -> None:
    """Keeps the answer of a call that was executed."""
    values = {"status": status, "media_type": media_type, "body": body}
    with database.writing() as connection:
        connection.execute(sa.update(repeated_calls).where(_TABLE.digest == digest).values(values))


def forget_call(database: Database, digest: str) -> None:
    """Forgets a call that failed by no fault of its caller, so that it can be sent again."""
    with database.writing() as connection:
        connection.execute(sa.delete(repeated_calls).where(_TABLE.digest == digest))
