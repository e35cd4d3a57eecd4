"""`midas orders list | show | messages`, and what all commands of the group share: ids, lines, errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click
import sqlalchemy as sa

from midas_pipelines.cli.opening import Changing, actor, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer
from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders.listing import QUARANTINED, Filters, list_orders
from midas_pipelines.sync.orders.customer_mail import put_back, unsent_messages
from midas_pipelines.sync.orders.lookup import find_order, read_timeline
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_order

MOST_UNITS = 2**31 - 1
NUMBER = re.compile("[0-9]{1,10}")
EXCEPTIONS = ["any", QUARANTINED, *(exception.value for exception in OrderException)]
STATUSES = [status.value for status in OrderStatus]

order_argument = click.argument("order_id", metavar="ID")
_ONE_LINE = "Only this line of the order, or UNITS of it; may be given several times."
line_option = click.option("--line", "lines", multiple=True, metavar="N[=UNITS]", help=_ONE_LINE)


@click.group(cls=AnsweringGroup)
def orders() -> None:
    """Show marketplace orders, ship them, and resolve exceptions.

    ID is the marketplace's id, the order number or the shop's own id of an order, in every command.
    """


def by_hand(settings: Settings, command: str) -> str:
    """The cause of a command's changes in the order's timeline: who ran what."""
    return f"{actor(settings)[:40]}: midas orders {command}"


@contextmanager
def opened(order_id: str) -> Iterator[tuple[Settings, Database, sa.Row[Any]]]:
    """Settings, database and our row of the order with this id. Raises NoSuchOrder."""
    with shop_database() as (settings, database):
        yield settings, database, database.read(find_order, order_id)


@contextmanager
def locked(order_id: str, command: str) -> Iterator[StoredOrder]:
    """The order, locked for a change by this command. Raises NoSuchOrder."""
    with opened(order_id) as (settings, database, found), database.writing(asked=True) as connection:
        context = OrderContext(by_hand(settings, command), settings=settings)
        yield lock_order(connection, found.id, context)


def parse_lines(lines: Sequence[str]) -> dict[int, int | None] | None:
    """`2=3` is three units of line 2, `2` all of it; None where no line is named. Raises WrongInput."""
    units: dict[int, int | None] = {}
    for text in lines:
        number, equals, count = text.partition("=")
        if not NUMBER.fullmatch(number):
            raise WrongInput(f"--line {text[:40]}: give a line of the order, as in 2 or 2=1.")
        if equals and not (NUMBER.fullmatch(count) and 0 < int(count) <= MOST_UNITS):
            raise WrongInput(f"--line {text[:40]}: give a number of units from 1 on, as in 2=1.")
        units[int(number)] = int(count) if equals else None
    return units or None


@orders.command("list")
@click.option("--exception", type=click.Choice(EXCEPTIONS), help="Only orders that need a person for this.")
@click.option("--status", type=click.Choice(STATUSES), help="Only orders with this status.")
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), help="How many.")
def list_orders_command(exception: str | None, status: str | None, limit: int) -> None:
    """List orders, the newest first."""
    which: Any = True if exception == "any" else exception and [exception]
    with shop_database() as (settings, database), database.reading() as connection:
        found = list_orders(connection, Filters(status, exception=which), limit=limit + 1)
    rows = [  # what fits on a screen of 80 columns; `--json` has everything
        {
            "order": row["marketplace_order_id"],
            "local_id": row["local_order_id"],
            "channel": row["sales_channel"],
            "status": row["status"],
            "shop_status": row["shop_status"],
            "total": f"{row['total']} {row['currency'] or ''}".rstrip() if row["total"] is not None else "",
            "placed": f"{settings.day_of(row['placed_at'])}" if row["placed_at"] else "",
            "exception": (row["exception"] or (QUARANTINED if row["outcome"] == QUARANTINED else "")).replace(
                ",", ", "
            ),
        }
        for row in found[:limit]
    ]
    more = len(found) > limit
    hint = f"There are more; --limit {limit * 2} shows the next ones too." if more else ""
    answer({"orders": found[:limit], "more": more}, Table("Orders", rows, "No such orders."), hint)


@orders.command("show")
@order_argument
def show_order(order_id: str) -> None:
    """Show an order's timeline: steps, stock, shipments and messages, with times and causes."""
    with opened(order_id) as (_, database, row), database.reading() as connection:
        timeline = read_timeline(connection, row)
    order = timeline.order
    said: list[str | Table] = [
        f"Order {order['marketplace_order_id']} on {order['sales_channel'] or 'a marketplace'}, "
        f"{order['order_number'] or 'no order of the shop'} (id {order['local_order_id'] or 'none'}): "
        f"{order['status']} there, {order['shop_status'] or 'unknown'} in the shop; "
        f"{order['total']} {order['currency'] or 'of an unknown currency'}."
    ]
    if order["exception"] or order["reason"]:
        dismissed = order["outcome"] == "dismissed"
        state = "Dismissed" if dismissed else f"Needs a person: {order['exception'] or 'quarantined'}"
        said.append(f"{state}. {order['reason'] or ''}".rstrip())
    names = ("line", "sku", "title", "quantity", "allocated", "released", "backordered", "shipped")
    said.append(Table("Lines", [{name: line[name] for name in names} for line in timeline.lines]))
    shown = {"UTC": "at", "what": "what", "detail": "detail", "cause": "cause"}
    entries = [{name: getattr(one, field) for name, field in shown.items()} for one in timeline.entries]
    said.append(Table("What happened", entries))
    answer(asdict(timeline), *said)


@orders.command(cls=Changing)
@click.option("--send-again", is_flag=True, help="Send again what was given up, or may have gone out.")
def messages(send_again: bool) -> None:
    """List messages to customers that were not sent, or may not have been."""
    with shop_database() as (_, database):
        count = database.write(put_back, given_up=True) if send_again else 0
        found = unsent_messages(database)
    listed = Table("Messages not sent", found, "Every message was sent.")
    said = f"{count} messages are sent with the next round." if send_again else listed
    answer({"messages": found, "put_back": count}, said)
