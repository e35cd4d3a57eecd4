"""Our tables: mappings, ledger, marketplace orders, logs, cursors.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.schema import Json
from midas_pipelines.storefront.types import Money, UtcDateTime, utc_now

revision = "0001"
down_revision = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "fourseller_product_mappings",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("variant_id", sa.Integer),
        sa.Column("sku", sa.String(50), unique=True),
        sa.Column("fourseller_product_id", sa.String(100), unique=True),
        sa.Column("state", sa.String(20), nullable=False, server_default="new"),
        sa.Column("reason", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("dirty_since", UtcDateTime, server_default=utc_now()),
        sa.Column("acked_version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("acked_hash", sa.String(64)),
        sa.Column("acked_price", Money),
        sa.Column("acked_quantity", sa.Integer),
        sa.Column("acked_at", UtcDateTime),
        sa.Column("observed_hash", sa.String(64)),
        sa.Column("observed_price", Money),
        sa.Column("observed_quantity", sa.Integer),
        sa.Column("observed_at", UtcDateTime),
        sa.Column("claimed_by", sa.String(100)),
        sa.Column("claimed_until", UtcDateTime),
        sa.Column("creating_since", UtcDateTime),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_at", UtcDateTime),
        sa.Column("policy_override", sa.String(20)),
        sa.Column("pinned_fields", Json),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    )
    op.create_index(
        "fourseller_product_mappings_item",
        "fourseller_product_mappings",
        ["product_id", sa.text("coalesce(variant_id, 0)")],
        unique=True,
    )
    _partial_index("fourseller_product_mappings_dirty", "fourseller_product_mappings", "dirty_since")
    op.create_table(
        "inventory_changes",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("variant_id", sa.Integer),
        sa.Column("delta", sa.Integer, nullable=False),
        sa.Column("quantity_after", sa.Integer, nullable=False),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("cause", sa.String(30), nullable=False),
        sa.Column("reference", sa.String(200)),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.UniqueConstraint("cause", "reference", name="inventory_changes_each_cause_once"),
    )
    op.create_index(
        "inventory_changes_item",
        "inventory_changes",
        ["product_id", sa.text("coalesce(variant_id, 0)"), "id"],
    )
    op.create_table(
        "marketplace_orders",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("channel", sa.String(20), nullable=False, server_default="fourseller"),
        sa.Column("marketplace_order_id", sa.String(200), nullable=False),
        sa.Column("local_order_id", sa.Integer, unique=True),
        sa.Column("sales_channel", sa.String(50)),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("status_word", sa.String(50)),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("exception", sa.String(200)),
        sa.Column("reason", sa.Text),
        sa.Column("currency", sa.String(10)),
        sa.Column("total", Money),
        sa.Column("lines_total", Money),
        sa.Column("shipping_cost", Money),
        sa.Column("tax", Money),
        sa.Column("discount", Money),
        sa.Column("payload", sa.Text),
        sa.Column("placed_at", UtcDateTime),
        sa.Column("source_updated_at", UtcDateTime),
        sa.Column("shop_status_since", UtcDateTime),
        sa.Column("imported_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.UniqueConstraint("channel", "marketplace_order_id", name="marketplace_orders_once"),
    )
    op.create_index("marketplace_orders_placed", "marketplace_orders", ["placed_at"])
    _partial_index("marketplace_orders_told", "marketplace_orders", "shop_status_since")
    op.create_table(
        "marketplace_order_lines",
        sa.Column("id", BigId, primary_key=True),
        sa.Column(
            "order_id", BigId, sa.ForeignKey("marketplace_orders.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("sku", sa.String(255)),
        sa.Column("fourseller_product_id", sa.String(100)),
        sa.Column("title", sa.Text),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("price", Money, nullable=False),
        sa.Column("order_item_id", sa.Integer),
        sa.Column("product_id", sa.Integer),
        sa.Column("variant_id", sa.Integer),
        sa.Column("taken", sa.Integer, nullable=False, server_default="0"),
        sa.Column("released", sa.Integer, nullable=False, server_default="0"),
        sa.Column("exception", sa.String(30)),
        sa.UniqueConstraint("order_id", "line", name="marketplace_order_lines_once"),
        sa.CheckConstraint("released >= 0 AND released <= taken", name="marketplace_order_lines_given_back"),
    )
    _partial_index("marketplace_order_lines_open", "marketplace_order_lines", "exception")
    op.create_table(
        "order_processing_logs",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("channel", sa.String(20), nullable=False, server_default="fourseller"),
        sa.Column("marketplace_order_id", sa.String(200), nullable=False),
        sa.Column("step", sa.String(30), nullable=False),
        sa.Column("detail", sa.Text),
        sa.Column("run_id", sa.String(64)),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    )
    op.create_index("order_processing_logs_order", "order_processing_logs", ["marketplace_order_id", "id"])
    op.create_table(
        "fourseller_sync_logs",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("kind", sa.String(30), nullable=False),
        sa.Column("run_id", sa.String(64)),
        sa.Column("scope", sa.String(200), nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("counts", Json),
        sa.Column("requests", sa.Integer),
        sa.Column("seconds", sa.Float),
        sa.Column("outcome", sa.String(20), nullable=False, server_default="running"),
        sa.Column("reason", sa.Text),
    )
    op.create_index("fourseller_sync_logs_kind", "fourseller_sync_logs", ["kind", "id"])
    op.create_table(
        "fourseller_api_errors",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("endpoint", sa.String(200), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("code", sa.String(100)),
        sa.Column("message", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("item", sa.String(255)),
        sa.Column("run_id", sa.String(64)),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    )
    op.create_index("fourseller_api_errors_when", "fourseller_api_errors", ["created_at"])
    op.create_table(
        "midas_rate_limits",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("next_slot", sa.Double, nullable=False, server_default="0"),
        sa.Column("blocked_until", sa.Double, nullable=False, server_default="0"),
    )
    op.create_table(
        "midas_cursors",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("moment", UtcDateTime),
        sa.Column("value", sa.String(200)),
    )


def _partial_index(name: str, table: str, column: str) -> None:
    condition = sa.text(f"{column} IS NOT NULL")
    op.create_index(name, table, ["id"], postgresql_where=condition, sqlite_where=condition)
