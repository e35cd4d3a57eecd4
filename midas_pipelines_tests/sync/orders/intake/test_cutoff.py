"""From when on orders are imported: the limit keeps old orders out, and never one that is on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.sync.orders.intake.batch import import_order_webhooks
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.orders import desk, paper
from midas_pipelines_tests.sync.orders.paper import Raw, Report, order_json
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import VAULT

LIMIT = datetime(2026, 11, 1, tzinfo=UTC)
OLD, NEW = "2026-10-31T00:00:00Z", "2026-11-02T00:00:00Z"
BOTH_WAYS = pytest.mark.parametrize("report", [paper.polled, paper.told])


def placed(at: str | None, **fields: Any) -> Raw:
    """An order for two of A."""
    return order_json(**({"quantity": 2, "created_at": at, "updated_at": now_text()} | fields))


def on_record(world: World) -> int:
    """How many orders there are."""
    return len(rows(world.database, "SELECT id FROM marketplace_orders"))


@BOTH_WAYS
@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_an_order_on_record_is_followed_whenever_it_was_placed(
    world: World, report: Report, status: str
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    paper.polled(world, placed(OLD))
    world.sync_context(orders_since=LIMIT)
    report(world, placed(OLD, status=status))
    assert (desk.order(world, "X-1").status, desk.stock(world, product)) == (status, 5)
    desk.assert_whole(world)


@BOTH_WAYS
def test_an_order_on_record_that_cannot_be_read_any_more_is_followed_too(
    world: World, report: Report
) -> None:
    add_product(world.database, sku="A", stock_quantity=5)
    paper.polled(world, placed(OLD))
    world.sync_context(orders_since=LIMIT)
    report(world, placed(OLD, status="processing", items="A"))
    assert desk.order(world, "X-1").status == "processing"


LEFT_OUT: dict[str, Raw] = {
    "placed before": placed(OLD),
    "unreadable and placed before": placed(OLD, items="A"),
    "of an unknown day, and last changed before": placed(None, updated_at=OLD),
}


@BOTH_WAYS
@pytest.mark.parametrize("order", LEFT_OUT.values(), ids=LEFT_OUT)
def test_an_older_order_leaves_no_trace(world: World, report: Report, order: Raw) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    world.sync_context(orders_since=LIMIT)
    report(world, order)
    assert (on_record(world), desk.stock(world, product)) == (0, 5)


def test_an_event_of_an_unknown_day_waits_for_the_poll(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    world.sync_context(orders_since=LIMIT)
    (told,) = import_order_webhooks(world.sync_context(), [placed(None)], VAULT)
    assert told.ended == "applied"
    assert "next poll" in str(told.reason)
    assert (on_record(world), desk.stock(world, product)) == (0, 5)
    paper.polled(world, placed(NEW))
    assert (on_record(world), desk.stock(world, product)) == (1, 3)
    assert desk.told(world, placed(None, status="cancelled")) == ["applied"]
    assert desk.stock(world, product) == 5


def test_events_of_one_batch_are_judged_by_what_they_say_together(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    world.sync_context(orders_since=LIMIT)
    later = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    found = import_order_webhooks(world.sync_context(), [placed(NEW), placed(None, updated_at=later)], VAULT)
    assert [(one.ended, one.reason is None) for one in found] == [("superseded", False), ("applied", True)]
    assert (on_record(world), desk.stock(world, product)) == (1, 3)


def test_a_person_may_have_an_older_order_imported_that_was_set_aside(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=5)
    paper.polled(world, placed(OLD, items="A"))
    world.sync_context(orders_since=LIMIT)
    paper.polled(world, placed(OLD))
    assert (desk.order(world, "X-1").outcome, desk.stock(world, product)) == ("quarantined", 5)
    assert desk.retry(world, "X-1").imported
    assert desk.stock(world, product) == 3
