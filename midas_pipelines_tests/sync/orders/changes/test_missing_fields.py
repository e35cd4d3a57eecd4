"""What the first message of an order left unsaid is unknown until a message says it, and then it is filled in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas_pipelines.sandbox.state import now_text
from midas_pipelines.store.orders.checks import stale_orders
from midas_pipelines.store.orders.listing import sales_between
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.orders import desk, letterbox, paper
from midas_pipelines_tests.sync.orders.paper import Raw, Report, order_json
from midas_pipelines_tests.sync.world import World

BOTH_WAYS = pytest.mark.parametrize("report", [paper.polled, paper.told])
UNSAID = ("currency", "sales_channel", "created_at", "customer")


def whole(**fields: Any) -> Raw:
    """An order of today with everything in it."""
    at = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    buyer = {"name": "Ann", "email": "ann@home.example"}
    given = {"currency": "EUR", "sales_channel": "ebay", "created_at": at, "customer": buyer}
    return order_json(**(given | {"updated_at": at} | fields))


def without(order: Raw, *names: str) -> Raw:
    """The order as a message has it that leaves these out."""
    return {name: part for name, part in order.items() if name not in names}


def shop_order(world: World) -> Any:
    """What the shop's order says of channel, currency and date."""
    query = "SELECT payment_method, notes, created_at FROM orders"
    ((method, notes, at),) = rows(world.database, query)
    return str(method), notes, str(at)[:16].replace("T", " ")


def mails(world: World) -> list[tuple[str, str]]:
    """The messages that are due, or were."""
    return [tuple(row) for row in rows(world.database, "SELECT kind, state FROM customer_mails ORDER BY id")]


@BOTH_WAYS
def test_currency_channel_and_date_are_unknown_until_they_are_told(world: World, report: Report) -> None:
    add_product(world.database, sku="A", stock_quantity=5)
    order = whole(created_at="2026-03-04T05:06:00Z")
    paper.told(world, without(order, *UNSAID))
    known = desk.order(world, "X-1")
    assert (known.currency, known.sales_channel, known.placed_at) == (None, None, None)
    assert "paid in" not in shop_order(world)[1]
    report(world, order)
    known = desk.order(world, "X-1")
    assert (known.currency, known.sales_channel) == ("EUR", "ebay")
    assert known.placed_at == datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    method, notes, at = shop_order(world)
    assert "ebay" in method
    assert notes == "ebay order X-1 through 4Seller, paid in EUR"
    assert at == "2026-03-04 05:06"
    assert "Ann" in str(rows(world.database, "SELECT shipping_address FROM orders"))
    assert desk.steps(world, "X-1").count("learned") == 1
    desk.assert_whole(world)


@pytest.mark.both_databases
def test_an_older_message_tells_what_the_newer_left_out_and_nothing_else(world: World) -> None:
    product = add_product(world.database, sku="A", stock_quantity=9)
    newer = without(whole(quantity=2, total="20.00"), *UNSAID) | {"updated_at": now_text()}
    paper.told(world, newer)
    assert desk.told(world, whole(quantity=5, total="50.00")) == ["superseded"]
    known = desk.order(world, "X-1")
    assert (known.currency, known.sales_channel, str(known.total)) == ("EUR", "ebay", "20.00")
    assert (paper.holdings(world, "X-1"), desk.stock(world, product)) == ([("A", 2, 2, 0)], 7)
    assert "Ann" in str(rows(world.database, "SELECT shipping_address FROM orders"))


def test_what_is_known_is_not_told_anew(world: World) -> None:
    paper.told(world, whole())
    before = desk.order(world, "X-1")
    paper.told(world, whole(currency="CHF", sales_channel="etsy", updated_at=now_text()))
    after = desk.order(world, "X-1")
    names = ("currency", "sales_channel", "placed_at")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]


def test_whether_the_total_adds_up_is_judged_anew_by_the_currency(world: World) -> None:
    yen = whole(currency="JPY", items=[paper.line("A", 1, price="100.4")], total="100")
    paper.told(world, without(yen, "currency"))
    assert "total_mismatch" in str(desk.order(world, "X-1").exception)
    paper.told(world, yen)
    assert "total_mismatch" not in str(desk.order(world, "X-1").exception)


