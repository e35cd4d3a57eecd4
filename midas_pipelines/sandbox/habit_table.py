"""Habits: lasting ways in which real hubs behave, unlike a fault, which a call meets by chance.

Each has a name, a sentence and a number N that the sentence explains (`midas sandbox --habits` lists them); `habits.py`
turns them on. What is stored stays true unless a habit of writes says otherwise, and `/__sandbox/products` and
`/__sandbox/orders` show what is stored. "Each Nth" goes by the number in the id: with N = 3, 114-000003 and "700002" are
among them.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain, repeat
from typing import Any

from midas_pipelines.sandbox.requests import Answer, HabitCall, Headers, NoAnswer, Reply
from midas_pipelines.sandbox.state import Json, State, level, moment


@dataclass
class Use:
    """One habit that is on: its number, what it remembers since it was turned on, and the sandbox's state."""

    number: float
    state: State
    call: HabitCall = field(default_factory=lambda: HabitCall(""))
    memory: dict[Any, Any] = field(default_factory=dict)

    def among_the_first(self) -> bool:
        """Whether this is one of the first `number` times (0: always)."""
        self.memory["times"] = self.memory.get("times", 0) + 1
        return not self.number or self.memory["times"] <= self.number

    def nth(self, row: Json) -> bool:
        """Whether the row is one of each `number` rows, by the number in its id."""
        return _serial(row) % max(1, int(self.number)) == 0


LISTS = ("listProducts", "listOrders")
READS = (*LISTS, "getProduct", "getInventory", "getOrder")
DRAFTS = ("createProduct", "replaceProduct")
ELSEWHERE = "/elsewhere"  # a redirect leads to this path on another name of this machine
MEGABYTE = 1024 * 1024
TAG = re.compile(r"<[^>]*>")
HALF_CHARACTER, CONTROL_CHARACTER = "\ue000", "\ue001"
"""Written into texts; made into bytes as the answer leaves."""

DATED = ("created_at", "updated_at")
DATES: tuple[Any, ...] = (
    *("0000-00-00 00:00:00", "", "Fri, 27 Nov 2026 10:00:00 +0000", "2026-11-27T23:59:60Z", "20261127"),
    *(None, 1795773600),
)
NOTHING: tuple[Any, ...] = ("", " ", "N/A", "***", "null", "-", None)
QUANTITIES: tuple[Any, ...] = (-3, None, "7", "", 2.5, True)
STATUS_WORDS = {
    "pending": "awaiting_stock_check",
    "processing": "label_printed",
    "shipped": "in_transit_to_hub",
    "delivered": "closed",
    "cancelled": "closed",
    "refunded": "settled_with_buyer",
}
TEXTS_OF_DIGITS = ("sku", "product_id", "postal_code", "phone", "line2", "state", "number")
NUMBERS = ("price", "quantity", "total", "shipping_cost", "weight", "dimensions")
OBJECTS = ("attributes", "shipping", "customer", "shipping_address", "tracking")


def _refusal(sentence: str) -> Reply:
    return Reply(400, {"error": {"code": "bad_parameter", "message": sentence}})


def _empty(page: Json, use: Use, lookup: bool) -> None:
    products = use.call.name == "listProducts"
    if products and bool(use.call.query["sku"]) is lookup and use.among_the_first():
        page.update(data=[], total=0)


def _shorten(page: Json, use: Use) -> None:
    total = page["total"] if page["total"] is not None else page["offset"] + len(page["data"])
    page["data"] = page["data"][: max(0, total - int(use.number) - page["offset"])]


def _refuse_old_dates(use: Use) -> Reply | None:
    past = datetime.now(UTC) - timedelta(days=use.number)
    dates = [given for name, given in use.call.query.items() if name.endswith("_from") and given]
    return _refusal("The date is too long ago.") if any(moment(given) < past for given in dates) else None


def _serial(row: Json) -> int:
    """The number in a row's id; 0 without one."""
    return int("".join(letter for letter in str(row.get("id") or "") if letter in "0123456789")[-15:] or 0)


