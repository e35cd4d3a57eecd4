"""Raising and clearing alerts to staff, in the transaction of what they tell of.

An alert is one crossing: while it is open the same trouble raises no second one. `notify.delivery` sends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from midas_pipelines.store.alert_tables import alerts
from midas_pipelines.storefront.types import utc_now


def raise_alert(connection: sa.Connection, *, kind: str, subject: str, text: str) -> bool:
    """Writes an alert to the outbox, unless one of this kind about this subject is open; True when it is new.

    Args:
        connection: the transaction of what the alert tells of; rolled back, nothing is told.
        kind: a word such as `low_stock`; at most 30 characters.
        subject: what it is about, such as `item:12:0`; at most 200 characters.
        text: sentences for a person: what happened, to which item, what to do. No personal data.
    """
    return bool(raise_alerts(connection, kind=kind, texts={subject: text}))


def raise_alerts(connection: sa.Connection, *, kind: str, texts: Mapping[str, str]) -> int:
    """Writes an alert for each subject of `texts` that has none open, in one statement; returns how many are new."""
    if not texts:
        return 0
    insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    rows = [{"kind": kind, "subject": subject, "text": texts[subject]} for subject in sorted(texts)]
    return len(connection.execute(insert(alerts).on_conflict_do_nothing().returning(alerts.c.id), rows).all())


def clear_alert(connection: sa.Connection, *, kind: str, subject: str) -> bool:
    """Closes the open alert of this kind about this subject; True when there was one.

    The next crossing is told anew. One that was not sent yet is not sent any more.
    """
    return bool(clear_alerts(connection, kind=kind, subjects=[subject]))


def clear_alerts(connection: sa.Connection, *, kind: str, subjects: list[str]) -> int:
    """Closes the open alerts of this kind about these subjects; returns how many there were."""
    if not subjects:
        return 0
    statement = sa.update(alerts).where(
        alerts.c.kind == kind, alerts.c.subject.in_(subjects), alerts.c.cleared_at.is_(None)
    )
    return connection.execute(statement.values(cleared_at=utc_now())).rowcount


def open_subjects(connection: sa.Connection, kind: str) -> set[str]:
    """What alerts of this kind are open about."""
    query = sa.select(alerts.c.subject).where(alerts.c.kind == kind, alerts.c.cleared_at.is_(None))
    return set(connection.scalars(query))


def recent_alerts(connection: sa.Connection, *, only_open: bool, limit: int = 100) -> list[dict[str, Any]]:
    """The newest alerts, for people."""
    names = ("id", "kind", "subject", "text", "created_at", "sent_at", "cleared_at", "reason")
    query = sa.select(*(alerts.c[name] for name in names)).order_by(alerts.c.id.desc()).limit(limit)
    if only_open:
        query = query.where(alerts.c.cleared_at.is_(None))
    return [dict(row) for row in connection.execute(query).mappings()]
