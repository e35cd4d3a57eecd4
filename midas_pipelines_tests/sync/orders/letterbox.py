"""Customer mail in a test: orders whose buyers get mail, rounds of it, and its states."""

from __future__ import annotations

from collections import Counter
from typing import Any

from midas_pipelines.sync.orders.customer_mail import send_mails
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import rows, run
from midas_pipelines_tests.sync.world import World


def buy(world: World, *names: str, units: int = 1, **fields: Any) -> list[str]:
    """An imported order for so many of A by each person, on eBay; their ids."""
    given = {"sales_channel": "ebay"} | fields
    placed = [
        world.place(("A", units), customer={"email": f"{name}@home.example", "name": name.title()}, **given)
        for name in names
    ]
    world.import_orders()
    return placed


def send(world: World) -> Counter[str]:
    """One round of mail."""
    return send_mails(world.database, world.settings)


def due_again(world: World) -> None:
    """Time passes until what waits is due."""
    run(world.database, "UPDATE customer_mails SET next_attempt_at = NULL WHERE state = 'waiting'")


def aged(world: World, days: float) -> None:
    """The messages were queued so many days earlier."""
    if world.database.is_postgresql:
        moment = f"created_at - interval '{days} days'"
    else:
        moment = f"strftime('%Y-%m-%d %H:%M:%f', created_at, '-{days} days') || '000'"
    run(world.database, f"UPDATE customer_mails SET created_at = {moment}")


def mails(world: World) -> list[tuple[str, str]]:
    """Kind and state of each message, in the order in which they were queued."""
    return [tuple(row) for row in rows(world.database, "SELECT kind, state FROM customer_mails ORDER BY id")]


def states(world: World) -> list[str]:
    """The states of the messages."""
    return [state for _, state in mails(world)]


def order_context(world: World) -> OrderContext:
    """An order context that queues mail."""
    return OrderContext(settings=world.settings)


def texts(box: Mailbox) -> list[str]:
    """What arrived, as subject and text; the box is emptied."""
    found = []
    for mail in box.mails:
        body = mail.get_body(("plain",))
        assert body is not None
        found.append(f"{mail['Subject']}\n{body.get_content()}".replace("\r\n", "\n"))
    box.mails.clear()
    return found
