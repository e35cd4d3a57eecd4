"""What reading a page of products costs, of the length that such products have: JSON, rows, digests; and whole products."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson

from benchmarks.measuring import Result
from benchmarks.scale.catalogue import product
from midas_pipelines.fourseller.http.answers import read_json
from midas_pipelines.fourseller.listed import ListedProducts, read_listed_row
from midas_pipelines.fourseller.models import read_product
from midas_pipelines.fourseller.pages import read_page

PAGES, ROWS, TRIES = 200, 100, 5
TARGET_MS = 0.05


def measure() -> list[Result]:
    """Milliseconds of processor a product, best of some tries: as a full sync reads it, and as one that differs is read."""
    pages = [_page(number) for number in range(PAGES)]
    listed = ListedProducts()
    json = _spent(read_json, pages)
    rows = _spent(lambda body: read_page(read_json(body), read_listed_row), pages)
    stored = _spent(lambda body: listed.add(read_page(read_json(body), read_listed_row).data), pages)
    models = _spent(lambda body: read_page(read_json(body), read_product), pages)
    return [
        Result(
            f"parsing a page, products of {len(pages[0]) // ROWS:,} bytes",
            f"{max(rows, models):.3f} ms of processor an item",
            f"<= {TARGET_MS} ms",
            max(rows, models) <= TARGET_MS,
            f"JSON alone {json:.3f}, with digests {rows:.3f}, kept on disk too {stored:.3f}, as models {models:.3f}",
        )
    ]


def _page(number: int) -> bytes:
    rows = [product(1 + number * ROWS + place) for place in range(ROWS)]
    return orjson.dumps({"data": rows, "total": PAGES * ROWS, "limit": ROWS, "offset": number * ROWS})


def _spent(read: Callable[[bytes], Any], pages: list[bytes]) -> float:
    tries = []
    for _ in range(TRIES):
        began = time.process_time()
        for body in pages:
            read(body)
        tries.append(time.process_time() - began)
    return 1000 * min(tries) / PAGES / ROWS
