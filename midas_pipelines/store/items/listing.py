"""Lists items: their states side by side, those that need a person, and those that a title may mean; frees what waits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import ON_HAND, SKU, WITH_ITEMS, mark_dirty
from midas_pipelines.store.schema.operation_tables import alerts
from midas_pipelines.store.schema.rule_tables import CURRENT, channel_rules
from midas_pipelines.store.schema.tables import ITEM_WAITS, mappings
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.storefront.types import utc_now

_ITEM = mappings.c
_EXCLUDED = sa.exists().where(
    CURRENT,
    channel_rules.c.product_id == _ITEM.product_id,
    sa.func.coalesce(channel_rules.c.variant_id, _ITEM.variant_id, 0)
    == sa.func.coalesce(_ITEM.variant_id, 0),
    channel_rules.c.exclude,
)
_SUBJECT = (
    sa.literal("item:")
    + sa.cast(_ITEM.product_id, sa.Text)
    + ":"
    + sa.cast(sa.func.coalesce(_ITEM.variant_id, 0), sa.Text)
)
"""How an alert about the item names it."""

STATES: dict[str, sa.ColumnElement[bool]] = {
    "waiting": _ITEM.dirty_since.is_not(None),
    "differing": sa.or_(
        _ITEM.observed_quantity != _ITEM.acked_quantity, _ITEM.observed_price != _ITEM.acked_price
    ),
    "failing": ITEM_WAITS,
    "pinned": sa.cast(_ITEM.pinned_fields, sa.Text).not_in(["null", "{}"]),
    "excluded": _EXCLUDED,
    "removed": _ITEM.state == "removed",
    "low": sa.exists().where(
        alerts.c.kind == "low_stock",
        alerts.c.cleared_at.is_(None),
        sa.or_(
            alerts.c.subject == _SUBJECT, sa.cast(alerts.c.members, sa.Text).contains('"' + _SUBJECT + '"')
        ),
    ),
}
"""Filters of the list of items."""

SHOWN = ("id", "state", "reason", "dirty_since", "attempts", "pinned_fields", "fourseller_product_id")
MOMENTS = ("acked_quantity", "acked_price", "acked_at", "observed_quantity", "observed_price", "observed_at")
MOST_CANDIDATES, MOST_SUGGESTED = 300, 3
NEAR = 500
"""How many ids a search tries before it looks up which of all items hold its words."""


def list_items(
    connection: sa.Connection,
    *,
    text: str = "",
    state: str | None = None,
    after: int = 0,
    skip: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Items: what the shop has, what 4Seller confirmed, what it showed last.

    Those whose SKU, name or variant hold the words of `text` in any order, in a state of `STATES`. A page begins behind the id
    `after`, in the order of ids, or leaves out so many (`skip`), those with the most money on hand first.
    """
    stake = sa.func.coalesce(sa.cast(products.c.price, sa.Float) * ON_HAND, 0.0)
    query = sa.select(
        *(_ITEM[name] for name in (*SHOWN, *MOMENTS)),
        SKU,
        products.c.name,
        product_variants.c.variant_value.label("variant"),
        ON_HAND.label("on_hand"),
        products.c.image_url,
        stake.label("stake"),
    )
    query = query.select_from(WITH_ITEMS).where(_ITEM.id > after)
    query = query.where(
        *_held(connection, text, SKU.element, products.c.name, product_variants.c.variant_value)
    )
    if state is not None:
        query = query.where(STATES[state])
    if skip is not None:
        query = query.order_by(stake.desc()).offset(skip)
    query = query.order_by(_ITEM.id).limit(limit)
    if connection.dialect.name == "postgresql" and state is None and _words(text):
        near = connection.execute(query.where(_ITEM.id <= after + NEAR)).mappings().all()
        if len(near) == limit:  # a common word, which so many hold that they are not looked up first
            return [dict(row) for row in near]
        query = query.where(_may_hold(connection, text))
    return [dict(row) for row in connection.execute(query).mappings()]


