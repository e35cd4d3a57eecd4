"""What a person decided about an order stands until the two sides contradict each other anew; who is forgotten stays so.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.types import UtcDateTime, utc_now

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("marketplace_orders", sa.Column("settled_as", sa.String(20)))
    op.add_column("marketplace_orders", sa.Column("forgotten_at", UtcDateTime))
    _mark_who_is_forgotten()


def _mark_who_is_forgotten() -> None:
    """Of those who were erased before, the orders' stories tell."""
    orders = sa.table("marketplace_orders", sa.column("marketplace_order_id"), sa.column("forgotten_at"))
    logs = sa.table("order_processing_logs", sa.column("marketplace_order_id"), sa.column("step"))
    told = sa.select(logs.c.marketplace_order_id).where(logs.c.step == "forgotten")
    statement = sa.update(orders).where(orders.c.marketplace_order_id.in_(told))
    op.execute(statement.values(forgotten_at=utc_now()))
