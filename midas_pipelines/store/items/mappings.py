"""Statements on `fourseller_product_mappings` that concern many items at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import ITEM_KEY, mappings
from midas_pipelines.storefront.bulk import insert
from midas_pipelines.storefront.refusals import write_each
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.types import utc_now

MOST_AT_ONCE = 5000
"""Ids in one statement; databases take only so many parameters."""

WAS_LISTED = sa.or_(mappings.c.fourseller_product_id.is_not(None), mappings.c.state == "listed")
"""The item is on 4Seller, or was until its product went missing there."""


CHANGED: dict[str, Any] = {
    "version": mappings.c.version + 1,
    "dirty_since": sa.func.coalesce(mappings.c.dirty_since, utc_now()),
}
"""What marks an item dirty; `mark_dirty` writes it where the row is free."""


def ensure_items(connection: sa.Connection) -> int:
    """Adds a dirty mapping row for each sellable item that has none; returns how many.

    The triggers do this for each new row; this finds rows from before the triggers, or that they missed.
    """
    of_variants = product_variants.c.product_id  # read once: not every shop has an index on it
    has_variants = products.c.id.in_(sa.select(of_variants).where(of_variants.is_not(None)))
    plain = sa.select(
        products.c.id.label("product_id"), sa.cast(sa.null(), sa.Integer).label("variant_id")
    ).where(
        ~has_variants,
        ~sa.exists().where(mappings.c.product_id == products.c.id, ITEM_KEY == 0),
    )
    variants = sa.select(product_variants.c.product_id, product_variants.c.id).where(
        product_variants.c.product_id.is_not(None),
        ~sa.exists().where(
            mappings.c.product_id == product_variants.c.product_id, product_variants.c.id == ITEM_KEY
        ),
    )
    added = 0
    for missing in (plain, variants):
        adding = insert(connection, mappings).from_select(["product_id", "variant_id"], missing)
        added += connection.execute(adding.on_conflict_do_nothing()).rowcount  # another process adds them too
    return added


def unlocked(
    connection: sa.Connection, ids: Sequence[int], still: sa.ColumnElement[bool] | None = None
) -> list[int]:
    """Locks the mapping rows that are free, and of which `still` holds, and returns their ids.

    The engine never waits for a mapping row: a transaction of the shop's that marks several items dirty could
    otherwise deadlock with ours, and the shop's would be the one to fail.
    """
    if not ids:
        return []
    query = sa.select(mappings.c.id).where(mappings.c.id.in_(ids)).order_by(mappings.c.id)
    if still is not None:
        query = query.where(still)
    return list(connection.scalars(query.with_for_update(skip_locked=True)))


def set_rows(connection: sa.Connection, ids: Sequence[int], values: dict[str, Any]) -> None:
    """Sets columns of these rows, which are locked; one that the database refuses stays as it is."""
    statement = sa.update(mappings).values(values)
    write_each(connection, ids, lambda part: connection.execute(statement.where(mappings.c.id.in_(part))))


def mark_dirty(connection: sa.Connection, ids: Sequence[int], **more: Any) -> list[int]:
    """Marks items dirty, as a change in the shop would; those being changed right now mark themselves.

    Args:
        connection: in a writing transaction.
        ids: of the mappings, any number.
        more: other columns to set, such as `next_attempt_at=None` where a delay is over too.

    Returns:
        The ids of those marked.
    """
    marked: list[int] = []
    for start in range(0, len(ids), MOST_AT_ONCE):
        free = unlocked(connection, ids[start : start + MOST_AT_ONCE])
        set_rows(connection, free, CHANGED | more)
        marked += free
    return marked


def shard_totals(connection: sa.Connection, of: int) -> dict[int, dict[str, int]]:
    """Of each of `of` shards that has any: how many `items` the shop sells, and how many are `waiting` to be pushed."""
    shard = (mappings.c.id % of).label("shard")
    dirty = sa.func.count(mappings.c.dirty_since).label("waiting")
    sold = sa.func.count().filter(mappings.c.state != "removed").label("items")
    query = sa.select(shard, sold, dirty).group_by(shard)
    return {row.shard: {"items": row.items, "waiting": row.waiting} for row in connection.execute(query)}


def count_dirty(connection: sa.Connection, shards: Shards | None = None) -> int:
    """How many items, of those shards or of all, wait to be pushed, quarantined and backing-off ones included."""
    query = sa.select(sa.func.count()).where(mappings.c.dirty_since.is_not(None))
    return connection.scalar(query if shards is None else query.where(shards.holds(mappings.c.id))) or 0
