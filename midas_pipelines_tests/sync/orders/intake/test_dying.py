"""Dying at any statement of an import, and importing at once with others: the end is the same, and nothing is half done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.sync.orders.intake.batch import import_order_webhooks
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.stock.pending_lines import (
    allocate_backorders,
    allocate_pending_lines,
    map_known_lines,
    map_line,
)
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.paper import Raw, holdings, line, order_json, took
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.threads import at_once
from midas_pipelines_tests.vaults import VAULT

pytestmark = pytest.mark.both_databases


class Died(BaseException):
    """The process is gone."""


@contextmanager
def dying_at(world: World, number: int) -> Iterator[Counter[str]]:
    """The process dies before so manieth a statement; counts the statements."""
    seen: Counter[str] = Counter()

    def before(*_: Any) -> None:
        seen["statements"] += 1
        if seen["statements"] == number:
            raise Died

    sa.event.listen(world.database.engine, "before_cursor_execute", before)
    try:
        yield seen
    except Died:
        seen["died"] = 1
    finally:
        sa.event.remove(world.database.engine, "before_cursor_execute", before)


def sale(name: str, day: int, *lines: Raw, **fields: Any) -> Raw:
    """An order placed on that day, as it is now."""
    total = f"{10 * sum(one['quantity'] for one in lines)}.00"
    dates = {"created_at": f"2026-02-{day:02}T00:00:00Z", "updated_at": now_text()}
    return order_json(order_id=name, items=list(lines), total=total, **dates | fields)


@pytest.mark.parametrize("step", [13, pytest.param(2, marks=pytest.mark.soak)])
def test_an_import_that_dies_at_any_statement_is_done_whole_in_the_end(world: World, step: int) -> None:
    product = add_product(world.database, sku="A", stock_quantity=6)
    desk.told(
        world, sale("OFF", 1, line("A", 2)), sale("EDIT", 2, line("A", 1)), sale("MORE", 3, line("A", 3))
    )
    desk.told(world, sale("WAITS", 4, line("A", 1)), sale("LATER", 5, line("U", 2)))
    late = add_product(world.database, sku="U", stock_quantity=1)
    batch = [
        sale("OFF", 1, line("A", 2), status="cancelled"),
        sale("EDIT", 2, line("B", 1), line("A", 1)),
        sale("MORE", 3, line("A", 4)),
        sale("NEW", 6, line("A", 2), line("U", 1)),
    ]
    context, number, seen = world.sync_context(), 1, Counter({"died": 1})
    while seen["died"] and number < 2000:
        with dying_at(world, number) as seen:
            import_order_webhooks(context, batch, VAULT)
            allocate_pending_lines(world.database)
        desk.assert_whole(world)
        number += step  # what was done meanwhile shifts the others
    assert number > 40
    assert took(world, "OFF", "EDIT", "MORE", "WAITS", "LATER", "NEW") == [0, 1, 4, 1, 1, 0]
    assert (desk.stock(world, product), desk.stock(world, late)) == (0, 0)
    assert desk.steps(world, "OFF") == ["imported", "deducted", "cancelled", "released"]
    assert value(world.database, "SELECT count(*) FROM order_processing_logs WHERE step = 'imported'") == 6


def test_mapping_importing_and_allocating_at_once_take_each_unit_once(world: World) -> None:
    names = [f"X-{number}" for number in range(6)]
    desk.told(world, *(order_json(f"S{name}", 2, name) for name in names))
    made = [add_product(world.database, sku=f"S{name}", stock_quantity=5) for name in names]
    rows_ = [desk.order(world, name).id for name in names]
    edited = [order_json(f"S{name}", 3, name, updated_at=now_text()) for name in names]

    def maps() -> None:
        for row, product in zip(rows_, made, strict=True):
            map_line(world.database, row, 1, (product, None), OrderContext())

    acts: list[Callable[[], object]] = [
        maps,
        lambda: map_known_lines(world.database),
        lambda: desk.told(world, *edited),
        lambda: allocate_backorders(world.database),
    ]
    at_once(acts * 2)
    assert [holdings(world, name) for name in names] == [[(f"S{name}", 3, 3, 0)] for name in names]
    assert {desk.stock(world, product) for product in made} == {2}
    assert desk.alerts(world) == []
    desk.assert_whole(world)


def test_events_polls_and_the_shop_itself_at_once_wait_for_one_another_and_never_fail(world: World) -> None:
    made = [add_product(world.database, sku=f"S{place}", stock_quantity=8) for place in range(3)]
    skus = ["S0", "S1", "S2"]

    def orders(turn: int, **fields: Any) -> list[Raw]:
        shifted = skus[turn % 3 :] + skus[: turn % 3]
        lines = [line(sku, 1) for sku in shifted]
        return [sale(f"X-{number}", number + 1, *lines, **fields) for number in range(6)]

    def shop_changes() -> None:
        for turn in range(6):
            more = "UPDATE products SET stock_quantity = stock_quantity + 1 WHERE id = :id"
            run(world.database, more, id=made[turn % 3])
            own = (
                "UPDATE orders SET status = 'processing' WHERE order_number = :number AND status = 'pending'"
            )
            run(world.database, own, number=f"4S-X-{turn}")

    acts: list[Callable[[], object]] = [
        lambda: desk.told(world, *orders(0)),
        lambda: desk.told(world, *reversed(orders(1))),
        lambda: desk.told(world, *orders(2, status="processing")),
        lambda: desk.told(world, *orders(0, status="cancelled")[:3]),
        lambda: allocate_pending_lines(world.database),
        shop_changes,
    ]
    at_once(acts)
    allocate_pending_lines(world.database)
    assert sorted(took(world, *(f"X-{number}" for number in range(6)))) == [0, 0, 0, 3, 3, 3]
    assert [desk.stock(world, product) for product in made] == [7, 7, 7]
    assert rows(world.database, "SELECT count(*) FROM orders") == [(6,)]
    desk.assert_whole(world)
