"""The first connection: a preview of what the first sync would change, and the matches that a person confirms."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import CHANGED, CHUNK, COLUMNS, Mapping
from midas_pipelines.store.operations.cursors import note_connected
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.sync.connect.match import Match, Sought, match_listings
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.listings.adopt import kept_by_policy
from midas_pipelines.sync.listings.diff import filled, shown_quantity
from midas_pipelines.sync.listings.plan import Action, Change, Planner, content
from midas_pipelines.sync.listings.scan import chunks
from midas_pipelines.sync.product_sync import mapping_ids
from midas_pipelines.sync.threads import in_thread

FORMULA = ("=", "+", "-", "@")
SURE = ("sku", "spelling", "barcode")
"""The ways of matching that `midas connect accept` takes without a person's word on each."""


@dataclass(frozen=True)
class PreviewRow:
    """One line of the preview and of its CSV. Money is USD; `worst` sorts: the larger, the more a buyer would notice."""

    result: str  # sku|spelling|barcode|title|tied|only here|only there|doubled|unlistable
    sku: str
    listing_id: str = ""
    listing_sku: str = ""
    title: str = ""
    listing_title: str = ""
    score: float = 0.0
    price: str = ""
    quantity: str = ""
    content: str = ""
    note: str = ""
    worst: float = 0.0


