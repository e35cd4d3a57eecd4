"""Writes rules, keeps their history, and puts the items that a rule begins or ceases to affect on the agenda."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.rule_tables import channel_rules, rule_agenda, rule_history
from midas_pipelines.store.stock.rules import BEGINNING, FOURSELLER, VALUES, Scope
from midas_pipelines.storefront.schema import categories, product_variants, products
from midas_pipelines.storefront.types import utc_now

EMPTY = dict.fromkeys((*(name for name in VALUES if name != "listing_policy"), "policy", "valid_until"))
"""The fields of a rule that says nothing."""


def put_rule(
    connection: sa.Connection,
    scope: Scope,
    values: dict[str, Any],
    *,
    valid_from: datetime = BEGINNING,
    valid_until: datetime | None = None,
    by: str = "unknown",
) -> int:
    """Sets these fields of the scope's rule, keeping its others and its end unless it has ended, and puts its items
    on the agenda. `by` is who set it, for the history."""
    rule = channel_rules.c
    same = (scope.matches(channel_rules), rule.valid_from == valid_from)
    ended = (rule.valid_until <= utc_now()).label("ended")
    row = connection.execute(sa.select(rule.id, ended).where(*same).with_for_update()).first()
    given = values | {"updated_at": utc_now()} | ({"valid_until": valid_until} if valid_until else {})
    if row is None:
        whole = given | asdict(scope) | {"channel": FOURSELLER, "valid_from": valid_from}
        row_id = connection.scalars(sa.insert(channel_rules).values(whole).returning(rule.id)).one()
    else:
        row_id, whole = row.id, (EMPTY if row.ended else {}) | given
        connection.execute(sa.update(channel_rules).where(rule.id == row_id).values(whole))
    _put_on_agenda(connection, scope, valid_from, valid_until)
    _remember(connection, rule.id == row_id, by)
    return int(row_id)


def drop_rules(connection: sa.Connection, scope: Scope, *, by: str) -> int:
    """Removes every rule of exactly this scope; returns how many there were. `by` is who did, for the history."""
    same = scope.matches(channel_rules)
    _remember(connection, same, by, removed=True)
    gone = connection.execute(sa.delete(channel_rules).where(same)).rowcount
    if gone:
        _put_on_agenda(connection, scope)
    return gone


def newest_change(connection: sa.Connection) -> int:
    """The id of the newest row of the history; 0 without any."""
    return connection.scalar(sa.select(sa.func.max(rule_history.c.id))) or 0


def restore_rules(connection: sa.Connection, scope: Scope, *, after: int, last: int, by: str) -> bool:
    """Takes back what changed the rules of exactly this scope behind one row of the history and up to another; False, with
    nothing changed, where nothing did, or they have changed since."""
    rule = rule_history.c
    mine = sa.select(rule_history).where(scope.matches(rule_history)).order_by(rule.id)
    rows = connection.execute(mine).all()
    if not rows or not after < rows[-1].id <= last:
        return False
    drop_rules(connection, scope, by=by)
    for was in {row.valid_from: row for row in rows if row.id <= after}.values():
        if was.said:
            price = was.said.get("minimum_price")
            said = was.said | ({"minimum_price": Decimal(price)} if price else {})
            dates = {"valid_from": was.valid_from, "valid_until": was.valid_until}
            put_rule(connection, scope, said, by=by, **dates)
    return True


def _remember(
    connection: sa.Connection, which: sa.ColumnElement[bool], by: str, *, removed: bool = False
) -> None:
    """Adds what these rules say now, or that they are removed, to the history."""
    for row in connection.execute(sa.select(channel_rules).where(which)).mappings():
        said = {
            name: row[name] if isinstance(row[name], int) else str(row[name])
            for name in EMPTY
            if name != "valid_until" and row[name] is not None
        }
        scope = {name: row[name] for name in ("channel", "category_id", "product_id", "variant_id")}
        dates = {"valid_from": row["valid_from"], "valid_until": row["valid_until"]}
        given = {"changed_by": by, "said": sa.null() if removed else said}
        connection.execute(sa.insert(rule_history).values(scope | dates | given))


def rules_history(connection: sa.Connection, scope: Scope | None) -> list[dict[str, Any]]:
    """What each rule said, from when until when, and who set it; the newest first, of one scope or of all."""
    rule = rule_history.c
    same = (rule.category_id, rule.product_id, rule.variant_id, rule.valid_from)
    until = sa.func.lead(rule.changed_at, type_=rule.changed_at.type).over(
        partition_by=same, order_by=rule.id
    )
    query = sa.select(rule_history, until.label("changed_until")).order_by(rule.id.desc())
    if scope is not None:
        query = query.where(scope.matches(rule_history))
    return [dict(row) for row in connection.execute(query).mappings()]


def _put_on_agenda(connection: sa.Connection, scope: Scope, *moments: datetime | None) -> None:
    """Now, and at each of the moments that is one."""
    for due in (utc_now(), *(one for one in moments if one not in (None, BEGINNING))):
        connection.execute(sa.insert(rule_agenda).values(asdict(scope) | {"due_at": due}))


def list_rules(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every rule with its scope in words: the channel's first, then categories, then items."""
    rule = channel_rules.c
    sku = sa.case((rule.variant_id.is_not(None), product_variants.c.sku), else_=products.c.sku).label("sku")
    query = (
        sa.select(channel_rules, categories.c.slug.label("category"), sku)
        .outerjoin(categories, categories.c.id == rule.category_id)
        .outerjoin(products, products.c.id == rule.product_id)
        .outerjoin(product_variants, product_variants.c.id == rule.variant_id)
        .order_by(rule.product_id.is_not(None), rule.category_id.is_not(None), rule.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
