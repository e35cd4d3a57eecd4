"""The arithmetic of channel rules: what a channel may show of what is on hand, at what price. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from midas_pipelines.store.stock.rules import NO_RULE, POLICIES, Rule

MOST_UNITS = 2**31 - 1
LARGEST_PRICE = Decimal(10) ** 8


def available(on_hand: int, rule: Rule = NO_RULE) -> int:
    """The quantity a channel may show: min(cap, floor(max(0, on hand - buffer) * allocation)); never below zero.

    A fixed quantity takes the place of all of it; what is excluded shows nothing.
    """
    if rule.exclude:
        return 0
    if rule.fixed is not None:
        return rule.fixed
    left = max(0, on_hand - (rule.buffer or 0))
    if rule.allocation is not None:
        left = left * rule.allocation // 100
    return left if rule.cap is None else min(rule.cap, left)


def channel_price(price: Decimal, rule: Rule = NO_RULE) -> Decimal:
    """The price a channel shows, in USD: the shop's selling price, raised to the minimum where it is lower."""
    return price if rule.minimum_price is None else max(price, rule.minimum_price)


def arithmetic(on_hand: int, rule: Rule) -> list[str]:
    """How `available` comes to its number, one step a line, each with the rule that gave it."""
    if rule.exclude:
        return [f"never listed: {_origin(rule, 'exclude')}", "available = 0"]
    if rule.fixed is not None:
        return [
            f"fixed quantity {rule.fixed}: {_origin(rule, 'fixed')}; stock on hand ({on_hand}) does not count",
            f"available = {rule.fixed}",
        ]
    lines = [f"on hand = {on_hand}"]
    left = max(0, on_hand)
    if rule.buffer is not None:
        left = max(0, on_hand - rule.buffer)
        lines.append(f"- buffer {rule.buffer} = {left}: {_origin(rule, 'buffer')}")
    if rule.allocation is not None:
        left = left * rule.allocation // 100
        lines.append(
            f"x allocation {rule.allocation} %, rounded down = {left}: {_origin(rule, 'allocation')}"
        )
    if rule.cap is not None:
        left = min(rule.cap, left)
        lines.append(f"at most {rule.cap} = {left}: {_origin(rule, 'cap')}")
    return [*lines, f"available = {left}"]


def _origin(rule: Rule, name: str) -> str:
    return rule.origins.get(name, "no rule")


def wrong_with(values: dict[str, Any]) -> str | None:
    """Why these fields make no rule, as a sentence for the operator; None where they do."""
    if not any(value is not None for value in values.values()):
        return "The rule says nothing: give at least one of its options, such as --buffer 2."
    for name in ("buffer", "cap", "fixed", "low_stock", "cover_days"):
        value = values.get(name)
        if value is not None and not 0 <= value <= MOST_UNITS:
            return f"The {name.replace('_', ' ')} is {value}: give a whole number from 0 to {MOST_UNITS}."
    allocation = values.get("allocation")
    if allocation is not None and not 0 <= allocation <= 100:
        return f"The allocation is {allocation} %: give a whole percentage from 0 to 100."
    if values.get("fixed") is not None:
        also = [name for name in ("buffer", "cap", "allocation") if values.get(name) is not None]
        if also:
            return f"A fixed quantity takes the place of {' and '.join(also)}: give one or the other."
    price = values.get("minimum_price")
    if price is not None and not (price.is_finite() and 0 < price < LARGEST_PRICE):
        return f"The minimum price is {price}: give an amount in USD above 0 and below {LARGEST_PRICE:,}."
    if price is not None and price != round(price, 2):
        return f"The minimum price is {price}: give whole cents, such as 9.90."
    for name in ("policy", "price_policy", "quantity_policy", "content_policy"):
        if values.get(name) not in (None, *POLICIES):
            return f"The policy {values[name]} is none: give {', '.join(POLICIES)}."
    return None
