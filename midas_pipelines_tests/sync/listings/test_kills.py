"""SIGKILL in the middle of a sync, again and again: no duplicate SKU, nothing missing, all equal at the end."""

from __future__ import annotations

import random
import time
from collections import Counter
from decimal import Decimal

import pytest

from midas_pipelines_tests.shop import add_product, assert_ledger_explains, run, value
from midas_pipelines_tests.sync.syncing import start_syncing
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases


class Rampage:
    """A shop that changes, syncs that are killed, and the counts of both. The same seed draws the same things."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.products = [add_product(world.database) for _ in range(18)]
        self.counts: Counter[str] = Counter()
        world.sandbox.state.honour_idempotency_key = False
        world.sandbox.faults.latency_ms = 2.0
        world.faults(reset_after_apply=0.05)

    def kill_once(self) -> None:
        """Changes the shop, starts a sync and kills it somewhere on its way."""
        for _ in range(self.chance.randint(0, 8)):
            self._change()
        kind = self.chance.choice(["full", "full", "incremental", "inventory"])
        process = start_syncing(self.world.settings, ["orders", kind])
        time.sleep(self.chance.uniform(0.02, 0.45))
        alive = process.is_alive()
        process.kill()
        process.join()
        assert alive or process.exitcode == 0, f"a {kind} sync failed by itself"
        self.counts["killed" if alive else "ended first"] += 1
        time.sleep(0.01)  # what the dead had sent arrives
        assert self.world.listed is not None  # fails where two products share a SKU

    def settle(self) -> None:
        """Ends the faults and the leases of the dead, and syncs to the end, as the next scheduled runs would."""
        self.world.faults()
        run(self.world.database, "DELETE FROM midas_workers")
        self.world.import_orders()
        for _ in range(2):
            self.world.full()

    def _change(self) -> None:
        world, product = self.world, self.chance.choice(self.products)
        kind = self.chance.choice(["stock", "stock", "stock", "price", "add", "remove", "archive", "order"])
        self.counts[kind] += 1
        if kind == "stock":
            world.set(product, stock_quantity=self.chance.randint(0, 50))
        elif kind == "price":
            world.set(product, price=Decimal(self.chance.randint(1, 9999)) / 100)
        elif kind == "add":
            self.products.append(add_product(world.database))
        elif kind == "remove" and len(self.products) > 15:
            self.products.remove(product)
            world.remove(product)
        elif kind == "archive":
            world.set(product, status=self.chance.choice(["archived", "active"]))
        elif kind == "order":
            skus = list(world.listed)
            if skus:
                world.place((self.chance.choice(skus), self.chance.randint(1, 3)))


def rampage(world: World, kills: int, seed: int) -> Counter[str]:
    """So many kills; checks both sides at the end."""
    rage = Rampage(world, seed)
    while rage.counts["killed"] < kills:
        rage.kill_once()
    rage.settle()
    assert world.shown == world.wanted
    assert world.dirty == 0
    assert world.writes(world.full) == 0
    assert value(world.database, "SELECT count(*) FROM orders") == len(world.sandbox.state.orders)
    assert_ledger_explains(world.database)
    return rage.counts


def test_a_sync_killed_again_and_again_ends_equal(world: World) -> None:
    rampage(world, kills=2, seed=7)


@pytest.mark.soak
def test_three_hundred_kills(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    counts = rampage(world, kills=300 if world.database.is_postgresql else 60, seed=11)
    with capsys.disabled():
        print(f"\nkills: {dict(counts)}")  # noqa: T201
