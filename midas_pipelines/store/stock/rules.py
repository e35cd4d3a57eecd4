"""Reads channel rules and merges those of an item: field by field, the most specific wins; marks dirty what one begins or
ceases to affect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import mark_dirty
from midas_pipelines.store.schema.rule_tables import CURRENT, channel_rules, rule_agenda
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import categories, products
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.storefront.writing import any_of

FOURSELLER = "fourseller"
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # the start of a rule that has always held

POLICIES = ("source_wins", "marketplace_wins", "manual")


@dataclass(frozen=True, slots=True)
class Rule:
    """The merged rules of one item on one channel; None where no rule sets a field. `origins` names, for people, the
    scope that gave each field."""

    buffer: int | None = None
    cap: int | None = None
    allocation: int | None = None
    fixed: int | None = None
    exclude: bool | None = None
    minimum_price: Decimal | None = None
    price_policy: str | None = None
    quantity_policy: str | None = None
    content_policy: str | None = None
    listing_policy: str | None = None
    low_stock: int | None = None
    cover_days: int | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def policy(self, name: str) -> str:
        """The conflict policy of a field: price, quantity, content or listing."""
        own: str | None = getattr(self, f"{name}_policy")
        return own or "source_wins"


NO_RULE = Rule()
VALUES = tuple(one.name for one in fields(Rule) if one.name != "origins")


def available(on_hand: int, rule: Rule) -> int:
    """The quantity a channel may show: min(cap, floor(max(0, on hand - buffer) * allocation)); never below zero. A
    fixed quantity takes the place of all of it; what is excluded shows nothing."""
    if rule.exclude:
        return 0
    if rule.fixed is not None:
        return rule.fixed
    left = max(0, on_hand - (rule.buffer or 0))
    if rule.allocation is not None:
        left = left * rule.allocation // 100
    return left if rule.cap is None else min(rule.cap, left)


def channel_price(price: Decimal, rule: Rule) -> Decimal:
    """The price a channel shows, in USD: the shop's selling price, raised to the minimum where it is lower."""
    return price if rule.minimum_price is None else max(price, rule.minimum_price)


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope of a rule: an item, a category with those below it, or the whole channel."""

    category_id: int | None = None
    product_id: int | None = None
    variant_id: int | None = None

    def matches(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """The rows of exactly this scope."""
        return sa.and_(*(table.c[name] == value for name, value in asdict(self).items()))  # None: IS NULL


def read_rules(connection: sa.Connection, items: Mapping[ItemKey, int | None]) -> dict[ItemKey, Rule]:
    """The merged rule of each item, given with its category, that any rule touches now."""
    rule, moment = channel_rules.c, utc_now()
    query = (
        sa.select(channel_rules, categories.c.slug.label("category"))
        .outerjoin(categories, categories.c.id == rule.category_id)
        .where(CURRENT, rule.valid_from <= moment)
        .where(sa.or_(rule.valid_until.is_(None), rule.valid_until > moment))
        .order_by(rule.valid_from, rule.id)
    )
    mine = any_of(connection, rule.product_id, {product for product, _ in items})
    by_scope: dict[Scope, list[dict[str, Any]]] = {}
    for which in (rule.product_id.is_(None), mine):
        for row in connection.execute(query.where(which)).mappings():
            scope = Scope(row["category_id"], row["product_id"], row["variant_id"])
            by_scope.setdefault(scope, []).append(dict(row))
    if not by_scope:
        return {}
    above: dict[int, int | None] = {}
    if any(scope.category_id is not None for scope in by_scope):
        parents = connection.execute(sa.select(categories.c.id, categories.c.parent_id))
        above = {row.id: row.parent_id for row in parents}
    merged: dict[tuple[int, ...], Rule] = {}
    found: dict[ItemKey, Rule] = {}
    for (product, variant), category in items.items():
        chain = [Scope(product_id=product, variant_id=variant)]
        while category is not None and (one := Scope(category)) not in chain:  # a shop's may go in a circle
            chain.append(one)
            category = above.get(category)
        layers = [row for scope in (Scope(), *reversed(chain)) for row in by_scope.get(scope, ())]
        if layers:
            ids = tuple(layer["id"] for layer in layers)
            if ids not in merged:
                merged[ids] = merge(layers)
            found[product, variant] = merged[ids]
    return found


def merge(layers: Iterable[Mapping[str, Any]]) -> Rule:
    """One rule out of several, the least specific first: each field comes from the last one that has it. A row's general
    policy applies to each field without one in the same row."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        scope = f"the rule of channel {layer.get('channel')}"
        if layer.get("product_id") is not None:
            scope = "this item's rule"
        elif layer.get("category_id") is not None:
            scope = f"the rule of category {layer.get('category') or layer['category_id']}"
        for name in VALUES:
            value = layer.get(name)
            if name.endswith("_policy"):
                value = value or layer.get("policy")
            if value is not None:
                values[name], origins[name] = value, scope
    return replace(NO_RULE, **values, origins=origins)


BLOCK = 5000


def mark_rules_due(database: Database) -> int:
    """Marks dirty the items of every scope whose rules have changed, begun or ended; returns how many.

    Runs after the rule is committed: an item that this marks is read with the rule. A scope with an item that is being
    changed right now stays on the agenda for the next call.
    """
    marked = 0
    for row in database.rows(sa.select(rule_agenda).where(rule_agenda.c.due_at <= utc_now())):
        whole = True
        for ids in _blocks(database, Scope(row["category_id"], row["product_id"], row["variant_id"])):
            free = database.write(mark_dirty, ids, next_attempt_at=None)
            marked += len(free)
            whole = whole and len(free) == len(ids)
        if whole:
            with database.writing() as connection:
                connection.execute(sa.delete(rule_agenda).where(rule_agenda.c.id == row["id"]))
    return marked


def _blocks(database: Database, scope: Scope) -> Iterator[list[int]]:
    which = database.read(within, scope, mappings.c.product_id, mappings.c.variant_id)
    query, after = sa.select(mappings.c.id).where(which).order_by(mappings.c.id).limit(BLOCK), 0
    while rows := database.rows(query.where(mappings.c.id > after)):
        ids = [row["id"] for row in rows]
        yield ids
        after = ids[-1]


def within(
    connection: sa.Connection, scope: Scope, product: sa.ColumnElement[Any], variant: sa.ColumnElement[Any]
) -> sa.ColumnElement[bool]:
    """Whether an item, by these two columns, is in the scope: a category has the items of those below it too."""
    if scope.product_id is not None:
        return sa.and_(product == scope.product_id, variant.is_not_distinct_from(scope.variant_id))
    if scope.category_id is None:
        return sa.true()
    rows = connection.execute(sa.select(categories.c.id, categories.c.parent_id)).all()
    found, above = set[int](), {scope.category_id}
    while above:
        found |= above
        above = {row.id for row in rows if row.parent_id in above} - found
    return product.in_(sa.select(products.c.id).where(products.c.category_id.in_(found)))
