"""A person's decision about an order holds until the two sides conflict again; an erased buyer stays erased.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.types import UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("marketplace_orders", sa.Column("resolution", sa.String(20)))
    op.add_column("marketplace_orders", sa.Column("erased_at", UtcDateTime))
