"""Orders that cannot be imported as they came: kept with their reason, tried again, and in nobody's way."""

from __future__ import annotations

import asyncio

import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.sandbox.state import now_text
from midas_pipelines.sync.orders.changes.exceptions import dismiss
from midas_pipelines.sync.orders.lookup import retry_order
from midas_pipelines.sync.orders.model.order_log import lock_order
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, Report, order_json
from midas_pipelines_tests.sync.world import World

BOTH_WAYS = pytest.mark.parametrize("report", [paper.polled, paper.told])

NO_LINES = {"items": "A"}
UNREADABLE: dict[str, tuple[Raw, str]] = {
    "lines that are a text": (NO_LINES, "lines cannot be read"),
    "lines that are a number": ({"items": 7}, "lines cannot be read"),
}


def dismissed(world: World, order_id: str) -> list[str]:
    """An operator has looked at the order."""
    with world.database.writing() as connection:
        return dismiss(lock_order(connection, desk.order(world, order_id).id))


def no_more_than_99(world: World) -> None:
    """A rule of the shop's own: nobody orders more than 99 of anything."""
    if world.database.is_postgresql:
        run(world.database, "ALTER TABLE order_items ADD CHECK (quantity < 100)")
        return
    for when in ("INSERT ON", "UPDATE ON"):
        run(
            world.database,
            f"CREATE TRIGGER most_{when[:6]} BEFORE {when} order_items WHEN NEW.quantity > 99 "
            "BEGIN SELECT RAISE(ABORT, 'too many'); END",
        )


# one that is new