def _each(value: Any, names: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    """The value with what is under these names changed, however deep."""
    if isinstance(value, list):
        return [_each(one, names, change) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _each(change(one) if name in names else one, names, change) for name, one in value.items()}


def _as_text(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    try:
        return f"{value:,}" if isinstance(value, int) else f"{Decimal(str(value)):,}"
    except ArithmeticError:
        return value


def _as_number(value: Any) -> Any:
    digits = re.sub("[-+ ]", "", value) if isinstance(value, str) else ""
    return int(digits) if digits.isdecimal() else value


def _number_ids(row: Json, use: Use) -> None:
    if use.call.name:
        row.update(_each(row, ("id", "product_id"), lambda one: int(one) if str(one).isdecimal() else one))


def _mask(row: Json, use: Use) -> None:
    if use.nth(row):
        nothing = NOTHING[_serial(row) % len(NOTHING)]
        row["tracking"] = dict.fromkeys(("carrier", "number", "url"), nothing)
        for part in ("customer", "shipping_address"):
            row[part] = dict.fromkeys(row.get(part) or {}, nothing)


def _thin_out(row: Json, _: Use) -> None:
    lines = [{name: line.get(name) for name in ("sku", "quantity")} for line in row.get("items") or []]
    kept = {"id": row["id"], "status": row.get("status"), "items": lines, "customer": None}
    row.clear()
    row.update(kept)


def _mark(row: Json, use: Use, mark: str) -> None:
    """Puts a mark into the buyer's name and the titles."""
    if use.nth(row):
        row["customer"] = {**(row.get("customer") or {}), "name": f"Sample {mark}"}
        row["items"] = [{**line, "title": f"Part {mark}"} for line in row.get("items") or []]


def _odd_quantity(row: Json, use: Use) -> None:
    if use.nth(row):
        quantity = QUANTITIES[_serial(row) // max(1, int(use.number)) % len(QUANTITIES)]
        row["inventory"] = {**(row.get("inventory") or {}), "quantity": quantity}


def _name_tax(row: Json, _: Use) -> None:
    lines = row.get("items") or []
    goods = sum(Decimal(str(one.get("price") or 0)) * one.get("quantity", 0) for one in lines)
    row.update(taxes_included=True, tax_total=f"{goods / 6:.2f}")


def _charge(row: Json, amount: int | str, **shown: Any) -> None:
    """Moves the total, and shows why."""
    row.update(shown, total=f"{Decimal(str(row.get('total') or 0)) + Decimal(amount):.2f}")


def _discount_lines(row: Json, _: Use) -> None:
    lines = [{**line, "discount": "1.00"} for line in row.get("items") or []]
    _charge(row, -len(lines), items=lines)


def _rewrite_images(use: Use) -> None:
    for place, image in enumerate(use.call.body.get("images") or []):
        image["url"] = f"https://images.example.com/{place}/{str(image.get('url')).rsplit('/', 1)[-1]}"


def _strip_html(use: Use) -> None:
    if use.call.body.get("description") is not None:
        use.call.body["description"] = TAG.sub("", use.call.body["description"]).strip()


def _write_late(use: Use) -> None:
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


def _refuse_older(use: Use) -> Reply | None:
    key, at = use.call.key, moment(use.call.body["timestamp"])
    if at < use.memory.get(key, at):
        return Reply(200, level(use.state.product(key)))
    use.memory[key] = at
    return None


def _ask_for_a_pause(use: Use) -> Reply | None:
    if not use.among_the_first():
        return None
    error: Json = {"code": "rate_limited", "message": "Too many calls."}
    return Reply(429, {"error": error}, [(b"retry-after", str(int(time.time()) + 2).encode())])


def _redirect(use: Use) -> Reply:
    port = use.call.headers.get(b"host", b"").rpartition(b":")[2].decode("latin-1")
    address = f"http://localhost:{port}{ELSEWHERE}{use.call.path}"
    return Reply(int(use.number), None, [(b"location", address.encode())])


def _blow_up(status: int, body: bytes, headers: Headers, use: Use) -> Answer:
    packed = gzip.compress(b" " * int(use.number * MEGABYTE) + body, compresslevel=1)
    return status, packed, [*headers, (b"content-encoding", b"gzip")]


def _swell(status: int, body: bytes, headers: Headers, use: Use) -> Answer:
    blanks = repeat(b" " * (MEGABYTE // 16), int(use.number * 16))
    return status, chain(blanks, [body]), headers


ASK: dict[str, tuple[tuple[str, ...], Callable[[Use], Any]]] = {
    "deep-offsets-refused": (
        LISTS,
        lambda use: _refusal("The offset is too large.") if use.call.query["offset"] > use.number else None,
    ),
    "small-pages": (
        LISTS,
        lambda use: use.call.query.update(limit=min(use.call.query["limit"], int(use.number))),
    ),
    "first-page-only": (LISTS, lambda use: use.call.query.update(offset=0)),
    "short-history": (LISTS, _refuse_old_dates),
    "deletes-ignored": (("deleteProduct",), lambda use: Reply(200, use.state.product(use.call.key))),
    "order-updates-ignored": (("updateOrder",), lambda use: Reply(200, use.state.order(use.call.key))),
    "stock-ignored": (("setInventory",), lambda use: Reply(200, level(use.state.product(use.call.key)))),
    "product-updates-ignored": (("replaceProduct",), lambda use: Reply(200, use.state.product(use.call.key))),
    "skus-respelled": (DRAFTS, lambda use: use.call.body.update(sku=use.call.body["sku"].lower())),
    "images-rewritten": (DRAFTS, _rewrite_images),
    "html-stripped": (DRAFTS, _strip_html),
    "title-case": (DRAFTS, lambda use: use.call.body.update(title=use.call.body["title"].title())),
    "late-writes": (("setInventory",), _write_late),
    "older-quantities-refused": (("setInventory",), _refuse_older),
    "unix-retry-after": ((), _ask_for_a_pause),
    "redirects": ((), _redirect),
}
"""Before a call is carried out: those it is about (all where none is named), and what changes it or gives its Reply."""

Change = Callable[[Json, Use], Any]
PAGE: dict[str, Change] = {
    "empty-lists": lambda page, use: _empty(page, use, lookup=False),
    "empty-lookups": lambda page, use: _empty(page, use, lookup=True),
    "short-lists": _shorten,
    "capped-totals": lambda page, use: page.update(total=min(page["total"], int(use.number))),
    "huge-totals": lambda page, _: page.update(total=10**30),
    "no-totals": lambda page, _: page.update(total=None),
    "few-rows": lambda page, use: page.update(data=page["data"][: int(use.number)]),
}
"""Changes a page of a list."""

_BOTH: dict[str, Change] = {
    "numbers-as-texts": lambda row, _: row.update(_each(row, NUMBERS, _as_text)),
    "texts-as-numbers": lambda row, _: row.update(_each(row, TEXTS_OF_DIGITS, _as_number)),
    "number-ids": _number_ids,
    "objects-as-lists": lambda row, _: row.update({name: [] for name in OBJECTS if name in row}),
    "odd-dates": lambda row, _: row.update(dict.fromkeys(DATED, DATES[_serial(row) % len(DATES)])),
}
PRODUCT: dict[str, Change] = _BOTH | {
    "odd-quantities": _odd_quantity,
    "images-as-texts": lambda row, _: row.update(images=[one.get("url") for one in row.get("images") or []]),
}
ORDER: dict[str, Change] = _BOTH | {
    "masked-values": _mask,
    "sparse-orders": _thin_out,
    "half-characters": lambda row, use: _mark(row, use, HALF_CHARACTER),
    "control-characters": lambda row, use: _mark(row, use, CONTROL_CHARACTER),
    "not-a-number": lambda row, use: row.update(total=float("nan")) if use.nth(row) else None,
    "unknown-statuses": lambda row, _: row.update(status=STATUS_WORDS.get(row.get("status"), "somewhere")),
    "tax-included": _name_tax,
    "line-discounts": _discount_lines,
    "gift-cards": lambda row, _: _charge(row, "-2.50", gift_card="2.50"),
    "fees": lambda row, _: _charge(row, "1.75", fees=[{"name": "handling", "amount": "1.75"}]),
}
"""Change a copy of a row, as callers and webhooks see it."""

ANSWER: dict[str, Callable[[int, bytes, Headers, Use], Answer]] = {
    "gzip-bomb": _blow_up,
    "endless-bodies": _swell,
}
"""Gives other bytes in answer to a read."""
