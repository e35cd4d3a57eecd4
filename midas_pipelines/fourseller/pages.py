"""Pages of products and orders, read row by row so that one bad row never hides the others."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.lenient import read_count
from midas_pipelines.fourseller.listed import ListedProducts, ListedRow, read_listed
from midas_pipelines.fourseller.models import InventoryLevel, Order, Product

MOST_ROWS = 10_000  # of a page: a hundred times what is asked for
Row = TypeVar("Row")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row without a readable id: why in words, and the received row.

    `place` is its position on the page, from 0; it may differ each time.
    """

    field: str
    reason: str
    raw: Any = dataclasses.field(repr=False)  # may hold personal data
    place: int = 0

    def __str__(self) -> str:
        return f"row {self.place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page: readable rows, rejected rows, and what the server declared; None where that is no count."""

    data: list[Row]
    total: int | None
    limit: int | None
    offset: int | None
    rejected: list[Rejected] = dataclasses.field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows the page held, readable or not."""
        return len(self.data) + len(self.rejected)


OrderPage = Page[Order]


@dataclass(frozen=True, slots=True)
class Listing:
    """Every product the channel shows, read page by page.

    `complete` is true only when every page was read, every row could be read, and the distinct ids are no fewer than
    each page declared; an incomplete one must not delete, zero or clear anything. A product
    that it lacks may still exist: only those in `gone` certainly do not.
    """

    products: ListedProducts
    total: int
    complete: bool
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    reason: str = ""  # why it is not complete, in words
    gone: frozenset[str] = frozenset()  # looked up one by one, and answered 404


def read_one(model: type[Model], row: Any, unreadable: list[str] | None = None) -> Model:
    """The row as `model`, each of its fields missing where it cannot be read: their names are added to `unreadable`.
    Raises ContractBroken naming a required field, such as the id."""
    try:
        return model.model_validate(row, context=[] if unreadable is None else unreadable)
    except ValidationError as error:
        place = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
        field_name = str(place[0]) if place else "(body)"
        reason = f"4Seller's answer breaks the contract in `{field_name}`: it is missing or cannot be used."
        raise ContractBroken(reason, field=field_name) from None  # the cause would quote the value


def read_product(row: Any) -> Product:
    """The row as a product. Raises ContractBroken when it has no id."""
    unreadable: list[str] = []
    return read_one(Product, row, unreadable).lacking(unreadable)


def read_listed_row(row: Any) -> ListedRow:
    """The row as it came, with its id. Raises ContractBroken when it has none."""
    return read_listed(row, read_product)


def listed(*products: Product) -> ListedProducts:
    """A listing's products, so far these."""
    return ListedProducts(read_product, products)


def read_order(row: Any) -> Order:
    """The row as an order that keeps its received JSON. Raises ContractBroken when it has no id."""
    unreadable: list[str] = []
    return read_one(Order, row, unreadable).lacking(unreadable).keeping(row)


def read_level(row: Any) -> InventoryLevel:
    """The row as a quantity on sale. Raises ContractBroken naming the field."""
    return read_one(InventoryLevel, row)


def read_page(body: Any, read_row: Callable[[Any], Row]) -> Page[Row]:
    """A page of `{"data", "total", "limit", "offset"}`; rows that break the contract are rejected.
    Raises ContractBroken when the page itself cannot be read."""
    envelope = body if isinstance(body, dict) else {}
    rows = envelope.get("data")
    if not isinstance(rows, list):
        raise ContractBroken("4Seller's page breaks the contract in `data`: it is not a list.", field="data")
    if len(rows) > MOST_ROWS:
        raise ContractBroken(
            f"4Seller's page has {len(rows)} rows; {MOST_ROWS} are read at most.", field="data"
        )
    total, limit, offset = (_count(envelope.get(name)) for name in ("total", "limit", "offset"))
    page: Page[Row] = Page(data=[], total=total, limit=limit, offset=offset)
    for place, row in enumerate(rows):
        try:
            page.data.append(read_row(row))
        except ContractBroken as broken:
            page.rejected.append(Rejected(field=broken.field, reason=str(broken), raw=row, place=place))
    return page


def _count(value: Any) -> int | None:
    """A count that the server declares; None where it is missing or none that the contract allows."""
    try:
        return read_count(value)
    except (ValueError, ArithmeticError):
        return None


def broken_row(rejected: Rejected, *, item: str) -> ContractBroken:
    """The error of a page where every row has to be readable."""
    return ContractBroken(
        f"4Seller listed a product for {item} that cannot be read: {rejected}",
        field=f"data.{rejected.field}",
        item=item,
    )


class ListingRead:
    """A listing while its pages come: `products` so far, and whether it can still be complete."""

    def __init__(self) -> None:
        self.products = listed()
        self.pages = 0
        self._rows = 0
        self._rejected: list[Rejected] = []
        self._totals: dict[int, None] = {}  # as declared, in order

    def add(self, page: Page[ListedRow]) -> None:
        """Takes the next page."""
        self.pages += 1
        self._rows += page.rows
        self.products.add(page.data)
        self._rejected += page.rejected
        if page.total is not None:
            self._totals.setdefault(page.total)

    def end(self, failed: str = "") -> Listing:
        """The listing; `complete` only when nothing can be missing from it.

        Args:
            failed: why the reading ended before the last page, if it did.
        """
        totals, distinct = list(self._totals), len(self.products)
        expected = max([self._rows, *totals])
        if failed:
            reason = failed
        elif self._rejected:
            reason = (
                f"{len(self._rejected)} products could not be read, the first because of {self._rejected[0]}"
            )
        elif len(totals) > 1:
            reason = f"the total moved from {totals[0]} to {totals[-1]} while it was read"
        elif distinct != expected:
            reason = f"{distinct} distinct products were read of {expected} declared"
        else:
            reason = ""
        return Listing(self.products, expected, not reason, self._rejected, reason)
