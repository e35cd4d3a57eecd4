"""Every table, as `store/schema/` declares it. There is no release yet; the first one freezes the declarations here.

Revision: 0001
"""

from alembic import op

from midas_pipelines.store.schema import (  # noqa: F401 - each adds its tables
    gateway_tables,
    operation_tables,
    order_tables,
    rule_tables,
    tables,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    tables.store.create_all(op.get_bind(), checkfirst=False)
