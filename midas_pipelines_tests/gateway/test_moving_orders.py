"""Moving an order on through the gateway: shop and 4Seller together, or neither and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import HOOK, SECRET, Gateway
from midas_pipelines_tests.shop import rows, run, value
from midas_pipelines_tests.sync.orders import desk

PARCEL = {"carrier": "ups", "number": desk.UPS}


class Caller:
    """The shop's own code, with a key of an operator."""

    def __init__(self, gateway: Gateway) -> None:
        self.world, self._gateway, self._key = gateway.world, gateway, gateway.key(Role.OPERATOR)

    def move(self, order_id: str, **move: Any) -> tuple[int, dict[str, Any]]:
        """PATCHes the order; the code, and the answer without its ids."""
        answer = self._gateway.call("PATCH", f"orders/{order_id}", self._key, json=move)
        told = answer.json()
        names = ("status", "pushed", "reason") if answer.status_code == 200 else ("detail",)
        return answer.status_code, {name: told[name] for name in names}


@pytest.fixture
def caller(door: Gateway) -> Caller:
    return Caller(door)


def payment(caller: Caller) -> tuple[str, str]:
    """Status and payment status of the shop's only order."""
    (row,) = rows(caller.world.database, "SELECT status, payment_status FROM orders")
    return row[0], row[1]


