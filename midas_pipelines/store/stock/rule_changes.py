"""Writes rules, keeps their history, and puts the items that a rule begins or ceases to affect on the agenda."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from midas_pipelines.store.schema.rule_tables import CURRENT, channel_rules, rule_agenda
from midas_pipelines.store.stock.rules import BEGINNING, FOURSELLER, VALUES, Scope
from midas_pipelines.storefront.schema import categories, product_variants, products
from midas_pipelines.storefront.types import utc_now

FIELDS = (*(name for name in VALUES if name != "listing_policy"), "policy")
"""What a rule may say."""

NOTHING = dict.fromkeys((*FIELDS, "valid_until"))
"""The fields of a rule that was removed."""

_RULE = channel_rules.c
_NOT_REMOVED = sa.or_(*(_RULE[name].is_not(None) for name in FIELDS))


def put_rule(
    connection: sa.Connection,
    scope: Scope,
    values: dict[str, Any],
    *,
    valid_from: datetime = BEGINNING,
    valid_until: datetime | None = None,
    by: str = "unknown",
) -> None:
    """Sets these fields of the scope's rule, keeping its others and its end unless it has ended, and puts its items
    on the agenda. `by` is who set it, for the history."""
    same = (scope.matches(channel_rules), _RULE.valid_from == valid_from)
    # Another that changes the same rule waits here, and then reads below what this one wrote.
    connection.execute(sa.select(_RULE.id).where(*same).with_for_update())
    ended = (_RULE.valid_until <= utc_now()).label("ended")
    row = connection.execute(sa.select(channel_rules, ended).where(*same, CURRENT)).mappings().first()
    kept = {name: row[name] for name in NOTHING} if row and not row["ended"] else {}
    connection.execute(sa.update(channel_rules).where(*same, CURRENT).values(replaced_at=utc_now()))
    said = kept | values | ({"valid_until": valid_until} if valid_until else {})
    its_own = asdict(scope) | {"channel": FOURSELLER, "valid_from": valid_from, "changed_by": by}
    connection.execute(sa.insert(channel_rules).values(said | its_own))
    _put_on_agenda(connection, scope, valid_from, valid_until)


def drop_rules(connection: sa.Connection, scope: Scope, *, by: str) -> int:
    """Removes every rule of exactly this scope; returns how many there were. `by` is who did, for the history."""
    starts = sa.select(_RULE.valid_from).where(scope.matches(channel_rules), CURRENT, _NOT_REMOVED)
    gone = connection.scalars(starts).all()
    for start in gone:
        put_rule(connection, scope, NOTHING, valid_from=start, by=by)
    return len(gone)


def newest_change(connection: sa.Connection) -> int:
    """The id of the newest row of the history; 0 without any."""
    return connection.scalar(sa.select(sa.func.max(_RULE.id))) or 0


def restore_rules(connection: sa.Connection, scope: Scope, *, after: int, last: int, by: str) -> bool:
    """Takes back what changed the rules of exactly this scope behind one row of the history and up to another; False, with
    nothing changed, where nothing did, or they have changed since."""
    rows = rules_history(connection, scope)
    if not rows or not after < rows[0]["id"] <= last:
        return False
    drop_rules(connection, scope, by=by)
    for was in {row["valid_from"]: row for row in reversed(rows) if row["id"] <= after}.values():
        if said := said_by(was):
            dates = {name: was[name] for name in ("valid_from", "valid_until")}
            put_rule(connection, scope, said, by=by, **dates)
    return True


def rules_history(connection: sa.Connection, scope: Scope | None) -> list[dict[str, Any]]:
    """What each rule said, from when until when, and who set it; the newest first, of one scope or of all."""
    query = sa.select(channel_rules).order_by(_RULE.id.desc())
    if scope is not None:
        query = query.where(scope.matches(channel_rules))
    return [dict(row) for row in connection.execute(query).mappings()]


def said_by(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a row of the rules sets; none where the rule was removed."""
    return {name: rule[name] for name in FIELDS if rule[name] is not None}


def _put_on_agenda(connection: sa.Connection, scope: Scope, *moments: datetime | None) -> None:
    """Now, and at each of the moments that is one."""
    for due in (utc_now(), *(one for one in moments if one not in (None, BEGINNING))):
        connection.execute(sa.insert(rule_agenda).values(asdict(scope) | {"due_at": due}))


def list_rules(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every rule with its scope in words: the channel's first, then categories, then items."""
    wide = (_RULE.product_id.is_not(None), _RULE.category_id.is_not(None))
    sku = sa.case((_RULE.variant_id.is_not(None), product_variants.c.sku), else_=products.c.sku).label("sku")
    query = (
        sa.select(channel_rules, categories.c.slug.label("category"), sku)
        .outerjoin(categories, categories.c.id == _RULE.category_id)
        .outerjoin(products, products.c.id == _RULE.product_id)
        .outerjoin(product_variants, product_variants.c.id == _RULE.variant_id)
        .where(CURRENT, _NOT_REMOVED)
        .order_by(*wide, _RULE.category_id, _RULE.product_id, _RULE.valid_from, _RULE.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
