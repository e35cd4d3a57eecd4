"""`midas orders resolve | dismiss | retry | erase`: decisions of a person."""

from __future__ import annotations

import asyncio

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.orders.group import by_hand, opened, order_argument, orders
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.cli.terminal import clean, say
from midas_pipelines.errors import WrongInput
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.close import resolve_conflict
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order
from midas_pipelines.sync.orders.retry import Retried, dismiss, retry_order
from midas_pipelines.sync.privacy.due import erase_order


@orders.command(cls=Changing)
@order_argument
@click.option(
    "--as",
    "decision",
    required=True,
    type=click.Choice(["shipped", "cancelled"]),
    help="The status that counts.",
)
@click.option("--restock", is_flag=True, help="With `cancelled`: shipped goods are back in stock.")
@json_option
def resolve(order_id: str, decision: str, restock: bool, as_json: bool) -> None:
    """Resolve a conflict between a cancellation and a shipment.

    As shipped: the sale is valid, its stock is allocated again, and the shop's status is pushed to 4Seller. As cancelled:
    unshipped stock is released; shipped stock comes back with --restock.
    """
    if restock and decision != "cancelled":
        raise WrongInput("--restock goes with --as cancelled.")
    with opened(order_id) as (settings, database, found), database.writing() as connection:
        context = OrderContext(by_hand(settings, "resolve"), settings=settings)
        order = lock_order(connection, found.id, context)
        resolve_conflict(order, decision, restock=restock)
    if as_json:
        print_json({"order": order.marketplace_order_id, "settled": decision, "restock": restock})
    else:
        say(f"Order {order.marketplace_order_id} counts as {decision}.")


@orders.command("dismiss", cls=Changing)
@order_argument
@json_option
def dismiss_(order_id: str, as_json: bool) -> None:
    """Accept an order as it is: unexpected quantities, totals, statuses, edits, refusals.

    A quarantined order stays on record and is retried only by `midas orders retry`.
    """
    with opened(order_id) as (settings, database, found), database.writing() as connection:
        order = lock_order(connection, found.id, OrderContext(by_hand(settings, "dismiss")))
        seen = dismiss(order)
    if as_json:
        print_json({"order": order.marketplace_order_id, "dismissed": seen})
    else:
        say(f"Order {order.marketplace_order_id}: {', '.join(seen)} dismissed.")


@orders.command(cls=Changing)
@order_argument
@click.option(
    "--mail", is_flag=True, help="Also send messages again that were given up, or may have gone out."
)
@json_option
def retry(order_id: str, mail: bool, as_json: bool) -> None:
    """Read the order from 4Seller again and do everything that is open on it.

    Exits 1 when it is still quarantined.
    """
    with shop_database() as (settings, database):
        settings.channel()
        context = SyncContext(settings, database, run_id=by_hand(settings, "retry"))
        done = asyncio.run(retry_order(context, order_id, mail=mail))
    if as_json:
        print_json(vars(done))
    else:
        say(_summary(done))
    if done.exception == "quarantined":
        raise SystemExit(1)


def _summary(done: Retried) -> str:
    if done.exception == "quarantined":
        return f"Order {done.order} is still quarantined: {done.reason}"
    news = "imported" if done.imported else "moved on" if done.moved_on else "nothing new from 4Seller"
    left = [f"still open: {done.exception}"] if done.exception else []
    if done.messages:
        left.append(f"{done.messages} messages are sent with the next round")
    if done.unsent > done.messages:
        left.append(f"{done.unsent - done.messages} messages wait for `--mail`")
    return f"Order {done.order}: {news}; {'; '.join(left) or 'nothing is open on it'}."


@orders.command(cls=Changing)
@order_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def erase(order_id: str, yes: bool, as_json: bool) -> None:
    """Erase who bought an order: name, addresses, phone and what the marketplace sent. The sale itself stays.

    What the buyer changes on the marketplace later is not written down again. 4Seller keeps its own copy.
    """
    with opened(order_id) as (settings, database, found):
        if not yes and not as_json:
            order = clean(found.marketplace_order_id)
            click.confirm(f"Erase the buyer of order {order} for good?", abort=True)
        erase_order(database, found.id, OrderContext(by_hand(settings, "erase")))
    if as_json:
        print_json({"order": found.marketplace_order_id, "erased": True})
    else:
        say(f"Order {found.marketplace_order_id}: its buyer is erased; amounts and stock stay.")
