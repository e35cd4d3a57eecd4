"""What a person asks for: found, exported or erased, each with its clock and its proof."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.privacy_tables import privacy_requests
from midas_pipelines.storefront.types import utc_now

_REQUESTS = privacy_requests.c


def late_requests(database: Database) -> list[dict[str, Any]]:
    """Requests whose 30 days are over without an answer, the oldest first."""
    late = sa.and_(_REQUESTS.done_at.is_(None), _REQUESTS.due_at < utc_now())
    query = sa.select(_REQUESTS.id.label("request"), _REQUESTS.kind, _REQUESTS.due_at).where(late)
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query.order_by(_REQUESTS.due_at)).mappings()]