@pytest.mark.both_databases
def test_what_the_shop_has_written_on_its_order_stays(world: World) -> None:
    paper.told(world, without(whole(), *UNSAID))
    run(world.database, "UPDATE orders SET notes = 'Call before noon'")
    paper.told(world, whole())
    assert shop_order(world)[1] == "Call before noon"


def test_one_batch_knows_what_any_of_its_messages_says(world: World) -> None:
    paper.told(world, whole(), without(whole(), *UNSAID) | {"updated_at": now_text()})
    known = desk.order(world, "X-1")
    assert (known.currency, known.sales_channel, known.placed_at is None) == ("EUR", "ebay", False)


@pytest.mark.both_databases
def test_a_buyer_who_is_told_after_the_goods_have_left_is_filled_in(world: World) -> None:
    add_product(world.database, sku="A", stock_quantity=5)
    paper.told(world, without(whole(), "customer"))
    desk.pack(world, "X-1")
    paper.told(world, whole(updated_at=now_text()))
    assert "ann@home.example" in str(rows(world.database, "SELECT shipping_address FROM orders"))


@pytest.mark.both_databases
def test_an_order_that_nobody_has_dated_is_as_old_as_its_import(world: World) -> None:
    paper.told(world, without(whole(), "created_at"))
    today = datetime.now(UTC)
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    assert sales_between(world.database, yesterday, tomorrow)["orders"] == 1
    assert sales_between(world.database, yesterday - timedelta(days=1), yesterday) == {"orders": 0}
    assert (stale_orders(world.database, 1), len(stale_orders(world.database, 0))) == ([], 1)


@pytest.mark.both_databases
@pytest.mark.parametrize("names", [("customer",), ("created_at",), UNSAID])
def test_the_confirmation_is_due_once_when_enough_is_known(
    shop_with_mail: World, names: tuple[str, ...]
) -> None:
    world = shop_with_mail
    paper.told(world, without(whole(), *names))
    assert mails(world) == []
    paper.told(world, whole())
    paper.told(world, whole(updated_at=now_text()))
    assert mails(world) == [("received", "waiting")]


TOO_LATE: dict[str, Raw] = {
    "ended": {"status": "cancelled"},
    "shipped": {"status": "shipped"},
    "long past": {"created_at": "2026-01-02T03:04:05Z"},
    "behind a relay": {"customer": {"email": "x@members.ebay.com"}},
}


@pytest.mark.parametrize("fields", TOO_LATE.values(), ids=TOO_LATE)
def test_no_confirmation_is_due_for_what_is_out_of_place(shop_with_mail: World, fields: Raw) -> None:
    world = shop_with_mail
    paper.told(world, without(whole(), *UNSAID))
    paper.told(world, whole(updated_at=now_text(), **fields))
    assert "received" not in [kind for kind, _ in mails(world)]


def test_nobody_is_written_to_while_the_channel_may_be_one_that_is_off(shop_with_mail: World) -> None:
    world = shop_with_mail
    world.sync_context(mail_channels_off="ebay")
    paper.told(world, without(whole(), "sales_channel"))
    desk.pack(world, "X-1", order_context=letterbox.order_context(world))
    paper.told(world, whole())
    assert mails(world) == []


def test_a_channel_that_turns_out_to_be_on_is_confirmed(shop_with_mail: World) -> None:
    world = shop_with_mail
    world.sync_context(mail_channels_off="amazon")
    paper.told(world, without(whole(), "sales_channel"))
    assert mails(world) == []
    paper.told(world, whole())
    assert mails(world) == [("received", "waiting")]


@BOTH_WAYS
@pytest.mark.parametrize(
    ("status", "left"), [("shipped", 8), ("delivered", 8), ("cancelled", 10), ("refunded", 10)]
)
def test_lines_that_come_after_the_end_of_a_story_are_booked_as_if_they_had_come_before(
    world: World, report: Report, status: str, left: int
) -> None:
    product = add_product(world.database, sku="A", stock_quantity=10)
    order = whole(quantity=2, total="20.00", status=status)
    paper.told(world, without(order, "items", "total"))
    report(world, order | {"updated_at": now_text()})
    known = desk.order(world, "X-1")
    assert (known.status, known.exception, str(known.total)) == (status, None, "20.00")
    assert [(line.sku, line.quantity) for line in desk.lines(world, "X-1")] == [("A", 2)]
    assert desk.stock(world, product) == left
    desk.assert_whole(world)
