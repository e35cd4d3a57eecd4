"""A listing: every product that 4Seller shows, kept on disk: a million of them take the memory of a few thousand.

A row is kept as it came, and read into a `Product` when somebody asks for it, which is for few of them: by its `stamp`
a product is known to be the one that was read before.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

import orjson

from midas_pipelines.fourseller.models import Product, read_product
from midas_pipelines.fourseller.pages import Page, Rejected

PLAIN_ID = re.compile(r"[0-9A-MO-TVWYZa-mo-tvwyz][^\x00\ufffd\ud800-\udfff]*")
"""An id that is taken as it is; every other is read with care (`models.ProductId`)."""

AT_ONCE = 500
CACHE_KB = 32_000
DATED = "updated_at"
"""The field that may move though nothing else of a product changed."""

COLUMNS = "id, sku, stamp, answer"
TABLE = """
CREATE TABLE listed (place INTEGER PRIMARY KEY, id TEXT UNIQUE, sku TEXT, stamp BLOB, answer BLOB, tied INTEGER DEFAULT 0)
"""
ADD = (
    f"INSERT INTO listed ({COLUMNS}) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
    "sku = excluded.sku, stamp = excluded.stamp, answer = excluded.answer"
)


class ListedRow(NamedTuple):
    """A row of a page, as it came. Two answers have the same `stamp` (16 bytes) where at most the date of the last change differs."""

    id: str
    sku: str | None
    stamp: bytes
    answer: bytes


def read_listed_row(row: Any) -> ListedRow:
    """The row of a page, read with care where id or SKU are not plainly what they should be. Raises ContractBroken when it
    has no id."""
    plain = type(row) is dict
    product_id, sku = (row.get("id"), row.get("sku")) if plain else (None, None)
    if not (type(product_id) is str and PLAIN_ID.fullmatch(product_id) and (sku is None or type(sku) is str)):
        product = read_product(row)
        product_id, sku = product.id, product.sku
    stamped = {name: value for name, value in row.items() if name != DATED} if plain else row
    stamp = blake2b(_written(stamped), digest_size=16).digest()
    return ListedRow(product_id, sku, stamp, _written(row))


def product_of(row: ListedRow) -> Product:
    """The row as a product."""
    product = read_product(_read(row.answer))
    return product if product.id == row.id else product.model_copy(update={"id": row.id})


def _written(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # numbers of more than 64 bits, halves of a surrogate pair
        return json.dumps(value, sort_keys=True).encode()


def _read(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


class ListedProducts:
    """Products by id, in the order in which they were first listed; the last row of an id counts.

    Small listings stay in memory; larger ones go to a private file of SQLite's, which is gone when this is.

    Args:
        products: some that were read before, such as the one that an event was about.
    """

    def __init__(self, products: Iterable[Product] = ()) -> None:
        self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KB}"):
            self._file.execute(f"PRAGMA {setting}")
        self._file.execute(TABLE)
        self._file.execute("BEGIN")
        self.add(read_listed_row(product.raw) for product in products)

    def add(self, rows: Iterable[ListedRow]) -> None:
        """Adds the rows of a page."""
        self._file.executemany(ADD, rows)

    def __len__(self) -> int:
        return int(self._file.execute("SELECT count(*) FROM listed").fetchone()[0])

    def __iter__(self) -> Iterator[Product]:
        yield from map(product_of, self.rows())

    def __contains__(self, product_id: object) -> bool:
        return isinstance(product_id, str) and bool(self.stamps([product_id]))

    def rows(self, which: str = "true") -> Iterator[ListedRow]:
        """The rows of all pages for which that SQL is true, in order; some at a time, so that rows may be changed meanwhile."""
        query = (
            f"SELECT place, {COLUMNS} FROM listed WHERE {which} AND place > ? ORDER BY place LIMIT {AT_ONCE}"
        )
        after = 0
        while found := self._file.execute(query, [after]).fetchall():
            after = found[-1][0]
            yield from (ListedRow(*row[1:]) for row in found)

    def stamps(self, ids: Collection[str]) -> dict[str, bytes]:
        """The stamps of those of the products that are listed."""
        return dict(self._among("SELECT id, stamp FROM listed WHERE id IN", ids))

    def products(self, ids: Collection[str]) -> dict[str, Product]:
        """Those of the products that are listed, read."""
        found = self._among(f"SELECT {COLUMNS} FROM listed WHERE id IN", ids)
        return {row[0]: product_of(ListedRow(*row)) for row in found}

    def shared_skus(self) -> dict[str, int]:
        """The SKUs that several products have, and how many."""
        query = "SELECT sku, count(*) FROM listed WHERE sku <> '' GROUP BY sku HAVING count(*) > 1"
        return dict(self._file.execute(query).fetchall())

    def tie(self, ids: Collection[str]) -> None:
        """Marks products as those of items."""
        for _ in self._among("UPDATE listed SET tied = 1 WHERE id IN", ids):
            pass

    def untied(self) -> Iterator[Product]:
        """The products that are no item's."""
        yield from map(product_of, self.rows("tied = 0"))

    def respellings(self, ids: Collection[str]) -> dict[str, str]:
        """Listed ids that differ from one of these in the case of letters alone, each with that one."""
        wanted = {one.casefold(): one for one in ids}
        listed = self._file.execute("SELECT id FROM listed") if wanted else ()
        return {one: wanted[one.casefold()] for (one,) in listed if one.casefold() in wanted}

    def rename(self, product_id: str, known_as: str) -> None:
        """Lists a product under another spelling of its id."""
        self._file.execute("UPDATE OR REPLACE listed SET id = ? WHERE id = ?", [known_as, product_id])

    def remove(self, product_id: str) -> None:
        """Removes a product."""
        self._file.execute("DELETE FROM listed WHERE id = ?", [product_id])

    def _among(self, query: str, ids: Collection[str]) -> Iterator[tuple[Any, ...]]:
        left = iter(ids)
        while part := list(islice(left, AT_ONCE)):
            yield from self._file.execute(f"{query} ({','.join('?' * len(part))})", part)


@dataclass(slots=True)
class Listing:
    """Every product the channel shows, read page by page.

    `complete` is true only when every page was read, every row could be read, and the distinct ids are no fewer than
    each page declared; an incomplete one must not delete, zero or clear anything. A product
    that it lacks may still exist: only those in `gone` certainly do not.
    """

    products: ListedProducts
    complete: bool
    reason: str = ""  # why it is not complete, in words
    gone: frozenset[str] = frozenset()  # looked up one by one, and answered 404


class ListingRead:
    """A listing while its pages come: `products` so far, and whether it can still be complete."""

    def __init__(self) -> None:
        self.products = ListedProducts()
        self.pages = self._rows = 0
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
        reason = failed
        if not reason and self._rejected:
            count = len(self._rejected)
            reason = f"{count} products could not be read, the first because of {self._rejected[0]}"
        elif not reason and len(totals) > 1:
            reason = f"the total moved from {totals[0]} to {totals[-1]} while it was read"
        elif not reason and distinct != expected:
            reason = f"{distinct} distinct products were read of {expected} declared"
        return Listing(self.products, not reason, reason)
