"""One alert for many subjects of one cause.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

from midas_pipelines.storefront.schema import Json

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("alerts", sa.Column("members", Json))
