"""The match preview: both sides read, nothing written; what the first sync would change, the worst first."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from pathlib import Path

from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.database import Database
from midas_pipelines.sync.connect.match import Match, Matched, Sought, match_listings
from midas_pipelines.sync.context import ChannelDown, SyncContext
from midas_pipelines.sync.listings.content import content
from midas_pipelines.sync.listings.diff import filled, shown_quantity
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.listings.scan import chunks
from midas_pipelines.sync.threads import in_thread

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


@dataclass
class Preview:
    """All rows, the worst change first."""

    rows: list[PreviewRow] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many rows each result has."""
        counted: dict[str, int] = {}
        for row in self.rows:
            counted[row.result] = counted.get(row.result, 0) + 1
        return counted

    def write_csv(self, path: Path) -> None:
        """Writes it as CSV, to be corrected and read again by `midas connect accept --csv`."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [one.name for one in fields(PreviewRow)])
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in asdict(row).items()} for row in self.rows)


def _cell(value: object) -> object:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


async def make_preview(context: SyncContext) -> Preview:
    """Reads the shop and every listing, and matches them.

    Raises:
        ChannelDown: the list could not be read whole.
        FourSellerError: it could not be read.
    """
    async with context.channel() as client:
        listing = await client.listing()
    if not listing.complete:
        raise ChannelDown(f"4Seller's list is not complete: {listing.reason}. Try again later.")
    return await in_thread(
        build_preview, context.database, list(listing.products), context.settings.title_limit
    )


def build_preview(database: Database, products: list[Product], title_limit: int) -> Preview:
    """The preview of these listings; reads the database and nothing else."""
    wanted: dict[int, Change] = {}
    unlistable: list[PreviewRow] = []
    for part in chunks(database, title_limit=title_limit):
        for change in part:
            if change.action is Action.QUARANTINED:
                row = PreviewRow("unlistable", change.shop_sku or change.sku or "", note=change.reason or "")
                unlistable.append(row)
            elif change.draft is not None:
                wanted[change.mapping.id] = change
    tied = {
        one.mapping.fourseller_product_id: one for one in wanted.values() if one.mapping.fourseller_product_id
    }
    free = [product for product in products if product.id not in tied]
    items = [_sought(change) for change in wanted.values() if change.mapping.fourseller_product_id is None]
    matched = match_listings(items, free)
    pairs = [*matched.pairs, *_tied_pairs(products, tied)]
    rows = [_pair_row(one, wanted[one.item.mapping_id]) for one in pairs]
    return Preview(sorted(rows, key=lambda row: -row.worst) + _unmatched(matched) + unlistable)


def _sought(change: Change) -> Sought:
    assert change.draft is not None
    return Sought(change.mapping.id, change.draft.sku, change.draft.title)


def _tied_pairs(products: Iterable[Product], tied: dict[str, Change]) -> list[Match]:
    return [Match(_sought(tied[one.id]), one, "tied") for one in products if one.id in tied]


def _unmatched(matched: Matched) -> list[PreviewRow]:
    here = [
        PreviewRow("only here", one.sku, title=one.title, note="It would be listed.")
        for one in matched.only_here
    ]
    there = [_listing_row("only there", one, "It stays as it is.") for one in matched.only_there]
    note = "Another listing has its SKU: delete one at 4Seller, or match one of them."
    return here + there + [_listing_row("doubled", one, note) for one in matched.doubled]


def _listing_row(result: str, product: Product, note: str) -> PreviewRow:
    return PreviewRow(
        result,
        sku="",
        listing_id=product.id,
        listing_sku=product.sku or "",
        listing_title=(product.title or "")[:200],
        note=note,
    )


def _pair_row(pair: Match, change: Change) -> PreviewRow:
    """What the first sync would change in a listing; what a policy keeps is no change."""
    draft, product = change.draft, pair.product
    assert draft is not None
    kept = change.guarded & {"price", "content"}
    price, moved = _moved(product.price, None if "price" in kept else draft.price)
    quantity, fallen = _moved(shown_quantity(product), change.quantity)
    shown = content(filled(product, draft))
    new = content(draft)
    differing = sorted(
        name for name in {*shown, *new} - {"price"} if str(shown.get(name)) != str(new.get(name))
    )
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
        note="A person has to confirm it." if pair.how == "title" else _kept_note(kept),
        worst=round(moved * 100 + (50 if quantity and not change.quantity else min(fallen, 1) * 10), 2),
    )


def _kept_note(kept: frozenset[str]) -> str:
    return f"The listing's {' and '.join(sorted(kept))} is kept by policy." if kept else ""


def _moved(shown: Decimal | int | None, wanted: Decimal | int | None) -> tuple[str, float]:
    """The change as `old -> new`, and its size as a share of the old value; nothing where they agree."""
    if wanted is None or shown == wanted:
        return "", 0.0
    if shown is None:
        return f"unknown -> {wanted}", 0.0
    return f"{shown} -> {wanted}", float(
        abs(Decimal(wanted) - Decimal(shown)) / max(abs(Decimal(shown)), Decimal(1))
    )
