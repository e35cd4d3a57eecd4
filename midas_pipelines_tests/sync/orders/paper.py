"""Orders as 4Seller writes them, however odd, and what the shop makes of them in a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from midas_pipelines_tests.shop import run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

Raw = dict[str, Any]
Report = Callable[..., None]
"""How orders reach the shop: `polled` or `told`."""


def line(sku: str | None, quantity: Any = 1, **fields: Any) -> Raw:
    """A line at 10.00."""
    return {"sku": sku, "quantity": quantity, "price": "10.00"} | fields


def put(world: World, *orders: Raw) -> None:
    """4Seller holds these orders as they are, in place of those with the same ids; nobody is told."""
    for order in orders:
        world.sandbox.state.orders[str(order["id"])] = order


def polled(world: World, *orders: Raw) -> None:
    """4Seller holds these orders, and the next poll reads them."""
    put(world, *orders)
    world.import_orders()


def told(world: World, *orders: Raw) -> None:
    """4Seller tells of these orders by webhook, in one batch."""
    desk.told(world, *orders)


def holdings(world: World, order_id: str) -> list[tuple[str | None, int, int, int]]:
    """Of each line that is sold still: SKU, quantity, the units it holds and the units it is backordered."""
    return [
        (line.sku, line.quantity, line.allocated - line.released, line.backordered)
        for line in desk.lines(world, order_id)
        if line.quantity
    ]


def took(world: World, *order_ids: str) -> list[int]:
    """The units that each of these orders holds."""
    return [sum(held for _, _, held, _ in holdings(world, order_id)) for order_id in order_ids]


def move_cursor(world: World, name: str, hours: float) -> None:
    """The cursor stands so many hours earlier: as much time has gone by since."""
    change = (
        "moment - make_interval(secs => :seconds)"
        if world.database.is_postgresql
        else "strftime('%Y-%m-%d %H:%M:%f', moment, '-' || :seconds || ' seconds') || '000'"
    )
    statement = f"UPDATE midas_cursors SET moment = {change} WHERE name = :name"
    run(world.database, statement, seconds=round(hours * 3600), name=name)


def order_json(
    sku: str | None = "A", quantity: int = 1, order_id: str = "X-1", **fields: Any
) -> dict[str, Any]:
    """An order of one line at 10.00, as 4Seller would write it."""
    row = {
        "id": order_id,
        "status": "pending",
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z",
        "currency": "USD",
        "total": f"{10 * quantity}.00",
        "items": [{"sku": sku, "quantity": quantity, "price": "10.00"}],
    }
    return row | fields
