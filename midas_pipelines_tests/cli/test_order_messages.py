"""What an operator does about messages and persons: see what waits, send it again, forget who bought."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from midas_pipelines.cli.orders.changing import orders
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import add_product, rows, run
from midas_pipelines_tests.sync.orders import desk
from midas_pipelines_tests.sync.orders.letterbox import buy, send
from midas_pipelines_tests.sync.world import World

BUYER = {"name": "Zyxwvu Personname", "email": "zyxwvu@home.example"}
Do = Callable[..., Result]


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with Mailbox() as box:
        yield box


@pytest.fixture
def settings(settings: dict[str, str], box: Mailbox) -> dict[str, str]:
    """The environment of an operator whose shop writes to its customers."""
    return (
        settings
        | {"MIDAS_SMTP_URL": box.url, "MIDAS_MAIL_FROM": "Midas <orders@shop.example>"}
        | {"MIDAS_ACTOR": "ann@desk"}
    )


@pytest.fixture
def do(settings: dict[str, str]) -> Do:
    """`midas orders`, in this process: many commands in a row would take long in processes of their own."""
    return lambda *arguments, **how: CliRunner().invoke(orders, arguments, env=settings, **how)


@pytest.fixture
def sold(world: World) -> str:
    """An imported order for 2 of A and 1 of a SKU that the shop does not have."""
    add_product(world.database, sku="A", stock_quantity=10)
    add_product(world.database, sku="B", stock_quantity=10)
    order = world.place(("A", 2), ("STRANGE", 1), sales_channel="ebay", customer=BUYER)
    world.import_orders()
    return order


def as_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_message_that_was_given_up_is_listed_and_sent_again(
    do: Do, settings: dict[str, str], world: World, box: Mailbox
) -> None:
    world.changes |= {"smtp_url": settings["MIDAS_SMTP_URL"], "mail_from": settings["MIDAS_MAIL_FROM"]}
    (order,) = buy(world, "ann")
    box.answers = ["550 spam"]
    assert send(world)["failed"] == 1
    (listed,) = as_json(do("messages", "--json"))["messages"]
    assert (listed["order"], listed["kind"], listed["state"]) == (order, "received", "failed")
    assert listed["reason"] == "The mail server refused the message (550)."
    assert "Messages not sent" in do("messages").output
    assert "1 messages are sent with the next round" in do("messages", "--send-again").output
    assert (send(world)["sent"], box.recipients) == (1, ["ann@home.example"])
    assert do("messages").output == "Every message was sent.\n"
    assert as_json(do("messages", "--json")) == {"messages": [], "put_back": 0}


def test_nobody_is_forgotten_by_mistake(do: Do, world: World, sold: str) -> None:
    kept = "SELECT shipping_address FROM orders"
    before = rows(world.database, kept)
    assert do("erase", sold, input="n\n").exit_code == 1
    assert do("erase", sold, input="").exit_code == 1
    assert rows(world.database, kept) == before
    asked = do("erase", sold, input="y\n")
    assert (asked.exit_code, "its buyer is erased" in asked.output) == (0, True)
    assert "Zyxwvu" not in str(rows(world.database, kept))
    assert as_json(do("erase", sold, "--yes", "--json")) == {"order": sold, "erased": True}


def test_each_command_is_named_as_the_cause_of_what_it_did(do: Do, world: World, sold: str) -> None:
    before = _steps(do, sold)
    as_json(do("map", sold, "--line", "2", "--sku", "B", "--json"))
    as_json(do("ship", sold, "--carrier", "UPS", "--number", desk.UPS, "--line", "1=1", "--json"))
    fedex = ("--carrier", "FedEx", "--number", desk.FEDEX)
    as_json(do("ship", sold, *fedex, "--replaces", desk.UPS, "--json"))
    as_json(do("return", sold, "--json"))
    run(world.database, "UPDATE marketplace_orders SET exception = 'conflict,edited'")
    as_json(do("dismiss", sold, "--json"))
    as_json(do("resolve", sold, "--as", "shipped", "--json"))
    desk.edit(world, sold, shipping_cost="5.00", total="35.00")
    as_json(do("retry", sold, "--json"))
    as_json(do("erase", sold, "--yes", "--json"))
    done = _steps(do, sold) - before
    causes = {what: cause for what, cause in done if not what.startswith(("stock", "shipment", "message"))}
    assert causes == {
        "mapped": "ann@desk: midas orders map",
        "partly_shipped": "ann@desk: midas orders ship",
        "corrected": "ann@desk: midas orders ship",
        "processing": "ann@desk: midas orders ship",
        "tracking_pushed": "ann@desk: midas orders ship",
        "released": "ann@desk: midas orders return",
        "dismissed": "ann@desk: midas orders dismiss",
        "resolved": "ann@desk: midas orders resolve",
        "edited": "ann@desk: midas orders retry",
        "erased": "ann@desk: midas orders erase",
    }
    assert {cause for what, cause in done if what == "shipment"} == {"ann@desk: midas orders ship"}
    assert all(cause for _, cause in done)


def _steps(do: Do, order: str) -> Counter[tuple[str, str]]:
    """What happened to an order, each with its cause."""
    return Counter((one["what"], one["cause"]) for one in as_json(do("show", order, "--json"))["entries"])


def test_an_order_of_any_id_and_titles_is_shown(do: Do, world: World) -> None:
    items = [{"sku": "[red]X[/red]", "title": "Cable 3.5mm [/aux]\x1b[31m", "quantity": 1, "price": "1"}]
    order = world.place(id="AMZ-[/1]", items=items, total="5.99")
    world.import_orders()
    for told in (do("show", order), do("list")):
        assert (told.exit_code, "AMZ-[/1]" in told.output, "\x1b" in told.output) == (0, True, False)
    assert "Cable 3.5mm [/aux]" in do("show", order).output


@pytest.mark.parametrize("exception", ["unmapped", "any"])
def test_who_needs_a_person_is_listed_without_who_bought(do: Do, sold: str, exception: str) -> None:
    listed = as_json(do("list", "--exception", exception, "--json"))
    assert [row["marketplace_order_id"] for row in listed["orders"]] == [sold]
    assert "zyxwvu" not in str(listed).lower()


@pytest.mark.parametrize("command", ["show", "retry", "list", "dismiss", "erase"])
def test_the_id_of_an_order_does_not_speak_to_the_terminal(do: Do, world: World, command: str) -> None:
    order = world.place(id="A\x1b]0;owned\x07\u202e", items=[], shipping_cost="0", total="9")
    world.import_orders()
    shown = do(command, *([] if command == "list" else [order]), input="y\n", color=True)
    assert shown.exit_code == 0, shown.output
    assert all(line.isprintable() for line in shown.output.split("\n"))
