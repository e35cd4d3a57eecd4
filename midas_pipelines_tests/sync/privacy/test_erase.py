"""Erasing a person: nothing of them is left anywhere, it stays so whatever comes later, and the books still balance."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from midas_pipelines.fourseller.known_words import known_channel
from midas_pipelines.gateway.inbox import read_event
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.gateway import webhooks
from midas_pipelines.store.gateway.webhooks import FinishedWebhook, WebhookOutcome
from midas_pipelines.store.orders.payload_vault import SEALED, Vault, vault_of
from midas_pipelines.store.privacy.keys import new_key
from midas_pipelines.store.privacy.register import TABLES, End, ending
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.tables import api_errors, store
from midas_pipelines.store.schema.triggers import amending
from midas_pipelines.storefront.schema import shop
from midas_pipelines.storefront.types import Json, utc_now
from midas_pipelines.sync.orders.intake.batch import import_order_webhooks
from midas_pipelines.sync.orders.intake.poll import Window
from midas_pipelines.sync.orders.lookup import retry_order
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.orders.model.sale import short_id
from midas_pipelines.sync.privacy.erase import erase_buyer, hold_buyer
from midas_pipelines_tests.gateway.running import running_gateway
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import rows, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.letterbox import due_again, order_context, send, states
from midas_pipelines_tests.sync.world import World

PERSON = {
    "customer": {"name": "Zyxwvu Personname", "email": "zyxwvu@home.example", "phone": "+1-555-0987"},
    "shipping_address": {"line1": "77 Hiddenstreet", "city": "Secretville", "postal_code": "Q9Q 9Q9"},
    "buyer_note": "Leave it with Zyxwvu at the Personname door",
}
UNREADABLE = "A"
WORD = "for Zyxwvu"
KEYED = {("alerts", "subject"), ("alerts", "members"), ("marketplace_order_lines", "sku")}
"""Columns of the register by which the rows of an order, and its items, are found."""
SIGNS = ("zyxwvu", "personname", "555-0987", "hiddenstreet", "secretville", "q9q 9q9")


@pytest.fixture
def world(shop_with_mail: World) -> World:
    """A shop with mail that keeps payloads sealed, with one order of that person."""
    return shop_with_mail


def vault(world: World) -> Vault:
    return vault_of(world.settings)


def sold(world: World, **fields: object) -> str:
    order_id = world.place(("A", 2), **({"sales_channel": "ebay"} | PERSON | fields))
    world.import_orders()
    return order_id


def forget(world: World, order_id: str) -> None:
    with world.database.writing() as connection:
        context = OrderContext("an operator: midas orders erase", vault(world))
        erase_buyer(lock_order(connection, desk.order(world, order_id).id, context))


def receive(world: World, order_id: str, *, processed: bool = True) -> None:
    """4Seller tells of the order by webhook, which is kept sealed."""
    row = {
        "webhook_id": f"msg-{order_id}-{processed}",
        "type": "order.updated",
        "subject": f"order:{order_id}",
        "payload": vault(world).seal(world.sandbox.state.orders[order_id]),
        "processed_at": utc_now() if processed else None,
        "outcome": "applied" if processed else None,
    }
    with world.database.writing() as connection:
        connection.execute(sa.insert(marketplace_webhooks).values(row))


def left_of_the_person(world: World) -> set[str]:
    """The tables in which something of the person can be read, sealed or not."""
    found = set()
    for table in sa.inspect(world.database.engine).get_table_names():
        for row in rows(world.database, f'SELECT * FROM "{table}"'):
            if any(sign in text.lower() for text in map(str, _opened(world, row)) for sign in SIGNS):
                found.add(table)
    return found


def _opened(world: World, cells: Iterable[object]) -> Iterable[object]:
    for cell in cells:
        sealed = isinstance(cell, str) and cell.startswith(SEALED)
        yield vault(world).open(str(cell)) if sealed else cell


@pytest.mark.both_databases
def test_a_person_is_in_these_places_and_in_none_once_forgotten(world: World, box: Mailbox) -> None:
    order = sold(world)
    receive(world, order)
    assert left_of_the_person(world) == {"orders", "marketplace_orders", "marketplace_webhooks"}
    assert box.mails == []
    forget(world, order)
    assert left_of_the_person(world) == set()
    assert desk.steps(world, order)[-1] == "erased"


@pytest.mark.both_databases
def test_no_column_that_the_register_calls_personal_keeps_a_word(world: World, box: Mailbox) -> None:
    order = sold(world)
    receive(world, order)
    desk.pack(world, order)
    with world.database.writing() as connection, amending(connection):
        error = {"endpoint": "/orders/{id}", "item": order, "attempt": 1}
        connection.execute(sa.insert(api_errors).values(error))
        raise_alert(connection, kind="oversold", subject=f"order:{order}", text="")
        row = desk.order(world, order).id
        hold_buyer(connection, row, until=datetime.now(UTC), because="", by="anna")
        for table in [*shop.sorted_tables, *store.sorted_tables]:
            for name in ending(table.name, End.CLEARED) | ending(table.name, End.REPLACED):
                if (table.name, name) not in KEYED:
                    marked = {"a": WORD} if isinstance(table.c[name].type, Json) else WORD
                    connection.execute(sa.update(table).values({name: marked}))
    personal = {name for name in TABLES if ending(name, End.CLEARED) | ending(name, End.REPLACED)}
    assert left_of_the_person(world) == personal
    forget(world, order)
    assert left_of_the_person(world) == set()


def test_what_was_sold_and_paid_stays_as_it_was(world: World) -> None:
    order = sold(world)
    kept = "SELECT total_amount, status, order_number, payment_status FROM orders"
    before = rows(world.database, kept), desk.lines(world, order), desk.order(world, order).total
    forget(world, order)
    assert (rows(world.database, kept), desk.lines(world, order), desk.order(world, order).total) == before
    desk.assert_whole(world)


def test_only_the_person_of_that_order_is_forgotten(world: World) -> None:
    first, second = sold(world), sold(world)
    receive(world, second)
    forget(world, first)
    assert left_of_the_person(world) == {"orders", "marketplace_orders", "marketplace_webhooks"}
    forget(world, second)
    assert left_of_the_person(world) == set()


def test_a_person_whose_key_is_gone_is_forgotten_too(world: World) -> None:
    order = sold(world)
    receive(world, order)
    world.changes["payload_key"] = new_key()
    forget(world, order)
    assert left_of_the_person(world) == set()


def test_forgetting_twice_is_forgetting_once(world: World) -> None:
    order = sold(world)
    for _ in range(2):
        forget(world, order)
    assert left_of_the_person(world) == set()
    desk.assert_whole(world)


def polls(world: World, order: str) -> None:
    run(world.database, "DELETE FROM midas_cursors")  # everything is read again
    world.import_orders()


def backfill(world: World, order: str) -> None:
    world.import_orders(Window(datetime.fromisoformat("2020-01-01T00:00:00+00:00")))


def moves(world: World, order: str) -> None:
    desk.edit(world, order, shipping_address=PERSON["shipping_address"] | {"line1": "78 Hiddenstreet"})
    world.import_orders()


def renames(world: World, order: str) -> None:
    desk.edit(world, order, customer=PERSON["customer"] | {"name": "Other Personname"})
    world.import_orders()


def changes_lines(world: World, order: str) -> None:
    desk.edit(world, order, ("A", 3))
    world.import_orders()


def tells(world: World, order: str) -> None:
    desk.edit(
        world, order, ("A", 1), shipping_address=PERSON["shipping_address"] | {"line1": "79 Hiddenstreet"}
    )
    import_order_webhooks(world.sync_context(), [world.sandbox.state.orders[order]], vault(world))


def retries(world: World, order: str) -> None:
    desk.edit(world, order, ("A", 4))
    asyncio.run(retry_order(world.sync_context(), order, mail=True))


def ships(world: World, order: str) -> None:
    desk.pack(world, order, order_context=order_context(world))
    desk.sync(world)
    world.sandbox.state.move(order, "delivered")
    world.import_orders()


def cancels(world: World, order: str) -> None:
    world.sandbox.state.move(order, "cancelled")
    world.import_orders()


def refunds(world: World, order: str) -> None:
    ships(world, order)
    world.sandbox.state.move(order, "refunded")
    world.import_orders()


LATER = [[polls, backfill, moves, renames, changes_lines, tells, retries, refunds], [cancels], [ships]]


@pytest.mark.parametrize("later", LATER)
def test_whatever_comes_later_brings_nobody_back(
    world: World, box: Mailbox, later: list[Callable[[World, str], None]]
) -> None:
    order = sold(world)
    forget(world, order)
    for act in later:
        act(world, order)
        due_again(world)
        assert (send(world)["sent"], box.mails) == (0, []), act.__name__
        assert left_of_the_person(world) == set(), act.__name__
    desk.assert_whole(world)


def test_the_order_itself_goes_on(world: World) -> None:
    order = sold(world)
    forget(world, order)
    changes_lines(world, order)
    assert [(line.quantity, line.allocated) for line in desk.lines(world, order)] == [(3, 3)]
    ships(world, order)
    assert desk.at_4seller(world, order) == ("delivered", desk.UPS)
    assert desk.shop_status(world, order) == "delivered"


def test_a_message_that_waits_is_not_sent_any_more(world: World, box: Mailbox) -> None:
    order = sold(world)
    box.answers = ["451 later"]
    send(world)
    forget(world, order)
    due_again(world)
    assert (send(world), states(world), box.mails) == ({}, ["dropped"], [])


def test_a_message_that_was_sent_stays_on_record(world: World, box: Mailbox) -> None:
    order = sold(world)
    send(world)
    forget(world, order)
    assert (states(world), len(box.mails)) == (["sent"], 1)
    assert "confirmed" in desk.steps(world, order)


@pytest.mark.both_databases
def test_a_person_forgotten_while_the_letter_is_on_its_way_stays_so(world: World, box: Mailbox) -> None:
    order = sold(world)
    box.answers = ["451 later"]
    box.meanwhile = lambda: forget(world, order)
    send(world)
    assert (states(world), left_of_the_person(world)) == (["dropped"], set())
    box.meanwhile = lambda: None
    due_again(world)
    assert (send(world)["sent"], box.mails) == (0, [])


def test_an_order_that_is_set_aside_is_polled_again(world: World) -> None:
    order = sold(world, items=UNREADABLE)
    forget(world, order)
    assert left_of_the_person(world) == set()
    polls(world, order)
    assert left_of_the_person(world) == set()


def test_an_order_that_was_set_aside_is_mended_and_imported(world: World) -> None:
    order = sold(world, items=UNREADABLE)
    forget(world, order)
    changes_lines(world, order)
    assert desk.order(world, order).outcome == "imported"
    assert left_of_the_person(world) == set()


def test_an_order_that_the_shop_deleted_is_edited(world: World) -> None:
    order = sold(world)
    forget(world, order)
    run(world.database, "DELETE FROM orders")
    changes_lines(world, order)
    assert left_of_the_person(world) == set()


def test_an_event_that_waited_is_applied(world: World) -> None:
    order = sold(world)
    receive(world, order, processed=False)
    forget(world, order)
    with running_gateway(world) as gateway:
        gateway.settled()
    assert left_of_the_person(world) == set()


def test_an_event_comes_later(world: World) -> None:
    order = sold(world)
    forget(world, order)
    with running_gateway(world) as gateway:
        gateway.tell("order.updated", world.sandbox.state.orders[order])
        gateway.settled()
    assert left_of_the_person(world) == set()


def test_an_alert_about_a_message_that_was_given_up(world: World, box: Mailbox) -> None:
    box.answers = ["550 spam"]
    order = sold(world)
    send(world)
    forget(world, order)
    assert desk.alerts(world) == []


def test_an_event_that_was_set_aside_says_nothing_of_the_person_either(world: World) -> None:
    order = sold(world)
    forget(world, order)
    with running_gateway(world) as gateway:
        gateway.tell("order.archived", world.sandbox.state.orders[order])  # a type that the contract lacks
        gateway.settled()
    assert rows(world.database, "SELECT outcome FROM marketplace_webhooks") == [("quarantined",)]
    assert left_of_the_person(world) == set()


@pytest.mark.both_databases
def test_an_event_of_an_order_with_an_endless_id_is_found(world: World) -> None:
    order = "A-" + "7" * 300
    world.place(("A", 2), id=order, **PERSON)
    with running_gateway(world) as gateway:
        gateway.tell("order.updated", world.sandbox.state.orders[order])
        gateway.settled()
    assert left_of_the_person(world) == {"marketplace_orders", "marketplace_webhooks"}
    forget(world, short_id(order))
    assert left_of_the_person(world) == set()


@pytest.mark.both_databases
@pytest.mark.parametrize("first", ["forgotten", "settled"])
def test_an_event_is_resolved_at_the_very_moment_of_forgetting(world: World, first: str) -> None:
    order = sold(world)
    receive(world, order, processed=False)
    with world.database.writing() as connection:
        (event,) = webhooks.claim(connection, worker="w", lease_seconds=60, limit=1, orders=True)

    def forgotten(connection: sa.Connection) -> None:
        erase_buyer(lock_order(connection, desk.order(world, order).id, order_context(world)))

    def settled(connection: sa.Connection) -> None:
        webhooks.finish_webhooks(connection, [FinishedWebhook(event, WebhookOutcome.APPLIED)], worker="w")

    def in_a_transaction_of_its_own(step: Callable[[sa.Connection], None]) -> None:
        with world.database.writing() as connection:
            step(connection)

    one, other = (forgotten, settled) if first == "erased" else (settled, forgotten)
    second = threading.Thread(target=in_a_transaction_of_its_own, args=[other])
    with world.database.writing() as connection:
        one(connection)
        second.start()
        second.join(timeout=0.3)  # it has seen nothing of the first, and waits for it
        assert second.is_alive()
    second.join()
    assert left_of_the_person(world) == set()


WORDS = {
    "items": [
        {
            "sku": "A",
            "quantity": 2,
            "price": "10.00",
            "title": "Screen, for Zyxwvu",
            "engraving": "Personname",
        },
        {"sku": None, "quantity": 1, "price": "0", "title": "A card for Zyxwvu", "id": "zyxwvu@home.example"},
    ],
    "total": "24.99",
    "gift": {"to": "Zyxwvu", "amount": "0"},
    "discounts": [{"code": "ZYXWVU-10", "amount": "0.00"}],
    "status": "pending",
    "updated_at": "2099-01-01T00:00:00Z",
}


@pytest.mark.both_databases
def test_no_word_of_the_buyer_is_left_wherever_it_was_written(world: World, box: Mailbox) -> None:
    order = sold(world, **WORDS)
    shop = desk.order(world, order).local_order_id
    run(world.database, "UPDATE orders SET notes = 'ring at Personname' WHERE id = :id", id=shop)
    run(
        world.database,
        "UPDATE order_status_history SET notes = 'called Zyxwvu' WHERE order_id = :id",
        id=shop,
    )
    desk.pack(world, order, units={2: 1})
    receive(world, order)
    forget(world, order)
    assert left_of_the_person(world) == set()
    desk.edit(world, order, items=WORDS["items"][:1], updated_at="2099-01-02T00:00:00Z", total="99.00")
    world.import_orders()
    assert left_of_the_person(world) == set()
    desk.assert_whole(world)


MARKED = {
    "status": "Zyxwvu",
    "currency": "Zyxwvu",
    "sales_channel": "the shop of Zyxwvu",
    "items": [
        {"sku": "A", "product_id": "of Zyxwvu", "title": "Zyxwvu", "quantity": 2, "price": "10.00"},
        {"sku": "one for Zyxwvu", "product_id": "zyxwvu@home.example", "quantity": 1, "price": "10.00"},
    ],
    "tracking": {"carrier": "Zyxwvu", "number": "Zyxwvu"},
    "fees": [{"name": "Zyxwvu", "amount": "0"}],
    "total": "30.00",
    "shipping_cost": "Zyxwvu",
}


def test_only_known_words_are_left_of_what_the_hub_wrote(world: World) -> None:
    orders = [sold(world, **MARKED), sold(world, **MARKED | {"items": UNREADABLE})]
    with world.database.writing() as connection:
        for order in orders:
            error = {"endpoint": "/orders/{id}", "item": order, "message": "Zyxwvu", "attempt": 1}
            connection.execute(sa.insert(api_errors).values(error))
    for _ in range(2):
        for order in orders:
            forget(world, order)
        assert left_of_the_person(world) == set()
        for order in orders:
            desk.edit(world, order, **MARKED | {"status": "Personname", "updated_at": "2099-01-02T00:00:00Z"})
        polls(world, orders[0])
        assert left_of_the_person(world) == set()
    assert [line.sku for line in desk.lines(world, orders[0])] == ["A", None]
    assert desk.order(world, orders[0]).status_word == "unknown"


def test_what_other_orders_say_stays(world: World) -> None:
    first, second = sold(world, status="Awaiting pick-up"), sold(world, status="Awaiting pick-up")
    forget(world, first)
    alerts = "SELECT text FROM alerts WHERE kind = 'unknown_status' AND cleared_at IS NULL ORDER BY id"
    assert [text.split("'")[:2] for (text,) in rows(world.database, alerts)] == [
        [f"Order {second}: 4Seller calls its status ", "Awaiting pick-up"],
        [f"Order {first}: 4Seller calls its status ", "unknown"],
    ]


@pytest.mark.parametrize("kind", ["orders/paid", "return.created", "shipment.updated"])
def test_an_event_of_any_type_about_an_order_is_emptied(world: World, kind: str) -> None:
    order = sold(world)
    data = PERSON | {"id": "R-1", "order_id": order} if kind == "return.created" else {"id": order, **PERSON}
    event = read_event("w", json.dumps({"type": kind, "data": data}).encode(), vault_of(world.settings))
    assert event.subject == f"order:{order}"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("amazon", True),
        ("Amazon.co.uk", True),
        ("TikTok Shop US", True),
        ("ebay-de", True),
        ("shop", False),
        ("Anna's shop", False),
        ("ebay for Anna", False),
        (None, False),
    ],
)
def test_a_sales_channel_is_kept_if_it_is_a_marketplace(text: str | None, kept: bool) -> None:
    assert known_channel(text) == (text if kept else None)
