"""A 4Seller of any size that keeps nothing: each page is made when it is asked for. Its lists may lie.

python -m benchmarks.scale.server '{"products": 100000, "orders": 0, "lie": "repeats"}'
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from benchmarks.orders import order_json
from benchmarks.scale.catalogue import product

SKUS = [f"SKU-{number}" for number in range(1, 557)]
"""What is ordered."""
LIES = ("", "repeats", "moves", "twins")
"""A page in the middle repeats the one before it; the total grows with each page; two SKUs come again on the last page."""
TWINS = 2


class Channel:
    """Products and orders, what was created beside them, and what is false about its lists."""

    def __init__(self, products: int = 0, orders: int = 0, lie: str = "") -> None:
        assert lie in LIES
        self.sizes = {"products": products, "orders": orders}
        self.lie, self.pages = lie, 0
        self.created: Counter[str] = Counter()
        self.writes = 0

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of the answer to a call."""
        parts = urlsplit(target)
        kind, _, one = parts.path.removeprefix("/v1/").partition("/")
        self.writes += method != "GET"
        if method == "POST":
            draft = orjson.loads(body)
            self.created[draft["sku"]] += 1
            return 201, product(int(draft["sku"].partition("-")[2])) | draft
        if kind == "counts":
            return 200, {"created": len(self.created), "posts": self.created.total(), "writes": self.writes}
        if one:
            return 200, product(int(one[1:]))
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return 200, self.page(kind, int(asked.get("limit", 100)), int(asked.get("offset", 0)))

    def page(self, kind: str, limit: int, offset: int) -> dict[str, Any]:
        """A page of `products` or `orders`."""
        self.pages += 1
        total = self.sizes[kind] + (TWINS if self.lie == "twins" else 0)
        first = offset - limit if self.lie == "repeats" and offset == total // 2 else offset
        row = self.order if kind == "orders" else self.product
        rows = [row(number) for number in range(first + 1, min(total, first + limit) + 1)]
        total += self.pages if self.lie == "moves" else 0
        return {"data": rows, "total": total, "limit": limit, "offset": offset}

    def product(self, number: int) -> dict[str, Any]:
        """The product in that place; behind the last item come second products of the first ones."""
        twin_of = number - self.sizes["products"]
        return product(number) if twin_of <= 0 else product(twin_of) | {"id": f"T{twin_of}", "metadata": {}}

    def order(self, number: int) -> dict[str, Any]:
        """The order in that place."""
        return order_json(random.Random(number), SKUS, f"B{number:06d}", number)


async def serve(channel: Channel) -> None:
    """Serves on a free port of this machine, which is printed, until the process is ended."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has closed the connection
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                method, target, _ = head.split(" ", 2)
                length = head.lower().partition("content-length:")[2].partition("\r\n")[0]
                status, value = channel.answer(method, target, await reader.readexactly(int(length or 0)))
                body = orjson.dumps(value)
                lines = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(lines.encode() + body)
                await writer.drain()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Channel(**json.loads(sys.argv[1]))))
