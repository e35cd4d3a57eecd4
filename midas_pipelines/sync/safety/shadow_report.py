"""The shadow report: where what shadow mode kept back differs from what 4Seller and the shop show by now."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import NotFound
from midas_pipelines.fourseller.models import Order, Product
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.operations.shadow import newest_shadow_writes
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import shown_quantity
from midas_pipelines.sync.threads import in_thread
from midas_pipelines.text import folded

ALERT = "shadow_report"
MOST_ORDERS = 200
"""Orders that are asked for one by one."""


@dataclass
class ShadowReport:
    """How many of the kept writes agree with what is there by now, and those that differ."""

    kept: int = 0
    agree: int = 0
    differ: list[dict[str, str]] = field(default_factory=list)

    @property
    def words(self) -> str:
        """A sentence for staff."""
        first = "; ".join(
            f"{one['subject']}: {one['ours']}, but there is {one['theirs']}" for one in self.differ[:10]
        )
        return (
            f"Shadow mode kept back {self.kept} writes: {self.agree} agree with what is there by now, {len(self.differ)} "
            f"differ. {first}{'. ' if first else ''}`midas shadow` shows all."
        )


async def compare_shadow(context: SyncContext, *, tell: bool = False) -> ShadowReport:
    """Compares each kept write with what 4Seller, or the shop, shows now; `tell` also sends the report to staff.

    Raises FourSellerError where 4Seller cannot be read.
    """
    rows = await in_thread(_read, context)
    report = ShadowReport(kept=len(rows))
    if rows:
        async with context.channel() as client:
            await _compare(context, client, rows, report)
    if tell and rows:
        await in_thread(_tell, context, report)
    return report


def _read(context: SyncContext) -> list[dict[str, Any]]:
    with context.database.reading() as connection:
        return newest_shadow_writes(connection)


async def _compare(
    context: SyncContext, client: FourSeller, rows: list[dict[str, Any]], report: ShadowReport
) -> None:
    products: dict[str, Product] = {}
    if any(row["kind"] in ("listing", "quantity") for row in rows):
        for product in (await client.listing()).products:
            products |= {product.id: product, folded(product.sku or ""): product}
    asked = 0
    for row in rows:
        if row["kind"] == "order":
            theirs = await in_thread(_shop_order, context, row["subject"])
            _note(report, row, "it would be imported", theirs, same=theirs != NOT_IMPORTED)
        elif row["kind"] == "status" and asked < MOST_ORDERS:
            asked += 1
            wanted = str(row["content"].get("status"))
            shown = await _status(client, row["subject"])
            _note(report, row, wanted, shown, same=shown == wanted)
        elif row["kind"] in ("listing", "quantity"):
            found = products.get(row["subject"]) or products.get(folded(row["subject"]))
            _note_listing(report, row, found)


def _note_listing(report: ShadowReport, row: dict[str, Any], product: Product | None) -> None:
    content = row["content"] or {}
    if row["call"] in ("delete", "DELETE /products/{id}"):
        _note(
            report, row, "no listing", "no listing" if product is None else "a listing", same=product is None
        )
        return
    if product is None:
        _note(report, row, "a listing", "no listing", same=False)
        return
    ours: dict[str, object] = {
        "quantity": content.get("quantity", (content.get("inventory") or {}).get("quantity"))
    }
    theirs: dict[str, object] = {"quantity": shown_quantity(product)}
    if row["kind"] == "listing":
        ours |= {"price": Decimal(str(content["price"])), "title": content.get("title")}
        theirs |= {"price": product.price, "title": product.title}
    names = [name for name in ours if ours[name] != theirs[name]]
    said = [", ".join(f"{name} {side[name]}" for name in names) for side in (ours, theirs)]
    _note(report, row, said[0], said[1], same=not names)


async def _status(client: FourSeller, order_id: str) -> str:
    try:
        order: Order = await client.order(order_id)
    except NotFound:
        return "no order"
    return order.state.status.value


NOT_IMPORTED = "no order in the shop"


def _shop_order(context: SyncContext, order_id: str) -> str:
    """Whether another connector, or a person, made an order of the shop that names the marketplace's."""
    named = sa.or_(orders.c.order_number.contains(order_id), orders.c.notes.contains(order_id))
    with context.database.reading() as connection:
        found = connection.scalar(sa.select(orders.c.id).where(named).limit(1))
    return NOT_IMPORTED if found is None else f"order {found} of the shop"


def _note(report: ShadowReport, row: dict[str, Any], ours: str, theirs: str, *, same: bool) -> None:
    if same:
        report.agree += 1
        return
    when = f"{row['last_at']:%Y-%m-%d %H:%M}"
    report.differ.append(
        {"kind": row["kind"], "subject": row["subject"], "ours": ours, "theirs": theirs, "when": when}
    )


def _tell(context: SyncContext, report: ShadowReport) -> None:
    with context.database.writing() as connection:
        day = f"{context.database.now():%Y-%m-%d}"
        raise_alert(connection, kind=ALERT, subject=day, text=report.words)
