"""The scan: finds every item whose desired state differs from what 4Seller confirmed, in chunks of flat memory.

Triggers miss nothing they can see; the scan finds the rest: changes made while triggers were away, edits made on
4Seller itself, products that vanished there. It marks such items dirty and leaves the pushing to `push.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Product
from midas_pipelines.fourseller.pages import Listing
from midas_pipelines.store.claims import COLUMNS, FORGOTTEN, Mapping
from midas_pipelines.store.database import Database
from midas_pipelines.store.mappings import ensure_items, mark_dirty
from midas_pipelines.store.shards import Shards
from midas_pipelines.store.tables import mappings
from midas_pipelines.storefront.catalog import read_items
from midas_pipelines.storefront.schema import has_product_status
from midas_pipelines.storefront.types import to_cents, utc_now
from midas_pipelines.sync.listing import content_hash
from midas_pipelines.sync.orders.sales import LARGEST_AMOUNT
from midas_pipelines.sync.plan import Action, Change, plan

CHUNK = 1000


@dataclass
class Scanned:
    """What a scan saw."""

    items: int = 0
    set_aside: int = 0  # by our own rules now, or by 4Seller before
    unchanged: int = 0
    to_push: int = 0
    changes: list[Change] = field(default_factory=list)  # kept only for a dry run


def scan(
    database: Database,
    *,
    title_limit: int,
    ids: Sequence[int] | None = None,
    keep_changes: bool = False,
    shards: Shards | None = None,
) -> Scanned:
    """Compares every item, or those of `ids` or `shards`, and marks dirty what differs; with `keep_changes` it only tells."""
    scanned = Scanned()
    if not keep_changes:
        with database.writing() as connection:
            ensure_items(connection)
    for changes in chunks(database, title_limit=title_limit, ids=ids, shards=shards):
        for change in changes:
            _count(scanned, change)
        differing = [change for change in changes if _waits(change)]
        if keep_changes:
            scanned.changes += [
                change for change in changes if change.writes or change.action is Action.SET_ASIDE
            ]
        elif differing:
            with database.writing() as connection:
                mark_dirty(
                    connection, [change.mapping.id for change in differing if not change.mapping.dirty]
                )
    return scanned


def chunks(
    database: Database, *, title_limit: int, ids: Sequence[int] | None = None, shards: Shards | None = None
) -> Iterator[list[Change]]:
    """The change that each item needs, a thousand items at a time, in the order of their mappings."""
    after = 0
    while True:
        query = sa.select(*COLUMNS).where(mappings.c.id > after).order_by(mappings.c.id).limit(CHUNK)
        if ids is not None:
            query = query.where(mappings.c.id.in_(ids))
        if shards is not None:
            query = query.where(shards.condition)
        with database.reading() as connection:
            rows = [Mapping(*row) for row in connection.execute(query)]
            if not rows:
                return
            has_status = has_product_status(connection)
            items = read_items(connection, [row.key for row in rows], has_status=has_status)
        after = rows[-1].id
        yield [plan(row, items.get(row.key), title_limit) for row in rows]


def _count(scanned: Scanned, change: Change) -> None:
    if change.action is Action.NOTHING and change.draft is None:
        return  # not sold any more, and not on 4Seller: no item
    scanned.items += 1
    aside = change.action is Action.SET_ASIDE or (change.writes and not _waits(change))
    scanned.set_aside += aside
    scanned.unchanged += change.action is Action.NOTHING
    scanned.to_push += change.writes and not aside


def _waits(change: Change) -> bool:
    """Whether the item has to go through a push: a write, or a set-aside that is not on record yet."""
    mapping = change.mapping
    if _given_up(mapping):  # its quantity goes on being true all the same
        return mapping.fourseller_product_id is not None and mapping.acked_quantity != change.quantity
    if change.action is Action.SET_ASIDE:
        return mapping.state != "set_aside" or mapping.reason != change.reason
    if change.action is Action.NOTHING:
        return change.draft is not None and mapping.state != "listed"
    return True


def _given_up(mapping: Mapping) -> bool:
    """Whether 4Seller refused this very version, or failed too often: a person or a change frees it."""
    return mapping.state == "set_aside" and mapping.acked_version >= mapping.version and mapping.attempts > 0


def believe(database: Database, listing: Listing, read_at: datetime) -> int:
    """Takes what 4Seller really shows for what it confirmed; returns how many items turned out different.

    Only for items that were not pushed since the read began and that nobody holds. A product missing from the
    listing counts as gone only when the listing is complete: absence is not zero.
    """
    shown = {product.id: product for product in listing.products}
    changed = 0
    after = 0
    while True:
        with database.writing() as connection:
            rows = _believable(connection, after, read_at)
            for row in rows:
                product = shown.get(row.fourseller_product_id or "")
                values = (
                    _seen(row, product) if product is not None else FORGOTTEN if listing.complete else None
                )
                if values is not None:
                    connection.execute(sa.update(mappings).where(mappings.c.id == row.id).values(values))
                    changed += 1
        if not rows:
            return changed
        after = rows[-1].id


def _believable(connection: sa.Connection, after: int, read_at: datetime) -> list[Mapping]:
    query = (
        sa.select(*COLUMNS)
        .where(
            mappings.c.id > after,
            mappings.c.fourseller_product_id.is_not(None),
            sa.or_(mappings.c.acked_at.is_(None), mappings.c.acked_at < read_at),
            sa.or_(mappings.c.claimed_until.is_(None), mappings.c.claimed_until < utc_now()),
        )
        .order_by(mappings.c.id)
        .limit(CHUNK)
        .with_for_update(skip_locked=True)
    )
    return [Mapping(*row) for row in connection.execute(query)]


def _seen(row: Mapping, product: Product) -> dict[str, object] | None:
    seen: dict[str, object] = {
        "acked_hash": content_hash(product),
        "acked_price": _storable(product.price),
        "acked_quantity": product.inventory.quantity if product.inventory is not None else None,
    }
    return seen if any(getattr(row, name) != value for name, value in seen.items()) else None


def _storable(price: Decimal | None) -> Decimal | None:
    """The price in cents; None for one that somebody on 4Seller made too large for our column."""
    return to_cents(price) if price is not None and price < LARGEST_AMOUNT else None
