"""Statements on `sync_conflicts`: one open row per subject and field, resolved once, by a policy or a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.rule_tables import sync_conflicts
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.schema import products
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import any_of, insert, write_each

OPEN = sync_conflicts.c.resolved_at.is_(None)


_PRICE = sa.cast(products.c.price, sa.Float)
_APART = sa.cast(sync_conflicts.c.fourseller_value, sa.Float) - sa.cast(sync_conflicts.c.shop_value, sa.Float)
_STAKE = sa.func.coalesce(
    sa.case(
        (sync_conflicts.c.field == "quantity", sa.func.abs(sync_conflicts.c.delta) * _PRICE),
        (sync_conflicts.c.field == "price", sa.func.abs(_APART) * products.c.stock_quantity),
        (sync_conflicts.c.field == "listing", products.c.stock_quantity * _PRICE),
    ),
    0.0,
)
"""Money that is lost or gained by whose value counts, USD: units by price, or the difference in price by units offered."""


def item_subject(mapping_id: int) -> str:
    """The subject of a conflict about an item."""
    return f"mapping:{mapping_id}"


def orphan_subject(product_id: str) -> str:
    """The subject of a conflict about a 4Seller product without an item."""
    return f"product:{product_id}"


def record_conflicts(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Opens a conflict for each row, or renews the values of the one that is open; its delta stays the first one."""
    if not rows:
        return
    statement = insert(connection, sync_conflicts)
    new = statement.excluded
    opening = statement.on_conflict_do_update(
        index_elements=["subject", "field"],
        index_where=OPEN,
        set_={
            "shop_value": new.shop_value,
            "fourseller_value": new.fourseller_value,
            "policy": new.policy,
            "sku": new.sku,
            "seen_at": utc_now(),
        },
    )
    write_each(connection, rows, lambda part: connection.execute(opening, list(part)))


def resolve_conflicts(
    connection: sa.Connection, which: sa.ColumnElement[bool], *, resolution: str, by: str, **more: Any
) -> int:
    """Closes the open conflicts that `which` names, with `more` columns; returns how many."""
    closing = sa.update(sync_conflicts).where(OPEN, which)
    values = {"resolved_at": utc_now(), "resolution": resolution, "resolved_by": by[:100], **more}
    return connection.execute(closing.values(values)).rowcount


def renew_conflicts(connection: sa.Connection, field: str, subjects: Sequence[str]) -> None:
    """Keeps open what is open about this field of the subjects: it differs still, though no read finds the edit again."""
    which = sa.and_(sync_conflicts.c.field == field, any_of(connection, sync_conflicts.c.subject, subjects))
    connection.execute(sa.update(sync_conflicts).where(OPEN, which).values(seen_at=utc_now()))


def resolve_pushed(connection: sa.Connection) -> int:
    """Closes the conflicts that the shop won and whose item 4Seller has confirmed since."""
    confirmed = sa.select(mappings.c.id).where(mappings.c.dirty_since.is_(None), mappings.c.attempts == 0)
    won = sa.and_(sync_conflicts.c.policy == "source_wins", sync_conflicts.c.mapping_id.in_(confirmed))
    return resolve_conflicts(connection, won, resolution="shop", by="policy")


def resolve_unseen(connection: sa.Connection, since: datetime, busy: set[str], shards: Shards | None) -> int:
    """Closes conflicts that a complete read, which began at `since`, no longer found: both sides agree, or the product is gone.

    Not those of `busy` subjects, which were being pushed, nor of items outside the `shards` that were judged.
    """
    query = sa.select(sync_conflicts.c.id, sync_conflicts.c.subject).where(
        OPEN, sync_conflicts.c.seen_at < since
    )
    if shards is not None:
        query = query.where(shards.holds(sync_conflicts.c.mapping_id))
    unseen = [row.id for row in connection.execute(query) if row.subject not in busy]
    which = any_of(connection, sync_conflicts.c.id, unseen)
    return resolve_conflicts(connection, which, resolution="gone", by="reconcile")


def find_conflicts(
    connection: sa.Connection, /, *which: sa.ColumnElement[bool], limit: int | None = None, **equal: Any
) -> list[dict[str, Any]]:
    """Such conflicts, `OPEN` or any, the newest first; `equal` narrows them by column."""
    query = sa.select(sync_conflicts).where(*which).filter_by(**equal)
    found = connection.execute(query.order_by(sync_conflicts.c.id.desc()).limit(limit))
    return [dict(row) for row in found.mappings()]


def list_conflicts(
    connection: sa.Connection,
    *,
    orphans: bool,
    about: str = "",
    after: int = 0,
    skip: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """The open conflicts of items, or of products that are no item's (`orphans`), with the item's name and the money at stake.

    `about` is a subject and field, such as `mapping:7:price`. A page begins behind the id `after`, the oldest first, or leaves
    out so many (`skip`), the most money at stake first.
    """
    table = sync_conflicts.c
    joined = sync_conflicts.outerjoin(mappings, mappings.c.id == table.mapping_id).outerjoin(
        products, products.c.id == mappings.c.product_id
    )
    kind = table.field == "unknown" if orphans else table.field != "unknown"
    query = sa.select(sync_conflicts, products.c.name, mappings.c.acked_at, _STAKE.label("stake"))
    query = query.select_from(joined).where(OPEN, kind, table.id > after).limit(limit)
    if about:
        query = query.where(table.subject + ":" + table.field == about)
    if skip is not None:
        query = query.order_by(_STAKE.desc()).offset(skip)
    return [dict(row) for row in connection.execute(query.order_by(table.id)).mappings()]


def read_conflict(connection: sa.Connection, conflict_id: int) -> dict[str, Any] | None:
    """One conflict, or None where there is none of that id."""
    return next(iter(find_conflicts(connection, id=conflict_id)), None)


def left_alone(connection: sa.Connection, subjects: Sequence[str]) -> set[str]:
    """Those of the subjects that a person has decided to leave on 4Seller as they are."""
    table = sync_conflicts.c
    query = sa.select(table.subject).where(table.field == "unknown", table.resolution == "marketplace")
    return set(connection.scalars(query)) & set(subjects)
