"""A past day by the snapshots (`midas explain --at`), and what changed between two days, and why (`midas diff`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.rule_tables import channel_rules, sync_conflicts
from midas_pipelines.store.stock.rule_changes import said_by
from midas_pipelines.storefront.catalog import ItemKey
from midas_pipelines.storefront.schema import categories, products
from midas_pipelines.sync.explain import ledger_line, ledger_rows
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, NoSnapshot, Snapshots, plain

if TYPE_CHECKING:
    import pandas as pd

LEDGER_ROWS = 5
MOST = 20  # rows of the ledger, rules and conflicts that are shown of one item
KEY = "fourseller_product_id"
FIELDS = ("price", "quantity", "status", "title", "content")
SHOP = ("sku", "product_id", "variant_id", "mapping_id", "title", "price", "on_hand")
SHOP_FIELDS = {"price": "price", "title": "title", "on_hand": "stock"}
WHAT = {"both": "changed", "right_only": "added", "left_only": "removed"}


def explain_at(database: Database, settings: Settings, sku: str, day: date) -> dict[str, Any]:
    """What both snapshots of that day hold of the SKU, and what was on record by then. Raises NoSnapshot where none
    is kept of that day, or neither side had the SKU."""
    kept = Snapshots.of(settings)
    shop = _row(kept, CATALOG, day, "sku", sku)
    listed: dict[str, Any] | None = None
    facts: dict[str, Any] = {"sku": sku, "day": day, "note": None}
    try:
        tied = _row(kept, LISTING, day, KEY, shop[KEY]) if shop and shop[KEY] else None
        listed = tied or _row(kept, LISTING, day, "sku", sku)
        facts["read_at"] = _moment(kept.facts(LISTING, day)["read_at"])
    except NoSnapshot as missing:
        facts["note"] = str(missing)
    if shop is None and listed is None:
        raise NoSnapshot(f"Neither shop nor 4Seller had the SKU {sku} on {day:%Y-%m-%d}: check the spelling.")
    facts |= {"shop": shop, "listed": listed, "taken_at": _moment(kept.facts(CATALOG, day)["taken_at"])}
    if shop is None:
        return facts | {"because": []}
    span = _Span(settings.midnight(day), settings.midnight(day + timedelta(days=1)))
    key = (int(shop["product_id"]), plain(shop["variant_id"]))
    with database.reading() as connection:
        ledger = ledger_rows(connection, key, None, span.end, most=LEDGER_ROWS)
        causes = _causes(connection, key, int(shop["mapping_id"]), span)
    lines = [*map(ledger_line, ledger), *causes]
    return facts | {"because": list(dict.fromkeys(lines))}


def _row(kept: Snapshots, kind: str, day: date, column: str, value: str) -> dict[str, Any] | None:
    """The first row of a snapshot whose column has that value."""
    found = kept.read(kind, day, where=(column, value)).head(1).astype(object)
    rows = found.where(found.notna(), None).to_dict("records")
    return {str(name): cell for name, cell in rows[0].items()} if rows else None


def lines_at(facts: dict[str, Any]) -> list[str]:
    """The facts as lines of text, from what 4Seller showed down to the cause."""
    shop, listed = facts["shop"], facts["listed"]
    lines = [facts["note"]] if facts["note"] else []
    read = f"read {facts['read_at']:%Y-%m-%d %H:%M:%S} UTC" if not facts["note"] else ""
    if listed is not None:
        what = "no readable price of it"
        if listed["price"] is not None:
            quantity = plain(listed["quantity"])
            count = "an unknown quantity" if quantity is None else quantity
            what = f"{count} at {listed['price']:.2f} USD, “{listed['title']}” ({listed['status']})"
        lines.append(f"4Seller showed {what}, {read} (product {listed[KEY]})")
    elif read:
        lines.append(f"4Seller did not show it, {read}")
    if shop is not None:
        price = "" if shop["expected_price"] is None else f" at {shop['expected_price']:.2f} USD"
        lines.append(
            f"<- the shop had {shop['on_hand']} on hand, {shop['available']} of them for 4Seller{price}, "
            f"“{shop['title']}”, read {facts['taken_at']:%Y-%m-%d %H:%M:%S} UTC"
        )
        if shop["reason"]:
            lines.append(f"<- it was {shop['state']}: {shop['reason']}")
    return [*lines, *(f"<- {line}" for line in facts["because"])]


@dataclass(frozen=True)
class Changed:
    """One product that 4Seller shows otherwise; `fields` has the old and the new value of each field that changed."""

    sku: str
    product_id: str
    what: str  # changed | added | removed
    fields: dict[str, tuple[Any, Any]]
    why: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Diff:
    """What changed between two reads: how many products in all, and the first of them with their causes."""

    start: datetime
    end: datetime
    total: int
    changed: list[Changed]


def diff(
    database: Database, kept: Snapshots, start: date, end: date, *, skus: Collection[str] = (), most: int = 50
) -> Diff:
    """Compares the listings of two days, of these SKUs or all; `most` products come with their causes. Raises
    NoSnapshot, which names the nearest days, where one of the two has no listing."""
    facts = [kept.facts(LISTING, day) for day in (start, end)]
    span = _Span(_moment(facts[0]["read_at"]), _moment(facts[1]["read_at"]), facts[1]["run_id"])
    moved = differing(_both(kept, LISTING, (start, end), ("sku", *FIELDS)))
    both = moved.join(_both(kept, CATALOG, (start, end), SHOP).add_prefix("shop_"))
    if skus:
        names = [f"{side}sku_{when}" for side in ("", "shop_") for when in ("old", "new")]
        both = both[both[names].isin(list(skus)).any(axis=1)]
    with database.reading() as connection:
        shown = [_changed(connection, span, row) for row in both.head(most).reset_index().to_dict("records")]
    return Diff(span.start, span.end, len(both), shown)


def _both(kept: Snapshots, kind: str, days: Iterable[date], columns: Sequence[str]) -> pd.DataFrame:
    """A row for each product with the columns of both days; `found` says which days had it."""
    import pandas as pd

    frames = []
    for day in days:
        try:
            frame = kept.read(kind, day, [KEY, *columns])
        except NoSnapshot:
            if kind == LISTING:
                raise
            frame = pd.DataFrame(columns=[KEY, *columns])
        frames.append(frame.dropna(subset=[KEY]).drop_duplicates(KEY))
    both = frames[0].merge(frames[1], on=KEY, how="outer", suffixes=("_old", "_new"), indicator="found")
    return both.set_index(KEY).sort_index()


def differing(both: pd.DataFrame) -> pd.DataFrame:
    """The products that only one of the two days has, or that differ in a field. Pure."""
    moved = both["found"] != "both"
    for name in FIELDS:
        old, new = both[f"{name}_old"], both[f"{name}_new"]
        unknown = (old.isna() | new.isna()) if name == "content" else (old.isna() & new.isna())
        moved |= (old != new) & ~unknown  # content that is not shown is no change
    return both[moved]


def _changed(connection: sa.Connection, span: _Span, row: dict[Any, Any]) -> Changed:
    what = WHAT[row["found"]]
    pairs = {name: _pair(row, name) for name in (FIELDS if what == "changed" else FIELDS[:2])}
    fields = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if "content" in fields:
        hidden = None in fields.pop("content")
        if not hidden and "title" not in fields:
            fields["content"] = ("one text", "another")
    why: list[str] = []
    mappings = _pair(row, "shop_mapping_id")
    if None not in mappings:
        shop = {word: _pair(row, f"shop_{name}") for name, word in SHOP_FIELDS.items()}
        moved = ((word, *pair) for word, pair in shop.items() if pair[0] != pair[1])
        why += [f"the shop's {word} went from {old} to {new}" for word, old, new in moved]
    if mappings != (None, None):
        newest = 0 if mappings[1] is None else 1
        product, variant = (_pair(row, f"shop_{name}")[newest] for name in ("product_id", "variant_id"))
        why += _causes(connection, (product, variant), mappings[newest], span, stock="quantity" in fields)
    why = why or ["Nothing of ours explains it: somebody changed it on 4Seller."]
    sku = _pair(row, "sku")
    return Changed(str(sku[1] or sku[0] or ""), row[KEY], what, fields, why)


def _pair(row: dict[Any, Any], name: str) -> tuple[Any, Any]:
    return plain(row[f"{name}_old"]), plain(row[f"{name}_new"])


@dataclass(frozen=True)
class _Span:
    """A span of time, its end not included; `run_id` is the run whose read it ends with, which found conflicts in it."""

    start: datetime
    end: datetime
    run_id: str | None = None


def _causes(
    connection: sa.Connection, key: ItemKey, mapping_id: int, span: _Span, *, stock: bool = True
) -> list[str]:
    """What is on record of the item in that span, in sentences, the newest of each kind first; of its `stock` too."""
    ledger = ledger_rows(connection, key, span.start, span.end, most=MOST) if stock else []
    rules, conflicts = _rules(key[0], span), _conflicts(mapping_id, span)
    return [
        *map(ledger_line, ledger),
        *(_rule_line(row) for row in connection.execute(rules).mappings()),
        *(_conflict_line(row, span) for row in connection.execute(conflicts).mappings()),
    ]


def _rules(product_id: int, span: _Span) -> sa.Select[Any]:
    """Rules for the item, its categories or everything that were set, removed, began or ended in that span."""
    rule = channel_rules.c
    own = sa.select(products.c.category_id.label("id")).where(products.c.id == product_id)
    above = own.cte("above", recursive=True)
    parents = sa.select(categories.c.parent_id).join(above, categories.c.id == above.c.id)
    wide = sa.or_(rule.category_id.is_(None), rule.category_id.in_(sa.select(above.union(parents).c.id)))
    of_item = sa.or_(rule.product_id == product_id, sa.and_(rule.product_id.is_(None), wide))
    moments = (rule.changed_at, rule.valid_from, rule.valid_until)
    moved = sa.or_(*(sa.and_(one >= span.start, one < span.end) for one in moments))
    return sa.select(channel_rules).where(of_item, moved).order_by(rule.id.desc()).limit(MOST)


def _rule_line(row: sa.RowMapping) -> str:
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in said_by(dict(row)).items())
    narrow = [f"{name} {row[f'{name}_id']}" for name in ("product", "category") if row[f"{name}_id"]]
    return (
        f"rule for {[*narrow, 'everything'][0]} ({row['channel']}): {said or 'removed'}, set by {row['changed_by']}, "
        f"{row['changed_at']:%Y-%m-%d %H:%M:%S} UTC"
    )


def _conflicts(mapping_id: int, span: _Span) -> sa.Select[Any]:
    conflict = sync_conflicts.c
    open_then = sa.or_(conflict.resolved_at.is_(None), conflict.resolved_at >= span.start)
    seen = sa.and_(conflict.found_at < span.end, open_then)
    if span.run_id is not None:
        seen = sa.or_(seen, conflict.run_id == span.run_id)
    query = sa.select(sync_conflicts).where(conflict.mapping_id == mapping_id, seen)
    return query.order_by(conflict.id.desc()).limit(MOST)


def _conflict_line(row: sa.RowMapping, span: _Span) -> str:
    ended, end = row["resolved_at"], "open then"
    of_that_read = row["run_id"] is not None and row["run_id"] == span.run_id
    if ended is not None and (ended < span.end or of_that_read):
        end = f"resolved for the {row['resolution']} by {row['resolved_by']}, {ended:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"conflict {row['id']}: {row['field']} {row['shop_value']} in the shop, {row['fourseller_value']} on 4Seller, "
        f"found {row['found_at']:%Y-%m-%d %H:%M:%S} UTC, {end}"
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
