"""Status updates both ways: returned units, when to push a status to 4Seller, exact amounts.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.schema import Json
from midas_pipelines.storefront.types import UtcDateTime

revision = "0005"
down_revision = "0004"

AMOUNTS = {
    "marketplace_orders": ("total", "lines_total", "shipping_cost", "tax", "discount"),
    "marketplace_order_lines": ("price",),
}


def upgrade() -> None:
    op.add_column("marketplace_orders", sa.Column("content_at", UtcDateTime))
    op.add_column("marketplace_orders", sa.Column("disputed_at", UtcDateTime))
    op.add_column(
        "marketplace_orders", sa.Column("push_attempts", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column("marketplace_orders", sa.Column("push_after", UtcDateTime))
    op.execute(  # SQLite takes a constraint only together with its column
        "ALTER TABLE marketplace_order_lines ADD COLUMN returned INTEGER DEFAULT '0' NOT NULL "
        "CONSTRAINT marketplace_order_lines_returned CHECK (returned >= 0)"
    )
    # Units released beyond those not shipped must have shipped before.
    op.execute(
        "UPDATE marketplace_order_lines SET returned = shipped + released - taken "
        "WHERE shipped + released > taken AND released > 0 AND shipped <= taken"
    )
    op.add_column("order_shipments", sa.Column("contents", Json))
    op.drop_index("marketplace_order_lines_item", "marketplace_order_lines")
    if op.get_context().dialect.name == "postgresql":  # SQLite keeps every digit as it is
        for table, columns in AMOUNTS.items():
            for name in columns:
                op.alter_column(table, name, type_=sa.Numeric(18, 4))
