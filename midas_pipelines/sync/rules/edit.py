"""Setting, clearing and explaining channel rules, in an operator's words: a SKU, a category's slug, a channel."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.stock.rule_changes import drop_rules, mark_rules_due, put_rule
from midas_pipelines.store.stock.rules import BEGINNING, FOURSELLER, NO_RULE, Rule, Scope, read_rules
from midas_pipelines.storefront.catalog import ShopItem, items_by_sku, read_items
from midas_pipelines.storefront.schema import categories, has_product_status
from midas_pipelines.sync.rules.arithmetic import arithmetic, available, channel_price, wrong_with

CHANNELS = (FOURSELLER, "website")


class BadRule(WrongInput):
    """A rule makes no sense, or names what the shop does not have; the message is a sentence for the operator."""


def find_scope(connection: sa.Connection, *, sku: str | None = None, category: str | None = None) -> Scope:
    """The item of a SKU, the category of a slug, or the whole channel. Raises BadRule."""
    if sku is not None and category is not None:
        raise BadRule("Give a SKU or a category, not both: a rule has one scope.")
    if sku is not None:
        key = items_by_sku(connection, [sku]).get(sku)
        if key is None:
            raise BadRule(f"No item of the shop has the SKU {sku}: check the spelling.")
        return Scope(product_id=key[0], variant_id=key[1])
    if category is not None:
        found = connection.scalar(sa.select(categories.c.id).where(categories.c.slug == category))
        if found is None:
            raise BadRule(f"The shop has no category with the slug {category}: check the spelling.")
        return Scope(category_id=found)
    return Scope()


def set_rule(
    database: Database,
    values: dict[str, Any],
    *,
    channel: str = FOURSELLER,
    sku: str | None = None,
    category: str | None = None,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    by: str = "unknown",
) -> int:
    """Sets fields of a rule and marks dirty the items it touches; returns how many those are now.

    Args:
        database: the shop's.
        values: the fields to set, as in `channel_rules`; None leaves a field as it is.
        channel, sku, category: the scope.
        valid_from, valid_until: when it holds, in UTC; outside of that the rule is as if it were not there.
        by: who sets it, for the history.

    Raises:
        BadRule: with a sentence.
    """
    trouble = _wrong_scope(channel, valid_from, valid_until) or wrong_with(values)
    if trouble is not None:
        raise BadRule(trouble)
    given = {name: value for name, value in values.items() if value is not None}
    with database.writing() as connection:
        scope = find_scope(connection, sku=sku, category=category)
        start = valid_from or BEGINNING
        put_rule(connection, scope, given, channel=channel, valid_from=start, valid_until=valid_until, by=by)
    return mark_rules_due(database)


def clear_rule(
    database: Database,
    *,
    channel: str = FOURSELLER,
    sku: str | None = None,
    category: str | None = None,
    by: str = "unknown",
) -> int:
    """Removes the rules of exactly that scope, marks its items dirty, and returns how many rules there were."""
    with database.writing() as connection:
        scope = find_scope(connection, sku=sku, category=category)
        gone = drop_rules(connection, scope, channel=channel, by=by)
    if gone:
        mark_rules_due(database)
    return gone


def _wrong_scope(channel: str, valid_from: datetime | None, valid_until: datetime | None) -> str | None:
    if channel not in CHANNELS:
        return f"There is no channel {channel}: give {' or '.join(CHANNELS)}."
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        return "The rule would end before it begins: give --until a later moment than --from."
    return None


def item_and_rule(connection: sa.Connection, sku: str, channel: str = FOURSELLER) -> tuple[ShopItem, Rule]:
    """The item of a SKU with its merged rule. Raises BadRule where there is none."""
    scope = find_scope(connection, sku=sku)
    assert scope.product_id is not None
    key = (scope.product_id, scope.variant_id)
    item = read_items(connection, [key], has_status=has_product_status(connection))[key]
    rule = read_rules(connection, {key: item.category_id}, channel=channel).get(key, NO_RULE)
    return item, rule


def explain_rule(database: Database, sku: str, channel: str = FOURSELLER) -> dict[str, Any]:
    """The arithmetic from stock on hand to what the channel may show, with the rule behind each step."""
    with database.reading() as connection:
        item, rule = item_and_rule(connection, sku, channel)
    return {
        "sku": sku,
        "channel": channel,
        "on_hand": item.on_hand,
        "available": available(item.on_hand, rule),
        "price": item.price,
        "channel_price": channel_price(item.price, rule),
        "arithmetic": arithmetic(item.on_hand, rule) + price_steps(item, rule),
    }


def price_steps(item: ShopItem, rule: Rule) -> list[str]:
    """How the price comes to what the channel shows; nothing where no rule touches it."""
    if rule.minimum_price is None:
        return []
    shown = channel_price(item.price, rule)
    words = f"raised from {item.price}" if shown > item.price else f"{item.price} is above it"
    return [f"price = {shown} USD: minimum {rule.minimum_price}, {words}: {rule.origins['minimum_price']}"]
