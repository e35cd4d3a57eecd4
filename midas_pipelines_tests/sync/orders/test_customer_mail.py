"""Customer mail from an order's change to a real SMTP server: to whom, about what, once, and what a failure costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from midas_pipelines.settings import SettingsError, load_settings
from midas_pipelines.sync.orders.customer_mail import put_back, unsent_messages, wants_mail
from midas_pipelines.sync.orders.lookup import retry_order
from midas_pipelines_tests.notify.smtp import DROP, Mailbox
from midas_pipelines_tests.shop import rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.letterbox import (
    aged,
    buy,
    due_again,
    mails,
    order_context,
    send,
    states,
    texts,
)
from midas_pipelines_tests.sync.world import World

NOWHERE = "smtp://127.0.0.1:9"
AMAZON = "x1@marketplace.amazon.co.uk"

POLICY: list[tuple[str | None, str | None, float | None, dict[str, Any], bool]] = [
    ("ebay", "a@home.example", 0, {}, True),
    (None, "a@home.example", 0, {}, True),
    ("amazon", AMAZON, 0, {}, False),
    ("AMAZON", AMAZON, 0, {"mail_channels_on": ["Amazon"]}, True),
    ("Walmart", "x@relay.walmart.com", 0, {}, False),
    ("eBay", "a@home.example", 0, {"mail_channels_off": ["EBAY"]}, False),
    (None, "a@home.example", 0, {"mail_channels_off": ["ebay"]}, False),
    ("ebay", "a@home.example", 49, {}, False),
    ("ebay", "a@home.example", 47, {}, True),
    ("ebay", "a@home.example", None, {}, False),
    ("ebay", None, 0, {}, False),
    ("ebay", "no address", 0, {}, False),
    ("ebay", "a@home.example", 0, {"smtp_url": None}, False),
]


@pytest.mark.parametrize(("channel", "email", "hours", "changes", "wanted"), POLICY)
def test_the_policy_decides_who_gets_mail(
    channel: str | None, email: str | None, hours: float | None, changes: dict[str, Any], wanted: bool
) -> None:
    settings = load_settings(**({"smtp_url": NOWHERE} | changes))
    placed_at = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
    order = SimpleNamespace(sales_channel=channel, placed_at=placed_at)
    assert wants_mail(settings, "received", order, email) is wanted
    assert wants_mail(None, "received", order, email) is False


RELAYS = {
    "members.ebay.com": True,
    "sub.members.ebay.com": True,
    "MARKETPLACE.AMAZON.CO.JP": True,
    "scs.tiktokw.us": True,
    "scs2.tiktok.com": True,
    "mail.mercadolivre.com": True,
    "etsy.com": True,
    "mymembers.ebay.com": False,
    "marketplace.amazon.evil.example": False,
    "etsy.company.example": False,
    "notamazon.com": False,
}


def test_relay_addresses_of_marketplaces_are_known() -> None:
    settings = load_settings(smtp_url=NOWHERE)
    order = SimpleNamespace(sales_channel="ebay", placed_at=None)
    wanted = {domain: wants_mail(settings, "shipped", order, f"x@{domain}") for domain in RELAYS}
    assert wanted == {domain: not relay for domain, relay in RELAYS.items()}


@pytest.mark.both_databases
def test_each_event_is_mailed_once_with_its_facts(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    first, second = buy(world, "ann", "bob", units=5)
    send(world)
    desk.pack(world, first, units={1: 2}, order_context=order_context(world))
    desk.shop_packs(world, first, "P-1", "Pigeon")
    desk.tell(world)
    world.sandbox.state.move(second, "cancelled")
    for _ in range(2):
        world.import_orders()
        send(world)
    assert mails(world) == [
        (kind, "sent") for kind in ("received", "received", "shipped", "shipped", "cancelled")
    ]
    assert [mail["To"].partition("@")[0] for mail in box.mails] == ["ann", "bob", "ann", "ann", "bob"]
    assert box.mails[0]["From"] == "Midas <orders@shop.example>"
    received, _, part, rest, cancelled = texts(box)
    assert received.startswith(f"We have your order {first}\n")
    assert ("54.99 USD" in received, "Hello Ann," in received) == (True, True)
    assert [word in part for word in ("A part of", "2 x A\n", "The rest ships separately.", desk.UPS)] == [
        True
    ] * 4
    assert f"https://www.ups.com/track?tracknum={desk.UPS}" in part
    assert [word in rest for word in ("A part of", "3 x A\n", "P-1", "https")] == [True, True, True, False]
    assert "nothing more of it will be sent" in cancelled
    assert desk.steps(world, first).count("confirmed") == 3


SHIPPED_FIRST: dict[str, Callable[[World, str], object]] = {
    "in the shop": lambda world, order: (desk.shop_sets(world, order, "shipped"), desk.sync(world)),
    "on the marketplace": lambda world, order: (desk.market(world, order, "shipped"), world.import_orders()),
}


@pytest.mark.parametrize("sent", [False, True], ids=["unsent", "sent"])
@pytest.mark.parametrize("where", SHIPPED_FIRST)
def test_a_shipment_recorded_after_the_status_adds_its_number(
    shop_with_mail: World, box: Mailbox, where: str, sent: bool
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    SHIPPED_FIRST[where](world, order)
    if sent:
        send(world)
    desk.shop_packs(world, order, desk.UPS)
    desk.tell(world)
    send(world)
    _, *shipped = texts(box)
    assert ["is on its way" in text.splitlines()[0] for text in shipped] == [True] * (1 + sent)
    assert [desk.UPS in text for text in shipped] == [*([False] * sent), True]


@pytest.mark.parametrize("sent", [False, True], ids=["unsent", "sent"])
def test_a_replaced_shipment_is_mailed_with_its_new_number(
    shop_with_mail: World, box: Mailbox, sent: bool
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    desk.pack(world, order, order_context=order_context(world))
    if sent:
        send(world)
    desk.corrects(world, order, desk.UPS, "fedex", desk.FEDEX, order_context(world))
    send(world)
    _, *shipped = texts(box)
    assert [(desk.UPS in text, desk.FEDEX in text) for text in shipped] == [
        *([(True, False)] * sent),
        (False, True),
    ]


def test_the_words_of_a_buyer_stay_on_one_line_and_advertise_nothing(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    trick = "X\n\nYour order is CANCELLED.\r\n\r\u2029Pay again."
    items = [{"sku": "A", "title": trick + "y" * 200, "quantity": 1, "price": "10.00"}]
    bad = {"email": "a@home.example\r\nBcc: all@home.example"}
    world.place(("A", 1), customer=bad, sales_channel="ebay")
    for name in (trick, "Win at https://evil.example"):
        world.place(
            id="ID" + name,
            customer={"email": "a@home.example", "name": name},
            sales_channel=trick[:40],
            items=items,
        )
    send_to = [buy(world, "ann"), send(world)] and box.recipients
    assert set(send_to) == {"a@home.example", "ann@home.example"}
    assert [mail["Bcc"] for mail in box.mails] == [None] * 3
    tricked, advert, plain = texts(box)
    assert tricked.count("\n\n") == plain.count("\n\n")
    assert len(tricked.splitlines()) == len(plain.splitlines()) + 1  # the amount stands below a long title
    assert ("Hello,\n" in advert, max(map(len, tricked.splitlines())) < 200) == (True, True)


@pytest.mark.parametrize(
    ("answer", "state"), [("451 later", "waiting"), ("550 never", "failed"), (DROP, "failed")]
)
def test_a_failure_of_one_message_holds_up_no_other(
    shop_with_mail: World, box: Mailbox, answer: str, state: str
) -> None:
    world = shop_with_mail
    order, _ = buy(world, "ann", "bob")
    box.hang_up = answer == DROP
    box.answers = [] if box.hang_up else [answer]
    report = send(world)
    box.hang_up = False
    send(world)
    assert (states(world), report[state]) == ([state, "sent"], 1)
    reasons = "SELECT reason FROM customer_mails WHERE reason IS NOT NULL"
    assert "ann" not in str(rows(world.database, reasons))
    assert desk.alerts(world) == ["customer_mail"] * (state == "failed")
    due_again(world)
    assert send(world)["sent"] == (state == "waiting")  # one that may have been sent is not sent again
    assert (desk.steps(world, order).count("not_confirmed"), len(box.mails)) == (
        1,
        1 + (answer != "550 never"),
    )


def test_a_server_that_is_down_ends_the_round_with_one_alert(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    buy(world, "ann", "bob")
    world.changes["smtp_url"] = NOWHERE
    for _ in range(2):
        assert (send(world), desk.alerts(world)) == ({"waiting": 1}, ["mail_server"])
        due_again(world)
    assert rows(world.database, "SELECT attempts FROM customer_mails ORDER BY id") == [(2,), (0,)]
    world.changes["smtp_url"] = box.url
    assert (send(world), desk.alerts(world)) == ({"sent": 2}, [])


@pytest.mark.both_databases
def test_a_message_waits_longer_each_time_and_is_given_up_for_its_age(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    box.at["LETTER"] = "451 later"
    waits = []
    for _ in range(4):
        send(world)
        due = datetime.fromisoformat(str(value(world.database, "SELECT next_attempt_at FROM customer_mails")))
        waits.append((due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
        due_again(world)
    assert [round(wait, -1) for wait in waits] == [60, 120, 240, 480]
    aged(world, 3.1)
    assert (send(world)["failed"], desk.alerts(world)) == (1, ["customer_mail"])
    box.at.clear()
    asyncio.run(retry_order(world.sync_context(), order))
    assert (send(world), desk.alerts(world)) == ({}, ["customer_mail"])
    (listed,) = unsent_messages(world.database)
    assert (listed["order"], listed["kind"], listed["state"]) == (order, "received", "failed")
    with world.database.writing() as connection:
        assert put_back(connection, given_up=True) == 1
    assert (desk.alerts(world), send(world)["sent"], unsent_messages(world.database)) == ([], 1, [])


def test_a_message_whose_sender_died_is_given_up(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    sending_since = "UPDATE customer_mails SET state = 'sending', next_attempt_at = :at"
    run(
        world.database,
        sending_since,
        at="2099-01-01 00:00:00.000000+00:00"[: None if world.database.is_postgresql else 26],
    )
    run(world.database, sending_since, at=str(value(world.database, "SELECT created_at FROM customer_mails")))
    assert asyncio.run(retry_order(world.sync_context(), order, mail=True)).messages == 0
    assert (send(world), box.mails, desk.alerts(world)) == ({"failed": 1}, [], ["customer_mail"])
    assert asyncio.run(retry_order(world.sync_context(), order, mail=True)).messages == 1
    assert (send(world), desk.alerts(world)) == ({"sent": 1}, [])


@pytest.mark.both_databases
def test_two_mailers_send_each_message_once(shop_with_mail: World, box: Mailbox) -> None:
    names = [f"p{number}" for number in range(8)]
    buy(shop_with_mail, *names)
    threads = [threading.Thread(target=send, args=(shop_with_mail,)) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(box.recipients) == sorted(f"{name}@home.example" for name in names)
    assert set(states(shop_with_mail)) == {"sent"}


def test_an_answer_after_an_erasure_changes_nothing(shop_with_mail: World, box: Mailbox) -> None:
    buy(shop_with_mail, "ann")
    box.answers = ["451 later"]
    box.meanwhile = lambda: run(shop_with_mail.database, "UPDATE customer_mails SET state = 'dropped'")
    assert (send(shop_with_mail), states(shop_with_mail)) == ({}, ["dropped"])


def cancelled(world: World, order: str) -> None:
    world.sandbox.state.move(order, "cancelled")
    world.import_orders()


def switched_off(world: World, order: str) -> None:
    world.changes["mail_channels_off"] = ["eBay"]


def behind_a_relay(world: World, order: str) -> None:
    desk.edit(world, order, customer={"email": "x@members.ebay.com", "name": "Ann"})
    world.import_orders()


@pytest.mark.parametrize("change", [cancelled, switched_off, behind_a_relay])
def test_a_confirmation_that_is_no_longer_appropriate_is_dropped(
    shop_with_mail: World, box: Mailbox, change: Callable[[World, str], None]
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    change(world, order)
    send(world)
    assert mails(world)[0] == ("received", "dropped")
    assert ["is cancelled" in text for text in texts(box)] == [True] * (change is cancelled)
    assert set(desk.alerts(world)) <= {"order_ended"}


@pytest.mark.parametrize("status", ["shipped", "delivered", "cancelled", "refunded"])
def test_an_order_that_has_ended_or_shipped_when_it_comes_is_not_confirmed(
    shop_with_mail: World, status: str
) -> None:
    buy(shop_with_mail, "ann", status=status)
    assert mails(shop_with_mail) == []


def test_a_cancellation_that_was_withdrawn_is_not_mailed(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    send(world)
    cancelled(world, order)
    desk.market(world, order, "processing")
    world.import_orders()
    desk.settle(world, order, "shipped")
    desk.sync(world)
    send(world)
    assert (len(box.mails), states(world)) == (1, ["sent", "dropped"])


def test_what_cannot_be_written_is_retried_and_named(
    shop_with_mail: World, box: Mailbox, tmp_path: Path
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    send(world)
    desk.pack(world, order, order_context=order_context(world))
    run(world.database, "UPDATE order_shipments SET contents = :odd", odd='"1"')
    send(world)
    assert unsent_messages(world.database)[0]["reason"] == "The message could not be written: AttributeError."
    world.changes["mail_templates"] = tmp_path
    (tmp_path / "shipped.txt").write_text("Danke\n{{ order.nothing }}")
    run(world.database, "UPDATE order_shipments SET contents = NULL")
    due_again(world)
    report = send(world)
    (listed,) = unsent_messages(world.database)
    assert (report, "shipped.txt, line 2" in listed["reason"]) == ({"waiting": 1}, True)


def test_mail_that_is_switched_on_later_reports_nothing_earlier(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    url = world.changes.pop("smtp_url")
    buy(world, "ann")
    assert send(world) == {}
    world.changes |= {"smtp_url": url, "mail_from": ""}
    with pytest.raises(SettingsError, match="MIDAS_MAIL_FROM is not set"):
        send(world)
    world.changes["mail_from"] = "Midas <orders@shop.example>"
    assert (send(world), mails(world)) == ({}, [])
