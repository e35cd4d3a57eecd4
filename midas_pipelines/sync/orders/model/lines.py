"""The lines of an order: the items they sold, the units they allocate, what is wrong with them or with the order, and what of
them may stay when the buyer is erased."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller import known_words
from midas_pipelines.store.items.mappings import linked_items, respelled_items
from midas_pipelines.store.orders.payload_vault import ERASED, ERASED_PAYLOAD
from midas_pipelines.store.schema.tables import mappings
from midas_pipelines.storefront.catalog import ItemKey, items_by_sku, present_items
from midas_pipelines.storefront.types import to_cents
from midas_pipelines.storefront.writing import Columns, any_of
from midas_pipelines.sync.orders.model.sale import Named, Sale, SaleLine, some_parts

CHANNEL = "fourseller"
IMPERSONAL_PARTS = ("lines", "amounts")
"""The parts of an order whose digests stay when the buyer is erased; one of a name could be guessed."""
SAID = ("sku", "fourseller_product_id", "title", "quantity", "price")
"""What a line of a message and our row of it call the same."""


class OrderException(StrEnum):
    """One of the words in an order's `exception`."""

    UNMAPPED = "unmapped"
    OVERSOLD = "oversold"
    QUANTITY = "quantity"
    TOTAL = "total_mismatch"
    STATUS = "unknown_status"
    CONFLICT = "conflict"
    EDITED = "edited"
    REFUSED = "refused"
    DELETED = "deleted"


SEEN_BY_A_PERSON = frozenset(OrderException) - {"unmapped", "oversold", "conflict"}
"""Exceptions that a person may dismiss; the others end with their cause."""


def sale_exceptions(sale: Sale) -> dict[OrderException, str]:
    """The exceptions of the sale as a whole, each in a sentence."""
    found = {}
    if not sale.adds_up:
        found[OrderException.TOTAL] = (
            f"Lines {sale.lines_total} + shipping {sale.shipping_cost} + tax {sale.tax} - discount {sale.discount} "
            f"is not the total {sale.priced} that the marketplace gave, or that is below 0; the total is kept."
        )
    if sale.takes_stock and not sale.lines:
        found[OrderException.QUANTITY] = "It has no lines, so it took no stock: see it on the marketplace."
    if not sale.known_status:
        said = f"4Seller's status '{sale.status_word}' is not known"
        found[OrderException.STATUS] = f"{said}; the order counts as pending."
    return found


def shortage(line: str, wanted: int, allocated: int) -> str:
    """The sentence for an oversold line."""
    return f"{line}: {wanted} were sold and {allocated} were there; {wanted - allocated} are backordered."


def exception_text(found: Collection[str]) -> str | None:
    """The exceptions as the `exception` column holds them; None without any."""
    return ",".join(sorted(found)) or None


def read_exceptions(exception: str | None) -> set[str]:
    """The exceptions in an `exception` column."""
    return set(filter(None, (exception or "").split(",")))


@dataclass(slots=True)
class SoldLine:
    """A line of a sale being imported: its item, its row ids, the units allocated to it."""

    sale: Sale
    line: SaleLine
    item: ItemKey | None = None
    wanted: int = 0  # units to allocate
    number: int = 0  # our number of the line: the marketplace's at first; it never changes
    row_id: int = 0
    order_item_id: int = 0
    allocated: int = 0
    respelled: bool = False  # its SKU was taken as another spelling of the item's

    def name(self, item: ItemKey | None) -> None:
        """Sets the item that the line sold."""
        self.item = item
        self.wanted = max(0, self.line.quantity) if item is not None and self.sale.takes_stock else 0

    @property
    def backordered(self) -> int:
        """The units sold beyond the stock."""
        return self.wanted - self.allocated

    @property
    def exceptions(self) -> dict[OrderException, str]:
        """The line's exceptions, each in a sentence; none for a sale that takes no stock."""
        if (self.item and not self.backordered and not self.line.needs_review) or not self.sale.takes_stock:
            return {}
        found, named = {}, f"Line {self.number}, {self.line.sku or 'no SKU'}"
        if self.line.needs_review:
            check = f"the quantity is {self.line.quantity}; check the order on the marketplace"
            found[OrderException.QUANTITY] = f"{named}: {check}."
        if self.item is None and self.line.quantity > 0:
            unmapped = "no item of the shop has this SKU; no stock was taken. Map it to an item"
            found[OrderException.UNMAPPED] = f"{named}: {unmapped}."
        elif self.backordered > 0:
            found[OrderException.OVERSOLD] = shortage(named, self.wanted, self.allocated)
        return found


