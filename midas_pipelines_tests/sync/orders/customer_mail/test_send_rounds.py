"""Rounds of the post: what one sends and leaves, what a server that fails costs, and what is given up when."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from midas_pipelines.notify import mail
from midas_pipelines.sync.orders.customer_mail import send as mailing
from midas_pipelines.sync.orders.customer_mail.send import send_again, unsent_messages
from midas_pipelines.sync.orders.retry import retry_order
from midas_pipelines_tests.notify.smtp import DROP, HANG, Mailbox
from midas_pipelines_tests.shop import rows, run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.customer_mail.letterbox import (
    aged,
    buy,
    due_again,
    order_context,
    reasons,
    send,
    states,
    texts,
)
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

NOWHERE = "smtp://127.0.0.1:9"


@pytest.mark.parametrize(
    ("place", "how"),
    [("CONNECT", DROP), ("CONNECT", "554 no"), ("MAIL", "550 who are you"), ("RCPT", "550 5.7.1 no")],
)
def test_a_server_that_is_down_ends_the_round_at_the_first_letter(
    shop_with_mail: World, box: Mailbox, place: str, how: str
) -> None:
    buy(shop_with_mail, "ann", "bob", "eve")
    box.at[place] = how
    report = send(shop_with_mail)
    assert (report.sent, report.waiting, report.failed, box.connections) == (0, 1, 0, 1)
    assert states(shop_with_mail) == ["waiting"] * 3
    assert [
        n for (n,) in rows(shop_with_mail.database, "SELECT attempts FROM customer_mails ORDER BY id")
    ] == [1, 0, 0]


def test_a_hanging_server_costs_one_time_out(
    shop_with_mail: World, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "SECONDS", 0.3)
    buy(shop_with_mail, "ann", "bob", "eve")
    box.at["CONNECT"] = HANG
    began = time.monotonic()
    assert send(shop_with_mail).waiting == 1
    assert 0.3 <= time.monotonic() - began < 3
    assert box.connections == 1


def test_a_server_that_is_down_is_told_once_and_no_more_when_it_is_back(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    buy(world, "ann", "bob")
    world.changes["smtp_url"] = NOWHERE
    for _ in range(3):
        send(world)
        due_again(world)
        assert desk.alerts(world) == ["mail_server"]
    world.changes["smtp_url"] = box.url
    assert (send(world).sent, desk.alerts(world)) == (2, [])
    assert value(world.database, "SELECT count(*) FROM alerts") == 1


def test_a_server_that_dies_over_each_letter_costs_one_of_them(shop_with_mail: World, box: Mailbox) -> None:
    buy(shop_with_mail, "ann", "bob", "eve")
    box.at["LETTER"] = DROP
    send(shop_with_mail)
    assert states(shop_with_mail) == ["unsure", "waiting", "waiting"]
    assert sorted(desk.alerts(shop_with_mail)) == ["customer_mail", "mail_server"]
    box.at.clear()
    assert send(shop_with_mail).sent == 2
    assert desk.alerts(shop_with_mail) == ["customer_mail"]  # of the one that was lost


def test_one_who_is_refused_for_who_sends_holds_the_others_up_for_one_round(
    shop_with_mail: World, box: Mailbox
) -> None:
    buy(shop_with_mail, "ann", "bob", "eve")
    box.refused["ann@home.example"] = "550 5.7.1 not for her"
    assert send(shop_with_mail).sent == 0
    assert send(shop_with_mail).sent == 2
    assert states(shop_with_mail) == ["waiting", "sent", "sent"]


def test_one_letter_that_is_not_taken_now_holds_up_no_other(shop_with_mail: World, box: Mailbox) -> None:
    buy(shop_with_mail, "ann", "bob", "eve")
    box.refused |= {"ann@home.example": "450 greylisted", "bob@home.example": "550 nobody"}
    report = send(shop_with_mail)
    assert (report.sent, report.waiting, report.failed) == (1, 1, 1)
    box.refused.clear()
    due_again(shop_with_mail)
    assert (send(shop_with_mail).sent, box.recipients) == (1, ["eve@home.example", "ann@home.example"])


def test_a_message_that_cannot_be_written_for_reasons_nobody_foresaw_holds_up_no_other(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    order, _ = buy(world, "ann", "bob")
    desk.pack(world, order, order_context=order_context(world))
    run(world.database, "UPDATE order_shipments SET contents = :odd", odd='"1"')
    report = send(world)
    assert (report.sent, report.waiting) == (2, 1)
    assert reasons(world)[-1] == "The message could not be written: AttributeError."


def test_what_becomes_due_during_a_round_waits_for_the_next(
    shop_with_mail: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shop_with_mail
    buy(world, "ann", "bob")
    early = world.database.now()
    monkeypatch.setattr(type(world.database), "now", lambda _: early)
    later = (early + timedelta(milliseconds=1)).isoformat(" ")[: None if world.database.is_postgresql else 26]
    run(world.database, "UPDATE customer_mails SET next_attempt_at = :at WHERE id = 1", at=later)
    assert (send(world).sent, states(world)) == (1, ["waiting", "sent"])
    monkeypatch.undo()
    assert send(world).sent == 1


def test_a_round_begins_no_letter_after_its_time(
    shop_with_mail: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy(shop_with_mail, "ann", "bob")
    monkeypatch.setattr(mailing, "ROUND_SECONDS", 0.0)
    assert (send(shop_with_mail).sent, states(shop_with_mail)) == (0, ["waiting"] * 2)
    monkeypatch.undo()
    assert send(shop_with_mail).sent == 2


def test_a_message_is_not_given_up_for_many_tries_but_for_its_age(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    buy(world, "ann")
    world.changes["smtp_url"] = NOWHERE
    run(world.database, "UPDATE customer_mails SET attempts = 500")
    aged(world, 2.9)
    assert (send(world).waiting, desk.alerts(world)) == (1, ["mail_server"])
    due_again(world)
    aged(world, 0.2)
    assert (send(world).failed, states(world)) == (1, ["failed"])
    assert sorted(desk.alerts(world)) == ["customer_mail", "mail_server"]


def test_what_was_given_up_is_sent_when_a_person_asks_for_it(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    box.answers = ["550 spam"]
    send(world)
    assert (send(world).sent, desk.alerts(world)) == (0, ["customer_mail"])
    (listed,) = unsent_messages(world.database)
    assert (listed["order"], listed["message"], listed["state"]) == (order, "received", "failed")
    aged(world, 9)
    assert send_again(world.database, ["failed", "unsure"]) == 1
    assert (desk.alerts(world), unsent_messages(world.database, state="failed")) == ([], [])
    box.answers = ["451 later"]
    assert send(world).waiting == 1  # it is as young as on its first day
    due_again(world)
    assert (send(world).sent, unsent_messages(world.database)) == (1, [])


def test_what_a_person_sends_again_has_its_three_days_anew(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    aged(world, 4)
    box.answers = ["550 spam", "451 greylisted"]
    send(world)
    asyncio.run(retry_order(world.sync_context(), order, mail=True))
    send(world)
    assert states(world) == ["waiting"]


def test_what_a_person_sends_again_need_not_be_looked_at(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    box.answers = ["550 spam"]
    send(world)
    asyncio.run(retry_order(world.sync_context(), order, mail=True))
    assert desk.alerts(world) == []


def test_a_message_that_is_given_up_still_stays_to_be_looked_at(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    box.answers = ["550 spam"]
    send(world)
    desk.pack(world, order, order_context=order_context(world))
    assert (send(world).sent, states(world), desk.alerts(world)) == (1, ["failed", "sent"], ["customer_mail"])
    asyncio.run(retry_order(world.sync_context(), order))
    assert desk.alerts(world) == ["customer_mail"]


def test_more_units_in_a_parcel_that_the_customer_knows_are_news_when_all_is_in_it(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann", units=3)
    sent = []
    for units in (1, 2, 3):
        desk.pack(world, order, units={1: units}, order_context=order_context(world))
        sent.append(send(world).sent)
    assert sent == [2, 0, 1]  # "received" is among the first
    assert "3 x A" in texts(box)[-1]


def test_a_failing_message_waits_longer_each_time(shop_with_mail: World, box: Mailbox) -> None:
    buy(shop_with_mail, "ann")
    box.at["LETTER"] = "451 later"
    waits = []
    for _ in range(4):
        send(shop_with_mail)
        (found,) = unsent_messages(shop_with_mail.database)
        query = "SELECT next_attempt_at FROM customer_mails"
        due = datetime.fromisoformat(str(value(shop_with_mail.database, query)))
        waits.append((due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
        due_again(shop_with_mail)
    assert (found["attempts"], found["state"]) == (4, "waiting")
    assert [round(wait, -1) for wait in waits] == [60, 60, 120, 240]


def cancelled(world: World, order: str) -> None:
    world.sandbox.state.move(order, "cancelled")
    world.import_orders()


def switched_off(world: World, order: str) -> None:
    world.changes["mail_channels_off"] = ["eBay"]


def too_old(world: World, order: str) -> None:
    run(world.database, "UPDATE marketplace_orders SET placed_at = '2020-01-01 00:00:00.000000+00:00'")


def behind_a_relay(world: World, order: str) -> None:
    desk.edit(world, order, customer={"email": "x@members.ebay.com", "name": "Ann"})
    world.import_orders()


SETTINGS = "The mail settings, or the order's age, exclude it now."
OUT_OF_PLACE = {
    cancelled: ("The order is cancelled now.", ["cancelled"]),
    switched_off: (SETTINGS, []),
    too_old: (SETTINGS, []),
    behind_a_relay: (SETTINGS, []),
}


@pytest.mark.parametrize("turn", OUT_OF_PLACE)
def test_a_confirmation_that_is_out_of_place_by_now_is_not_sent(
    shop_with_mail: World, box: Mailbox, turn: Callable[[World, str], None]
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    box.answers = ["451 later"]
    send(world)
    turn(world, order)
    due_again(world)
    report, (why, told) = send(world), OUT_OF_PLACE[turn]
    assert (report.superseded, report.failed, report.sent) == (1, 0, len(told))
    assert (states(world)[0], reasons(world)[0]) == ("superseded", why)
    assert [f"is {word}" in text for word, text in zip(told, texts(box), strict=True)] == [True] * len(told)
    assert desk.steps(world, order).count("not_confirmed") == 2
    assert set(desk.alerts(world)) <= {"order_ended"}


@pytest.mark.parametrize("status", ["shipped", "delivered", "cancelled", "refunded"])
def test_an_order_that_is_over_when_it_comes_is_not_confirmed(
    shop_with_mail: World, box: Mailbox, status: str
) -> None:
    buy(shop_with_mail, "ann", status=status)
    assert (send(shop_with_mail).sent, states(shop_with_mail)) == (0, [])


def withdrawn(world: World, order: str) -> None:
    """The marketplace takes its cancellation back, and a person settles that."""
    desk.market(world, order, "processing")
    world.import_orders()
    desk.settle(world, order, "shipped")
    desk.sync(world)


def test_a_cancellation_that_was_withdrawn_is_told_to_nobody(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    send(world)
    cancelled(world, order)
    withdrawn(world, order)
    send(world)
    assert (len(box.mails), states(world)) == (1, ["sent", "superseded"])


def test_what_says_that_an_order_is_cancelled_is_not_sent_of_one_that_stands(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    send(world)
    run(
        world.database,
        "INSERT INTO customer_mails (order_id, kind) VALUES (:id, 'cancelled')",
        id=desk.order(world, order).id,
    )
    send(world)
    assert (len(box.mails), reasons(world)[1]) == (1, "The order is no longer cancelled.")


@pytest.mark.parametrize("told", [True, False])
def test_a_cancellation_after_one_that_was_withdrawn_is_told(
    shop_with_mail: World, box: Mailbox, told: bool
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    for turn in range(3):
        cancelled_again = {"updated_at": (datetime.now(UTC) + timedelta(seconds=turn)).isoformat()}
        desk.market(world, order, "cancelled", **cancelled_again)
        world.import_orders()
        if told:
            send(world)
        if turn < 2:
            withdrawn(world, order)
    send(world)
    subjects = [str(mail["Subject"]) for mail in box.mails if "is cancelled" in str(mail["Subject"])]
    assert len(subjects) == (3 if told else 1)
    assert len({mail["Message-ID"] for mail in box.mails}) == len(box.mails)


def test_mail_that_is_switched_on_later_tells_nobody_of_what_was(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    url = world.changes.pop("smtp_url")
    (order,) = buy(world, "ann")
    assert send(world).sent == 0
    world.changes["smtp_url"] = url
    assert send(world).sent == 0
    desk.pack(world, order, order_context=order_context(world))
    assert (send(world).sent, "is on its way" in texts(box)[0]) == (1, True)


def test_two_mailers_at_once_send_each_letter_once(shop_with_mail: World, box: Mailbox) -> None:
    names = [f"p{number}" for number in range(10)]
    buy(shop_with_mail, *names)
    reports: list[mailing.MailReport] = []
    threads = [threading.Thread(target=lambda: reports.append(send(shop_with_mail))) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(box.recipients) == sorted(f"{name}@home.example" for name in names)
    assert (sum(report.sent for report in reports), len(reports)) == (10, 3)
    assert set(states(shop_with_mail)) == {"sent"}


def test_a_message_that_is_being_sent_is_left_to_who_sends_it(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    run(
        world.database,
        "UPDATE customer_mails SET state = 'sending', next_attempt_at = '2099-01-01 00:00:00.000000'",
    )
    assert send_again(world.database, ["failed", "unsure"]) == 0
    assert asyncio.run(retry_order(world.sync_context(), order, mail=True)).messages == 0
    report = send(world)
    assert (report.sent, report.failed, states(world)) == (0, 0, ["sending"])


def test_an_answer_that_comes_after_a_person_was_asked_changes_nothing(
    shop_with_mail: World, box: Mailbox
) -> None:
    buy(shop_with_mail, "ann")
    box.answers = ["451 later"]
    box.meanwhile = lambda: run(shop_with_mail.database, "UPDATE customer_mails SET state = 'unsure'")
    send(shop_with_mail)
    assert states(shop_with_mail) == ["unsure"]
