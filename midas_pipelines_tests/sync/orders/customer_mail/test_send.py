"""Messages to customers, sent to a real SMTP server: whom, what, once, and what happens when it fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from midas_pipelines.settings import SettingsError
from midas_pipelines.sync.orders.customer_mail.send import MailReport, send_mails
from midas_pipelines.sync.orders.model.mail_policy import MailPolicy, is_relay, mail_policy
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import run, value
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.world import World

NOW = datetime.now(UTC)


def send(world: World) -> MailReport:
    return send_mails(world.database, world.settings)


def due_again(world: World) -> None:
    run(world.database, "UPDATE customer_mails SET next_attempt_at = NULL")


def test_an_order_is_confirmed_once_in_text_and_html(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    order_id = world.place(
        ("A", 2), sales_channel="ebay", customer={"name": "Ann <b>", "email": "ann@home.example"}
    )
    world.import_orders()
    assert send(world).sent == 1
    world.import_orders()
    assert send(world).sent == 0
    (mail,) = box.mails
    assert (mail["To"], mail["From"]) == ("ann@home.example", "Midas <orders@shop.example>")
    assert order_id in mail["Subject"]
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))  # type: ignore[union-attr]
    assert "24.99 USD" in text
    assert "Ann &lt;b&gt;" in html
    assert "confirmed" in desk.steps(world, order_id)


def test_each_parcel_and_a_cancellation_are_told(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    first, second = world.place(("A", 2)), world.place(("A", 1))
    world.import_orders()
    order_context = OrderContext(mail=mail_policy(world.settings))
    desk.pack(world, first, units={1: 1}, order_context=order_context)
    desk.pack(world, first, desk.FEDEX, "fedex", order_context=order_context)
    world.sandbox.state.move(second, "cancelled")
    world.import_orders()
    send(world)
    texts = [mail.get_body(("plain",)).get_content() for mail in box.mails]  # type: ignore[union-attr]
    assert len(texts) == 4  # who is told of a cancellation need not be thanked any more
    assert sum(desk.UPS in text for text in texts) == 1
    assert sum("is cancelled" in str(mail["Subject"]) for mail in box.mails) == 1


@pytest.mark.parametrize(
    ("page", "trace"), [("javascript:alert(1)", "alert"), ("https://parcels.example/a b", "parcels.example")]
)
def test_a_page_that_no_browser_should_be_sent_to_is_in_no_letter(
    shop_with_mail: World, box: Mailbox, page: str, trace: str
) -> None:
    world = shop_with_mail
    order_id = world.place(("A", 2), sales_channel="ebay", customer={"email": "ann@home.example"})
    world.import_orders()
    desk.shop_packs(world, order_id, "P-1", "Pigeon")
    run(world.database, "UPDATE order_shipments SET tracking_url = :page", page=page)
    desk.sync(world)
    send(world)
    letter = box.mails[-1].as_string()
    assert "P-1" in letter
    assert trace not in letter


@pytest.mark.parametrize(
    ("channel", "email", "age", "rules", "wanted"),
    [
        ("ebay", "a@home.example", 0, MailPolicy(enabled=True), True),
        ("amazon", "x1@marketplace.amazon.com", 0, MailPolicy(enabled=True), False),
        (
            "amazon",
            "x1@marketplace.amazon.co.uk",
            0,
            MailPolicy(enabled=True, on=frozenset({"amazon"})),
            True,
        ),
        ("Walmart", "x@relay.walmart.com", 0, MailPolicy(enabled=True), False),
        ("eBay", "a@home.example", 0, MailPolicy(enabled=True, off=frozenset({"ebay"})), False),
        ("ebay", "a@home.example", 49, MailPolicy(enabled=True), False),
        ("ebay", "a@home.example", 47, MailPolicy(enabled=True), True),
        ("ebay", None, 0, MailPolicy(enabled=True), False),
        (None, "no address", 0, MailPolicy(enabled=True), False),
        ("ebay", "a@home.example", 0, MailPolicy(), False),
    ],
)
def test_who_is_written_to(
    channel: str | None, email: str | None, age: int, rules: MailPolicy, wanted: bool
) -> None:
    assert rules.wants("received", channel, email, NOW - timedelta(hours=age)) is wanted


@pytest.mark.parametrize(
    ("email", "relay"),
    [
        ("x@members.ebay.com", True),
        ("x@scs.tiktokw.us", True),
        ("x@scs2.tiktok.com", True),
        ("x@mail.mercadolibre.com", True),
        ("x@allegromail.pl", True),
        ("x@MARKETPLACE.AMAZON.CO.JP", True),
        ("x@sub.members.ebay.com", True),
        ("x@mymembers.ebay.com", False),
        ("x@marketplace.amazon.evil.example", False),
        ("x@etsy.company.example", False),
        ("x@notamazon.com", False),
        ("x@a.example", False),
    ],
)
def test_marketplaces_aliases_are_known(email: str, relay: bool) -> None:
    assert is_relay(email) is relay


@pytest.mark.parametrize(
    ("answer", "state"), [("451 later", "waiting"), ("550 never", "failed"), ("552 too big", "failed")]
)
def test_what_the_server_says_decides(shop_with_mail: World, box: Mailbox, answer: str, state: str) -> None:
    world = shop_with_mail
    world.place(("A", 1))
    world.import_orders()
    box.answers = [answer]
    send(world)
    assert value(world.database, "SELECT state FROM customer_mails") == state
    due_again(world)
    assert send(world).sent == (state == "waiting")


def test_an_address_that_is_refused_stops_no_other(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    for name in ("bad", "good"):
        world.place(("A", 1), customer={"email": f"{name}@home.example"})
    world.import_orders()
    box.refused["bad@home.example"] = "550 nobody here"
    report = send(world)
    assert (report.sent, report.failed, box.recipients) == (1, 1, ["good@home.example"])
    assert "bad@home" not in str(report.problems)


def test_a_letter_whose_fate_is_unknown_is_never_sent_twice(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    order_id = world.place(("A", 1))
    world.import_orders()
    box.hang_up = True
    assert send(world).failed == 1
    box.hang_up = False
    due_again(world)
    assert (send(world).sent, len(box.mails)) == (0, 1)
    assert value(world.database, "SELECT state FROM customer_mails") == "unsure"
    assert "not_confirmed" in desk.steps(world, order_id)


def test_a_sender_that_died_is_found_out(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    world.place(("A", 1))
    world.import_orders()
    run(
        world.database,
        "UPDATE customer_mails SET state = 'sending', next_attempt_at = '2020-01-01 00:00:00.000000'",
    )
    assert (send(world).failed, box.mails) == (1, [])


def test_a_server_that_is_down_costs_nothing_else(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    world.place(("A", 1))
    world.import_orders()
    world.changes["smtp_url"] = "smtp://127.0.0.1:9"
    report = send(world)
    assert (report.waiting, report.failed) == (1, 0)


def test_the_shops_own_template_comes_first(shop_with_mail: World, box: Mailbox, tmp_path: Path) -> None:
    world = shop_with_mail
    (tmp_path / "received.txt").write_text("Danke für {{ order.number }}\nBis bald!\n")
    world.changes["mail_templates"] = tmp_path
    order_id = world.place(("A", 1))
    world.import_orders()
    send(world)
    assert box.mails[0]["Subject"] == f"Danke für {order_id}"


def test_a_wrong_template_waits_to_be_mended(shop_with_mail: World, box: Mailbox, tmp_path: Path) -> None:
    world = shop_with_mail
    (tmp_path / "received.txt").write_text("{{ order.nothing }}")
    world.changes["mail_templates"] = tmp_path
    world.place(("A", 1))
    world.import_orders()
    report = send(world)
    assert report.waiting == 1
    assert "template" in report.problems[0]["reason"]


def test_a_missing_sender_is_said(shop_with_mail: World) -> None:
    shop_with_mail.changes["mail_from"] = ""
    with pytest.raises(SettingsError, match="MIDAS_MAIL_FROM"):
        send(shop_with_mail)


def test_a_header_cannot_be_smuggled_in(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    world.place(("A", 1), customer={"email": "a@home.example\r\nBcc: all@home.example"})
    world.place(("A", 1), id="X\r\nBcc: all@home.example", customer={"email": "b@home.example"})
    world.import_orders()
    send(world)
    assert box.recipients == ["b@home.example"]
    assert box.mails[0]["Bcc"] is None
