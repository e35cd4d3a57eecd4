"""An item whose comparison can only have the last result is not compared again, and any other one is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from midas_pipelines.store.stock.rule_changes import put_rule
from midas_pipelines.store.stock.rules import Scope
from midas_pipelines.sync.reconcile import apply, decide
from midas_pipelines.sync.reconcile.report import ReconcileReport
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.world import World

Compared = list[str]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    """The SKUs of the items that were compared in full, in order."""
    found: Compared = []
    whole = apply.decide

    def decide(mapping, *given, **named):  # type: ignore[no-untyped-def]
        found.append(mapping.sku)
        return whole(mapping, *given, **named)

    monkeypatch.setattr(apply, "decide", decide)
    return found


@pytest.fixture
def settled(world: World, compared: Compared) -> World:
    """Three items, listed, and found equal once."""
    for sku in ("A-1", "A-2", "A-3"):
        add_product(world.database, sku=sku, stock_quantity=5)
    world.full()
    again(world)
    compared.clear()
    return world


def again(world: World) -> ReconcileReport:
    return asyncio.run(reconcile(world.sync_context(read_back_grace_seconds=0)))


def without_triggers(statement: str) -> Callable[[World, pytest.MonkeyPatch], None]:
    def change(world: World, _: pytest.MonkeyPatch) -> None:
        run(world.database, f"{statement} WHERE sku = 'A-2'")
        run(world.database, "UPDATE fourseller_product_mappings SET dirty_since = NULL")

    return change


def edited(field: str, value: object) -> Callable[[World, pytest.MonkeyPatch], None]:
    def change(world: World, _: pytest.MonkeyPatch) -> None:
        world.listed["A-2"][field] = value

    return change


def ruled(world: World, _: pytest.MonkeyPatch) -> None:
    with world.database.writing() as connection:
        key = connection.exec_driver_sql("SELECT id FROM products WHERE sku = 'A-2'").scalar_one()
        put_rule(connection, Scope(product_id=key), {"buffer": 2}, by="test")


@pytest.mark.both_databases
def test_what_is_the_same_on_both_sides_is_counted_without_a_comparison(
    settled: World, compared: Compared
) -> None:
    report = again(settled)
    assert compared == []
    assert (report.scanned, report.equal, report.consistency, report.listed) == (3, 3, 1.0, 3)
    assert settled.full().unchanged == 3
    assert compared == []


@pytest.mark.parametrize(
    "change",
    [
        without_triggers("UPDATE products SET stock_quantity = 4"),
        without_triggers("UPDATE products SET name = 'Another'"),
        without_triggers("UPDATE products SET price = 11"),
        edited("title", "Mine"),
        edited("price", "99.00"),
        edited("inventory", {"quantity": 77}),
        ruled,
    ],
)
def test_whatever_changes_on_either_side_is_compared(
    settled: World, compared: Compared, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]
) -> None:
    change(settled, monkeypatch)
    assert again(settled).discrepancies == 1
    assert set(compared) == {"A-2"}


def test_a_date_alone_is_no_change(settled: World, compared: Compared) -> None:
    settled.listed["A-2"]["updated_at"] = "2099-01-01T00:00:00Z"
    again(settled)
    assert compared == []


def test_a_second_product_of_a_sku_is_seen_though_the_first_is_the_same(settled: World) -> None:
    products = settled.sandbox.state.products
    products["twin"] = settled.listed["A-2"] | {"id": "twin"}
    assert [row["sku"] for row in again(settled).doubled] == ["A-2"]


def test_other_code_compares_everything_again(
    settled: World, compared: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "code", lambda: "another version")
    again(settled)
    assert sorted(compared) == ["A-1", "A-2", "A-3"]


def test_the_code_that_decides_is_where_it_is_looked_for() -> None:
    assert all(list(decide.PACKAGE.glob(pattern)) for pattern in decide.DECIDING)


def test_where_a_chunk_takes_long_the_next_ones_hold_fewer_items(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        add_product(world.database, sku=f"A-{number}", stock_quantity=5)
    world.full()
    held: list[int] = []
    read = apply.ReadBack._read_rows
    monkeypatch.setattr(
        apply.ReadBack,
        "_read_rows",
        lambda self, given, ids: (held.append(len(ids)), read(self, given, ids))[1],
    )
    for name, value in (("CHUNK", 16), ("SMALLEST_CHUNK", 2), ("HOLD_SECONDS", 0.0)):
        monkeypatch.setattr(apply, name, value)
    assert again(world).equal == 9
    assert held == [4, 2, 2, 1]
