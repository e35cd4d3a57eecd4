"""Buyers are erased in time, those whom the law keeps are not, and a run that dies leaves all whole."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from midas_pipelines.sync.privacy import erase as erasing
from midas_pipelines.sync.privacy.due import (
    GRACE,
    ErasureReport,
    erase_due_buyers,
    erasure_weeks,
    overdue_buyers,
    unerased_buyers,
)
from midas_pipelines.sync.privacy.erase import hold_buyer, release_hold
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

LONG_AGO = datetime.now(UTC) - timedelta(days=40)


@pytest.fixture
def old(world: World) -> list[str]:
    """Three orders whose buyers are due: delivered, cancelled and shipped 40 days ago, and one that is open."""
    orders = [desk.sold(world, A=1), *(world.place(("A", 1)) for _ in range(3))]
    for order, status in zip(orders, ("delivered", "cancelled", "shipped"), strict=False):
        desk.market(world, order, status)
    world.import_orders()
    run(world.database, "UPDATE order_status_history SET created_at = :at", at=LONG_AGO)
    run(world.database, "UPDATE marketplace_orders SET imported_at = :at", at=LONG_AGO)
    return orders


def erase(world: World) -> ErasureReport:
    return erase_due_buyers(world.sync_context())


def kept(world: World) -> list[str]:
    """The orders whose buyer can be read in the shop."""
    found = rows(
        world.database,
        "SELECT m.marketplace_order_id, o.shipping_address FROM marketplace_orders m "
        "JOIN orders o ON o.id = m.local_order_id ORDER BY m.id",
    )
    return [order for order, address in found if "erased" not in json.dumps(address)]


@pytest.mark.both_databases
def test_what_is_due_is_erased_and_what_is_not_stays(world: World, old: list[str]) -> None:
    assert [row["order"] for row in overdue_buyers(world.database, world.settings)] == old[:3]
    assert erase(world).erased == 3
    assert kept(world) == [old[3]]
    assert (overdue_buyers(world.database, world.settings), erase(world).erased) == ([], 0)
    desk.assert_whole(world)


@pytest.mark.both_databases
def test_what_is_overdue_is_found_whatever_the_times_of_its_order(world: World) -> None:
    chance, now, settings = random.Random(17), datetime.now(UTC), world.settings
    add_product(world.database, sku="A", stock_quantity=100)
    for _ in range(100):
        world.place(("A", 1))
    world.import_orders()
    run(world.database, "DELETE FROM order_status_history")
    for (local,) in rows(world.database, "SELECT local_order_id FROM marketplace_orders"):
        imported, reported = (now - timedelta(days=chance.uniform(first, 45)) for first in (33, -2))
        status = chance.choice(["pending", "delivered", "delivered", "cancelled"])
        run(
            world.database,
            "UPDATE marketplace_orders SET imported_at = :imported, source_updated_at = :reported, status = :status "
            "WHERE local_order_id = :local",
            imported=imported,
            reported=chance.choice([reported, None]),
            status=status,
            local=local,
        )
        for word in chance.sample(["shipped", "delivered", "cancelled"], chance.randint(0, 2)):
            at = now - timedelta(days=chance.uniform(-2, 45))
            history = (
                "INSERT INTO order_status_history (order_id, status, created_at) VALUES (:local, :word, :at)"
            )
            run(world.database, history, local=local, word=word, at=at)
    late = [one.order for one in unerased_buyers(world.database, settings) if one.is_due(now - GRACE)]
    assert 10 < len(late) < 90
    assert {row["order"] for row in overdue_buyers(world.database, settings)} == set(late)


def test_the_law_keeps_a_buyer_until_the_hold_ends(world: World, old: list[str]) -> None:
    row = desk.order(world, old[0]).id
    with world.database.writing() as connection:
        until = datetime.now(UTC) + timedelta(days=400)
        hold_buyer(connection, row, until=until, because="a tax audit", by="anna")
    erase(world)
    assert kept(world) == [old[0], old[3]]
    totals, _ = erasure_weeks(world.database, world.settings)
    assert (totals["held"], totals["overdue"], totals["erased"]) == (1, 0, 2)
    with pytest.raises(erasing.BuyerHeld, match="held by law until"):
        erasing.erase_order(world.database, row, desk.OrderContext())
    with world.database.writing() as connection:
        assert release_hold(connection, row)
    assert erase(world).erased == 1
    assert value(world.database, "SELECT because FROM buyer_holds") is None


def test_each_sales_channel_has_its_days_and_never_has_to_be_said(world: World, old: list[str]) -> None:
    for order, channel in zip(old, ("Amazon.de", "TikTok Shop", "ebay", "walmart"), strict=True):
        run(
            world.database,
            "UPDATE marketplace_orders SET sales_channel = :c WHERE marketplace_order_id = :o",
            c=channel,
            o=order,
        )
    world.changes["erase_buyers_after_days"] = "60, amazon=never, tiktok=30"
    assert erase(world).erased == 1
    assert kept(world) == [old[0], old[2], old[3]]
    totals, weeks = erasure_weeks(world.database, world.settings)
    assert (totals["never"], sum(week["due"] for week in weeks)) == (1, 1)


def test_a_run_that_dies_leaves_the_rest_to_the_next(
    world: World, old: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    erase_buyer, calls = erasing.erase_buyer, []

    def dies(*given: object) -> None:
        erase_buyer(*given)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError

    monkeypatch.setattr(erasing, "erase_buyer", dies)
    with pytest.raises(MemoryError):
        erase(world)
    assert kept(world) == old[1:]
    assert erase(world).erased == 2
    desk.assert_whole(world)


@pytest.mark.both_databases
def test_old_events_of_no_known_order_are_emptied(world: World, old: list[str]) -> None:
    for number, subject in enumerate(
        [f"order:{old[0]}", f"order:{old[3]}", "order:unknown", None, "product:1"]
    ):
        run(
            world.database,
            "INSERT INTO marketplace_webhooks (webhook_id, type, subject, payload, received_at, processed_at, outcome) "
            "VALUES (:w, 't', :s, 'plain:1', :at, :at, 'applied')",
            w=str(number),
            s=subject,
            at=LONG_AGO,
        )
    assert erase(world).events == 2
    left = rows(
        world.database, "SELECT webhook_id FROM marketplace_webhooks WHERE payload = 'plain:1' ORDER BY 1"
    )
    assert [row[0] for row in left] == ["1", "4"]
