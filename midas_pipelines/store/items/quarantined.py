"""Items that need a person or a later run: quarantined ones, and those backing off after failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import mark_dirty
from midas_pipelines.store.schema.tables import ITEM_WAITS, mappings
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.types import utc_now

SKU = sa.func.coalesce(product_variants.c.sku, products.c.sku, mappings.c.sku).label("sku")
"""The SKU as the shop spells it now, or the one held on 4Seller where the shop has none."""

_ITEMS = mappings.outerjoin(products, products.c.id == mappings.c.product_id).outerjoin(
    product_variants, product_variants.c.id == mappings.c.variant_id
)


def stuck_items(database: Database) -> list[dict[str, Any]]:
    """The items that are quarantined, or have waited for an hour and failed, as `quarantined_items` has them."""
    long = sa.and_(mappings.c.attempts > 0, mappings.c.dirty_since < utc_now(-3600))
    return quarantined_items(database, which=sa.or_(mappings.c.state == "quarantined", long))


def quarantined_items(
    database: Database, limit: int | None = None, which: sa.ColumnElement[bool] = ITEM_WAITS
) -> list[dict[str, Any]]:
    """Each such item: SKU, name, state, reason, failed runs, and when it is tried next (UTC)."""
    query = (
        sa.select(
            SKU,
            products.c.name,
            mappings.c.state,
            mappings.c.reason,
            mappings.c.attempts,
            mappings.c.next_attempt_at,
        )
        .select_from(_ITEMS)
        .where(which)
        .order_by(mappings.c.state.desc(), mappings.c.id)
        .limit(limit)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def retry_items(database: Database, skus: Sequence[str] = ()) -> list[str]:
    """Frees quarantined and delayed items for the next sync; returns their SKUs.

    Args:
        skus: only these items, as the shop spells them; none frees every one.
    """
    query = sa.select(mappings.c.id, SKU).select_from(_ITEMS).where(ITEM_WAITS)
    if skus:
        query = query.where(SKU.in_(skus))
    with database.writing() as connection:
        found = {row.id: row.sku for row in connection.execute(query)}
        # One that the shop is changing right now is freed by that change.
        state = sa.case((mappings.c.fourseller_product_id.is_(None), "new"), else_="listed")
        free = mark_dirty(connection, list(found), state=state, attempts=0, next_attempt_at=None)
    return [found[row] or "" for row in free]
