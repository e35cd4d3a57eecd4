"""A random walk: shop, operator and marketplace do what they like to 20 orders, while calls fail and processes die."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.errors import FourSellerError
from midas_pipelines.fourseller.status import (
    ENDED,
    OPEN,
    SHIPPED_STATES,
    TABLE,
    OrderStatus,
    StatusDecision,
    decide,
)
from midas_pipelines.sandbox.state import Refused
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.status.status_sync import sync_statuses
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.machine import Killed, Life, MortalDatabase
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

FAULTS = {"s500": 0.08, "reset_after_apply": 0.08, "reset_before": 0.05, "garbage": 0.04}
WORDS = ["processing", "shipped", "delivered", "cancelled"]
ACTS = [
    *(f"market {word}" for word in [*WORDS, "refunded", "label"]),
    *(f"shop {word}" for word in [*WORDS, "odd", "refunds"]),
    *("pack", "pack one", "shop packs", "return", "settle shipped", "settle cancelled", "settle restock"),
]
UNEVEN = {"pack one", "market refunded", "shop refunds"}
"""Settled as cancelled after these, an order's units do not add up: see `test_known_faults_of_status.py`."""


def ups_numbers() -> Iterator[str]:
    """Numbers, each another."""
    return (f"1Z{serial:016d}" for serial in range(10**6))


class Walk:
    """The orders, what was done to each, and what may be done next."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random, self.numbers = world, random.Random(seed), ups_numbers()
        for sku in "AB":
            add_product(world.database, sku=sku, stock_quantity=1000)
        self.orders = [world.place(("A", self.random.randint(1, 4)), ("B", 1)) for _ in range(12)]
        world.import_orders()
        self.stood = dict.fromkeys(self.orders, OrderStatus.PENDING)
        self.done: dict[str, list[str]] = {order_id: [] for order_id in self.orders}
        self.returned: Counter[str] = Counter()
        self.gone: set[str] = set()  # both sides have known that all of it has left

    def act(self, order_id: str) -> None:
        """Somebody does something to an order that can be done to it."""
        while not self.done_to(order_id, self.random.choice(ACTS)):
            pass

    def done_to(self, order_id: str, act: str) -> bool:
        """Does it, if it can be done."""
        who, _, what = act.partition(" ")
        with suppress(WrongInput, Refused):
            match who:
                case "market" if what == "label":
                    label = {"carrier": "UPS", "number": next(self.numbers)}
                    self.world.sandbox.state.edit_order(order_id, {"tracking": label})
                case "market":
                    if desk.at_4seller(self.world, order_id)[0] == what:
                        return False
                    self.world.sandbox.state.move(order_id, what)
                case "shop" if what == "packs":
                    desk.shop_packs(self.world, order_id, next(self.numbers))
                case "shop" if what == "refunds":
                    desk.shop_refunds(self.world, order_id)
                case "shop":
                    desk.shop_sets(self.world, order_id, what)
                case "pack":
                    desk.pack(self.world, order_id, next(self.numbers), units={1: 1} if what else None)
                case "return":
                    back = desk.come_back(self.world, order_id, {1: 1})
                    self.returned[order_id] += back
                    if not back:
                        return False
                case "resolve" if what != "shipped" and UNEVEN & {*self.done[order_id]}:
                    return False
                case "resolve":
                    decision = "shipped" if what == "shipped" else "cancelled"
                    desk.settle(self.world, order_id, decision, restock=what == "restock")
            self.done[order_id].append(act)
            return True
        return False

    def sync(self) -> None:
        """A status sync whose calls fail now and then, and whose process may die; it takes the shop nowhere back."""
        before = {order_id: desk.shop_status(self.world, order_id) for order_id in self.orders}
        life = Life()
        mortal = MortalDatabase(self.world.database.engine.url)
        mortal.life = life
        life.end_after(self.random.choice([None, None, self.random.randint(5, 60)]))
        self.world.faults(**FAULTS)
        with suppress(FourSellerError, Killed):
            asyncio.run(sync_statuses(SyncContext(self.world.settings, mortal)))
        life.end_after(None)
        mortal.close()
        self.world.faults()
        for order_id, was in before.items():
            now = desk.shop_status(self.world, order_id)
            forward = was == "odd" or TABLE[OrderStatus(was), OrderStatus(now)] is StatusDecision.FOLLOW
            assert now == was or forward, (was, now, self.done[order_id])

    def stands_forward(self, order_id: str) -> None:
        """Our row has not gone back since the last look, but by a person's word."""
        status = OrderStatus(desk.order(self.world, order_id).status)
        way = TABLE[self.stood[order_id], status]
        assert way in (StatusDecision.AGREE, StatusDecision.FOLLOW) or self.settled(order_id), (
            status,
            self.done[order_id],
        )
        self.stood[order_id] = status
        if status in SHIPPED_STATES:
            self.gone.add(order_id)

    def settled(self, order_id: str) -> bool:
        return any(act.startswith("resolve") for act in self.done[order_id])

    def comes_to_rest(self, order_id: str) -> None:
        """Both sides agree, or the order is shown to a person; each parcel was told; stock is where it belongs."""
        row, done = desk.order(self.world, order_id), self.done[order_id]
        there = OrderStatus(desk.at_4seller(self.world, order_id)[0])
        shop = desk.shop_status(self.world, order_id)
        if self.settled(order_id):
            return
        paid_back = there is OrderStatus.REFUNDED and shop not in OPEN  # its own word stays
        assert row.exception or (
            row.status == there and (decide(shop, there) is StatusDecision.AGREE or paid_back)
        ), done
        unpushed = "SELECT 1 FROM order_shipments WHERE order_id = :id AND pushed_at IS NULL"
        waits = rows(self.world.database, unpushed, id=row.local_order_id)
        assert not waits or row.exception or there in ENDED, done
        if row.exception:
            return
        back = sum(line.released for line in desk.lines(self.world, order_id))
        taken = sum(line.allocated for line in desk.lines(self.world, order_id))
        whole_parcel = {"pack", "shop packs"} & set(done)
        if there not in ENDED or whole_parcel or order_id in self.gone:
            assert back == self.returned[order_id], done
        elif not {*SHIPPED, "pack one"} & set(done):
            assert back == taken, done


SHIPPED = {"shop shipped", "shop delivered", "market shipped", "market delivered"}


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 30))])
def test_whatever_happens_both_sides_agree_in_the_end_or_a_person_sees_it(world: World, seed: int) -> None:
    walk = Walk(world, seed)
    for _ in range(3):
        for order_id in walk.random.sample(walk.orders, 8):
            walk.act(order_id)
        walk.sync()
        for order_id in walk.orders:
            walk.stands_forward(order_id)
    for _ in range(3):
        desk.a_day_later(world)
        desk.sync(world)
    for order_id in walk.orders:
        walk.stands_forward(order_id)
        walk.comes_to_rest(order_id)
    desk.assert_whole(world)
