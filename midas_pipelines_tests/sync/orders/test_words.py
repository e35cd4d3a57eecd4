"""The words that 4Seller has for where an order stands, and whether it is paid."""

from __future__ import annotations

import pytest

from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World


def standing(world: World) -> tuple[str, str]:
    """The shop's status and payment status of its only order."""
    ((status, payment),) = rows(world.database, "SELECT status, payment_status FROM orders")
    return status, payment


PAID: dict[str, list[tuple[str, str, str]]] = {  # word, the shop's status, the shop's payment status
    "step by step": [
        ("Unpaid", "pending", "pending"),
        ("pending", "pending", "paid"),
        ("processing", "processing", "paid"),
        ("shipped", "shipped", "paid"),
        ("delivered", "delivered", "paid"),
    ],
    "at once": [("Unpaid", "pending", "pending"), ("shipped", "shipped", "paid")],
    "by another word for waiting": [("unpaid", "pending", "pending"), ("On-Hold", "pending", "paid")],
    "by a word that nobody knows": [("unpaid", "pending", "pending"), ("Teleported", "pending", "pending")],
    "and paid back": [("unpaid", "pending", "pending"), ("refunded", "cancelled", "refunded")],
}


@pytest.mark.parametrize("words", PAID.values(), ids=PAID)
def test_when_an_order_counts_as_paid(world: World, words: list[tuple[str, str, str]]) -> None:
    order_id = world.place(("A", 1), status=words[0][0])
    for word, status, payment in words:
        world.sandbox.state.edit_order(order_id, {"status": word})
        world.import_orders()
        assert standing(world) == (status, payment)
        assert desk.order(world, order_id).status_word == word


def test_a_word_that_nobody_knows_is_kept_and_told_once(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    order_id, other = world.place(("A", 1)), world.place(("A", 1))
    world.import_orders()
    for name in (order_id, other):
        world.sandbox.state.edit_order(name, {"status": "Teleported"})
    for _ in range(2):
        world.import_orders()
    order = desk.order(world, order_id)
    assert (order.status, order.status_word, order.exception) == ("pending", "Teleported", "unknown_status")
    assert desk.alerts(world) == ["unknown_status"]
    assert desk.steps(world, order_id) == ["imported", "deducted", "status_word"]
    assert order_id in value(world.database, "SELECT text FROM alerts")


@pytest.mark.parametrize(("word", "status"), [("pending", "pending"), ("processing", "processing")])
def test_a_word_that_is_known_again_ends_it(world: World, word: str, status: str) -> None:
    order_id = world.place(status="Teleported", total="0", shipping_cost="0")
    world.import_orders()
    assert desk.order(world, order_id).exception == "unknown_status"
    world.sandbox.state.edit_order(order_id, {"status": word})
    world.import_orders()
    assert (desk.order(world, order_id).status, desk.order(world, order_id).exception) == (status, None)


def test_a_word_that_nobody_knows_takes_no_order_back(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    order_id = world.place(("A", 1), status="shipped")
    world.import_orders()
    world.sandbox.state.edit_order(order_id, {"status": "Teleported"})
    world.import_orders()
    assert (desk.order(world, order_id).status, desk.stock(world, product)) == ("shipped", 8)
    assert standing(world) == ("shipped", "paid")
