"""The same reports bring an order to the same end: by webhook or poll, one by one or at once, doubled or in any order."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.paper import Raw, holdings, line, polled, told
from midas_pipelines_tests.sync.world import World

PATHS = (
    ["pending", "processing", "shipped", "delivered", "refunded"],
    ["pending", "shipped", "refunded"],
    ["pending", "refunded"],
    ["unpaid", "pending", "processing", "cancelled", "refunded"],
    ["on hold", "processing", "shipped", "delivered"],
    ["pending", "processing"],
)
PLACED = datetime.now(UTC) - timedelta(hours=20)


def history(order_id: str, words: list[str], chance: random.Random) -> list[Raw]:
    """A report of each status, and of an edit or two before the goods leave."""
    order: Raw = {
        "id": order_id,
        "created_at": PLACED.isoformat(),
        "currency": "USD",
        "sales_channel": "ebay",
        "customer": {"name": "Ann"},
        "shipping_address": {"line1": "1 First St", "city": "Town"},
        "items": [line("A", 2)],
    }
    reports = []
    for word in words:
        edits = chance.randint(0, 2) if word in ("pending", "processing", "unpaid", "on hold") else 0
        for edit in range(edits + 1):
            if edit:
                order |= chance.choice(
                    [
                        {"items": [line("A", chance.randint(1, 4)), line("B", chance.randint(1, 3))]},
                        {"items": [line("A", chance.randint(1, 4))]},
                        {"shipping_address": {"line1": f"{chance.randint(2, 99)} Other St"}},
                        {"customer": {"name": "***", "phone": "555"}},
                    ]
                )
            at = (PLACED + timedelta(minutes=10 * len(reports))).isoformat()
            total = f"{10 * sum(int(one['quantity']) for one in order['items'])}.00"
            reports.append({**order, "status": word, "updated_at": at, "total": total})
    return reports


DOORS: dict[str, Callable[[World, list[Raw], random.Random], object]] = {
    "one by one": lambda world, reports, chance: [told(world, one) for one in reports],
    "at once": lambda world, reports, chance: told(world, *reports),
    "by polls": lambda world, reports, chance: [polled(world, one) for one in reports],
    "in any order": lambda world, reports, chance: [
        told(world, one) for one in chance.sample(reports, len(reports))
    ],
    "doubled": lambda world, reports, chance: told(world, *chance.sample(reports * 2, 2 * len(reports))),
    "the last by a poll, then all": lambda world, reports, chance: (
        polled(world, reports[-1]),
        *(told(world, one) for one in reports),
    ),
}


def end(world: World, order_id: str) -> tuple[Any, ...]:
    """What became of an order, on our row, on its lines and in the shop."""
    row = desk.order(world, order_id)
    query = "SELECT status, payment_status, total_amount, shipping_address FROM orders WHERE id = :id"
    shop = rows(world.database, query, id=row.local_order_id)
    return row.status, row.exception, row.total, sorted(holdings(world, order_id)), str(shop)


def compare_doors(world: World, seed: int) -> None:
    """One history through each door, as an order of its own."""
    for sku in "AB":
        add_product(world.database, sku=sku, stock_quantity=100)
    words = PATHS[seed % len(PATHS)]
    ends = {}
    for number, (door, report) in enumerate(DOORS.items()):
        order_id = f"{seed}-{number}"
        reports = history(order_id, words, random.Random(seed))
        report(world, reports, random.Random(seed + number))
        ends[door] = end(world, order_id)
    assert ends == dict.fromkeys(ends, ends["one by one"]), words
    desk.assert_whole(world)


@pytest.mark.parametrize("seed", range(len(PATHS)))
def test_each_door_leads_to_the_same_end(world: World, seed: int) -> None:
    compare_doors(world, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 160))
def test_each_door_leads_to_the_same_end_for_sixty_histories(world: World, seed: int) -> None:
    compare_doors(world, seed)


def test_a_late_shipment_takes_the_stock_of_a_refunded_order_once(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    reports = history("X-1", ["pending", "shipped", "refunded"], random.Random(1))
    refunded, shipped = reports[-1] | {"items": [line("A", 3)], "total": "30.00"}, reports[-2]
    told(world, refunded)
    assert desk.stock(world, product) == 1
    for _ in range(2):
        told(world, shipped)
    assert (desk.stock(world, product), desk.shop_status(world, "X-1")) == (0, "shipped")
    assert holdings(world, "X-1") == [("A", 3, 3, 0)]
    assert desk.come_back(world, "X-1") == 3
    told(world, shipped)
    assert desk.stock(world, product) == 3
    desk.assert_whole(world)
