"""Reading back what 4Seller really shows, and holding it against what the shop says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa

from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.database import Database
from midas_pipelines.store.tables import mappings
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.listing import content_hash
from midas_pipelines.sync.plan import Change
from midas_pipelines.sync.record import recorded
from midas_pipelines.sync.scan import CHUNK, chunks
from midas_pipelines.sync.tally import PREVIEW


@dataclass
class ObservationReport:
    """What a read-back saw. `consistency` is the share of sellable items that 4Seller shows as the shop has them."""

    scanned: int = 0
    listed: int = 0  # products that 4Seller has, ours or not
    equal: int = 0
    changing: int = 0  # changed in the shop and not pushed yet; no discrepancy
    discrepancies: int = 0
    differing: dict[str, int] = field(default_factory=dict)  # items by the field that differs
    unknown: int = 0  # on 4Seller under no item's name
    consistency: float = 1.0
    complete: bool = True
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    worst: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One field of one item that 4Seller shows otherwise than the shop says."""

    sku: str
    field: str  # listing|price|quantity|content
    shop: str
    fourseller: str

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.field == "listing":
            return "Run a full sync; see `midas status` when it stays missing."
        return "Somebody changed it on 4Seller, or a push is overdue: a full sync sets it right."


async def observe(engine: Engine) -> ObservationReport:
    """Reads every listing page by page, writes the observed columns of the mappings, and compares.

    Raises:
        FourSellerError: a page could not be read.
    """
    report = ObservationReport()
    with recorded(engine, "observe", "all", report) as clock:
        async with engine.channel() as client:
            clock.client = client
            read_at = datetime.now(UTC)
            listing = await client.listing()
        report.listed, report.complete = len(listing.products), listing.complete
        write_observed(engine.database, listing.products, read_at, complete=listing.complete)
        _compare(engine, listing.products, report)
    return report


def write_observed(database: Database, products: list[Product], read_at: datetime, *, complete: bool) -> None:
    """Notes on each mapping what 4Seller showed at `read_at`; an incomplete read clears nothing."""
    table = mappings.c
    shown = {product.id: product for product in products}
    after = 0
    while True:
        with database.writing() as connection:
            query = sa.select(table.id, table.fourseller_product_id).where(
                table.id > after, table.fourseller_product_id.is_not(None)
            )
            rows = connection.execute(
                query.order_by(table.id).limit(CHUNK).with_for_update(skip_locked=True)
            ).all()
            values = [
                {"row": row.id, **_observed(shown.get(row.fourseller_product_id)), "at": read_at}
                for row in rows
                if complete or row.fourseller_product_id in shown
            ]
            if values:
                connection.execute(_WRITE_OBSERVED, values)
        if not rows:
            return
        after = rows[-1].id


_WRITE_OBSERVED = (
    sa.update(mappings)
    .where(mappings.c.id == sa.bindparam("row"))
    .values(
        observed_hash=sa.bindparam("hash"),
        observed_price=sa.bindparam("price"),
        observed_quantity=sa.bindparam("quantity"),
        observed_at=sa.bindparam("at"),
    )
)


def _observed(product: Product | None) -> dict[str, object]:
    if product is None:
        return {"hash": None, "price": None, "quantity": None}
    quantity = product.inventory.quantity if product.inventory is not None else None
    return {"hash": content_hash(product), "price": product.price, "quantity": quantity}


def _compare(engine: Engine, products: list[Product], report: ObservationReport) -> None:
    shown = {product.id: product for product in products}
    ours: set[str] = set()
    for changes in chunks(engine.database, title_limit=engine.settings.title_limit):
        for change in changes:
            product_id = change.mapping.fourseller_product_id
            if product_id is not None:
                ours.add(product_id)
            if change.draft is None:
                continue
            report.scanned += 1
            found = differences(change, shown.get(product_id or ""), complete=report.complete)
            if not found:
                report.equal += 1
            elif change.mapping.dirty:
                report.changing += 1
            else:
                report.discrepancies += 1
                for one in found:
                    report.differing[one.field] = report.differing.get(one.field, 0) + 1
                report.worst += [_row(one) for one in found][: PREVIEW - len(report.worst)]
    report.unknown = len(shown.keys() - ours)
    settled = report.equal + report.discrepancies
    report.consistency = round(report.equal / settled, 6) if settled else 1.0


def differences(change: Change, product: Product | None, *, complete: bool = True) -> list[Discrepancy]:
    """What 4Seller shows otherwise than the shop; an item missing from an incomplete read differs in nothing."""
    draft = change.draft
    assert draft is not None
    if product is None:
        return [Discrepancy(draft.sku, "listing", "listed", "missing")] if complete else []
    found = []
    quantity = product.inventory.quantity if product.inventory is not None else None
    if product.price is None or Decimal(product.price) != draft.price:
        found.append(Discrepancy(draft.sku, "price", str(draft.price), str(product.price)))
    if quantity != change.quantity:
        found.append(Discrepancy(draft.sku, "quantity", str(change.quantity), str(quantity)))
    if not found and content_hash(product) != change.content_hash:
        found.append(
            Discrepancy(draft.sku, "content", "as in the shop", "different words, pictures or measures")
        )
    return found


def _row(one: Discrepancy) -> dict[str, str]:
    return {"sku": one.sku, "field": one.field, "shop": one.shop, "4Seller": one.fourseller, "hint": one.hint}
