"""Exceptions of orders and lines: a code for programs, and a sentence for the operator. Pure."""

from __future__ import annotations

from enum import StrEnum

from midas_pipelines.sync.orders.model.sale import Sale


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


SEEN_BY_A_PERSON = (
    OrderException.QUANTITY,
    OrderException.TOTAL,
    OrderException.STATUS,
    OrderException.EDITED,
    OrderException.REFUSED,
    OrderException.DELETED,
)
"""Exceptions that a person may dismiss; the others end with their cause."""


def sale_exceptions(sale: Sale) -> list[OrderException]:
    """The exceptions of the sale as a whole."""
    found = [] if sale.adds_up else [OrderException.TOTAL]
    if sale.takes_stock and not sale.lines:
        found.append(OrderException.QUANTITY)
    return found if sale.known_status else [*found, OrderException.STATUS]


def explain_sale(sale: Sale, exception: OrderException) -> str:
    """The sentence for an exception of the whole sale."""
    if exception is OrderException.STATUS:
        return f"4Seller's status '{sale.status_word}' is not known; the order counts as pending."
    if exception is OrderException.QUANTITY:
        return "The order came without lines, so that no stock was taken: check it on the marketplace."
    return (
        f"Lines {sale.lines_total} + shipping {sale.shipping_cost} + tax {sale.tax} - discount {sale.discount} "
        f"is not the total {sale.priced} that the marketplace gave, or that is below 0; the total is kept."
    )


def explain_line(
    line: int, sku: str | None, exception: OrderException, *, wanted: int, allocated: int, quantity: int
) -> str:
    """The sentence for an exception of one line."""
    named = f"Line {line}, {sku or 'no SKU'}: "
    if exception is OrderException.UNMAPPED:
        return f"{named}no item of the shop has this SKU; no stock was taken. Map it to an item."
    if exception is OrderException.OVERSOLD:
        return f"{named}{wanted} were sold and {allocated} were there; {wanted - allocated} are backordered."
    return f"{named}the quantity is {quantity}; check the order on the marketplace."


def written(found: set[str]) -> str | None:
    """The exceptions as the `exception` column holds them; None without any."""
    return ",".join(sorted(found)) or None


def read(exception: str | None) -> set[str]:
    """The exceptions in an `exception` column."""
    return set(filter(None, (exception or "").split(",")))


def backordered_only(exception: str | None, backordered: int) -> str | None:
    """The `exception` column of a line, given the units that it is backordered now."""
    word = {OrderException.OVERSOLD.value}
    return written(read(exception) | word if backordered else read(exception) - word)
