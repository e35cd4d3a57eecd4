"""Lists the items that could be claimed now, without a lock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from midas_pipelines.store.items.claims import RETRY
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.types import utc_now

NEWEST = 100

table = mappings.c


@dataclass(frozen=True, slots=True)
class ClaimableRow:
    """An item that is dirty, due and unclaimed; `pushed_ago` is in seconds, None when it never was."""

    id: int
    version: int
    pushed_ago: float | None
    shown: int | None  # what 4Seller last confirmed
    on_hand: int | None


def read_claimable(connection: sa.Connection, *, limit: int) -> list[ClaimableRow]:
    """By age of their rows; where there are more than `limit`, also those that changed last, so that a fresh change
    does not wait behind a long backlog."""
    on_hand = sa.case(
        (table.variant_id.is_(None), products.c.stock_quantity), else_=product_variants.c.stock_quantity
    )
    query = (
        sa.select(
            table.id,
            table.version,
            table.acked_at,
            table.acked_quantity,
            on_hand.label("on_hand"),
            utc_now().label("now"),
        )
        .select_from(
            mappings.outerjoin(products, products.c.id == table.product_id).outerjoin(
                product_variants, product_variants.c.id == table.variant_id
            )
        )
        .where(*_due())
    )
    rows = connection.execute(query.order_by(table.id).limit(limit)).all()
    if len(rows) >= limit:
        newest = connection.execute(query.order_by(table.dirty_since.desc()).limit(NEWEST)).all()
        rows = [*newest, *rows]
    found = {
        row.id: ClaimableRow(
            row.id, row.version, _ago(row.acked_at, row.now), row.acked_quantity, row.on_hand
        )
        for row in rows
    }
    return list(found.values())


def _due() -> list[sa.ColumnElement[bool]]:
    now = utc_now()
    return [
        table.dirty_since.is_not(None),
        sa.or_(table.claimed_until.is_(None), table.claimed_until < now),
        RETRY.is_due(table.next_attempt_at, table.attempts),
    ]


def _ago(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()
