"""The shadow report: where what shadow mode kept back differs from what 4Seller and the shop show by now."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import NotFound
from midas_pipelines.fourseller.models import Product
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.operations.findings import newest_shadow_writes
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.diff import shown_quantity
from midas_pipelines.text import folded

ALERT = "shadow_report"
NOT_IMPORTED = "no order in the shop"
MOST_ORDERS = 200  # orders that are asked for one by one


@dataclass
class ShadowReport:
    """How many of the kept writes agree with what is there by now, and those that differ."""

    kept: int = 0
    agree: int = 0
    differ: list[dict[str, str]] = field(default_factory=list)

    @property
    def words(self) -> str:
        """A sentence for staff."""
        said = [f"{one['subject']}: {one['ours']}, but there is {one['theirs']}" for one in self.differ[:10]]
        first = f"{'; '.join(said)}. " if said else ""
        return (
            f"Shadow mode kept back {self.kept} writes: {self.agree} agree with what is there by now, {len(self.differ)} "
            f"differ. {first}`midas shadow` shows all."
        )


async def compare_shadow(context: SyncContext, *, report_it: bool = False) -> ShadowReport:
    """Compares each kept write with what is there now; `report_it` also to staff. Raises FourSellerError."""
    rows = newest_shadow_writes(context.database)
    report = ShadowReport(kept=len(rows))
    if not rows:
        return report
    async with context.channel() as client:
        products: dict[str, Product] = {}
        if any(row["kind"] in ("listing", "quantity") for row in rows):
            for product in (await client.listing()).products:
                products |= {product.id: product, folded(product.sku or ""): product}
        statuses = [row["subject"] for row in rows if row["kind"] == "status"][:MOST_ORDERS]
        shown = {order_id: await _status(client, order_id) for order_id in statuses}
    for row in rows:
        subject = row["subject"]
        if row["kind"] == "order":  # another connector, or a person, may have made one that names it
            named = (column.contains(subject) for column in (orders.c.order_number, orders.c.notes))
            found = context.database.scalar(sa.select(orders.c.id).where(sa.or_(*named)).limit(1))
            theirs = NOT_IMPORTED if found is None else f"order {found} of the shop"
            ours = "it would be imported" if theirs == NOT_IMPORTED else theirs
        elif row["kind"] == "status":
            theirs = shown.get(subject, "not asked: there are too many")
            ours = str((row["content"] or {}).get("status") or theirs)  # a shipment alone says no status
        else:
            ours, theirs = _sides(row, products.get(subject) or products.get(folded(subject)))
        report.agree += ours == theirs
        if ours != theirs:
            one = {"kind": row["kind"], "subject": subject, "ours": ours, "theirs": theirs}
            report.differ.append(one | {"when": f"{row['last_at']:%Y-%m-%d %H:%M}"})
    if report_it:
        with context.database.writing() as connection:
            day = context.settings.today().isoformat()
            raise_alert(connection, kind=ALERT, subject=day, text=report.words)
    return report


def _sides(row: dict[str, Any], product: Product | None) -> tuple[str, str]:
    """What we would have written of a listing, and what 4Seller shows; of a listing that is there, what differs."""
    content = row["content"] or {}
    wanted = "no listing" if row["call"] in ("delete", "DELETE /products/{id}") else "a listing"
    if product is None or wanted == "no listing":
        return wanted, "no listing" if product is None else "a listing"
    quantity = content.get("quantity", (content.get("inventory") or {}).get("quantity"))
    pairs: dict[str, tuple[object, object]] = {"quantity": (quantity, shown_quantity(product))}
    if row["kind"] == "listing":
        pairs["price"] = (Decimal(str(content["price"])), product.price)
        pairs["title"] = (content.get("title"), product.title)
    moved = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    ours, theirs = (", ".join(f"{name} {pair[side]}" for name, pair in moved.items()) for side in (0, 1))
    return ours, theirs


async def _status(client: FourSeller, order_id: str) -> str:
    try:
        return (await client.order(order_id)).state.status.value
    except NotFound:
        return "no order"
