"""What a letter says of an order: the units of this parcel, a number and a page that can be right, names that are names."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from midas_pipelines.notify.mail import MailRefused
from midas_pipelines.store.schema.shipment_tables import customer_mails, order_shipment_lines, order_shipments
from midas_pipelines.sync.orders.changes.conflicts import resolve_conflict
from midas_pipelines.sync.orders.changes.shipments import correct
from midas_pipelines.sync.orders.customer_mail.context import mail_context
from midas_pipelines.sync.orders.model.carriers import tracking
from midas_pipelines.sync.orders.model.locking import lock_order
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import add_product, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.customer_mail.letterbox import buy, order_context, send, texts
from midas_pipelines_tests.sync.world import World


def facts(world: World, order_id: str) -> dict[str, Any]:
    """What the newest message about an order may say."""
    order = desk.order(world, order_id)
    query = sa.select(customer_mails).where(customer_mails.c.order_id == order.id)
    with world.database.reading() as connection:
        mail = connection.execute(query.order_by(customer_mails.c.id.desc())).first()
        assert mail is not None
        return mail_context(connection, mail, order, "Midas")


def units(found: dict[str, Any]) -> list[tuple[str, int]]:
    return [(line["title"], line["quantity"]) for line in found["lines"]]


def written_by_hand(world: World, parcel: int, **columns: Any) -> None:
    """The shop's own code, or a person, changes the row of a parcel."""
    with world.database.writing() as connection:
        connection.execute(sa.update(order_shipments).where(order_shipments.c.id == parcel).values(columns))


def shop_packs(world: World, order_id: str, number: str = desk.UPS, carrier: str = "UPS") -> int:
    """The shop's own code records a parcel, and a status sync finds it."""
    parcel = desk.shop_packs(world, order_id, number, carrier)
    desk.tell(world)
    return parcel


