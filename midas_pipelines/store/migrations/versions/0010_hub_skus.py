"""Stores links from hub SKUs to items, and finds SKUs in another case.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "midas_hub_skus",
        sa.Column("hub_sku", sa.String(255), primary_key=True),
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("variant_id", sa.Integer),
    )
    table = "fourseller_product_mappings"
    op.create_index(f"{table}_spelling", table, [sa.text("lower(sku)")])