def suggest_items(connection: sa.Connection, title: str, sku: str, *, in_stock: bool) -> list[dict[str, Any]]:
    """The items whose names are nearest to a title, or whose SKU is nearest to a SKU; the best first.

    `in_stock` leaves out the item of that SKU itself and those without stock.
    """
    words = sorted({word.lower() for word in re.findall(r"\w{3,}", title)}, key=len, reverse=True)[:5]
    name = sa.func.lower(products.c.name)
    signs = [name.contains(word, autoescape=True) for word in words]
    if sku[:4]:
        signs.append(sa.func.lower(SKU).startswith(sku[:4].lower(), autoescape=True))
    if not signs:
        return []
    score: sa.ColumnElement[int] = sum((sa.case((sign, 1), else_=0) for sign in signs), sa.literal(0))
    query = sa.select(
        _ITEM.id,
        SKU,
        products.c.name,
        product_variants.c.variant_value.label("variant"),
        ON_HAND.label("on_hand"),
    ).select_from(WITH_ITEMS)
    query = query.where(score > 0, SKU.is_not(None), _ITEM.state != "removed")
    if in_stock:
        query = query.where(ON_HAND > 0, SKU.not_in([sku]))
    rows = connection.execute(query.order_by(score.desc(), _ITEM.id).limit(MOST_CANDIDATES)).mappings()
    from rapidfuzz import fuzz  # each command reads this file, and few compare titles

    found = []
    for row in rows:
        of_title = fuzz.token_set_ratio(title.lower(), f"{row['name']} {row['variant'] or ''}".lower())
        likeness = round(max(of_title, fuzz.ratio(sku.lower(), row["sku"].lower())))
        found.append(dict(row) | {"likeness": likeness})
    return sorted(found, key=lambda row: -row["likeness"])[:MOST_SUGGESTED]


def _words(text: str) -> list[str]:
    return [re.sub("[A-Z]", lambda one: one[0].lower(), one) for one in text.replace("\x00", "").split()[:8]]


def _held(connection: sa.Connection, text: str, *columns: Any) -> list[sa.ColumnElement[bool]]:
    """A condition for each word, on the columns as one text. The letters of ASCII are folded, which LIKE does by itself on
    SQLite; on PostgreSQL `lower` is twice as fast without the rules of a language."""
    first, *others = (sa.func.coalesce(column, "") for column in columns)
    whole: sa.ColumnElement[str] = sum((" " + one for one in others), first)
    if connection.dialect.name == "postgresql":
        whole = sa.func.lower(sa.collate(whole, "C"))
    return [whole.contains(word, autoescape=True) for word in _words(text)]


def _may_hold(connection: sa.Connection, text: str) -> sa.ColumnElement[bool]:
    """Which items may hold all the words, read table by table: PostgreSQL takes twice as long to join them all first."""
    product, variant = products.c, product_variants.c
    whole = sa.and_(*_held(connection, text, product.sku, product.name))
    # Its SKU may then be its variant's, or the one held on 4Seller.
    named = sa.and_(product.sku.is_(None), sa.or_(*_held(connection, text, product.name)))
    of_variant = sa.or_(*_held(connection, text, variant.sku, variant.variant_value))
    item = sa.select(mappings.c.id)
    return _ITEM.id.in_(
        sa.union(
            item.where(_ITEM.product_id.in_(sa.select(product.id).where(sa.or_(whole, named)))),
            item.where(_ITEM.variant_id.in_(sa.select(variant.id).where(of_variant))),
            item.where(*_held(connection, text, _ITEM.sku)),
        )
    )


def stuck_items(database: Database) -> list[dict[str, Any]]:
    """The items that are quarantined, or have waited for an hour and failed, as `quarantined_items` has them."""
    long = sa.and_(_ITEM.attempts > 0, _ITEM.dirty_since < utc_now(-3600))
    return quarantined_items(database, which=sa.or_(_ITEM.state == "quarantined", long))


def quarantined_items(
    database: Database, limit: int | None = None, which: sa.ColumnElement[bool] = ITEM_WAITS
) -> list[dict[str, Any]]:
    """Each such item: SKU, name, state, reason, failed runs, and when it is tried next (UTC)."""
    columns = (_ITEM.state, _ITEM.reason, _ITEM.attempts, _ITEM.next_attempt_at)
    query = sa.select(SKU, products.c.name, *columns).select_from(WITH_ITEMS).where(which)
    return database.rows(query.order_by(_ITEM.state.desc(), _ITEM.id).limit(limit))


def retry_items(database: Database, skus: Sequence[str] = ()) -> list[str]:
    """Frees quarantined and delayed items for the next sync, all or those of these SKUs of the shop's; returns their SKUs."""
    query = sa.select(_ITEM.id, SKU).select_from(WITH_ITEMS).where(ITEM_WAITS)
    if skus:
        query = query.where(SKU.in_(skus))
    with database.writing() as connection:
        found = {row.id: row.sku for row in connection.execute(query)}
        # One that the shop is changing right now is freed by that change.
        state = sa.case((_ITEM.fourseller_product_id.is_(None), "new"), else_="listed")
        free = mark_dirty(connection, list(found), state=state, attempts=0, next_attempt_at=None)
    return [found[row] or "" for row in free]
