"""The gateway: webhooks, keys, audit.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.schema import Json
from midas_pipelines.storefront.types import UtcDateTime, utc_now

revision = "0004"
down_revision = "0003"

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "marketplace_webhooks",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("webhook_id", sa.String(200), nullable=False, unique=True),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("subject", sa.String(220)),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("received_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("claimed_by", sa.String(100)),
        sa.Column("claimed_until", UtcDateTime),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_at", UtcDateTime),
        sa.Column("processed_at", UtcDateTime),
        sa.Column("outcome", sa.String(20)),
        sa.Column("reason", sa.Text),
    )
    _index_where("marketplace_webhooks_pending", ["id"], "processed_at IS NULL")
    _index_where("marketplace_webhooks_subject", ["subject"], "processed_at IS NULL")
    _index_where("marketplace_webhooks_set_aside", ["id"], "outcome = 'quarantined'")
    op.create_table(
        "gateway_keys",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("key_id", sa.String(20), nullable=False, unique=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("valid_until", UtcDateTime),
    )
    op.create_table(
        "gateway_audit",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("event", sa.String(10), nullable=False),
        sa.Column("actor", sa.String(120), nullable=False),
        sa.Column("role", sa.String(20)),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("target", sa.String(250)),
        sa.Column("detail", Json),
        sa.Column("status", sa.Integer),
        sa.Column("remote", sa.String(64)),
        sa.Column("request_id", sa.String(64)),
    )
    op.create_index("gateway_audit_when", "gateway_audit", ["at"])


def _index_where(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "marketplace_webhooks", columns, postgresql_where=where, sqlite_where=where)
