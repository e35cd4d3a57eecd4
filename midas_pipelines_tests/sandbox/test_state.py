"""The rules 4Seller keeps: ids, SKUs, stock, and the way of an order."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from midas_pipelines.sandbox.state import Refused, State, moment, now_text


def stocked(quantity: int = 5) -> tuple[State, str]:
    state = State()
    product = state.create({"title": "t", "sku": "S", "price": "1", "inventory": {"quantity": quantity}})
    return state, product["id"]


def left(state: State, product_id: str) -> int:
    return int(state.product(product_id)["inventory"]["quantity"])


def test_a_sku_may_be_doubled() -> None:
    state, _ = stocked()
    state.create({"sku": "S"})
    assert len(state.with_sku("S")) == 2


@pytest.mark.parametrize(("honoured", "made"), [(True, 1), (False, 2)])
def test_an_idempotency_key_may_be_honoured_or_ignored(honoured: bool, made: int) -> None:
    state = State()
    state.honour_idempotency_key = honoured
    for _ in range(2):
        state.create({"sku": "S"}, "key")
    assert len(state.products) == made


def test_replacing_keeps_the_stock_it_does_not_speak_of() -> None:
    state, product_id = stocked(5)
    created = state.product(product_id)["created_at"]
    assert state.replace(product_id, {"sku": "T"})["inventory"]["quantity"] == 5
    assert state.replace(product_id, {"sku": "T", "inventory": {"quantity": 2}})["created_at"] == created
    assert left(state, product_id) == 2
    assert state.with_sku("S") == []


@pytest.mark.parametrize(("bought", "remain"), [(2, 3), (9, 0)])
def test_a_sale_takes_stock_and_a_cancellation_gives_it_back_once(bought: int, remain: int) -> None:
    state, product_id = stocked(5)
    order = state.place({"items": [{"sku": "S", "quantity": bought}]})
    assert left(state, product_id) == remain
    for _ in range(2):
        state.move(order["id"], "cancelled")
    assert left(state, product_id) == remain + bought


@pytest.mark.parametrize(
    ("way", "legal"),
    [
        (["processing", "shipped", "delivered", "refunded"], True),
        (["processing", "processing"], True),
        (["cancelled", "refunded"], True),
        (["processing", "cancelled"], True),
        (["refunded"], True),
        (["shipped"], False),
        (["processing", "shipped", "cancelled"], False),
        (["processing", "pending"], False),
        (["cancelled", "processing"], False),
        (["refunded", "pending"], False),
    ],
)
def test_an_order_goes_only_the_contracts_way(way: list[str], legal: bool) -> None:
    state, _ = stocked()
    order_id = state.place({"status": "Unmapped", "items": []})["id"]
    for status in way[:-1]:
        state.move(order_id, status)
    if legal:
        assert state.move(order_id, way[-1])["status"] == way[-1]
    else:
        with pytest.raises(Refused) as refused:
            state.move(order_id, way[-1])
        assert refused.value.status == 409


def test_orders_are_found_by_status_and_by_time_inclusive() -> None:
    state, _ = stocked()
    for day in (1, 2, 3):
        at = f"2026-03-0{day}T00:00:00Z"
        state.place({"id": f"O{day}", "created_at": at, "updated_at": at, "items": []})
    second = moment("2026-03-02T00:00:00Z")

    def ids(**filters: Any) -> list[str]:
        return [order["id"] for order in state.find_orders(**filters)]

    assert ids(date_from=second) == ["O2", "O3"]
    assert ids(date_to=second) == ["O1", "O2"]
    assert ids(date_from=second, date_to=second) == ["O2"]
    assert ids(updated_from=second) == ["O2", "O3"]
    state.move("O1", "processing")
    assert ids(updated_from=second) == ["O1", "O2", "O3"]
    assert ids(status="processing") == ["O1"]
    for number, day in enumerate(["0000-00-00 00:00:00", 20261126, "2026-03-02 00:00", None]):
        state.place({"id": f"odd-{number}", "status": "odd"})
        state.orders[f"odd-{number}"]["created_at"] = day
    assert ids(status="odd", date_from=second, date_to=second) == ["odd-0", "odd-1", "odd-2"]


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    file = str(tmp_path / "state.db")
    state = State()
    state.open(file)
    kept = state.create({"sku": "A"}, "key")
    state.remove(state.create({"sku": "B"})["id"])
    order = state.place({"items": [{"sku": "A", "quantity": 1}]})
    state.close()
    again = State()
    again.open(file)
    assert list(again.products) == [kept["id"]]
    assert again.orders == {order["id"]: order}
    assert again.create({"sku": "A"}, "key")["id"] == kept["id"]
    assert again.create({"sku": "C"})["id"] > "P000002"  # an old id never means something new
    again.close()


def test_times_are_the_contracts() -> None:
    assert now_text().endswith("Z")
    assert isinstance(moment(now_text()), datetime)
