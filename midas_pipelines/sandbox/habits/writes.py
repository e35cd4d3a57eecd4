"""Habits of writes (silently ignored, applied late, stored differently), and of answers (pauses, redirects, hostile bodies)."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Iterator

from midas_pipelines.sandbox.habits.habit import Answer, NoAnswer, Reply, Use, habit
from midas_pipelines.sandbox.habits.rows import CONTROL_CHARACTER, HALF_CHARACTER
from midas_pipelines.sandbox.state import Json, level, moment

TAG = re.compile(r"<[^>]*>")
DRAFTS = ("createProduct", "replaceProduct")
READS = ("listProducts", "listOrders", "getProduct", "getInventory", "getOrder")
MEGABYTE = 1024 * 1024
BYTES = {HALF_CHARACTER: b"\xe4\xbd", CONTROL_CHARACTER: b"\x01"}
ELSEWHERE = "/elsewhere"  # a redirect leads to this path on another name of this machine


@habit("ask", calls=("deleteProduct",))
def deletes_ignored(use: Use) -> Reply:
    """DELETE of a product answers 200 and deletes nothing."""
    return Reply(200, use.state.product(use.call.key))


@habit("ask", calls=("updateOrder",))
def order_updates_ignored(use: Use) -> Reply:
    """PATCH of an order answers 200 with the order as it was."""
    return Reply(200, use.state.order(use.call.key))


@habit("ask", calls=("setInventory",))
def stock_ignored(use: Use) -> Reply:
    """PATCH of a quantity answers 200 with the quantity as it was."""
    return Reply(200, level(use.state.product(use.call.key)))


@habit("ask", calls=("replaceProduct",))
def product_updates_ignored(use: Use) -> Reply:
    """PUT of a product answers 200 with the product as it was."""
    return Reply(200, use.state.product(use.call.key))


@habit("ask", calls=DRAFTS)
def skus_respelled(use: Use) -> None:
    """PUT and POST keep the SKU in lower case."""
    use.call.body = {**use.call.body, "sku": use.call.body["sku"].lower()}


@habit("ask", calls=DRAFTS)
def images_rewritten(use: Use) -> None:
    """PUT and POST keep pictures at other addresses."""
    images = [
        {**one, "url": f"https://images.example.com/{index}/{str(one.get('url')).rsplit('/', 1)[-1]}"}
        for index, one in enumerate(use.call.body.get("images") or [])
    ]
    use.call.body = {**use.call.body, "images": images}


@habit("ask", calls=DRAFTS)
def html_stripped(use: Use) -> None:
    """PUT and POST keep the description without tags."""
    text = use.call.body.get("description")
    if text is not None:
        use.call.body = {**use.call.body, "description": TAG.sub("", text).strip()}


@habit("ask", calls=DRAFTS)
def title_case(use: Use) -> None:
    """PUT and POST Keep The Title Like This."""
    use.call.body = {**use.call.body, "title": use.call.body["title"].title()}


@habit("ask", calls=("setInventory",), number=5)
def late_writes(use: Use) -> None:
    """The first PATCH of each quantity of a product is not answered and is carried out N seconds later."""
    state, key, quantity = use.state, use.call.key, use.call.body["quantity"]
    if (key, quantity) in use.memory:
        return
    use.memory[key, quantity] = True
    state.product(key)

    def apply() -> None:
        if key in state.products:
            state.set_quantity(key, quantity)

    asyncio.get_running_loop().call_later(use.number, apply)
    raise NoAnswer


@habit("ask", calls=("setInventory",))
def older_quantities_refused(use: Use) -> Reply | None:
    """PATCH of a quantity with an older timestamp than the last answers 200 and changes nothing."""
    key, text = use.call.key, use.call.body.get("timestamp")
    if not text:
        return None
    if moment(text) < use.memory.get(key, moment(text)):
        return Reply(200, level(use.state.product(key)))
    use.memory[key] = moment(text)
    return None


def spoil(answer: Answer) -> Answer:
    """The answer with the marks of spoiled texts as the bytes they mean."""
    status, body, headers = answer
    for mark, meant in BYTES.items():
        body = body.replace(f"\\u{ord(mark):04x}".encode(), meant) if isinstance(body, bytes) else body
    return status, body, headers


@habit("ask")
def unix_retry_after(use: Use) -> Reply | None:
    """The first N calls are 429 with a Retry-After of Unix time, two seconds ahead (0: all)."""
    if not use.among_the_first():
        return None
    error: Json = {"code": "rate_limited", "message": "Too many calls."}
    return Reply(429, {"error": error}, [(b"retry-after", str(int(time.time()) + 2).encode())])


@habit("ask", number=307)
def redirects(use: Use) -> Reply:
    """Every call is redirected to another address, with status N."""
    port = use.call.headers.get(b"host", b"").rpartition(b":")[2].decode("latin-1")
    address = f"http://localhost:{port}{ELSEWHERE}{use.call.path}"
    return Reply(int(use.number), None, [(b"location", address.encode())])


@habit("answer", calls=READS, number=64)
def gzip_bomb(answer: Answer, use: Use) -> Answer:
    """Reads are answered with gzip that unpacks to N MB."""
    status, body, headers = answer
    if not isinstance(body, bytes):
        return answer
    packed = gzip.compress(b" " * int(use.number * MEGABYTE) + body, compresslevel=1)
    return status, packed, [*headers, (b"content-encoding", b"gzip")]


@habit("answer", calls=READS, number=64)
def endless_bodies(answer: Answer, use: Use) -> Answer:
    """Reads are answered with N MB of blanks before the body."""
    status, body, headers = answer
    if not isinstance(body, bytes):
        return answer

    def flow(rest: bytes, parts: int) -> Iterator[bytes]:
        for _ in range(parts):
            yield b" " * (MEGABYTE // 16)
        yield rest

    return status, flow(body, int(use.number * 16)), headers
