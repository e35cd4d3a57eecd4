"""Setting, clearing and explaining channel rules, in an operator's words: a SKU, a category's slug; their arithmetic."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.stock.rule_changes import drop_rules, put_rule, restore_rules
from midas_pipelines.store.stock.rules import (
    BEGINNING,
    NO_RULE,
    POLICIES,
    Rule,
    Scope,
    channel_price,
    mark_rules_due,
    read_rules,
)
from midas_pipelines.storefront.catalog import ShopItem, find_item, read_items
from midas_pipelines.storefront.schema import categories

MOST_UNITS = 2**31 - 1
LARGEST_PRICE = Decimal(10) ** 8


def find_scope(connection: sa.Connection, *, sku: str | None, category: str | None = None) -> Scope:
    """The item of a SKU, the category of a slug, or the whole channel. Raises WrongInput."""
    if sku is not None and category is not None:
        raise WrongInput("Give a SKU or a category, not both: a rule has one scope.")
    if sku is not None:
        return Scope(None, *find_item(connection, sku))
    if category is not None:
        found = connection.scalar(sa.select(categories.c.id).where(categories.c.slug == category))
        if found is None:
            raise WrongInput(f"The shop has no category with the slug {category}: check the spelling.")
        return Scope(category_id=found)
    return Scope()


def set_rule(
    database: Database,
    values: dict[str, Any],
    *,
    sku: str | None = None,
    category: str | None = None,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    by: str = "unknown",
) -> int:
    """Sets the fields in `values` that are not None, marks dirty the items they touch, and returns how many those
    are. Outside of its validity (UTC) a rule is as if it were not there. Raises WrongInput."""
    given = sound(values)
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        raise WrongInput("The rule would end before it begins: give --until a later moment than --from.")
    with database.writing() as connection:
        scope = find_scope(connection, sku=sku, category=category)
        start = valid_from or BEGINNING
        put_rule(connection, scope, given, valid_from=start, valid_until=valid_until, by=by)
    return mark_rules_due(database)


def clear_rule(
    database: Database, *, sku: str | None = None, category: str | None = None, by: str = "unknown"
) -> int:
    """Removes the rules of exactly that scope, marks its items dirty, and returns how many rules there were."""
    with database.writing() as connection:
        scope = find_scope(connection, sku=sku, category=category)
        gone = drop_rules(connection, scope, by=by)
    if gone:
        mark_rules_due(database)
    return gone


def undo_rule(
    database: Database, *, after: int, last: int, sku: str | None, category: str | None, by: str
) -> None:
    """Takes back a change of a scope's rules, as `restore_rules`. Raises WrongInput where they have changed since."""
    with database.writing() as connection:
        scope = find_scope(connection, sku=sku, category=category)
        if not restore_rules(connection, scope, after=after, last=last, by=by):
            raise WrongInput("The rule was changed again since, or put back: nothing was changed.")
    mark_rules_due(database)


def item_and_rule(connection: sa.Connection, sku: str) -> tuple[ShopItem, Rule]:
    """The item of a SKU with its merged rule. Raises WrongInput where there is none."""
    scope = find_scope(connection, sku=sku)
    assert scope.product_id is not None
    key = (scope.product_id, scope.variant_id)
    item = read_items(connection, [key])[key]
    return item, read_rules(connection, {key: item.category_id}).get(key, NO_RULE)


def price_steps(item: ShopItem, rule: Rule) -> list[str]:
    """How the price comes to what the channel shows; nothing where no rule touches it."""
    if rule.minimum_price is None:
        return []
    shown = channel_price(item.price, rule)
    words = f"raised from {item.price}" if shown > item.price else f"{item.price} is above it"
    return [f"price = {shown} USD: minimum {rule.minimum_price}, {words}: {rule.origins['minimum_price']}"]


def arithmetic(on_hand: int, rule: Rule) -> list[str]:
    """How `available` comes to its number, one step a line, each with the rule that gave it."""
    origin = defaultdict(lambda: "no rule", rule.origins)
    if rule.exclude:
        return [f"never listed: {origin['exclude']}", "available = 0"]
    if rule.fixed is not None:
        return [
            f"fixed quantity {rule.fixed}: {origin['fixed']}; stock on hand ({on_hand}) does not count",
            f"available = {rule.fixed}",
        ]
    lines, left = [f"on hand = {on_hand}"], max(0, on_hand)
    if rule.buffer is not None:
        left = max(0, on_hand - rule.buffer)
        lines.append(f"- buffer {rule.buffer} = {left}: {origin['buffer']}")
    if rule.allocation is not None:
        left = left * rule.allocation // 100
        lines.append(f"x allocation {rule.allocation} %, rounded down = {left}: {origin['allocation']}")
    if rule.cap is not None:
        left = min(rule.cap, left)
        lines.append(f"at most {rule.cap} = {left}: {origin['cap']}")
    return [*lines, f"available = {left}"]


def sound(values: dict[str, Any]) -> dict[str, Any]:
    """The fields that are set. Raises WrongInput where they make no rule."""
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        raise WrongInput("The rule says nothing: give at least one of its options, such as --buffer 2.")
    for name in ("buffer", "cap", "fixed", "low_stock", "cover_days"):
        if not 0 <= (value := given.get(name, 0)) <= MOST_UNITS:
            words = name.replace("_", " ")
            raise WrongInput(f"The {words} is {value}: give a whole number from 0 to {MOST_UNITS}.")
    if not 0 <= given.get("allocation", 0) <= 100:
        raise WrongInput(f"The allocation is {given['allocation']} %: give a whole percentage from 0 to 100.")
    also = [name for name in ("buffer", "cap", "allocation") if name in given]
    if "fixed" in given and also:
        raise WrongInput(f"A fixed quantity takes the place of {' and '.join(also)}: give one or the other.")
    price = given.get("minimum_price", Decimal(1))
    if not (price.is_finite() and 0 < price < LARGEST_PRICE):
        raise WrongInput(f"The minimum price is {price}: give USD above 0 and below {LARGEST_PRICE:,}.")
    if price != round(price, 2):
        raise WrongInput(f"The minimum price is {price}: give whole cents, such as 9.90.")
    for name in ("policy", "price_policy", "quantity_policy", "content_policy"):
        if given.get(name, POLICIES[0]) not in POLICIES:
            raise WrongInput(f"The policy {given[name]} is none: give {', '.join(POLICIES)}.")
    return given
