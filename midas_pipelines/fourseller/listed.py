"""The products of a listing, kept on disk: a million of them take the memory of a few thousand.

A row is kept as it came, and read into a `Product` when somebody asks for it, which is for few of them: by its `stamp`
a product is known to be the one that was read before.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

import orjson

from midas_pipelines.fourseller.models import Product

PLAIN_ID = re.compile(r"[0-9A-MO-TVWYZa-mo-tvwyz][^\x00\ufffd\ud800-\udfff]*")
"""An id that is taken as it is; every other is read with care (`models.ProductId`)."""

AT_ONCE = 500
CACHE_KB = 32_000
DATED = "updated_at"
"""The field that may move though nothing else of a product changed."""

TABLE = """
CREATE TABLE listed (place INTEGER PRIMARY KEY, id TEXT UNIQUE, sku TEXT, stamp BLOB, answer BLOB, dated BLOB,
  tied INTEGER DEFAULT 0)
"""
ADD = (
    "INSERT INTO listed (id, sku, stamp, answer, dated) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
    "sku = excluded.sku, stamp = excluded.stamp, answer = excluded.answer, dated = excluded.dated"
)
ROWS = "SELECT id, sku, stamp, answer, dated FROM listed"

ReadProduct = Callable[[Any], Product]


class ListedRow(NamedTuple):
    """A row of a page, as it came, without and with the date of its last change."""

    id: str
    sku: str | None
    stamp: bytes
    answer: bytes
    dated: bytes


def read_listed(row: Any, read: ReadProduct) -> ListedRow:
    """The row of a page. Raises ContractBroken when it has no id.

    Args:
        row: as it came.
        read: reads a product with care; used where id or SKU are not plainly what they should be.
    """
    plain = type(row) is dict
    product_id, sku = (row.get("id"), row.get("sku")) if plain else (None, None)
    if not (type(product_id) is str and PLAIN_ID.fullmatch(product_id) and (sku is None or type(sku) is str)):
        product = read(row)
        product_id, sku = product.id, product.sku
    answer = _written({name: value for name, value in row.items() if name != DATED} if plain else row)
    return ListedRow(product_id, sku, stamp_of(answer), answer, _written(row.get(DATED) if plain else None))


def stamp_of(answer: bytes) -> bytes:
    """What tells one answer from another: 16 bytes."""
    return blake2b(answer, digest_size=16).digest()


def product_of(row: ListedRow, read: ReadProduct) -> Product:
    """The row as a product."""
    value = _read(row.answer)
    dated = _read(row.dated)
    if dated is not None:
        value[DATED] = dated
    product = read(value)
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
        read: reads a row into a product, or raises.
        products: some that were read before, such as the one that an event was about.
    """

    def __init__(self, read: ReadProduct, products: Iterable[Product] = ()) -> None:
        self._read = read
        self._asked = {product.id: product for product in products}
        self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("PRAGMA synchronous = OFF")
        self._file.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        self._file.execute(TABLE)
        self._file.execute("BEGIN")
        self._tied: set[str] = set()  # of those asked for

    def add(self, rows: Iterable[ListedRow]) -> None:
        """Adds the rows of a page."""
        self._file.executemany(ADD, rows)

    def __len__(self) -> int:
        (listed,) = self._file.execute("SELECT count(*) FROM listed").fetchone()
        return int(listed) + len(self._asked)

    def __iter__(self) -> Iterator[Product]:
        yield from (product_of(row, self._read) for row in self.rows())
        yield from self._asked.values()

    def __contains__(self, product_id: object) -> bool:
        return isinstance(product_id, str) and bool(self.present([product_id]))

    def rows(self) -> Iterator[ListedRow]:
        """The rows of all pages, in order."""
        return self._pages(f"{ROWS} WHERE place > ?")

    def find(self, ids: Collection[str]) -> dict[str, ListedRow]:
        """Those of the products that are in a page."""
        found = self._among(f"{ROWS} WHERE id IN", ids)
        return {row[0]: ListedRow(*row) for row in found}

    def stamps(self, ids: Collection[str]) -> dict[str, bytes]:
        """The stamps of those of the products that are in a page."""
        return dict(self._among("SELECT id, stamp FROM listed WHERE id IN", ids))

    def products(self, ids: Collection[str]) -> dict[str, Product]:
        """Those of the products that are listed, read."""
        found = {one: product_of(row, self._read) for one, row in self.find(ids).items()}
        return found | {one: self._asked[one] for one in ids if one in self._asked}

    def present(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are listed."""
        return {row[0] for row in self._among("SELECT id FROM listed WHERE id IN", ids)} | (
            self._asked.keys() & set(ids)
        )

    def shared_skus(self) -> dict[str, int]:
        """The SKUs that several products have, and how many."""
        query = "SELECT sku, count(*) FROM listed WHERE sku <> '' GROUP BY sku HAVING count(*) > 1"
        found = dict(self._file.execute(query).fetchall())
        for product in self._asked.values():
            if product.sku:
                (listed,) = self._file.execute(
                    "SELECT count(*) FROM listed WHERE sku = ?", [product.sku]
                ).fetchone()
                found[product.sku] = found.get(product.sku, int(listed)) + 1
        return {sku: count for sku, count in found.items() if count > 1}

    def tie(self, ids: Collection[str]) -> None:
        """Marks products as those of items."""
        self._tied |= self._asked.keys() & set(ids)
        for part in _parts(ids):
            self._file.execute(f"UPDATE listed SET tied = 1 WHERE id IN ({_marks(part)})", part)

    def untied(self) -> Iterator[Product]:
        """The products that are no item's."""
        rows = self._pages(f"{ROWS} WHERE tied = 0 AND place > ?")
        yield from (product_of(row, self._read) for row in rows)
        yield from [product for one, product in self._asked.items() if one not in self._tied]

    def is_tied(self, product_id: str) -> bool:
        """Whether it is listed, and an item's."""
        query = "SELECT 1 FROM listed WHERE id = ? AND tied = 1"
        return product_id in self._tied or self._file.execute(query, [product_id]).fetchone() is not None

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
        self._asked.pop(product_id, None)
        self._file.execute("DELETE FROM listed WHERE id = ?", [product_id])

    def _pages(self, query: str) -> Iterator[ListedRow]:
        """The rows of a query for those behind a place, some at a time, so that rows may be changed meanwhile."""
        after = 0
        query = query.replace("SELECT id", "SELECT place, id") + f" ORDER BY place LIMIT {AT_ONCE}"
        while found := self._file.execute(query, [after]).fetchall():
            after = found[-1][0]
            yield from (ListedRow(*row[1:]) for row in found)

    def _among(self, query: str, ids: Collection[str]) -> Iterator[tuple[Any, ...]]:
        for part in _parts(ids):
            yield from self._file.execute(f"{query} ({_marks(part)})", part)


def _parts(ids: Collection[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while part := list(islice(left, AT_ONCE)):
        yield part


def _marks(part: list[str]) -> str:
    return ",".join("?" * len(part))
