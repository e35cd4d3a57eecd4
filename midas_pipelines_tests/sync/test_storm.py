"""Many processes at once on a few items: never negative, no lost update, the ledger exact, 4Seller in step afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from midas_pipelines.store.stock.checks import negative_stock, unexplained_stock
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

PROCESSES, ITEMS, OPENING = 8, 20, 30


def rage(world: World, operations: int) -> Counter[int]:
    """Runs the storm and returns what its processes say they did to each product, orders left out."""
    environment = os.environ | {
        "MIDAS_DATABASE_URL": world.database.engine.url.render_as_string(hide_password=False),
        "FOURSELLER_API_URL": world.background.url,
        "FOURSELLER_API_KEY": world.background.config.api_key,
        "FOURSELLER_SELLER_ID": world.background.config.seller_id,
        "MIDAS_BRAKE_PERCENT": "100",
    }
    command = [sys.executable, "-m", "midas_pipelines_tests.sync.storm"]
    running = [
        subprocess.Popen(
            [*command, str(seed), str(operations // PROCESSES)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(PROCESSES)
    ]
    net: Counter[int] = Counter()
    for process in running:
        output, errors = process.communicate(timeout=1500)
        assert process.returncode == 0, errors[-2000:]
        net.update({int(product): units for product, units in json.loads(output).items()})
    return net


def check(world: World, net: Counter[int]) -> None:
    """Holds the stock against what was done to it, by the processes' own word and the order lines."""
    lines = rows(
        world.database,
        "SELECT product_id, sum(released - taken) AS units FROM marketplace_order_lines GROUP BY product_id",
    )
    for row in lines:
        net[row.product_id] += row.units
    stock = {
        row.id: row.stock_quantity for row in rows(world.database, "SELECT id, stock_quantity FROM products")
    }
    assert stock == {product: OPENING + net[product] for product in stock}
    assert negative_stock(world.database) == unexplained_stock(world.database) == []
    world.full()
    assert world.shown == world.wanted
    assert world.dirty == 0


def storm(world: World, operations: int) -> None:
    for number in range(ITEMS):
        add_product(world.database, sku=f"S-{number}", stock_quantity=OPENING)
    world.changes |= {"brake_percent": 100}
    world.full()
    check(world, rage(world, operations))


def test_eight_processes_lose_and_invent_nothing(world: World) -> None:
    storm(world, 400)


@pytest.mark.soak
def test_ten_thousand_operations_lose_and_invent_nothing(world: World) -> None:
    storm(world, 10_000)
