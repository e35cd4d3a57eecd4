"""Deletes rows that are done with and old, in small blocks from the oldest on, each in a transaction of its own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.operation_tables import alerts, listing_writes
from midas_pipelines.store.schema.tables import api_errors, order_processing_logs, sync_logs
from midas_pipelines.store.schema.triggers import amending
from midas_pipelines.storefront.types import utc_now

BLOCK = 1000  # rows that one transaction looks at


@dataclass(frozen=True)
class Kept:
    """How rows of a table grow old."""

    added: sa.Column[Any]  # when a row was added; ids rise with it
    ended: sa.Column[Any]  # from when on its days count
    done: sa.ColumnElement[bool]  # which rows may go at all


_WEBHOOK, _LOG, _ALERT = marketplace_webhooks.c, order_processing_logs.c, alerts.c
KEPT = {
    "webhooks": Kept(  # the sender's signature is too old by then, and an order is applied once however often it is sent
        _WEBHOOK.received_at, _WEBHOOK.processed_at, _WEBHOOK.outcome.in_(["applied", "superseded"])
    ),
    "writes": Kept(listing_writes.c.at, listing_writes.c.at, sa.true()),
    "sync_logs": Kept(sync_logs.c.started_at, sync_logs.c.started_at, sync_logs.c.outcome != "running"),
    "api_errors": Kept(api_errors.c.created_at, api_errors.c.created_at, sa.true()),
    "order_logs": Kept(  # what a person has decided is asked again for as long as the order is there
        _LOG.created_at, _LOG.created_at, _LOG.step.not_in(["dismissed", "resolved"])
    ),
    "alerts": Kept(_ALERT.created_at, _ALERT.cleared_at, _ALERT.cleared_at.is_not(None)),
}
"""What is deleted in time, by the name in its setting: MIDAS_KEEP_..._DAYS."""


def delete_old(database: Database, name: str, *, days: int, block: int = BLOCK) -> int:
    """Deletes the rows of one kind that ended that many days ago; returns how many.

    Walks the table by its key from the oldest row on, and ends at the first block without a row that old: what it reads
    is what it deletes, the few old rows that stay, and one block.
    """
    kept, oldest = KEPT[name], utc_now(-days * 86_400)
    table = kept.added.table
    assert isinstance(table, sa.Table)
    gone = sa.and_(kept.done, kept.ended < oldest)
    query = sa.select(table.c.id, gone.label("gone"), (kept.added < oldest).label("old")).order_by(table.c.id)
    removed, after = 0, 0
    while True:
        with database.writing() as connection:
            rows = connection.execute(query.where(table.c.id > after).limit(block)).all()
            ids = [row.id for row in rows if row.gone]
            if ids:
                with amending(connection) if table is order_processing_logs else nullcontext():
                    # `gone` once more: somebody may be replaying an event
                    deleting = sa.delete(table).where(table.c.id.in_(ids), gone)
                    removed += connection.execute(deleting).rowcount
        if len(rows) < block or not any(row.old for row in rows):
            return removed
        after = rows[-1].id
