"""inventory across channels: alerts, channel rules, conflicts, thresholds.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.schema import Json
from midas_pipelines.storefront.types import Money, UtcDateTime, utc_now

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
    op.create_table(
        "channel_rules",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("channel", sa.String(20), nullable=False),
        sa.Column("category_id", sa.Integer),
        sa.Column("product_id", sa.Integer),
        sa.Column("variant_id", sa.Integer),
        sa.Column("valid_from", UtcDateTime, nullable=False),
        sa.Column("valid_until", UtcDateTime),
        sa.Column("buffer", sa.Integer),
        sa.Column("cap", sa.Integer),
        sa.Column("allocation", sa.Integer),
        sa.Column("fixed", sa.Integer),
        sa.Column("exclude", sa.Boolean),
        sa.Column("minimum_price", Money),
        sa.Column("policy", sa.String(20)),
        sa.Column("price_policy", sa.String(20)),
        sa.Column("quantity_policy", sa.String(20)),
        sa.Column("content_policy", sa.String(20)),
        sa.Column("low_stock", sa.Integer),
        sa.Column("cover_days", sa.Integer),
        sa.Column("updated_at", UtcDateTime, nullable=False, server_default=utc_now()),
    )
    op.create_table(
        "channel_rule_agenda",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("category_id", sa.Integer),
        sa.Column("product_id", sa.Integer),
        sa.Column("variant_id", sa.Integer),
        sa.Column("due_at", UtcDateTime, nullable=False, server_default=utc_now()),
    )
    op.create_table(
        "sync_conflicts",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("subject", sa.String(150), nullable=False),
        sa.Column("mapping_id", BigId),
        sa.Column("sku", sa.String(255)),
        sa.Column("fourseller_product_id", sa.String(100)),
        sa.Column("field", sa.String(20), nullable=False),
        sa.Column("shop_value", sa.Text),
        sa.Column("fourseller_value", sa.Text),
        sa.Column("policy", sa.String(20), nullable=False),
        sa.Column("delta", sa.Integer),
        sa.Column("found_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("seen_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("settled_at", UtcDateTime),
        sa.Column("taken", sa.String(20)),
        sa.Column("settled_by", sa.String(100)),
        sa.Column("run_id", sa.String(64)),
    )
    op.create_index(
        "channel_rules_once",
        "channel_rules",
        [
            "channel",
            sa.text("coalesce(category_id, 0)"),
            sa.text("coalesce(product_id, 0)"),
            sa.text("coalesce(variant_id, 0)"),
            "valid_from",
        ],
        unique=True,
    )
    op.create_index("channel_rules_item", "channel_rules", ["product_id"])
    _index_where(
        "sync_conflicts_open_once", "sync_conflicts", ["subject", "field"], "settled_at IS NULL", unique=True
    )


def _index_where(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)
