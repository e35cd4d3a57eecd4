"""Orders and shipments: backordered and shipped units of each line, shipments, mail to customers.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.types import UtcDateTime, utc_now

revision = "0003"
down_revision = "0002"

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("marketplace_orders", sa.Column("content_hash", sa.String(64)))
    for name in ("backordered", "shipped"):  # SQLite takes a constraint only together with its column
        op.execute(
            f"ALTER TABLE marketplace_order_lines ADD COLUMN {name} INTEGER DEFAULT '0' NOT NULL "
            f"CONSTRAINT marketplace_order_lines_{name} CHECK ({name} >= 0)"
        )
    _partial_index("marketplace_order_lines_owed", "marketplace_order_lines", ["id"], "backordered > 0")
    op.create_index(
        "marketplace_order_lines_item",
        "marketplace_order_lines",
        ["order_item_id"],
    )
    op.create_table(
        "order_shipments",
        sa.Column("id", BigId, primary_key=True),
        sa.Column("order_id", sa.Integer, nullable=False),
        sa.Column("carrier", sa.String(50)),
        sa.Column("tracking_number", sa.String(100)),
        sa.Column("tracking_url", sa.String(500)),
        sa.Column("source", sa.String(20), nullable=False, server_default="shop"),
        sa.Column("shipped_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("booked_at", UtcDateTime),
        sa.Column("told_at", UtcDateTime),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_at", UtcDateTime),
        sa.Column("reason", sa.Text),
    )
    condition = "tracking_number IS NOT NULL"
    columns = ["order_id", "tracking_number"]
    _partial_index("order_shipments_once", "order_shipments", columns, condition, unique=True)
    _partial_index("order_shipments_untold", "order_shipments", ["id"], "told_at IS NULL")
    op.create_table(
        "order_shipment_lines",
        sa.Column("id", BigId, primary_key=True),
        sa.Column(
            "shipment_id", BigId, sa.ForeignKey("order_shipments.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("order_item_id", sa.Integer, nullable=False),
        sa.Column("quantity", sa.Integer, sa.CheckConstraint("quantity > 0"), nullable=False),
        sa.UniqueConstraint("shipment_id", "order_item_id", name="order_shipment_lines_once"),
    )
    op.create_table(
        "customer_mails",
        sa.Column("id", BigId, primary_key=True),
        sa.Column(
            "order_id", BigId, sa.ForeignKey("marketplace_orders.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("about", sa.String(40), nullable=False, server_default=""),
        sa.Column("state", sa.String(20), nullable=False, server_default="waiting"),
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_at", UtcDateTime),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
        sa.Column("sent_at", UtcDateTime),
        sa.UniqueConstraint("order_id", "kind", "about", name="customer_mails_once"),
    )
    _partial_index("customer_mails_waiting", "customer_mails", ["id"], "state IN ('waiting', 'sending')")


def _partial_index(
    name: str, table: str, columns: list[str], condition: str, *, unique: bool = False
) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)
