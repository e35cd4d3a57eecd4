"""inventory across channels: alerts, channel rules, conflicts, thresholds.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.schema import Json
from midas_pipelines.storefront.types import UtcDateTime, utc_now

revision = "0002"
down_revision = "0001"

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("kind", sa.String(30), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("cleared_at", UtcDateTime),
        sa.Column("sent_at", UtcDateTime),
        sa.Column("sent_to", Json),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("reason", sa.Text),
    )
    _index_where("alerts_open_once", "alerts", ["kind", "subject"], "cleared_at IS NULL", unique=True)
    _index_where("alerts_unsent", "alerts", ["next_attempt_at"], "sent_at IS NULL AND cleared_at IS NULL")


def _index_where(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)