def write_csv(rows: Sequence[PreviewRow], path: Path) -> None:
    """Writes all rows, to be corrected and read again; what a spreadsheet would take for a formula begins with an
    apostrophe. Raises WrongInput where the file cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(one.name for one in fields(PreviewRow))
            for row in rows:
                writer.writerow(f"'{one}" if str(one).startswith(FORMULA) else one for one in astuple(row))
    except OSError as failed:
        raise WrongInput(f"The report cannot be written to {path}: {failed.strerror}.") from None


async def make_preview(context: SyncContext) -> list[PreviewRow]:
    """Reads the shop and every listing, and matches them. Raises ChannelDown where the list is not whole."""
    async with context.channel() as client:
        listing = await client.listing()
    if not listing.complete:
        raise ChannelDown(f"4Seller's list is not complete: {listing.reason}. Try again later.")
    products, limit = list(listing.products), context.settings.title_limit
    return await in_thread(build_preview, context.database, products, limit)


def build_preview(database: Database, products: list[Product], title_limit: int) -> list[PreviewRow]:
    """The preview of these listings, the worst change first; reads the database and nothing else."""
    wanted: dict[int, Change] = {}
    unlistable: list[PreviewRow] = []
    for change in chain.from_iterable(chunks(database, title_limit=title_limit)):
        if change.action is Action.QUARANTINED:
            sku = change.shop_sku or change.sku or ""
            unlistable.append(PreviewRow("unlistable", sku, note=change.reason or ""))
        elif change.draft is not None:
            wanted[change.mapping.id] = change
    tied = {change.mapping.fourseller_product_id: change for change in wanted.values()}
    free = [product for product in products if product.id not in tied]
    items = [_sought(change) for change in wanted.values() if change.mapping.fourseller_product_id is None]
    matched = match_listings(items, free)
    pairs = [Match(_sought(tied[one.id]), one, "tied") for one in products if one.id in tied]
    rows = [_pair_row(one, wanted[one.item.mapping_id]) for one in (*matched.pairs, *pairs)]
    rows.sort(key=lambda row: -row.worst)
    only_here = "It would be listed."
    rows += [PreviewRow("only here", one.sku, title=one.title, note=only_here) for one in matched.only_here]
    twice = "Another listing has its SKU: delete one at 4Seller, or match one of them."
    for result, found, note in (
        ("only there", matched.only_there, "It stays as it is."),
        ("doubled", matched.doubled, twice),
    ):
        for one in found:
            shown = (one.title or "")[:200]
            rows.append(PreviewRow(result, "", one.id, one.sku or "", listing_title=shown, note=note))
    return rows + unlistable


def _sought(change: Change) -> Sought:
    assert change.draft is not None
    return Sought(change.mapping.id, change.draft.sku, change.draft.title)


def _pair_row(pair: Match, change: Change) -> PreviewRow:
    """What the first sync would change in a listing; what a policy keeps is no change."""
    draft, product = change.draft, pair.product
    assert draft is not None
    kept = sorted(change.protected_fields & {"price", "content"})
    price, moved = _moved(product.price, None if "price" in kept else draft.price)
    quantity, fallen = _moved(shown_quantity(product), change.quantity)
    old, new = content(filled(product, draft)), content(draft)
    names = sorted({*old, *new} - {"price"})
    differing = [name for name in names if str(old.get(name)) != str(new.get(name))]
    note = f"The listing's {' and '.join(kept)} is kept by policy." if kept else ""
    return PreviewRow(
        pair.how,
        draft.sku,
        listing_id=product.id,
        listing_sku=product.sku or "",
        title=draft.title,
        listing_title=(product.title or "")[:200],
        score=pair.score,
        price=price,
        quantity=quantity,
        content="" if "content" in kept else ", ".join(differing),
        note="A person has to confirm it." if pair.how == "title" else note,
        worst=round(moved * 100 + (50 if quantity and not change.quantity else min(fallen, 1) * 10), 2),
    )


def _moved(shown: Decimal | int | None, wanted: Decimal | int | None) -> tuple[str, float]:
    """The change as `old -> new`, and its size as a share of the old value; nothing where they agree."""
    if wanted is None or shown == wanted:
        return "", 0.0
    if shown is None:
        return f"unknown -> {wanted}", 0.0
    share = abs(Decimal(wanted) - Decimal(shown)) / max(abs(Decimal(shown)), Decimal(1))
    return f"{shown} -> {wanted}", float(share)


Pair = tuple[str, str]  # A SKU of the shop, and the id of a listing


async def confirm_matches(context: SyncContext, pairs: Sequence[Pair], *, accept: bool) -> int:
    """Ties each item to its listing; returns how many were tied. Writes nothing to 4Seller.

    With `accept` the first sync may run from now on. Nothing is changed where it raises: WrongInput where a SKU or a
    listing does not exist, or one of them is tied already or named twice; FourSellerError where the listings cannot be read.
    """
    products: dict[str, Product] = {}
    if pairs:
        async with context.channel() as client:
            one = [await client.product(pairs[0][1])] if len(pairs) == 1 else None
            products = {product.id: product for product in one or (await client.listing()).products}
    return await in_thread(_tie_all, context, pairs, products, accept)


def _tie_all(context: SyncContext, pairs: Sequence[Pair], products: dict[str, Product], accept: bool) -> int:
    for place, what in enumerate(("SKU", "listing")):
        for name, times in Counter(pair[place] for pair in pairs).most_common(1):
            if times > 1:
                raise WrongInput(f"The {what} {name} is matched twice: keep one. Nothing was changed.")
    parts = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    ids = [mapping_ids(context, [sku for sku, _ in part]) for part in parts]
    with context.database.writing() as connection:
        found = zip(parts, ids, strict=True)
        tied = sum(_tie(connection, context.settings.title_limit, *one, products) for one in found)
        if accept:
            note_connected(connection)
    return tied


def _tie(
    connection: sa.Connection,
    title_limit: int,
    pairs: Sequence[Pair],
    ids: list[int],
    products: dict[str, Product],
) -> int:
    rows = [Mapping(*row) for row in connection.execute(sa.select(*COLUMNS).where(mappings.c.id.in_(ids)))]
    planner = Planner(connection, [row.key for row in rows], title_limit)
    by_sku: dict[str | None, list[Mapping]] = defaultdict(list)
    for row in rows:
        by_sku[item.sku if (item := planner.item(row)) is not None else row.sku].append(row)
    product_id = mappings.c.fourseller_product_id
    named = sa.select(product_id, mappings.c.sku).where(product_id.in_([listing for _, listing in pairs]))
    taken = dict(connection.execute(named).tuples().all())
    new = []
    for sku, listing in pairs:
        if listing not in products:
            raise WrongInput(f"4Seller has no listing {listing}: see the ids in `midas connect`.")
        if len(found := by_sku[sku]) != 1:
            raise WrongInput(f"{len(found)} items of the shop have the SKU {sku}: give each one of its own.")
        (row,) = found
        if row.fourseller_product_id == listing:
            continue
        if row.fourseller_product_id is not None or listing in taken:
            tied = f"{taken.get(listing) or sku} is tied to {row.fourseller_product_id or listing} already."
            raise WrongInput(f"{tied} Nothing was changed.")
        pins = kept_by_policy(planner.plan(row), products[listing])
        new.append({"row": row.id, "new_listing": listing, "new_sku": sku, "new_pins": pins})
    if new:
        given: dict[str, Any] = {
            "fourseller_product_id": sa.bindparam("new_listing"),
            "sku": sa.bindparam("new_sku"),
            "pinned_fields": sa.bindparam("new_pins"),
        }
        values = given | {"creating_since": None, "next_attempt_at": None} | CHANGED
        tying = sa.update(mappings).where(mappings.c.id == sa.bindparam("row")).values(values)
        connection.execute(tying, new)
    return len(new)


def read_pairs(path: Path, results: Sequence[str]) -> list[Pair]:
    """The pairs of a CSV with the columns sku and listing_id: of the preview, the rows with these results. Raises
    WrongInput for a file that cannot be read, or lacks a column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"sku", "listing_id"} <= set(reader.fieldnames or ()):
                raise WrongInput(f"{path.name} has no columns sku and listing_id.")
            rows = [row for row in reader if (row.get("result") or "") in ("", *results)]
    except (OSError, UnicodeDecodeError, csv.Error) as failed:
        raise WrongInput(f"{path.name} cannot be read as CSV: {type(failed).__name__}.") from None
    cells = [((row["sku"] or "").strip(), (row["listing_id"] or "").strip()) for row in rows]
    return [(sku.removeprefix("'"), listing.removeprefix("'")) for sku, listing in cells if sku and listing]