def test_each_parcel_tells_what_is_in_it(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann", units=5)
    desk.pack(world, order, units={1: 2}, order_context=order_context(world))
    shop_packs(world, order, desk.FEDEX, carrier="FedEx")
    send(world)
    _, first, second = texts(box)
    assert "A part of your order" in first
    assert ("2 x A\n" in first, "The rest will follow." in first, desk.UPS in first) == (True, True, True)
    assert "the rest of your order has left" in second
    assert ("3 x A\n" in second, "rest will follow" in second, desk.FEDEX in second) == (True, False, True)


def test_a_parcel_of_the_shops_without_lines_holds_what_was_there(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann", units=12)  # 10 are there
    shop_packs(world, order)
    found = facts(world, order)
    assert (units(found), found["parcel"]["complete"]) == ([("A", 10)], False)
    world.set(1, stock_quantity=2)
    world.import_orders()
    shop_packs(world, order, desk.FEDEX, carrier="FedEx")
    found = facts(world, order)
    assert (units(found), found["parcel"]["complete"]) == ([("A", 2)], True)


def test_a_parcel_is_told_as_it_was_booked_whatever_is_written_of_it_later(shop_with_mail: World) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann", units=3)
    parcel = shop_packs(world, order)
    item = desk.lines(world, order)[0].order_item_id
    with world.database.writing() as connection:
        late = {"shipment_id": parcel, "order_item_id": item, "quantity": 1}
        connection.execute(sa.insert(order_shipment_lines).values(late))
    desk.tell(world)
    assert units(facts(world, order)) == [("A", 3)]


def test_whether_it_is_the_last_parcel_was_decided_when_it_was_packed(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann", units=3)
    send(world)
    texts(box)
    desk.pack(world, order, units={1: 1}, order_context=order_context(world))
    desk.pack(world, order, desk.FEDEX, "fedex", order_context=order_context(world))
    send(world)
    assert ["The rest will follow." in text for text in texts(box)] == [True, False]


def test_only_the_lines_of_the_parcel_are_told(shop_with_mail: World) -> None:
    world = shop_with_mail
    add_product(world.database, sku="B", stock_quantity=5)
    order = world.place(("A", 2), ("B", 1), customer={"email": "ann@home.example"}, sales_channel="ebay")
    world.import_orders()
    desk.pack(world, order, units={2: 1}, order_context=order_context(world))
    assert units(facts(world, order)) == [("B", 1)]


def test_an_item_of_which_nothing_is_known_is_an_item(shop_with_mail: World) -> None:
    (order,) = buy(shop_with_mail, "ann")
    run(shop_with_mail.database, "UPDATE marketplace_order_lines SET title = NULL, sku = NULL")
    assert units(facts(shop_with_mail, order)) == [("An item", 1)]


@pytest.mark.parametrize("left", ["a parcel", "a status alone", "nothing"])
def test_a_cancellation_of_what_has_been_sent_does_not_say_that_nothing_will_be(
    shop_with_mail: World, box: Mailbox, left: str
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    if left == "a parcel":
        desk.pack(world, order, order_context=order_context(world))
    elif left == "a status alone":
        run(world.database, "UPDATE orders SET status = 'shipped'")
    world.sandbox.state.move(order, "cancelled")
    world.import_orders()
    if left != "nothing":
        with world.database.writing() as connection:
            row = lock_order(connection, desk.order(world, order).id)
            resolve_conflict(connection, row, "cancelled", order_context(world), restock=True)
    assert facts(world, order)["order"]["sent"] is (left != "nothing")
    send(world)
    told = texts(box)[-1]
    assert ("nothing of it will be sent" in told) is (left == "nothing")
    assert ("nothing more of it will be sent" in told) is (left != "nothing")


NUMBERS: dict[tuple[str | None, str | None], tuple[str | None, str | None, bool]] = {
    ("UPS", desk.UPS): ("UPS", desk.UPS, True),
    ("ups ground", "1z 999 aa1 01 2345 6784"): ("UPS", desk.UPS, True),
    ("UPS", desk.UPS[:-1] + "9"): ("UPS", None, False),  # a check digit that does not fit
    ("UPS", None): ("UPS", None, False),
    ("Some SmtpConnection", "X 1"): ("Some SmtpConnection", "X 1", False),
    ("Some SmtpConnection", None): ("Some SmtpConnection", None, False),
    (None, "X1"): (None, None, False),
}


def test_a_number_that_cannot_be_right_is_not_passed_on_and_has_no_page(shop_with_mail: World) -> None:
    world = shop_with_mail
    orders = dict(zip(buy(world, *map(str, range(len(NUMBERS)))), NUMBERS, strict=True))
    for order, (carrier, number) in orders.items():
        desk.shop_packs(world, order, number, carrier)
    desk.tell(world)
    parcels = {given: facts(world, order)["parcel"] for order, given in orders.items()}
    assert {
        given: (parcel["carrier"], parcel["number"], parcel["url"] is not None)
        for given, parcel in parcels.items()
    } == NUMBERS
    assert parcels["UPS", desk.UPS]["url"] == f"https://www.ups.com/track?tracknum={desk.UPS}"


PAGES = {
    "https://post.example/X1": True,
    "http://post.example/X1": True,
    "javascript:alert(1)": False,
    "data:text/html,x": False,
    "https:/post.example": False,
    "post.example/X1": False,
    "https://post.example/a b": False,
    "https://[post.example": False,
    "https://pöst.example/": False,
    "https://post.example/\nX": False,
}


def test_a_page_is_passed_on_only_where_a_browser_may_go(shop_with_mail: World) -> None:
    world = shop_with_mail
    orders = dict(zip(buy(world, *map(str, range(len(PAGES)))), PAGES, strict=True))
    for order, page in orders.items():
        written_by_hand(world, desk.shop_packs(world, order, "X1", "Some SmtpConnection"), tracking_url=page)
    desk.tell(world)
    parcels = {page: facts(world, order)["parcel"] for order, page in orders.items()}
    assert {page: parcel["url"] == page for page, parcel in parcels.items()} == PAGES
    assert {parcel["number"] for parcel in parcels.values()} == {"X1"}
    assert {parcel["url"] for parcel in parcels.values()} - PAGES.keys() == {None}


def test_a_number_that_an_operator_insisted_on_is_told(shop_with_mail: World) -> None:
    (order,) = buy(shop_with_mail, "ann")
    written_by_hand(shop_with_mail, shop_packs(shop_with_mail, order, desk.UPS[:-1] + "9"), source="operator")
    assert facts(shop_with_mail, order)["parcel"]["number"] == desk.UPS[:-1] + "9"


def test_a_parcel_that_is_gone_is_told_of_to_nobody(shop_with_mail: World) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    desk.pack(world, order, order_context=order_context(world))
    run(world.database, "DELETE FROM order_shipments")
    with pytest.raises(MailRefused, match="no longer on record"):
        facts(world, order)
    report = send(world)
    assert (report.sent, report.failed) == (1, 1)


NAMES = {
    "Ann Example": "Ann Example",
    "  Ann \t Example\u2028 ": "Ann Example",
    "山田 太郎": "山田 太郎",
    "O'Neil & <Sons>": "O'Neil & <Sons>",
    "Ann\n\nPlease pay again": "Ann Please pay again",
    "A\x1b[31mnn\u202e": "A [31mnn",
    "Win at https://evil.example": "",
    "www.evil.example": "",
    "WWW.EVIL.EXAMPLE": "",
    "ann@home.example": "",
    "y" * 61: "y" * 59 + "…",
    "\ufeff": "",
    None: "",
}


def test_a_name_is_one_line_and_no_advertisement(shop_with_mail: World) -> None:
    world = shop_with_mail
    buyer = {"email": "a@home.example"}
    orders = {
        world.place(("A", 1), customer=buyer | {"name": name}, sales_channel="ebay"): name for name in NAMES
    }
    world.import_orders()
    assert {name: facts(world, order)["customer"]["name"] for order, name in orders.items()} == NAMES


def test_no_text_of_a_buyer_or_seller_makes_a_paragraph_of_its_own(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    trick = "X\n\nYour order is CANCELLED.\r\n\r\u2029Pay again."
    items = [{"sku": "A", "title": trick + "y" * 200, "quantity": 1, "price": "10.00"}]
    customer = {"email": "a@home.example", "name": trick}
    world.place(("A", 1), id="ID" + trick, customer=customer, sales_channel=trick[:40], items=items)
    buy(world, "ann")
    send(world)
    tricked, plain = texts(box)
    assert tricked.count("\n\n") == plain.count("\n\n")
    assert len(tricked.splitlines()) == len(plain.splitlines()) + 1  # the amount stands below a long name
    (line,) = (line for line in tricked.splitlines() if "1 x X Your order" in line)
    assert "…" in line
    assert len(line) < 200


def channel(world: World, name: str | None) -> str:
    order = world.place(("A", 1), customer={"email": "a@home.example"}, sales_channel=name)
    world.import_orders()
    found = facts(world, order)["order"]["channel"]
    assert isinstance(found, str)
    return found


def test_a_channel_is_called_as_it_calls_itself(shop_with_mail: World) -> None:
    names = {"ebay": "eBay", "EBAY": "eBay", "tiktok": "TikTok Shop", "shopify": "Shopify", None: ""}
    assert {name: channel(shop_with_mail, name) for name in names} == names


def test_amounts_are_the_marketplaces_in_its_currency(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    item = {"sku": "A", "title": "Screen", "quantity": 2, "price": "9.999"}
    customer = {"email": "ann@home.example", "name": "Ann"}
    fields = {"currency": "KWD", "shipping_cost": "0", "tax": "1.5", "discount": "0.499", "total": "20.999"}
    world.place(items=[item], customer=customer, sales_channel="ebay", **fields)
    world.import_orders()
    send(world)
    (text,) = texts(box)
    for amount in ("19.998 KWD", "1.500 KWD", "-0.499 KWD", "20.999 KWD"):
        assert amount in text


@pytest.mark.parametrize("tracked", [True, False])
def test_what_the_marketplace_itself_calls_shipped_is_told_without_a_parcel(
    shop_with_mail: World, box: Mailbox, tracked: bool
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann", units=2)
    number = {"carrier": "UPS", "number": desk.UPS, "url": None} if tracked else None
    for status in ("processing", "shipped"):
        world.sandbox.state.move(order, status, number if status == "shipped" else None)
    world.import_orders()
    send(world)
    _, told = texts(box)
    assert "Your order" in told.splitlines()[0]
    assert "has left our shop.\n" in told
    assert "2 x A\n" in told
    assert "None" not in told


def test_what_the_shop_calls_shipped_without_a_parcel_is_told_once(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    desk.shop_sets(world, order, "shipped")
    for _ in range(2):
        desk.sync(world)
        send(world)
    assert ["is on its way" in text.splitlines()[0] for text in texts(box)] == [False, True]


SHIPPED_FIRST = {
    "in the shop": lambda world, order: (desk.shop_sets(world, order, "shipped"), desk.sync(world)),
    "on the marketplace": lambda world, order: (desk.market(world, order, "shipped"), world.import_orders()),
}


@pytest.mark.parametrize("sent", [False, True], ids=["unsent", "sent"])
@pytest.mark.parametrize("where", SHIPPED_FIRST)
def test_a_parcel_that_comes_after_the_status_adds_its_number_and_no_second_farewell(
    shop_with_mail: World, box: Mailbox, where: str, sent: bool
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    SHIPPED_FIRST[where](world, order)
    if sent:
        send(world)
    shop_packs(world, order)
    send(world)
    _, *told = texts(box)
    assert ["is on its way" in text.splitlines()[0] for text in told] == [True, *([False] * sent)]
    assert [desk.UPS in text for text in told] == [*([False] * sent), True]
    assert ("you can track your package now" in told[-1]) is sent


def corrects(world: World, order: str, old: str, number: str, carrier: str) -> None:
    """An operator corrects a parcel: `--replaces`."""
    correct(world.database, desk.order(world, order).id, old, tracking(carrier, number), order_context(world))


def test_a_customer_who_has_a_wrong_number_is_told_the_right_one_once(
    shop_with_mail: World, box: Mailbox
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    desk.pack(world, order, order_context=order_context(world))
    corrects(world, order, desk.UPS, desk.FEDEX, "fedex")  # before anything was sent
    send(world)
    assert [desk.FEDEX in text for text in texts(box)] == [False, True]
    corrects(world, order, desk.FEDEX, "9865 7878 8855", "FedEx Ground")  # the same number
    corrects(world, order, desk.FEDEX, desk.UPS, "ups")
    corrects(world, order, desk.UPS, "3318810025", "dhl")
    for _ in range(2):
        send(world)
    (told,) = texts(box)
    assert told.splitlines()[0] == f"A new tracking number for your order {order}"
    assert ("3318810025" in told, desk.UPS in told) == (True, False)
    corrects(world, order, "3318810025", desk.UPS, "ups")
    send(world)
    assert [desk.UPS in text for text in texts(box)] == [True]


def test_a_number_alone_is_told_only_where_there_is_one(shop_with_mail: World, box: Mailbox) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann")
    desk.shop_sets(world, order, "shipped")
    desk.sync(world)
    send(world)
    shop_packs(world, order, desk.UPS[:-1] + "9")
    report = send(world)
    assert (len(texts(box)), report.superseded) == (2, 1)


@pytest.mark.parametrize("sent", [False, True], ids=["unsent", "sent"])
def test_what_gets_into_a_parcel_later_is_told_with_it(
    shop_with_mail: World, box: Mailbox, sent: bool
) -> None:
    world = shop_with_mail
    (order,) = buy(world, "ann", units=3)
    desk.pack(world, order, units={1: 1}, order_context=order_context(world))
    if sent:
        send(world)
    desk.pack(world, order, units={1: 3}, order_context=order_context(world))
    send(world)
    _, *told = texts(box)
    assert ["3 x A" in text for text in told] == [*([False] * sent), True]
    assert ["rest will follow" in text for text in told] == [*([True] * sent), False]
