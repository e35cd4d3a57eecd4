"""A 4Seller that shows a catalogue of any size and keeps none of it: each page is made when it is asked for."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import orjson


def product(number: int) -> dict[str, object]:
    """The product of the item with that number, as the shop wants it (`scale.fill_shop`)."""
    return {
        "id": f"P{number}",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-02T00:00:00Z",
        "title": f"Part {number}",
        "description": "",
        "sku": f"SKU-{number}",
        "price": "10.00",
        "currency": "USD",
        "category": f"Category {1 + number % 20}",
        "condition": "new",
        "images": [],
        "attributes": {},
        "inventory": {"quantity": 5, "track_quantity": True},
        "shipping": {},
        "status": "active",
        "metadata": {"source": "midastechnical", "product_id": number, "variant_id": None},
    }


def answer(target: str, size: int) -> bytes:
    """The page that a request line asks for; no orders."""
    parts = urlsplit(target)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    limit, offset = int(asked.get("limit", 100)), int(asked.get("offset", 0))
    total = size if parts.path.endswith("/products") else 0
    rows = [product(number) for number in range(offset + 1, min(total, offset + limit) + 1)]
    return orjson.dumps({"data": rows, "total": total, "limit": limit, "offset": offset})


async def serve(size: int) -> None:
    """Serves on a free port of this machine, which is printed, until the process is ended."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has closed the connection
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = answer(head.split(b" ", 2)[1].decode(), size)
                lines = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(lines.encode() + body)
                await writer.drain()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
