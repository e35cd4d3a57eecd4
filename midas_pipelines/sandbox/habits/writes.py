"""Habits of writes: silently ignored, applied late, or stored differently."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from midas_pipelines.sandbox.habits.habit import Habit, HabitCall, NoAnswer, Reply, Use
from midas_pipelines.sandbox.state import Json, moment

TAG = re.compile(r"<[^>]*>")
DRAFTS = ("createProduct", "replaceProduct")


def ignored(operation: str, shown: Callable[[Use], Any]) -> Callable[[Use], Reply | None]:
    """An `ask` that answers 200 with what is there and does nothing."""

    def ask(use: Use) -> Reply | None:
        return Reply(200, shown(use)) if use.call.name == operation else None

    return ask


def level(product: Json) -> Json:
    """A product's stock as the inventory calls answer it."""
    quantity = (product.get("inventory") or {}).get("quantity", 0)
    return {"product_id": product["id"], "quantity": quantity, "updated_at": product["updated_at"]}


def rewritten(change: Callable[[Json, HabitCall], None]) -> Callable[[Use], Reply | None]:
    """An `ask` that stores something else than the draft of a product."""

    def ask(use: Use) -> None:
        if use.call.name in DRAFTS:
            use.call.body = dict(use.call.body)
            change(use.call.body, use.call)

    return ask


def other_images(draft: Json, _: HabitCall) -> None:
    """The pictures at addresses of the hub's own."""
    draft["images"] = [
        {**one, "url": f"https://images.example.com/{index}/{str(one.get('url')).rsplit('/', 1)[-1]}"}
        for index, one in enumerate(draft.get("images") or [])
    ]


def other_text(field: str, change: Callable[[str], str]) -> Callable[[Json, HabitCall], None]:
    """One text field changed."""

    def apply(draft: Json, _: HabitCall) -> None:
        if isinstance(draft.get(field), str):
            draft[field] = change(draft[field])

    return apply


def late(use: Use) -> None:
    """The first write of each quantity to a product is not answered, and is carried out N seconds later."""
    call, state = use.call, use.state
    if (
        call.name != "setInventory"
        or use.memory.setdefault((call.key, call.body["quantity"]), call) is not call
    ):
        return
    state.product(call.key)

    def apply() -> None:
        if call.key in state.products:
            state.set_quantity(call.key, call.body["quantity"])

    asyncio.get_running_loop().call_later(use.number, apply)
    raise NoAnswer


def older_refused(use: Use) -> Reply | None:
    """A quantity read before the one that is there changes nothing."""
    call = use.call
    if call.name != "setInventory" or not call.body.get("timestamp"):
        return None
    read_at = moment(call.body["timestamp"])
    if read_at < use.memory.get(call.key, read_at):
        return Reply(200, level(use.state.product(call.key)))
    use.memory[call.key] = read_at
    return None


HABITS = {
    "deletes-ignored": Habit(
        "DELETE of a product answers 200 and deletes nothing.",
        ask=ignored("deleteProduct", lambda use: use.state.product(use.call.key)),
    ),
    "order-updates-ignored": Habit(
        "PATCH of an order answers 200 with the order as it was.",
        ask=ignored("updateOrder", lambda use: use.state.order(use.call.key)),
    ),
    "stock-ignored": Habit(
        "PATCH of a quantity answers 200 with the quantity as it was.",
        ask=ignored("setInventory", lambda use: level(use.state.product(use.call.key))),
    ),
    "product-updates-ignored": Habit(
        "PUT of a product answers 200 with the product as it was.",
        ask=ignored("replaceProduct", lambda use: use.state.product(use.call.key)),
    ),
    "skus-respelled": Habit(
        "PUT and POST keep the SKU in lower case.", ask=rewritten(other_text("sku", str.lower))
    ),
    "images-rewritten": Habit("PUT and POST keep pictures at other addresses.", ask=rewritten(other_images)),
    "html-stripped": Habit(
        "PUT and POST keep the description without tags.",
        ask=rewritten(other_text("description", lambda text: TAG.sub("", text).strip())),
    ),
    "title-case": Habit(
        "PUT and POST Keep The Title Like This.", ask=rewritten(other_text("title", str.title))
    ),
    "late-writes": Habit(
        "The first PATCH of each quantity of a product is not answered and is carried out N seconds later.",
        5,
        ask=late,
    ),
    "older-quantities-refused": Habit(
        "PATCH of a quantity with an older timestamp than the last answers 200 and changes nothing.",
        ask=older_refused,
    ),
}
