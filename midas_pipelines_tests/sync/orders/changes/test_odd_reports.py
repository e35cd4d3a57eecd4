"""Reports of orders that say little, cannot be read, or come late; words, totals, alerts and ids that come back."""

from __future__ import annotations

import pytest

from midas_pipelines.sandbox.state import State, now_text
from midas_pipelines.store.orders.checks import unbalanced_orders
from midas_pipelines.sync.orders.changes.exceptions import dismiss
from midas_pipelines.sync.orders.model.order_log import lock_order
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, holdings, line, order_json
from midas_pipelines_tests.sync.world import World

FULL = order_json(quantity=2, customer={"name": "Ann"}, shipping_address={"line1": "Street 1"})
SPARSE = {"id": "X-1", "status": "processing", "updated_at": "2026-01-02T05:00:00Z"}


def dismissed(world: World, order_id: str) -> None:
    """An operator has looked at the order."""
    with world.database.writing() as connection:
        dismiss(lock_order(connection, desk.order(world, order_id).id))


# states of one order that come in one batch


def test_a_sparse_event_beside_the_first_one_leaves_the_new_order_whole(world: World) -> None:
    product = add_product(world.database, sku="A")
    desk.told(world, FULL, SPARSE)
    assert desk.order(world, "X-1").status == "processing"
    assert (holdings(world, "X-1"), desk.stock(world, product)) == ([("A", 2, 2, 0)], 3)
    assert "Street 1" in str(rows(world.database, "SELECT shipping_address FROM orders"))


def test_a_sparse_event_beside_an_edit_does_not_hide_the_edit(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=9)
    desk.told(world, FULL)
    desk.told(world, order_json(quantity=7, updated_at="2026-01-02T04:00:00Z"), SPARSE)
    assert holdings(world, "X-1") == [("A", 7, 7, 0)]


# known orders of which a report cannot be read

ODD_REPORTS: dict[str, tuple[Raw, str]] = {
    "a date that is none": ({"status": "cancelled", "updated_at": ""}, "cancelled"),
    "a date in seconds": ({"status": "cancelled", "updated_at": 1767323045}, "cancelled"),
    "a status in numbers": ({"status": 3}, "pending"),
}


@pytest.mark.parametrize(("fields", "status"), ODD_REPORTS.values(), ids=ODD_REPORTS)
def test_an_odd_report_is_followed_as_far_as_it_can_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch, fields: Raw, status: str
) -> None:
    add_product(world.database, sku="A")
    paper.polled(world, order_json())
    state = world.sandbox.state
    monkeypatch.setattr(state, "find_orders", lambda **_: State.find_orders(state))
    paper.polled(world, order_json(**fields))
    assert desk.order(world, "X-1").status == status


def test_what_a_person_has_dismissed_stays_so_wherever_it_is_listed(world: World) -> None:
    add_product(world.database, sku="A")
    paper.polled(world, order_json())
    bad = order_json(status="odd", updated_at=now_text())
    paper.polled(world, bad)
    dismissed(world, "X-1")
    world.sandbox.state.orders.clear()
    paper.polled(world, order_json(order_id="X-0", updated_at=now_text()), bad)
    assert desk.order(world, "X-1").exception is None


def test_the_story_of_an_order_set_aside_does_not_grow_with_its_place(world: World) -> None:
    bad = order_json(items="A")
    paper.polled(world, bad)
    world.sandbox.state.orders.clear()
    paper.polled(world, order_json(order_id="X-0"), bad)
    assert desk.steps(world, "X-1") == ["failed"]


# who comes first


@pytest.mark.parametrize("report", [paper.polled, paper.told])
def test_an_unmapped_line_is_mapped_before_a_new_order_takes_its_stock(
    world: World, report: paper.Report
) -> None:
    report(world, order_json("U", 2, "OLD"))
    add_product(world.database, sku="U", stock_quantity=2)
    report(world, order_json("U", 2, "NEW", created_at="2026-01-03T00:00:00Z", updated_at=now_text()))
    world.import_orders()
    assert paper.took(world, "OLD", "NEW") == [2, 0]


# totals


@pytest.mark.parametrize(
    "fields", [{"items": [line("A", 3)], "total": None}, {"items": None, "total": "99.00"}]
)
def test_an_edit_of_lines_or_total_alone_that_no_longer_adds_up_is_shown(world: World, fields: Raw) -> None:
    add_product(world.database, sku="A")
    paper.polled(world, order_json(quantity=2))
    paper.polled(world, order_json(updated_at=now_text(), **fields))
    assert unbalanced_orders(world.database)
    assert desk.order(world, "X-1").exception == "total_mismatch"


# alerts


@pytest.mark.parametrize("ends", ["dismissed", "known again"])
def test_the_alert_of_an_unknown_word_closes_when_no_order_has_it(world: World, ends: str) -> None:
    paper.polled(world, order_json(status="Teleported"))
    if ends == "dismissed":
        dismissed(world, "X-1")
    else:
        paper.polled(world, order_json(status="processing", updated_at=now_text()))
    assert desk.alerts(world) == []


def test_an_alert_of_a_word_that_a_person_closed_stays_closed_whatever_other_orders_are_called(
    world: World,
) -> None:
    for order_id, word in (("X-1", "Teleported"), ("X-2", "Beamed"), ("X-3", "Lost")):
        paper.polled(world, order_json(id=order_id, status=word))
    run(world.database, "UPDATE alerts SET cleared_at = created_at WHERE subject = 'word:Teleported'")
    dismissed(world, "X-2")
    paper.polled(world, order_json(id="X-4", status="Folded"))
    paper.polled(world, order_json(id="X-3", status="Bent", updated_at=now_text()))
    left = rows(world.database, "SELECT subject FROM alerts WHERE cleared_at IS NULL ORDER BY id")
    assert [subject for (subject,) in left] == ["word:Folded", "word:Bent"]


# ids given again


@pytest.mark.only_on("sqlite")  # PostgreSQL gives no id again
@pytest.mark.parametrize("known", [True, False], ids=["4Seller knows the parcel", "4Seller does not"])
def test_a_new_order_does_not_inherit_the_parcels_of_a_deleted_one(world: World, known: bool) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    first = world.place(("A", 2))
    world.import_orders()
    desk.pack(world, first)
    if known:
        desk.sync(world)
    run(world.database, "DELETE FROM orders")
    second = world.place(("A", 1))
    desk.sync(world)
    assert desk.at_4seller(world, second) == ("pending", None)
    world.sandbox.state.move(second, "cancelled")
    world.import_orders()
    assert (desk.order(world, second).exception, desk.stock(world, product)) == (None, 7)


@pytest.mark.only_on("sqlite")
def test_the_alert_of_a_removed_item_is_not_its_successors(world: World) -> None:
    gone = add_product(world.database, sku="A", stock_quantity=2)
    order_id = world.place(("A", 3))
    world.import_orders()
    world.remove(gone)
    add_product(world.database, sku="OTHER", stock_quantity=9)
    world.sandbox.state.move(order_id, "cancelled")
    world.import_orders()
    assert desk.alerts(world) == ["order_ended"]


@pytest.mark.only_on("postgresql")  # a trigger takes care of it on SQLite
def test_on_postgresql_an_id_that_was_given_again_by_hand_is_another_item(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=1)
    world.place(("A", 3))
    world.import_orders()
    world.remove(product)
    add_product(world.database, id=product, sku="OTHER", stock_quantity=9)
    world.import_orders()
    assert desk.stock(world, product) == 9