@pytest.mark.both_databases
@BOTH_WAYS
def test_each_is_kept_with_its_reason_and_stops_no_other(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    bad = [order_json(order_id=name, **fields) for name, (fields, _) in UNREADABLE.items()]
    report(world, order_json(order_id="FIRST"), *bad, order_json(order_id="LAST"))
    for name, (_, why) in UNREADABLE.items():
        order = desk.order(world, name)
        assert (order.outcome, order.local_order_id) == ("quarantined", None)
        assert why in order.reason
    assert paper.took(world, "FIRST", "LAST") == [1, 1]
    assert desk.stock(world, product) == 7
    assert desk.alerts(world) == ["order_quarantined"] * len(UNREADABLE)


def test_told_again_it_is_the_same_one_with_its_newest_reason(world: World) -> None:
    add_product(world.database, sku="A")
    for items in ("A", "A", 7):
        paper.polled(world, order_json(updated_at=now_text(), items=items))
    assert "lines cannot be read" in desk.order(world, "X-1").reason
    assert desk.steps(world, "X-1") == ["failed"]
    assert desk.alerts(world) == ["order_quarantined"]


@BOTH_WAYS
@pytest.mark.parametrize(("status", "stock"), [("processing", 3), ("cancelled", 5), ("shipped", 3)])
def test_once_it_can_be_read_it_is_imported_as_it_is_then(
    world: World, report: Report, status: str, stock: int
) -> None:
    product = add_product(world.database, sku="A")
    report(world, order_json(items="A"))
    report(world, order_json(quantity=2, status=status, updated_at=now_text()))
    order = desk.order(world, "X-1")
    assert (order.outcome, order.reason, order.exception) == ("imported", None, None)
    assert (desk.alerts(world), desk.stock(world, product)) == ([], stock)
    assert desk.shop_status(world, "X-1") == status
    desk.assert_whole(world)


def test_one_that_a_person_has_dismissed_stays_so(world: World) -> None:
    add_product(world.database, sku="A")
    paper.polled(world, order_json(items="A"))
    assert dismissed(world, "X-1") == ["quarantined"]
    for fields in ({"items": "A"}, {"items": 8}, {}):
        paper.polled(world, order_json(updated_at=now_text(), **fields))
        assert (desk.order(world, "X-1").outcome, desk.alerts(world)) == ("dismissed", [])
    assert value(world.database, "SELECT count(*) FROM orders") == 0


def test_retrying_imports_what_was_mended_whatever_its_date(world: World) -> None:
    add_product(world.database, sku="A")
    old = "2020-01-02T03:04:05Z"
    paper.polled(world, order_json(items="A", created_at=old, updated_at=old))
    still = asyncio.run(retry_order(world.sync_context(), "X-1"))
    assert (still.imported, still.exception) == (False, "quarantined")
    assert "lines cannot be read" in str(still.reason)
    paper.put(world, order_json(created_at=old, updated_at=old))
    mended = asyncio.run(retry_order(world.sync_context(), "X-1"))
    assert (mended.imported, mended.exception, desk.alerts(world)) == (True, None, [])


def test_retrying_one_that_was_dismissed_takes_it_up_again(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    paper.polled(world, order_json(items="A"))
    dismissed(world, "X-1")
    still = asyncio.run(retry_order(world.sync_context(), "X-1"))
    assert (still.exception, desk.order(world, "X-1").outcome) == ("quarantined", "quarantined")
    assert desk.alerts(world) == ["order_quarantined"]
    dismissed(world, "X-1")
    paper.put(world, order_json())
    mended = asyncio.run(retry_order(world.sync_context(), "X-1"))
    assert (mended.imported, mended.exception, desk.alerts(world)) == (True, None, [])
    assert (desk.order(world, "X-1").outcome, desk.stock(world, product)) == ("imported", 4)


def test_one_without_an_id_is_kept_once_and_cannot_be_read_again(world: World) -> None:
    world.sandbox.state.orders["none"] = {"status": "pending", "updated_at": now_text()}
    assert [world.import_orders().failed for _ in range(3)] == [1, 0, 0]
    ((name, reason),) = rows(world.database, "SELECT marketplace_order_id, reason FROM marketplace_orders")
    assert name.startswith("unreadable-")
    assert "`id`" in reason
    with pytest.raises(WrongInput):
        asyncio.run(retry_order(world.sync_context(), name))


# one that is known


@BOTH_WAYS
def test_known_orders_whose_lines_cannot_be_read_any_more_follow_their_status(
    world: World, report: Report
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=20)
    report(world, *(order_json(quantity=2, order_id=name) for name in UNREADABLE))
    assert desk.stock(world, product) == 20 - 2 * len(UNREADABLE)
    off = {"status": "cancelled", "updated_at": now_text()}
    report(
        world,
        *(order_json(quantity=2, order_id=name, **off, **fields) for name, (fields, _) in UNREADABLE.items()),
    )
    for name in UNREADABLE:
        order = desk.order(world, name)
        assert (order.outcome, order.status, order.exception) == ("imported", "cancelled", None)
        assert (desk.shop_status(world, name), desk.steps(world, name).count("unreadable")) == (
            "cancelled",
            1,
        )
    assert desk.stock(world, product) == 20
    assert "order_quarantined" not in desk.alerts(world)
    desk.assert_whole(world)


@pytest.mark.both_databases
@BOTH_WAYS
def test_a_known_order_whose_edit_the_shop_refuses_follows_its_status(world: World, report: Report) -> None:
    product = add_product(world.database, sku="A", stock_quantity=500)
    no_more_than_99(world)
    report(world, order_json(quantity=2))
    edit = order_json(quantity=100, status="processing", updated_at=now_text())
    report(world, edit, order_json(order_id="X-2", updated_at=now_text()))
    order = desk.order(world, "X-1")
    assert (order.status, order.exception, order.outcome) == ("processing", "edited", "imported")
    assert (paper.took(world, "X-1", "X-2"), desk.stock(world, product)) == ([2, 1], 497)
    desk.assert_whole(world)


# ids

LONG: dict[str, tuple[int, bool]] = {
    "as long as may be": (170, True),
    "a little longer": (171, False),
    "as long as the column": (200, False),
    "longer than the column": (201, False),
}


@pytest.mark.both_databases
@pytest.mark.parametrize(("length", "imported"), LONG.values(), ids=LONG)
def test_an_id_too_long_for_our_names_sets_that_order_aside(
    world: World, length: int, imported: bool
) -> None:
    add_product(world.database, sku="A")
    paper.put(world, order_json(order_id="I" * length), order_json(order_id="X-2"))
    report = world.import_orders()
    assert (report.imported, report.failed) == (1 + imported, not imported)
    assert world.import_orders().failed == 0
    found = rows(
        world.database, "SELECT outcome FROM marketplace_orders WHERE marketplace_order_id LIKE 'I%'"
    )
    assert found == [("imported" if imported else "quarantined",)]


@pytest.mark.both_databases
@BOTH_WAYS
def test_two_ids_that_differ_at_their_far_end_are_two_orders(world: World, report: Report) -> None:
    report(world, *(order_json(order_id="J" * 200 + last) for last in "123"))
    report(world, *(order_json(order_id="J" * 200 + last) for last in "123"))
    assert value(world.database, "SELECT count(*) FROM marketplace_orders") == 3
    assert desk.alerts(world) == ["order_quarantined"] * 3


@pytest.mark.both_databases
def test_ids_that_only_look_alike_are_different_orders(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=50)
    names = ["X-1", "x-1", " X-1", "X-1 ", "X-\u00e9", "X-e\u0301", "X-1:1", "X-1+1", "X%", "X_1", "0"]
    paper.put(world, *(order_json(order_id=name) for name in names))
    assert world.import_orders().imported == len(names)
    assert (desk.stock(world, product), world.import_orders().imported) == (50 - len(names), 0)
    paper.polled(world, order_json(order_id="x-1", status="cancelled", updated_at=now_text()))
    cancelled = rows(
        world.database, "SELECT marketplace_order_id FROM marketplace_orders WHERE status <> 'pending'"
    )
    assert cancelled == [("x-1",)]
    desk.assert_whole(world)
