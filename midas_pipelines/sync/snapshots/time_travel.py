"""A past day by the snapshots (`midas explain --at`), and what changed between two days, and why (`midas diff`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.sync.explain import ledger_rows
from midas_pipelines.sync.snapshots.causes import Span, causes, ledger_line
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, NoSnapshot, Snapshots

if TYPE_CHECKING:
    import pandas as pd

LEDGER_ROWS = 5
SHOWN = ["sku", "title", "price", "quantity", "status", "content"]
FIELDS = ("price", "quantity", "status", "title", "content")
SHOP = ["fourseller_product_id", "sku", "product_id", "variant_id", "mapping_id", "title", "price", "on_hand"]
KEY = "fourseller_product_id"


class NotThatDay(WrongInput):
    """The snapshot of that day has no such item."""

    http_status = 404


def explain_at(database: Database, kept: Snapshots, sku: str, day: date) -> dict[str, Any]:
    """What both snapshots of that day hold of the SKU, and what was on record by then.

    Raises:
        NoSnapshot: no snapshot of that day is kept; names the nearest days.
        NotThatDay: neither side had the SKU.
    """
    shop = _row(kept.read(CATALOG, day), "sku", sku)
    listed: dict[str, Any] | None = None
    facts: dict[str, Any] = {"sku": sku, "day": day, "note": None}
    try:
        listing = kept.read(LISTING, day)
        by_id = _row(listing, "fourseller_product_id", (shop or {}).get("fourseller_product_id"))
        listed = by_id or _row(listing, "sku", sku)
        facts["read_at"] = _moment(kept.facts(LISTING, day)["read_at"])
    except NoSnapshot as missing:
        facts["note"] = str(missing)
    if shop is None and listed is None:
        raise NotThatDay(
            f"Neither the shop nor 4Seller had the SKU {sku} on {day:%Y-%m-%d}: check the spelling."
        )
    facts |= {"shop": shop, "listed": listed, "taken_at": _moment(kept.facts(CATALOG, day)["taken_at"])}
    return facts | {"because": _because(database, shop, day) if shop is not None else []}


def _row(frame: pd.DataFrame, column: str, value: object) -> dict[str, Any] | None:
    found = frame[frame[column] == value].head(1).astype(object)
    rows = found.where(found.notna(), None).to_dict("records")
    return {str(name): cell for name, cell in rows[0].items()} if rows and value is not None else None


def _because(database: Database, shop: dict[str, Any], day: date) -> list[str]:
    """The last rows of the ledger up to that day's end, and the day's own rules and conflicts."""
    start = datetime.combine(day, time(), UTC)
    span = Span(start, start + timedelta(days=1))
    variant = shop["variant_id"]
    key = (int(shop["product_id"]), None if variant is None else int(variant))
    with database.reading() as connection:
        ledger = [ledger_line(row) for row in ledger_rows(connection, key, None, span.end, most=LEDGER_ROWS)]
        others = causes(connection, *key, int(shop["mapping_id"]), span)
    return [*ledger, *(line for line in others if line not in ledger)]


def lines_at(facts: dict[str, Any]) -> list[str]:
    """The facts as lines of text, from what 4Seller showed down to the cause."""
    shop, listed = facts["shop"], facts["listed"]
    lines = [facts["note"]] if facts["note"] else []
    if listed is not None:
        what = "no readable price of it"
        if listed["price"] is not None:
            quantity = _plain(listed["quantity"])
            count = "an unknown quantity" if quantity is None else quantity
            what = f"{count} at {listed['price']:.2f} USD, “{listed['title']}” ({listed['status']})"
        product = f"(product {listed[KEY]})"
        lines.append(f"4Seller showed {what}, read {facts['read_at']:%Y-%m-%d %H:%M:%S} UTC {product}")
    elif not facts["note"]:
        lines.append(f"4Seller did not show it, read {facts['read_at']:%Y-%m-%d %H:%M:%S} UTC")
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
    database: Database,
    kept: Snapshots,
    start: date,
    end: date,
    *,
    skus: Collection[str] = (),
    most: int = 50,
) -> Diff:
    """Compares the listings of two days.

    Args:
        database: the shop's, for the causes.
        kept: the snapshots.
        start, end: the days.
        skus: only these; all otherwise.
        most: how many products are returned with their causes.

    Raises:
        NoSnapshot: one of the days has no listing; names the nearest days that have one.
    """
    before, after = (kept.read(LISTING, day, [KEY, *SHOWN]).set_index(KEY) for day in (start, end))
    facts = [kept.facts(LISTING, day) for day in (start, end)]
    span = Span(_moment(facts[0]["read_at"]), _moment(facts[1]["read_at"]), facts[1]["run_id"])
    shop_before, shop_after = (_shop(kept, day) for day in (start, end))
    ids = differing(before, after)
    if skus:
        frames = (before, after, shop_before, shop_after)
        named = {key for frame in frames for key in frame.index[frame["sku"].isin(list(skus))]}
        ids = ids.intersection(sorted(named))
    found = []
    with database.reading() as connection:
        for product_id in ids[:most]:
            one = _changed(str(product_id), before, after)
            known = [shop.loc[[product_id]] for shop in (shop_after, shop_before) if product_id in shop.index]
            if known:
                item = known[0].iloc[0]
                one.why.extend(_shop_changes(known))
                found_causes = causes(
                    connection,
                    int(item.product_id),
                    _plain(item.variant_id),
                    int(item.mapping_id),
                    span,
                    stock="quantity" in one.fields,
                )
                one.why.extend(found_causes)
            if not one.why:
                one.why.append("Nothing of ours explains it: somebody changed it on 4Seller.")
            found.append(one)
    return Diff(span.start, span.end, len(ids), found)


def differing(before: pd.DataFrame, after: pd.DataFrame) -> pd.Index[Any]:
    """The products that only one of the two listings has, or that differ in a field; by their ids, sorted. Pure."""
    both = before.index.intersection(after.index)
    old, new = before.loc[both, list(FIELDS)], after.loc[both, list(FIELDS)]
    same = (old == new) | (old.isna() & new.isna())
    hidden = old["content"].isna() | new["content"].isna()  # not shown is no change
    same["content"] |= hidden
    only_one = before.index.symmetric_difference(after.index)
    return both[~same.all(axis=1)].union(only_one).sort_values()


def _changed(product_id: str, before: pd.DataFrame, after: pd.DataFrame) -> Changed:
    old, new = (
        {name: _plain(value) for name, value in frame.loc[product_id].items()}
        if product_id in frame.index
        else {}
        for frame in (before, after)
    )
    names = FIELDS if old and new else ("price", "quantity")
    moved = {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}
    if "content" in moved:
        hidden = None in moved.pop("content")
        if not hidden and "title" not in moved:
            moved["content"] = ("one text", "another")
    what = "changed" if old and new else "added" if new else "removed"
    return Changed(str(new.get("sku") or old.get("sku") or ""), product_id, what, moved)


def _shop_changes(known: list[pd.DataFrame]) -> list[str]:
    """What the shop itself says otherwise, by its own two snapshots, the newer one first."""
    if len(known) == 1:
        return []
    new, old = (frame.iloc[0] for frame in known)
    names = {"price": "price", "title": "title", "on_hand": "stock"}
    return [
        f"the shop's {word} went from {_plain(old[name])} to {_plain(new[name])}"
        for name, word in names.items()
        if _plain(old[name]) != _plain(new[name])
    ]


def _shop(kept: Snapshots, day: date) -> pd.DataFrame:
    """The shop's side of the listed items that day; empty where no snapshot is kept."""
    import pandas as pd

    try:
        frame = kept.read(CATALOG, day, SHOP)
    except NoSnapshot:
        frame = pd.DataFrame(columns=SHOP)
    return frame.dropna(subset=[KEY]).drop_duplicates(KEY).set_index(KEY)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _plain(value: Any) -> Any:
    """A cell without pandas: None where it is missing, whole numbers as such, amounts without needless zeros."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if hasattr(value, "as_tuple"):
        return f"{value:.2f}" if value == round(value, 2) else f"{value:f}"
    return value.item() if hasattr(value, "item") else value
