"""The tie of each item to its 4Seller product: its row, what marks it dirty, and the hub SKUs that are linked to items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import ITEM_KEY, SPELLING, hub_skus, mappings
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import any_of, insert, upsert, write_each
from midas_pipelines.text import spellings

CHUNK = 1000
"""Items read and compared at once."""

WITH_ITEMS = mappings.outerjoin(products, products.c.id == mappings.c.product_id).outerjoin(
    product_variants, product_variants.c.id == mappings.c.variant_id
)
SKU = sa.func.coalesce(product_variants.c.sku, products.c.sku, mappings.c.sku).label("sku")
"""The SKU as the shop spells it now, or the one held on 4Seller where the shop has none."""

ON_HAND = sa.case(
    (mappings.c.variant_id.is_(None), products.c.stock_quantity), else_=product_variants.c.stock_quantity
)

CHANGED: dict[str, Any] = {
    "version": mappings.c.version + 1,
    "dirty_since": sa.func.coalesce(mappings.c.dirty_since, utc_now()),
}
"""What marks an item dirty; `mark_dirty` writes it where the row is free."""

UNCLAIMED = sa.or_(mappings.c.claimed_until.is_(None), mappings.c.claimed_until < utc_now())
"""No worker has the item now, by the database's clock."""

UNTIED = {"fourseller_product_id": None, "acked_hash": None, "acked_price": None, "acked_quantity": None}
"""The states of a mapping without a product on 4Seller."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """An item's mapping to its 4Seller product, with the acknowledged state."""

    id: int
    product_id: int
    variant_id: int | None
    sku: str | None
    fourseller_product_id: str | None
    state: str
    version: int
    acked_version: int
    acked_hash: str | None
    acked_price: Decimal | None
    acked_quantity: int | None
    acked_at: datetime | None
    creating_since: datetime | None
    attempts: int
    reason: str | None
    dirty_since: datetime | None
    pinned_fields: dict[str, Any] | None = None  # what syncs leave alone, as 4Seller has it
    observed_hash: str | None = None  # the form in which 4Seller last showed it; None until it was read back
    claim_number: int = 0
    recheck_at: datetime | None = None
    judged_key: str | None = None  # of the comparison that last found it equal

    @property
    def key(self) -> ItemKey:
        """The item it is about."""
        return (self.product_id, self.variant_id)

    @property
    def in_doubt(self) -> bool:
        """Whether a create under its SKU may have happened without our knowing."""
        return self.creating_since is not None and self.fourseller_product_id is None

    @property
    def dirty(self) -> bool:
        """Whether a change of the item waits to be pushed."""
        return self.dirty_since is not None


COLUMNS = [mappings.c[name] for name in Mapping.__slots__]


def ensure_items(connection: sa.Connection) -> int:
    """Adds a dirty mapping row for each sellable item that has none; returns how many.

    The triggers do this for each new row; this finds rows from before the triggers, or that they missed.
    """
    of_variants = product_variants.c.product_id  # read once: not every shop has an index on it
    has_variants = products.c.id.in_(sa.select(of_variants).where(of_variants.is_not(None)))
    plain = sa.select(
        products.c.id.label("product_id"), sa.cast(sa.null(), sa.Integer).label("variant_id")
    ).where(~has_variants, ~sa.exists().where(mappings.c.product_id == products.c.id, ITEM_KEY == 0))
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
    query = sa.select(mappings.c.id).where(any_of(connection, mappings.c.id, ids)).order_by(mappings.c.id)
    if still is not None:
        query = query.where(still)
    return list(connection.scalars(query.with_for_update(skip_locked=True)))


def set_rows(connection: sa.Connection, ids: Sequence[int], values: dict[str, Any]) -> None:
    """Sets columns of these rows, which are locked; one that the database refuses stays as it is."""
    statement = sa.update(mappings).values(values)

    def write(part: Sequence[int]) -> None:
        connection.execute(statement.where(any_of(connection, mappings.c.id, part)))

    write_each(connection, ids, write)


