"""Marks orders whose buyer was erased before the mark existed: without it a later message would store the buyer again.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.types import UtcDateTime, utc_now

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # The order log has them.
    orders = sa.table(
        "marketplace_orders", sa.column("marketplace_order_id"), sa.column("erased_at", UtcDateTime)
    )
    logs = sa.table("order_processing_logs", sa.column("marketplace_order_id"), sa.column("step"))
    logged = sa.select(logs.c.marketplace_order_id).where(logs.c.step == "forgotten")
    forgotten = sa.and_(orders.c.marketplace_order_id.in_(logged), orders.c.erased_at.is_(None))
    op.execute(sa.update(orders).where(forgotten).values(erased_at=utc_now()))
