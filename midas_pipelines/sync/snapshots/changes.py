"""`midas diff`: what changed on 4Seller between two days, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from midas_pipelines.store.database import Database
from midas_pipelines.sync.snapshots.causes import Span, causes
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, NoSnapshot, Snapshots

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ["sku", "title", "price", "quantity", "status", "content"]
FIELDS = ("price", "quantity", "status", "title", "content")
SHOP = ["fourseller_product_id", "sku", "product_id", "variant_id", "mapping_id", "title", "price", "on_hand"]
KEY = "fourseller_product_id"


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
        named = [_ids_of(frame, skus) for frame in (before, after, shop_before, shop_after)]
        ids = ids.intersection(named[0].union(named[1]).union(named[2]).union(named[3]))
    found = []
    with database.reading() as connection:
        for product_id in ids[:most]:
            one = _changed(str(product_id), before, after)
            known = [shop.loc[[product_id]] for shop in (shop_after, shop_before) if product_id in shop.index]
            if known:
                item = known[0].iloc[0]
                variant = _plain(item.variant_id)
                one.why.extend(_shop_changes(known))
                one.why.extend(causes(connection, int(item.product_id), variant, int(item.mapping_id), span))
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
        frame.loc[product_id].to_dict() if product_id in frame.index else None for frame in (before, after)
    )
    if old is None or new is None:
        row = new if old is None else old
        assert row is not None
        fields = {name: _plain(row[name]) for name in ("price", "quantity")}
        pairs: dict[str, tuple[Any, Any]]
        pairs = {name: (None, value) if old is None else (value, None) for name, value in fields.items()}
        return Changed(str(row["sku"] or ""), product_id, "added" if old is None else "removed", pairs)
    pairs = {name: (_plain(old[name]), _plain(new[name])) for name in FIELDS}
    moved = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if "content" in moved:
        moved["content"] = ("one text", "another")
        if None in pairs["content"] or "title" in moved:
            del moved["content"]
    return Changed(str(new["sku"] or old["sku"] or ""), product_id, "changed", moved)


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


def _ids_of(frame: pd.DataFrame, skus: Collection[str]) -> pd.Index[Any]:
    return frame.index[frame["sku"].isin(list(skus))]


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
