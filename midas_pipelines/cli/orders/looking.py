"""`midas orders list | show | messages`: orders, their timelines, unsent messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.orders.group import opened, order_argument, orders
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.sync.orders.customer_mail.send import put_back, unsent_messages
from midas_pipelines.sync.orders.lookup import list_orders
from midas_pipelines.sync.orders.model.lines import OrderException
from midas_pipelines.sync.orders.timeline import Timeline, read_timeline

EXCEPTIONS = ["any", "quarantined", *(exception.value for exception in OrderException)]
STATUSES = ["pending", "processing", "shipped", "delivered", "cancelled", "refunded"]
SHOWN = ("order", "local_id", "channel", "status", "shop_status", "total", "placed", "exception")
"""What fits on a screen of 80 columns; `--json` has everything."""


@orders.command("list")
@click.option(
    "--exception", type=click.Choice(EXCEPTIONS), help="Only orders that need a person for this reason."
)
@click.option("--status", type=click.Choice(STATUSES), help="Only orders with this status.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Show at most this many."
)
@json_option
def list_orders_command(exception: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List orders, the newest first."""
    with shop_database() as (_, database):
        found = list_orders(database, exception=exception, status=status, limit=limit + 1)
    shown = found[:limit]
    if as_json:
        print_json({"orders": shown, "more": len(found) > limit})
        return
    if not shown:
        say("No such orders.")
        return
    print_table("Orders", [_in_short(row) for row in shown])
    if len(found) > limit:
        say(f"There are more; --limit {limit * 2} shows the next ones too.")


def _in_short(row: dict[str, Any]) -> dict[str, Any]:
    placed = row["placed_at"]
    whole = row | {
        "placed": f"{placed:%Y-%m-%d}" if placed else "",
        "total": f"{row['total']} {row['currency'] or ''}".rstrip() if row["total"] is not None else "",
        "exception": (row["exception"] or "").replace(",", ", "),
    }
    return {name: whole[name] for name in SHOWN}


@orders.command("show")
@order_argument
@json_option
def show_order(order_id: str, as_json: bool) -> None:
    """Show an order's timeline: steps, stock, shipments and messages, with times and causes."""
    with opened(order_id) as (_, database, row), database.reading() as connection:
        timeline = read_timeline(connection, row)
    if as_json:
        print_json(asdict(timeline))
    else:
        _print_timeline(timeline)


@orders.command(cls=Changing)
@click.option(
    "--send-again", is_flag=True, help="Send those that were given up, or may have been sent, again."
)
@json_option
def messages(send_again: bool, as_json: bool) -> None:
    """List messages to customers that were not sent, or may not have been."""
    with shop_database() as (_, database):
        count = 0
        if send_again:
            with database.writing() as connection:
                count = put_back(connection, given_up=True)
        found = unsent_messages(database)
    if as_json:
        print_json({"messages": found, "put_back": count})
        return
    if send_again:
        say(f"{count} messages are sent with the next round.")
    elif found:
        print_table("Messages not sent", found)
    else:
        say("Every message was sent.")


def _print_timeline(timeline: Timeline) -> None:
    order = timeline.order
    say(
        f"Order {order['marketplace_order_id']} on {order['sales_channel'] or 'a marketplace'}, "
        f"{order['order_number'] or 'no order of the shop'} (id {order['local_order_id'] or 'none'}): "
        f"{order['status']} there, {order['shop_status'] or 'unknown'} in the shop; "
        f"{order['total']} {order['currency'] or 'of an unknown currency'}."
    )
    if order["exception"] or order["reason"]:
        dismissed = order["outcome"] == "dismissed"
        state = "Dismissed" if dismissed else f"Needs a person: {order['exception'] or 'quarantined'}"
        say(f"{state}. {order['reason'] or ''}".rstrip())
    if timeline.lines:
        names = ("line", "sku", "title", "quantity", "allocated", "released", "backordered", "shipped")
        print_table("Lines", [{name: line[name] for name in names} for line in timeline.lines])
    form = _form([one.at for one in timeline.entries], datetime.now(UTC))
    entries = [
        {"UTC": f"{one.at:{form}}", "what": one.what, "detail": one.detail, "cause": one.cause}
        for one in timeline.entries
    ]
    if entries:
        print_table(f"What happened, from {timeline.entries[0].at:%Y-%m-%d}", entries)


def _form(moments: Sequence[datetime], now: datetime) -> str:
    """How moments are printed: without the year where all of them are of this one."""
    return "%m-%d %H:%M:%S" if {moment.year for moment in moments} <= {now.year} else "%Y-%m-%d %H:%M:%S"