def test_a_refund_is_told_as_a_refund_and_frees_the_stock(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    told = caller.move(order_id, status="refunded")
    assert told == (200, {"status": "cancelled", "pushed": True, "reason": None})
    assert desk.at_4seller(caller.world, order_id)[0] == "refunded"
    assert (payment(caller), desk.on_shelf(caller.world)) == (("cancelled", "refunded"), {"A": 10})
    assert caller.move(order_id, status="refunded")[0] == 409
    assert desk.sync(caller.world).scanned == 0


def test_a_refund_of_what_has_left_frees_nothing(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    desk.pack(caller.world, order_id)
    desk.sync(caller.world)
    assert caller.move(order_id, status="refunded") == (
        200,
        {"status": "shipped", "pushed": True, "reason": None},
    )
    assert desk.at_4seller(caller.world, order_id)[0] == "refunded"
    assert (payment(caller), desk.on_shelf(caller.world)) == (("shipped", "refunded"), {"A": 7})
    desk.sync(caller.world)
    assert desk.order(caller.world, order_id).exception is None


def test_a_refund_that_4seller_does_not_take_changes_nothing_and_says_so(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    with desk.refused(caller.world, 422, orders=[order_id]):
        code, answer = caller.move(order_id, status="refunded")
    assert (code, answer["pushed"], answer["status"]) == (200, False, "pending")
    assert "4Seller refused" in answer["reason"]
    assert (payment(caller)[0], desk.on_shelf(caller.world)) == ("pending", {"A": 7})


MOVES: dict[str, dict[str, Any]] = {
    "a status": {"status": "shipped"},
    "a parcel": {"shipment": PARCEL},
    "both": {"status": "shipped", "shipment": PARCEL},
}


def test_what_4seller_has_cancelled_meanwhile_is_not_told_and_becomes_a_conflict(caller: Caller) -> None:
    for case, move in MOVES.items():
        order_id = desk.sold(caller.world, **{case: 3})
        desk.market(caller.world, order_id, "cancelled")
        code, answer = caller.move(order_id, **move)
        assert (code, answer["pushed"]) == (200, False), case
        assert "conflict" in answer["reason"], case
        desk.sync(caller.world)
        assert "conflict" in desk.order(caller.world, order_id).exception, case
        code, answer = caller.move(order_id, status="delivered")
        assert (code, "midas orders resolve" in answer["detail"]) == (409, True), case


def test_a_parcel_and_a_status_that_no_step_leads_to_are_both_undone(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    desk.shop_sets(caller.world, order_id, "delivered")
    code, answer = caller.move(order_id, status="shipped", shipment=PARCEL)
    assert (code, answer["detail"]) == (409, "The order is delivered; no step leads from there to shipped.")
    assert rows(caller.world.database, "SELECT 1 FROM order_shipments") == []
    assert [line.shipped for line in desk.lines(caller.world, order_id)] == [0]
    assert "all_shipped" not in desk.steps(caller.world, order_id)


def test_nothing_of_a_cancelled_order_leaves(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    desk.shop_sets(caller.world, order_id, "cancelled")
    for move in MOVES.values():
        assert caller.move(order_id, **move)[0] == 409
    assert rows(caller.world.database, "SELECT 1 FROM order_shipments") == []
    desk.sync(caller.world)
    assert desk.on_shelf(caller.world) == {"A": 10}


@pytest.mark.parametrize("pushed", [False, True], ids=["unpushed", "pushed"])
def test_what_has_left_in_part_is_not_cancelled(caller: Caller, pushed: bool) -> None:
    order_id = desk.sold(caller.world, A=3)
    desk.pack(caller.world, order_id, units={1: 2})
    if pushed:
        desk.sync(caller.world)
    code, answer = caller.move(order_id, status="cancelled")
    assert (code, "goods have left" in answer["detail"]) == (409, True)
    assert (desk.shop_status(caller.world, order_id), desk.on_shelf(caller.world)) == ("processing", {"A": 7})


def test_an_order_that_the_shop_has_deleted_is_409(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    run(caller.world.database, "DELETE FROM orders")
    for case, move in MOVES.items():
        code, answer = caller.move(order_id, **move)
        assert (code, "deleted its order" in answer["detail"]) == (409, True), case
    assert desk.at_4seller(caller.world, order_id) == ("pending", None)


def test_an_order_that_was_set_aside_is_404(caller: Caller) -> None:
    order_id = caller.world.place(("A", 1), items="A")
    caller.world.import_orders()
    code, answer = caller.move(order_id, status="shipped")
    assert (code, "is quarantined" in answer["detail"]) == (404, True)


def test_the_same_parcel_again_is_the_same_answer(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    for number in (desk.UPS, "1z 999 aa1 01 2345 6784"):
        told = caller.move(order_id, shipment={"carrier": "ups", "number": number})
        assert told == (200, {"status": "shipped", "pushed": True, "reason": None})
    assert value(caller.world.database, "SELECT count(*) FROM order_shipments") == 1
    assert value(caller.world.database, "SELECT source FROM order_shipments").startswith("the operator: ")
    assert desk.at_4seller(caller.world, order_id) == ("shipped", desk.UPS)


def test_a_parcel_is_on_record_though_4seller_refuses_the_key(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    with desk.refused(caller.world, 401, orders=[order_id]):
        code, answer = caller.move(order_id, shipment=PARCEL)
    assert (code, answer["status"], answer["pushed"]) == (200, "shipped", False)
    assert "refused" in answer["reason"]
    assert value(caller.world.database, "SELECT count(*) FROM order_shipments") == 1


def test_an_order_leaves_in_parts_as_the_lines_say(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3, B=1)
    part = PARCEL | {"lines": [{"line": 1, "quantity": 1}, {"line": 1, "quantity": 1}]}
    code, answer = caller.move(order_id, status="shipped", shipment=part)
    assert (code, "more to ship" in answer["detail"]) == (409, True)
    for _ in range(2):
        told = caller.move(order_id, shipment=part)
        assert told == (200, {"status": "processing", "pushed": True, "reason": None})
    assert desk.at_4seller(caller.world, order_id) == ("processing", desk.UPS)
    assert caller.move(order_id, shipment=PARCEL | {"lines": [{"line": 1, "quantity": 1}]})[0] == 409
    assert caller.move(order_id, shipment=PARCEL | {"lines": [{"line": 9, "quantity": 1}]})[0] == 409
    assert [line.shipped for line in desk.lines(caller.world, order_id)] == [2, 0]
    rest = {"carrier": "fedex", "number": desk.FEDEX, "lines": [{"line": n, "quantity": 1} for n in (1, 2)]}
    assert caller.move(order_id, status="shipped", shipment=rest)[1]["status"] == "shipped"
    assert desk.at_4seller(caller.world, order_id) == ("shipped", desk.FEDEX)


def test_a_doubtful_number_is_taken_where_the_caller_insists(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    doubtful = PARCEL | {"number": "2" + desk.UPS[1:]}
    code, answer = caller.move(order_id, shipment=doubtful)
    assert (code, "`force` accepts it" in answer["detail"]) == (422, True)
    assert caller.move(order_id, shipment=doubtful | {"force": True})[1]["pushed"] is True
    assert desk.at_4seller(caller.world, order_id) == ("shipped", doubtful["number"])


WRONG = [
    {"number": "1Z 5R8"},
    {"number": "2" + desk.UPS[1:]},
    {"number": "AB\n12"},
    {"carrier": " "},
    {"url": "javascript:alert(1)"},
    {"url": "https://x.example/a b"},
    {"lines": []},
    {"lines": [{"line": 0, "quantity": 1}]},
    {"lines": [{"line": 1, "quantity": 0}]},
    {"lines": [{"line": 1, "quantity": 2**31}]},
    {"lines": [{"line": 1}]},
    {"lines": [{"line": 1, "quantity": "2"}]},
    {"lines": [{"line": 1, "quantity": 1.5}]},
    {"force": "yes"},
]


def test_a_parcel_that_cannot_be_right_is_422_and_changes_nothing(caller: Caller) -> None:
    order_id = desk.sold(caller.world, A=3)
    for wrong in WRONG:
        assert caller.move(order_id, shipment=PARCEL | wrong)[0] == 422, wrong
    assert rows(caller.world.database, "SELECT 1 FROM order_shipments") == []
    assert desk.shop_status(caller.world, order_id) == "pending"


def test_4sellers_events_of_our_own_calls_move_no_order_back(start: Start) -> None:
    gateway = start()
    world = gateway.world
    orders = [desk.sold(world, **{f"A{number}": 1}) for number in range(6)]
    gateway.settled()
    webhooks = world.sandbox.webhooks
    webhooks.configure({"url": gateway.url + HOOK, "secret": SECRET})
    try:
        for order_id in orders:
            desk.pack(world, order_id)
        report = desk.tell(world)
        gateway.wait(lambda: webhooks.waiting == 0, "the delivery of every event")
    finally:
        webhooks.configure({"url": ""})
    gateway.settled()
    assert (report.pushed, report.failed) == (6, 0)
    assert value(world.database, "SELECT count(*) FROM marketplace_webhooks") >= 12
    for order_id in orders:
        assert set(desk.sides(world, order_id)) == {"shipped"}
        assert desk.order(world, order_id).exception is None