def shop_lines(lines: Sequence[SoldLine], local_ids: Sequence[int]) -> Columns:
    """The shop's rows of the lines, of its orders with these ids."""
    return {
        "id": [line.order_item_id for line in lines],
        "order_id": local_ids,
        **columns_of_items(lines),
        "product_name": [line.line.title for line in lines],
        "quantity": [line.line.quantity for line in lines],
        "price": [to_cents(line.line.price) for line in lines],
        "total_price": [to_cents(line.line.total) for line in lines],
        "created_at": [line.sale.ordered_at for line in lines],
    }


def columns_of_items(lines: Sequence[SoldLine]) -> Columns:
    """The columns that name the lines' items."""
    names = ("product_id", "variant_id")
    return {name: [line.item and line.item[at] for line in lines] for at, name in enumerate(names)}


def shop_origin(order_id: str, sales_channel: str | None, currency: str | None) -> dict[str, Any]:
    """The columns of the shop's order that say where it is from, and its currency, for which the shop has none."""
    notes = origin(order_id, sales_channel) + (f", paid in {currency}" if currency else "")
    return {"payment_method": {"type": "marketplace", "channel": sales_channel or CHANNEL}, "notes": notes}


def origin(order_id: str, sales_channel: str | None) -> str:
    """The origin of the order, in words."""
    return f"{sales_channel or 'marketplace'} order {order_id} through 4Seller"


def reference(order_id: str, line: int, already: int = 0) -> str:
    """The ledger's name for one line of an order; `already`, the units moved before, distinguishes later movements of the same
    kind, so that the same step, repeated, has the same name and the ledger's unique key refuses it."""
    name = f"{CHANNEL}:{order_id}:{line}"
    return f"{name}+{already}" if already else name


def match_lines(connection: sa.Connection, sales: Sequence[Sale]) -> list[SoldLine]:
    """Each line with the item it sold."""
    respelled, pairs = set[str](), [(sale, line) for sale in sales for line in sale.lines]
    found = items_named(connection, {line.named for _, line in pairs}, respelled)
    sold = [SoldLine(sale, line, number=line.line, respelled=line.sku in respelled) for sale, line in pairs]
    for one in sold:
        one.name(found.get(one.line.named))
    return sold


def _listed_as(column: sa.Column[str], connection: sa.Connection, given: set[str]) -> dict[str, ItemKey]:
    """The items of which 4Seller's listing has one of these values in the column."""
    query = sa.select(column, mappings.c.product_id, mappings.c.variant_id)
    found = connection.execute(query.where(any_of(connection, column, given)))
    return {value: (product_id, variant_id) for value, product_id, variant_id in found}


_SEARCHES: tuple[tuple[int, Callable[[sa.Connection, set[str]], dict[str, ItemKey]]], ...] = (
    (0, partial(_listed_as, mappings.c.fourseller_product_id)),  # first, since a SKU may have been renamed
    (1, items_by_sku),
    (1, partial(_listed_as, mappings.c.sku)),
    (1, linked_items),
    (1, respelled_items),
)
"""How an item is found by 4Seller's product id (0) or the SKU (1) of a line, the surest way first."""


def items_named(
    connection: sa.Connection, names: Iterable[Named], respelled: set[str] | None = None
) -> dict[Named, ItemKey]:
    """The items of the shop that lines name. `respelled` gains the SKUs that were read as another spelling of an item's."""
    names, found = set(names), dict[Named, ItemKey]()
    for place, search in _SEARCHES:
        lost = {name: given for name in names - found.keys() if (given := name[place])}
        if not lost:
            continue
        items = search(connection, set(lost.values()))
        present = present_items(connection, set(items.values()))
        hits = {name: items[given] for name, given in lost.items() if items.get(given) in present}
        found |= hits
        if respelled is not None and search is respelled_items:
            respelled.update(sku for _, sku in hits if sku)
    return found


def line_words(line: Any, of_shop: bool) -> dict[str, Any]:
    """What names a line, of a sale or in our table: its SKU if that is the shop's or looks like one, else its number."""
    sku = line.sku if of_shop else known_words.known_id(line.sku)
    product_id = known_words.known_id(line.fourseller_product_id)
    return {"sku": sku, "title": sku or f"Line {line.line}", "fourseller_product_id": product_id}


def without_personal_data(connection: sa.Connection, sale: Sale) -> Sale:
    """The sale as it is stored once its buyer is erased; a SKU of the shop stays, whatever it looks like."""
    ours = items_named(connection, [line.named for line in sale.lines])
    return replace(
        sale,
        sales_channel=known_words.known_channel(sale.sales_channel),
        currency=known_words.known_currency(sale.currency),
        status_word=known_words.known_status(sale.status_word) or "",
        buyer=ERASED,
        ship_to={},
        lines=tuple(replace(line, **line_words(line, line.named in ours)) for line in sale.lines),
        content=some_parts(sale.content, IMPERSONAL_PARTS),
        sealed=ERASED_PAYLOAD,
    )
