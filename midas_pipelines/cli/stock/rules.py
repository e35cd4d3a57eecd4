"""`midas rules`: what a channel may show of the shop's stock, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click

from midas_pipelines.cli.opening import Changing, actor, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer
from midas_pipelines.store.stock.rule_changes import FIELDS, list_rules, rules_history, said_by
from midas_pipelines.store.stock.rules import BEGINNING, FOURSELLER
from midas_pipelines.sync.explain import explain_item
from midas_pipelines.sync.rules.edit import clear_rule, find_scope, set_rule
from midas_pipelines.sync.rules.simulate import simulate

MOMENTS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"])
Command = Callable[..., Any]


@click.group(cls=AnsweringGroup)
def rules() -> None:
    """Shape what a channel shows: buffer, cap, allocation, fixed quantity, exclusion, minimum price, policies.

    A rule is about an item (--sku), a category and those below it (--category), or the whole channel. They merge field
    by field, and the most specific one that has a field wins it:
    available = min(cap, floor(max(0, on hand - buffer) x allocation)).
    """


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


one_channel = click.option(
    "--channel", type=click.Choice([FOURSELLER]), expose_value=False, help="Rules are of this one."
)
scope_options = _options(
    one_channel,
    click.option("--sku", metavar="SKU", help="One item."),
    click.option("--category", metavar="SLUG", help="A category and those below it."),
)
quantity_options = _options(
    click.option("--buffer", type=int, metavar="N", help="Keep N back as safety stock."),
    click.option("--cap", type=int, metavar="N", help="Show at most N."),
    click.option("--allocation", type=int, metavar="PCT", help="Percent of what the buffer leaves."),
    click.option("--fixed", type=int, metavar="N", help="Show N, whatever is on hand."),
)


@rules.command("list")
@one_channel
def show_rules() -> None:
    """Every rule with its scope, the widest first."""
    with shop_database() as (_, database), database.reading() as connection:
        found = [_row(rule) for rule in list_rules(connection)]
    none = "No rules: 4Seller shows what is on hand."
    answer({"rules": found}, Table("Rules", found, none))


@rules.command("history")
@click.option("--sku", help="Only the rules of this item.")
@click.option("--category", metavar="SLUG", help="Only the rules of this category.")
def show_history(sku: str | None, category: str | None) -> None:
    """What each rule said, from when until when, and who set it; the newest first."""
    with shop_database() as (_, database), database.reading() as connection:
        scope = find_scope(connection, sku=sku, category=category) if sku or category else None
        found = rules_history(connection, scope)
    rows = [_past(row) for row in found]
    answer({"history": found}, Table("Rules over time", rows, "No rule was ever set."))


@rules.command("set", cls=Changing)
@scope_options
@quantity_options
@click.option("--exclude/--include", default=None, help="Never list it here, or list it after all.")
@click.option("--minimum-price", type=float, metavar="USD", help="Raise a lower selling price to this.")
@click.option("--policy", help="Which side wins: source_wins, marketplace_wins or manual.")
@click.option("--price-policy", help="The same for prices alone.")
@click.option("--quantity-policy", help="The same for quantities alone.")
@click.option("--content-policy", help="The same for content alone.")
@click.option("--low-stock", type=int, metavar="N", help="Alert when N or fewer are left.")
@click.option("--cover-days", type=int, metavar="DAYS", help="Alert when stock lasts fewer days.")
@click.option("--from", "valid_from", type=MOMENTS, help="When it begins to hold, UTC.")
@click.option("--until", "valid_until", type=MOMENTS, help="When it ends, UTC; an end that is set stays.")
def put(valid_from: datetime | None, valid_until: datetime | None, **values: Any) -> None:
    """Set fields of a rule; the others stay. The items it touches are pushed by the next sync."""
    scope = {name: values.pop(name) for name in ("sku", "category")}
    begins, ends = _utc(valid_from), _utc(valid_until)
    if values["minimum_price"] is not None:
        values["minimum_price"] = Decimal(str(values["minimum_price"]))
    with shop_database() as (settings, database):
        marked = set_rule(database, values, by=actor(settings), valid_from=begins, valid_until=ends, **scope)
    words = f"Set. {marked} items will be checked again by the next sync."
    answer({"set": True, "items_marked": marked}, words)


@rules.command(cls=Changing)
@scope_options
def clear(sku: str | None, category: str | None) -> None:
    """Remove the rules of exactly this scope."""
    with shop_database() as (settings, database):
        gone = clear_rule(database, sku=sku, category=category, by=actor(settings))
    answer({"cleared": gone}, f"{gone} rules removed." if gone else "There was no rule of this scope.")


@rules.command()
@click.argument("sku")
@one_channel
def explain(sku: str) -> None:
    """Print the arithmetic from stock on hand to what 4Seller shows."""
    with shop_database() as (_, database):
        facts = explain_item(database, sku)
    names = ("sku", "on_hand", "available", "shop_price", "price", "arithmetic")
    lines = [f"  {line}" for line in facts["arithmetic"]]
    answer({name: facts[name] for name in names}, f"{sku} on 4Seller:", *lines)


@rules.command("simulate")
@scope_options
@quantity_options
@click.option("--days", type=click.IntRange(1, 3650), default=30, help="How far back.")
def simulate_rule(days: int, **values: Any) -> None:
    """Run a changed rule over the ledger's past: oversells avoided, sales turned away, units withheld.

    Nothing is set. The fields given take the place of what the rules say now, for the items of the scope.
    """
    scope = {name: values.pop(name) for name in ("sku", "category")}
    with shop_database() as (_, database):
        result = simulate(database, values, days=days, **scope)
    table = Table("Items it would have changed most", result.items)
    answer(asdict(result), *result.sentences(), table)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None else None


def _row(rule: dict[str, Any]) -> dict[str, Any]:
    scope = rule["sku"] or (f"category {rule['category']}" if rule["category_id"] else "all items")
    if rule["product_id"] is not None and rule["sku"] is None:
        scope = f"product {rule['product_id']}"
    shown = {"channel": rule["channel"], "scope": scope} | {name: rule[name] for name in FIELDS}
    shown["from"] = None if rule["valid_from"] == BEGINNING else f"{rule['valid_from']:%Y-%m-%d %H:%M}"
    shown["until"] = f"{rule['valid_until']:%Y-%m-%d %H:%M}" if rule["valid_until"] else None
    return shown


def _past(row: dict[str, Any]) -> dict[str, Any]:
    scopes = [(name, row[f"{name}_id"]) for name in ("category", "product", "variant")]
    said = ", ".join(f"{name} {value}" for name, value in said_by(row).items())
    return {
        "from": row["changed_at"],
        "until": row["replaced_at"],
        "scope": " ".join([row["channel"], *(f"{name} {number}" for name, number in scopes if number)]),
        "rule": said or "removed",
        "by": row["changed_by"],
    }
