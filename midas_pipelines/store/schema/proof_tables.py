"""Proofs: what a person or a job checked, when, and whether it held. `midas compliance` reads the newest of each name."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import BigId, store
from midas_pipelines.storefront.types import Json, UtcDateTime, Words, utc_now

proofs = sa.Table(
    "midas_proofs",
    store,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("name", sa.String(40), nullable=False),  # key_review|backup|backup_drill|scan|incident_plan|...
    sa.Column("at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("by", Words(120), nullable=False),
    sa.Column("detail", Json),
)
sa.Index("midas_proofs_name", proofs.c.name, proofs.c.id)
