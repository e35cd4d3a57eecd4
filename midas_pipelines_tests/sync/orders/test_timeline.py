"""The story of an order: whatever happened to it is told, in time, with its cause, and without the buyer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal

import pytest

from midas_pipelines.cli.printing import print_json
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.exceptions import resolve_conflict
from midas_pipelines.sync.orders.customer_mail import send_mails
from midas_pipelines.sync.orders.lookup import Timeline, find_order, read_timeline
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.orders.stock import pending_lines
from midas_pipelines.sync.orders.stock.units import restock_units
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import add_product, add_variant, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.letterbox import order_context
from midas_pipelines_tests.sync.world import World

RUN = "0f5e3a52-7b1c-4c55-9d1e-2f60a8f0c001"
BUYER = {"name": "Zyxwvu Personname", "email": "zyxwvu@home.example", "phone": "+1-555-0987"}


def story(world: World, order_id: str) -> Timeline:
    with world.database.reading() as connection:
        return read_timeline(connection, find_order(connection, order_id))


def told(world: World, order_id: str) -> list[str]:
    """What happened, each with its detail in one line."""
    return [f"{entry.what}: {entry.detail}" for entry in story(world, order_id).entries]


@pytest.fixture
def sold(world: World) -> str:
    """An imported order for 5 of A, of which 3 are there, at 10.00."""
    add_product(world.database, sku="A", stock_quantity=3)
    add_product(world.database, sku="B", stock_quantity=5)
    order = world.place(("A", 5), sales_channel="ebay", customer=BUYER)
    world.import_orders()
    return order


def restocked(world: World, order: str) -> None:
    world.set(1, stock_quantity=4)
    world.import_orders()


def fewer(world: World, order: str) -> None:
    desk.edit(world, order, ("A", 2))
    world.import_orders()


def other_lines(world: World, order: str) -> None:
    desk.edit(world, order, ("B", 1), ("NOPE", 1))
    world.import_orders()


def dearer(world: World, order: str) -> None:
    desk.edit(world, order, shipping_cost="9.99", total="59.99")
    world.import_orders()


def moved_house(world: World, order: str) -> None:
    desk.edit(world, order, shipping_address={"line1": "2 Other Street"}, customer=BUYER | {"name": "X"})
    world.import_orders()


def shipped_in_part(world: World, order: str) -> None:
    desk.pack(world, order, units={1: 2})
    desk.sync(world)


def shipped_by_the_shop(world: World, order: str) -> None:
    desk.shop_packs(world, order, desk.FEDEX, "FedEx")
    desk.sync(world)


def unreadable(world: World, order: str) -> None:
    desk.shop_packs(world, order, "see the label")
    desk.sync(world)


def cancelled(world: World, order: str) -> None:
    world.sandbox.state.move(order, "cancelled")
    world.import_orders()


def refunded_after_shipping(world: World, order: str) -> None:
    fewer(world, order)
    desk.pack(world, order)
    desk.sync(world)
    world.sandbox.state.move(order, "refunded")
    world.import_orders()


def returned(world: World, order: str) -> None:
    shipped_in_part(world, order)
    with world.database.writing() as connection:
        row = lock_order(connection, desk.order(world, order).id)
        restock_units(row, units={1: 1})


def settled(world: World, order: str) -> None:
    shipped_in_part(world, order)
    cancelled(world, order)
    with world.database.writing() as connection:
        row = lock_order(connection, desk.order(world, order).id)
        resolve_conflict(row, "cancelled", restock=True)


def mapped(world: World, order: str) -> None:
    other_lines(world, order)
    pending_lines.map_line(world.database, desk.order(world, order).id, 3, (2, None), OrderContext())


def refused(world: World, order: str) -> None:
    shipped_in_part(world, order)
    desk.shop_sets(world, order, "on fire")
    desk.sync(world)


def called_otherwise(world: World, order: str) -> None:
    desk.edit(world, order, status="unpaid")
    world.import_orders()


HISTORIES: dict[Callable[[World, str], None], list[str]] = {
    restocked: [
        "stock: backorder: Line 1, A: -2, 2 on hand",
        "allocated: Line 1, A: stock came back, took 2",
    ],
    fewer: [
        "stock: edited: Line 1, A: +1, 1 on hand",
        "edited: The marketplace changed the order: line 1 from 5",
    ],
    other_lines: [
        "is gone; line 2 is new: 1 of B at 10.00",
        "stock: edited: Line 1, A: +3",
        "unmapped: Line 3, NOPE",
    ],
    dearer: [
        "edited: The marketplace changed the amounts: total 54.99 -> 59.99, shipping cost 4.99 -> 9.99 USD."
    ],
    moved_house: ["edited: The marketplace changed the buyer and address."],
    shipped_in_part: [
        f"partly_shipped: Shipment, UPS {desk.UPS}: 2 of A (line 1).",
        "processing: The shop's pending -> processing was pushed to 4Seller.",
        f"tracking_pushed: 4Seller knows the shipment UPS {desk.UPS}.",
        f"shipment: UPS {desk.UPS} https://www.ups.com/",
    ],
    shipped_by_the_shop: [f"partly_shipped: Shipment, FedEx {desk.FEDEX}: 3 of A (line 1)."],
    unreadable: ["tracking_refused: ", "not pushed to 4Seller yet ('see the label' is no tracking number"],
    cancelled: [
        "cancelled: pending -> cancelled. 4Seller: cancelled.",
        "stock: cancelled: Line 1, A: +3, 3 on hand",
    ],
    refunded_after_shipping: ["refunded: shipped -> refunded. 4Seller: refunded."],
    returned: ["stock: returned: Line 1, A: +1, 1 on hand", "released: Line 1, A: 1 back in stock."],
    settled: [
        "conflict: The marketplace cancelled the order",
        "resolved: An operator resolved",
        "stock: cancelled: Line 1, A: +1, 1 on hand",
        "stock: cancelled: Line 1, A: +2, 3 on hand",
    ],
    mapped: [
        "mapped: Line 3, NOPE: it is product 2; took 1 from stock.",
        "stock: sale: Line 3, NOPE: -1, 3 on hand",
    ],
    refused: ["refused_transition: The shop says on fire"],
    called_otherwise: ["status_word: 4Seller calls it unpaid now."],
}
BEGINNING = [
    "imported: ebay order of",
    "deducted: Took 3 of A (line 1) from stock.",
    "oversold: Line 1, A: 5 were sold and 3 were there; 2 are backordered.",
    "stock: sale: Line 1, A: -3, 0 on hand after it.",
]


@pytest.mark.parametrize("happens", HISTORIES)
def test_what_happens_is_told_once_in_time_and_without_the_buyer(
    world: World, sold: str, happens: Callable[[World, str], None]
) -> None:
    happens(world, sold)
    entries = told(world, sold)
    for beginning in [*BEGINNING, *HISTORIES[happens]]:
        assert sum(beginning in entry for entry in entries) == 1, (beginning, entries)
    moments = [entry.at for entry in story(world, sold).entries]
    assert moments == sorted(moments)
    assert not any(word in str(story(world, sold)) for word in (*BUYER.values(), "Zyxwvu", "Other Street"))


def test_the_books_of_the_story_are_the_books_of_the_order(world: World, sold: str) -> None:
    for happens in (restocked, fewer, shipped_in_part, returned):
        happens(world, sold)
    facts = [entry.facts for entry in story(world, sold).entries if entry.what.startswith("stock: ")]
    (line,) = desk.lines(world, sold)
    assert -sum(fact["delta"] for fact in facts) == line.allocated - line.released
    assert facts[-1]["quantity_after"] == desk.stock(world, 1)
    assert {(fact["line"], fact["product_id"], fact["variant_id"]) for fact in facts} == {(1, 1, None)}


def test_programs_read_the_same_as_one_json_object(
    world: World, sold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped_in_part(world, sold)
    print_json(asdict(story(world, sold)))
    read = json.loads(capsys.readouterr().out)
    assert (read["order"]["marketplace_order_id"], read["order"]["total"]) == (sold, "54.99")
    assert (read["lines"][0]["backordered"], read["lines"][0]["shipped"]) == (2, 2)
    (parcel,) = [entry for entry in read["entries"] if entry["what"] == "shipment"]
    assert parcel["facts"]["tracking_number"] == desk.UPS
    assert parcel["facts"]["pushed_at"] > parcel["at"]
    assert {"at", "what", "detail", "cause", "facts"} == set(parcel)


def test_the_run_behind_each_step_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    add_product(world.database, sku="A", stock_quantity=3)
    order = world.place(("A", 5), ("NOPE", 1))
    context = SyncContext(world.settings, world.database, run_id=RUN)
    monkeypatch.setattr(world, "sync_context", lambda: context)
    world.import_orders()
    add_product(world.database, sku="NOPE", stock_quantity=1)
    restocked(world, order)
    desk.edit(world, order, ("A", 4), ("NOPE", 1), shipping_cost="5.00", total="55.00")
    world.import_orders()
    shipped_by_the_shop(world, order)
    world.sandbox.state.move(order, "refunded")
    world.import_orders()
    steps = [entry for entry in story(world, order).entries if "run_id" in entry.facts]
    assert len(steps) >= 10
    assert {(entry.cause, entry.facts["run_id"]) for entry in steps} == {("run 0f5e3a52", RUN)}


@pytest.mark.both_databases
def test_messages_are_told_with_what_became_of_them(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    order = world.place(("A", 1), sales_channel="ebay", customer=BUYER)
    world.import_orders()
    box.answers = ["451 later", "250 OK", "550 spam"]
    send_mails(world.database, world.settings, RUN)
    assert any("message: received: Queued; waiting now, 1 attempts" in entry for entry in told(world, order))
    run(world.database, "UPDATE customer_mails SET next_attempt_at = NULL")
    desk.pack(world, order, order_context=order_context(world))
    send_mails(world.database, world.settings, RUN)
    entries = {entry.what: entry for entry in story(world, order).entries}
    assert entries["message: received"].detail == "Queued; sent now, 2 attempts."
    assert entries["message: received"].facts["sent_at"] is not None
    assert (
        "failed now, 1 attempts: The mail server refused the message (550)."
        in entries["message: shipped"].detail
    )
    assert (entries["confirmed"].cause, entries["not_confirmed"].cause) == ("run 0f5e3a52", "run 0f5e3a52")
    assert "zyxwvu" not in str(story(world, order)).lower()


@pytest.mark.both_databases
def test_an_item_that_was_renamed_or_moved_keeps_its_part_of_the_story(world: World) -> None:
    first, second = add_product(world.database, sku="P1"), add_product(world.database, sku="P2")
    variant = add_variant(world.database, first, sku="V", stock_quantity=4)
    order = world.place(("V", 2))
    world.import_orders()
    run(
        world.database,
        "UPDATE product_variants SET product_id = :p, sku = 'NEW' WHERE id = :v",
        p=second,
        v=variant,
    )
    cancelled(world, order)
    assert [entry for entry in told(world, order) if entry.startswith("stock")] == [
        "stock: sale: Line 1, V: -2, 2 on hand after it.",
        "stock: cancelled: Line 1, V: +2, 4 on hand after it.",
    ]


def test_orders_whose_ids_begin_alike_are_not_mixed_up(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=50)
    ids = ("X", "X:1", "X:1:1", "X%", "X_", "x", "X:1+1")
    for units, order in enumerate(ids, start=1):
        world.place(("A", units), id=order)
    world.import_orders()
    for order in ids:
        cancelled(world, order)
    for units, order in enumerate(ids, start=1):
        deltas = [entry.facts["delta"] for entry in story(world, order).entries if "delta" in entry.facts]
        assert deltas == [-units, units], order


def test_an_order_that_was_set_aside_says_why(world: World) -> None:
    order = world.place(("A", 1), items="A")
    world.import_orders()
    found = story(world, order)
    assert "lines cannot be read" in str(found.order["reason"])
    assert (found.lines, found.order["outcome"], found.order["shop_status"]) == ([], "quarantined", None)
    assert [entry.what for entry in found.entries] == ["failed"]


def test_an_order_that_the_shop_deleted_still_has_its_story(world: World, sold: str) -> None:
    run(world.database, "DELETE FROM orders")
    assert [entry for entry in told(world, sold) if BEGINNING[0] in entry]
    assert story(world, sold).order["total"] == Decimal("54.99")
