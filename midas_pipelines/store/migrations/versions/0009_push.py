"""Worker liveness is a row with a lease; a claim has a number; a write of unknown result is checked later.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.types import UtcDateTime

revision = "0009"
down_revision = "0008"

TABLE = "fourseller_product_mappings"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("claim_number", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column(TABLE, sa.Column("recheck_at", UtcDateTime))
    pending = sa.text("recheck_at IS NOT NULL")
    op.create_index(f"{TABLE}_recheck", TABLE, ["recheck_at"], postgresql_where=pending, sqlite_where=pending)
    op.create_table(
        "midas_workers",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("alive_until", UtcDateTime, nullable=False),
    )
