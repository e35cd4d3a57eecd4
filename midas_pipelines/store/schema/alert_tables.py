"""The outbox of alerts to staff: written in the transaction that it reports on, sent afterwards."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import BigId, store
from midas_pipelines.storefront.types import Json, UtcDateTime, Words, utc_now

# One open row per (kind, subject): a lasting fault is reported once, until it is cleared.
alerts = sa.Table(
    "alerts",
    store,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("kind", sa.String(30), nullable=False),  # low_stock|conflict|daily_report|oversold|...
    sa.Column("subject", sa.String(200), nullable=False),  # what it is about, such as item:12:0
    sa.Column("text", Words(), nullable=False),
    sa.Column("members", Json),  # the subjects of an alert about many of one cause
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("cleared_at", UtcDateTime),  # it is over; the same fault may be reported again
    sa.Column("sent_at", UtcDateTime),  # every target has accepted it
    sa.Column("sent_to", Json),  # fingerprints of the targets that have accepted it so far
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("reason", Words()),  # why the last attempt failed, without any address
    sa.Column("taken_by", Words(100)),  # the person who sees to it
    sa.Column("snoozed_until", UtcDateTime),  # until then it is not shown as open
)
_OPEN = alerts.c.cleared_at.is_(None)
_UNSENT = sa.and_(alerts.c.sent_at.is_(None), alerts.c.cleared_at.is_(None))
sa.Index(
    "alerts_open_once",
    alerts.c.kind,
    alerts.c.subject,
    unique=True,
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)
sa.Index("alerts_unsent", alerts.c.next_attempt_at, postgresql_where=_UNSENT, sqlite_where=_UNSENT)
