"""The consistency figure: the newest two snapshots, merged and compared column by column (`compare` is pure)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.snapshots.files import CATALOG, LISTING, Snapshots, plain

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CATALOG_COLUMNS = [
    *("sku", "title", "mapping_id", "fourseller_product_id", "expected_price", "expected_quantity"),
    *("expected_content", "accepted_content", "is_waiting", "acked_at"),
]
LISTING_COLUMNS = ["fourseller_product_id", "price", "quantity", "content", "updated_at"]
FIELDS = ("listing", "price", "quantity", "content")
"""What an item may differ in, the worst first: a listing that is not there has no other difference."""

MOST_EXAMPLES = 1000


@dataclass(frozen=True)
class Consistency:
    """What comparing two snapshots shows.

    `share` is that of the items shown as they should be, of those that could be judged; None where there are none.
    `counterexamples` has a row for each item that differs, of snapshots the first of them: the names of the fields, and what
    both sides say.
    """

    items: int
    equal: int
    changing: int  # on their way to 4Seller when the snapshots were taken
    differing: int
    counterexamples: pd.DataFrame
    unjudged: str | None = None  # why nothing can be concluded, in words

    @property
    def share(self) -> float | None:
        """The consistency, from 0 to 1."""
        judged = self.items - self.changing
        return round(self.equal / judged, 6) if judged else None


def compare(
    catalog: pd.DataFrame,
    listing: pd.DataFrame,
    *,
    known_until: datetime,
    read_at: datetime,
    quantities_until: datetime,
) -> Consistency:
    """Compares what the shop says with what 4Seller shows, item by item.

    Args:
        catalog: a catalog snapshot, with CATALOG_COLUMNS at least.
        listing: a listing snapshot, with LISTING_COLUMNS at least.
        known_until: what 4Seller dates later may be a sale that was not imported when the catalog was read.
        read_at: when reading the listing began; what was confirmed later is not in it.
        quantities_until: a quantity confirmed later may still be shown as it was.
    """
    expected = catalog[catalog["expected_price"].notna()]
    both = expected.merge(listing[LISTING_COLUMNS], on="fourseller_product_id", how="left", indicator="found")
    is_listed = both["found"] == "both"
    differs = {
        "listing": ~is_listed,
        "price": is_listed & (both["price"] != both["expected_price"]),
        "quantity": is_listed & (both["quantity"] != both["expected_quantity"]),
        "content": is_listed
        & both["content"].notna()
        & (both["content"] != both["expected_content"])
        & (both["content"] != both["accepted_content"]),
    }
    others = differs["listing"] | differs["price"] | differs["content"]
    is_equal = ~(others | differs["quantity"])
    by_others = ~(both["updated_at"] <= both["acked_at"])  # a push of ours dates the product too
    is_changing = both["is_waiting"] | (both["acked_at"] > read_at)
    may_be_sold = by_others & (both["updated_at"] > known_until)
    is_changing |= ~others & (may_be_sold | (both["acked_at"] > quantities_until))  # of a quantity alone
    wrong = ~is_equal & ~is_changing
    fields = both[[]].assign(**differs)[wrong].to_dict("records")
    counterexamples = both[wrong].assign(fields=[", ".join(n for n in FIELDS if row[n]) for row in fields])
    changing = int((~is_equal & is_changing).sum())
    return Consistency(len(both), int(is_equal.sum()), changing, len(counterexamples), counterexamples)


def measure(context: SyncContext) -> Consistency:
    """Compares the newest snapshots, by the moments that they hold themselves, so that a notebook finds the same.
    Raises NoSnapshot where one of the two was never made."""
    kept = Snapshots.of(context.settings)
    days = {kind: (kept.days(kind) or [context.settings.today()])[-1] for kind in (CATALOG, LISTING)}
    facts, listed = kept.facts(CATALOG, days[CATALOG]), kept.facts(LISTING, days[LISTING])
    shown = _Shown(kept.batches(LISTING, days[LISTING], LISTING_COLUMNS))
    parts = (
        compare(
            catalog,
            shown.among(catalog["fourseller_product_id"]),
            known_until=datetime.fromisoformat(facts["sales_known_until"]),
            read_at=datetime.fromisoformat(listed["read_at"]),
            quantities_until=datetime.fromisoformat(listed["quantities_until"]),
        )
        for catalog in (one.to_pandas() for one in kept.batches(CATALOG, days[CATALOG], CATALOG_COLUMNS))
    )
    found = _together(parts)
    if not listed["counts"]["is_complete"]:
        why = str(listed["reason"]).rstrip(".")
        why = f"4Seller's listings could not be read completely; nothing was concluded. The reason: {why}."
        return replace(found, unjudged=why)
    if found.items and found.share is None:
        why = "Every item is waiting to be pushed, so none could be judged. Run a sync first."
        return replace(found, unjudged=why)
    return found


class _Shown:
    """A listing snapshot on disk, in a private file of SQLite's, found by product: a million rows of a frame take gigabytes."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute(
            "CREATE TABLE shown (id TEXT PRIMARY KEY, price TEXT, quantity, content TEXT, at INTEGER)"
        )
        self._file.execute("BEGIN")
        for frame in (one.to_pandas() for one in batches):
            price = frame["price"].map(str, na_action="ignore")
            at = frame["updated_at"].dt.as_unit("us").astype("int64")  # of no date: the least number
            rows = frame.assign(price=price, updated_at=at)[LISTING_COLUMNS].astype(object)
            cells = rows.where(rows.notna(), None).itertuples(index=False, name=None)
            self._file.executemany("INSERT INTO shown VALUES (?, ?, ?, ?, ?)", cells)

    def among(self, ids: pd.Series[str]) -> pd.DataFrame:
        """The rows of these products."""
        import pandas as pd

        query = "SELECT * FROM shown WHERE id IN (SELECT value FROM json_each(?))"
        found = self._file.execute(query, [json.dumps(list(ids.dropna()))]).fetchall()
        frame = pd.DataFrame(found, columns=LISTING_COLUMNS)
        price = frame["price"].map(Decimal, na_action="ignore")
        at = frame["updated_at"].astype("int64").astype("datetime64[us]").dt.tz_localize("UTC")
        return frame.assign(price=price, updated_at=at)


def _together(parts: Iterable[Consistency]) -> Consistency:
    """The sums of parts of a catalog, with the first examples."""
    import pandas as pd

    items = equal = changing = differing = 0
    examples = list[pd.DataFrame]()
    for part in parts:
        if part.differing and differing < MOST_EXAMPLES:
            examples.append(part.counterexamples)
        items, equal, changing = items + part.items, equal + part.equal, changing + part.changing
        differing += part.differing
    first = pd.concat(examples, ignore_index=True) if examples else pd.DataFrame()
    return Consistency(items, equal, changing, differing, first)


def differences(found: Consistency, most: int) -> list[dict[str, Any]]:
    """The counterexamples as rows for people, each with both sides of the first field that differs."""
    rows = []
    for row in found.counterexamples.head(most).to_dict("records"):
        name = str(row["fields"]).partition(",")[0]
        shop, fourseller = {
            "listing": ("listed", "missing"),
            "price": (row["expected_price"], row["price"]),
            "quantity": (row["expected_quantity"], row["quantity"]),
            "content": ("its text and images", "others"),
        }[name]
        texts = {"sku": row["sku"], "title": row["title"], "field": row["fields"]}
        rows.append({**texts, "shop": plain(shop), "4Seller": plain(fourseller)})
    return rows
