"""The words that 4Seller has for where an order stands, and whether it is paid."""

from __future__ import annotations

import pytest

from midas_pipelines.fourseller.status import read_status
from midas_pipelines_tests.shop import add_product, rows, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import order_json
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
    add_product(world.database, sku="A", stock_quantity=9)
    order_id = world.place(("A", 1), status="Teleported")
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


# no guess is taken as a report


FROM_4SELLER = {
    "un_paid": "pending",
    "to_ship": "pending",
    "on_hold": "pending",
    "in_process": "pending",
    "shipped": "shipped",
    "delivered": "delivered",
}


def test_the_words_of_4sellers_own_pages_are_known() -> None:
    assert {word: read_status(word).status.value for word in FROM_4SELLER} == FROM_4SELLER
    assert all(read_status(word).known for word in FROM_4SELLER)
    assert read_status("un_paid").unpaid
    assert read_status("Unpaid").unpaid
    assert not read_status("to_ship").unpaid
    assert not read_status(None).unpaid


@pytest.mark.parametrize("report", [paper.polled, paper.told], ids=["poll", "webhook"])
def test_an_unknown_word_is_kept_and_shown_wherever_the_order_is(world: World, report: paper.Report) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    states = ["processing", "shipped", "delivered", "cancelled", "refunded"]

    def say(minute: int, word: str | None = None) -> None:
        """Every order is so called, or what is its id."""
        at = f"2099-01-01T00:0{minute}:00Z"
        report(world, *(order_json(order_id=state, status=word or state, updated_at=at) for state in states))

    say(1, "pending")
    say(2)
    before = desk.on_shelf(world)
    say(3, "closed")
    for state in states:
        order = desk.order(world, state)
        assert (order.status, order.status_word, order.exception) == (state, "closed", "unknown_status")
    assert set(desk.alerts(world)) >= {"unknown_status"}
    assert "order_conflict" not in desk.alerts(world)
    assert desk.on_shelf(world) == before
    assert not world.import_orders().updated
    say(4)
    assert {desk.order(world, state).exception for state in states} == {None}
    desk.assert_whole(world)
