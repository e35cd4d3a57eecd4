"""Many processes at once on a few items: never negative, no lost update, the ledger exact, 4Seller in step afterwards."""

from __future__ import annotations

from collections import Counter
from multiprocessing import get_context

import pytest

from midas_pipelines.store.stock.ledger import negative_stock, unexplained_stock
from midas_pipelines_tests.shop import add_product, broken_links, rows
from midas_pipelines_tests.sync.storm import take_part
from midas_pipelines_tests.sync.syncing import plain
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

ITEMS, OPENING = 20, 30

_context = get_context("forkserver")
_context.set_forkserver_preload(["midas_pipelines_tests.sync.storm"])


def rage(world: World, processes: int, operations: int) -> Counter[int]:
    """Runs the storm and returns what its processes say they did to each product, orders left out."""
    said = _context.SimpleQueue()
    running = [
        _context.Process(target=take_part, args=(plain(world.settings), seed, operations, said), daemon=True)
        for seed in range(processes)
    ]
    for process in running:
        process.start()
    net: Counter[int] = Counter()
    for process in running:
        process.join(1500)
        assert process.exitcode == 0
        net.update(said.get())
    return net


def check(world: World, net: Counter[int]) -> None:
    """Holds the stock against what was done to it, by the processes' own word and the order lines."""
    lines = rows(
        world.database,
        "SELECT product_id, sum(released - allocated) AS units FROM marketplace_order_lines GROUP BY product_id",
    )
    for row in lines:
        net[row.product_id] += row.units
    stock = {
        row.id: row.stock_quantity for row in rows(world.database, "SELECT id, stock_quantity FROM products")
    }
    assert stock == {product: OPENING + net[product] for product in stock}
    assert negative_stock(world.database) == unexplained_stock(world.database) == []
    assert broken_links(world.database) == []
    world.full()
    assert world.shown == world.wanted
    assert world.dirty == 0


def storm(world: World, processes: int, operations: int) -> None:
    for number in range(ITEMS):
        add_product(world.database, sku=f"S-{number}", stock_quantity=OPENING)
    world.changes |= {"brake_percent": 100}
    world.full()
    check(world, rage(world, processes, operations))


def test_processes_at_once_lose_and_invent_nothing(world: World) -> None:
    storm(world, processes=3, operations=20)


@pytest.mark.soak
def test_ten_thousand_operations_lose_and_invent_nothing(world: World) -> None:
    storm(world, processes=8, operations=1250)