def mark_dirty(connection: sa.Connection, /, ids: Sequence[int], **more: Any) -> list[int]:
    """Marks items dirty, as a change in the shop would, and returns their ids; those being changed right now mark themselves.

    `more` are other columns to set, such as `next_attempt_at=None` where a delay is over too.
    """
    free = unlocked(connection, ids)
    set_rows(connection, free, CHANGED | more)
    return free


def shard_totals(connection: sa.Connection, of: int) -> dict[int, dict[str, int]]:
    """Of each of `of` shards that has any: how many `items` the shop sells, how many are `waiting` to be pushed, how many
    are `listed`, and how many `units` of those 4Seller has confirmed."""
    shard = (mappings.c.id % of).label("shard")
    dirty = sa.func.count(mappings.c.dirty_since).label("waiting")
    sold = sa.func.count().filter(mappings.c.state != "removed").label("items")
    is_listed, units = mappings.c.state == "listed", sa.func.sum(mappings.c.acked_quantity)
    listed, shown = sa.func.count().filter(is_listed).label("listed"), units.filter(is_listed)
    query = sa.select(shard, sold, dirty, listed, sa.func.coalesce(shown, 0).label("units")).group_by(shard)
    return {row["shard"]: dict(row) for row in connection.execute(query).mappings()}


def count_dirty(connection: sa.Connection, shards: Shards | None = None) -> int:
    """How many items, of those shards or of all, wait to be pushed, quarantined and backing-off ones included."""
    query = sa.select(sa.func.count()).where(mappings.c.dirty_since.is_not(None))
    return connection.scalar(query if shards is None else query.where(shards.holds(mappings.c.id))) or 0


def link_sku(connection: sa.Connection, hub_sku: str, item: ItemKey) -> None:
    """Links the SKU to the item, in place of any earlier link."""
    upsert(connection, hub_skus, {"hub_sku": hub_sku}, {"product_id": item[0], "variant_id": item[1]})


def unlink_sku(connection: sa.Connection, hub_sku: str) -> bool:
    """Deletes the SKU's link; False if there was none."""
    return connection.execute(sa.delete(hub_skus).where(hub_skus.c.hub_sku == hub_sku)).rowcount > 0


def linked_skus(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every linked SKU with its item."""
    rows = connection.execute(sa.select(hub_skus).order_by(hub_skus.c.hub_sku)).mappings()
    return [dict(row) for row in rows]


def linked_items(connection: sa.Connection, skus: set[str]) -> dict[str, ItemKey]:
    """The items that a person has linked these SKUs to."""
    query = sa.select(hub_skus).where(any_of(connection, hub_skus.c.hub_sku, skus))
    return {row.hub_sku: (row.product_id, row.variant_id) for row in connection.execute(query)}


def respelled_items(connection: sa.Connection, skus: set[str]) -> dict[str, ItemKey]:
    """The listed items whose SKU these may be another spelling of, where that can be one item only."""
    spelled = {sku: spellings(sku) for sku in skus}
    wanted = set().union(*spelled.values()) if spelled else set()
    query = sa.select(mappings.c.sku, mappings.c.product_id, mappings.c.variant_id)
    found: dict[str, set[ItemKey]] = {}
    for row in connection.execute(query.where(any_of(connection, SPELLING, wanted))):
        for spelling in spellings(row.sku):
            found.setdefault(spelling, set()).add((row.product_id, row.variant_id))
    meant = {sku: set().union(*(found.get(one, set()) for one in spelled[sku])) for sku in skus}
    return {sku: next(iter(items)) for sku, items in meant.items() if len(items) == 1}


def slices(ids: Sequence[int] | None) -> Iterator[Sequence[int] | None]:
    """The mappings a thousand at a time: a statement takes only so many parameters."""
    if ids is None:
        yield None
        return
    ordered = sorted(ids)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
