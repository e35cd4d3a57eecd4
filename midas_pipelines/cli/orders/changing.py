"""`midas orders ship | map | return | resolve | dismiss | retry | erase | hold | release`: what a person changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from midas_pipelines.cli.opening import Changing, shop_database
from midas_pipelines.cli.orders import reading
from midas_pipelines.cli.orders.reading import by_hand, line_option, locked, opened, orders, parse_lines
from midas_pipelines.cli.printing import answer, clean, wants_json
from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller import carriers
from midas_pipelines.storefront.catalog import find_item
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.changes.exceptions import dismiss, resolve_conflict
from midas_pipelines.sync.orders.changes.shipments import NewShipment, Shipped
from midas_pipelines.sync.orders.lookup import retry_order
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.status.status_sync import change_status
from midas_pipelines.sync.orders.stock.pending_lines import map_line
from midas_pipelines.sync.orders.stock.units import restock_units
from midas_pipelines.sync.privacy.erase import erase_order, hold_buyer, release_hold

LINE_NUMBER = click.IntRange(1, reading.MOST_UNITS)
DECISIONS = ["shipped", "cancelled"]


def changing(name: str) -> Callable[[Any], Any]:
    """A command of the group that changes the order ID, audited."""
    return lambda function: orders.command(name, cls=Changing)(reading.order_argument(function))


def _done(name: str, words: str, **facts: Any) -> None:
    """Prints the facts of a changed order for programs, or a sentence."""
    answer({"order": name} | facts, f"Order {name}: {words}")


@changing("ship")
@click.option("--carrier", required=True, help="UPS, USPS, FedEx, DHL, or any other name.")
@click.option("--number", required=True, help="The tracking number as on the label.")
@click.option("--url", help="The tracking page; known for the usual carriers.")
@click.option("--force", is_flag=True, help="Accept a number that does not match the carrier's formats.")
@click.option("--replaces", metavar="NUMBER", help="Correct the shipment on record under this number.")
@line_option
def ship(order_id: str, replaces: str | None, lines: Sequence[str], **said: Any) -> None:
    """Record a shipment: everything that is left to ship, or the given lines.

    The shop's order is updated, and status and tracking number are pushed to 4Seller; what it does not take now, the next
    `midas sync status` pushes. The same shipment recorded again changes nothing; --replaces corrects it.
    """
    if replaces and lines:
        raise WrongInput("--replaces corrects a shipment as it is: it takes no --line.")
    label = carriers.tracking(**said)
    shipment = NewShipment(label, parse_lines(lines), replaces)
    with shop_database() as (settings, database):
        context = SyncContext(settings, database, run_id=by_hand(settings, "ship"))
        done = asyncio.run(change_status(context, order_id, shipment=shipment))
    named, shipped = f"{label.carrier} {label.number}", done.shipment or Shipped(new=False)
    if replaces:
        news = f"the shipment {replaces} is {named} now."
    elif shipped.new:
        rest = "everything has left" if shipped.complete else "the rest is still to ship"
        news = f"{shipped.units} units in {named}; {rest}."
    else:
        news = "this shipment is on record already; nothing changed."
        news += "" if shipped.complete else " Record the rest as another shipment."
    known = f"4Seller does not know it: {done.reason.rstrip('.')}." if done.reason else "4Seller knows it."
    page = [label.url or "No tracking page is known for this shipment."] if shipped.new else []
    facts = asdict(shipped) | label.model_dump() | {"corrected": bool(replaces), "unpushed": done.reason}
    name = done.marketplace_order_id
    answer({"order": name, **facts}, f"Order {name}: {news} {known}", *page)


@changing("map")
@click.option("--line", "number", type=LINE_NUMBER, required=True, help="Its number in `show`.")
@click.option("--sku", required=True, help="The SKU of the shop's item that was sold.")
def map_(order_id: str, number: int, sku: str) -> None:
    """Map an unmapped line to an item; its stock is allocated now, once."""
    with opened(order_id) as (settings, database, row):
        item = database.read(find_item, sku)
        done = map_line(database, row.id, number, item, OrderContext(by_hand(settings, "map")))
    words = f"line {number} is {sku} {'now' if done else 'already; nothing changed'}."
    _done(row.marketplace_order_id, words, line=number, sku=sku, mapped=done)


@changing("return")
@line_option
def return_(order_id: str, lines: Sequence[str]) -> None:
    """Put returned goods back in stock: all that has left, or the given lines; never more than has left.

    A refund without a return needs no command: it puts nothing back.
    """
    with locked(order_id, "return") as order:
        back = restock_units(order, units=parse_lines(lines))
    _done(order.marketplace_order_id, f"{back} units back in stock.", units=back)


@changing("resolve")
@click.option("--as", "decision", type=click.Choice(DECISIONS), required=True, help="The status that counts.")
@click.option("--restock", is_flag=True, help="With `cancelled`: shipped goods are back in stock.")
def resolve(order_id: str, decision: str, restock: bool) -> None:
    """Resolve a conflict between a cancellation and a shipment.

    As shipped: the sale is valid, its stock is allocated again, and the shop's status is pushed to 4Seller. As cancelled:
    unshipped stock is released; shipped stock comes back with --restock.
    """
    if restock and decision != "cancelled":
        raise WrongInput("--restock goes with --as cancelled.")
    with locked(order_id, "resolve") as order:
        resolve_conflict(order, decision, restock=restock)
    _done(order.marketplace_order_id, f"it counts as {decision}.", resolved=decision, restock=restock)


@changing("dismiss")
def dismiss_(order_id: str) -> None:
    """Accept an order as it is: unexpected quantities, totals, statuses, edits, refusals.

    A quarantined order stays on record and is retried only by `midas orders retry`.
    """
    with locked(order_id, "dismiss") as order:
        seen = dismiss(order)
    _done(order.marketplace_order_id, f"{', '.join(seen)} dismissed.", dismissed=seen)


@changing("retry")
@click.option("--mail", is_flag=True, help="Also send again what was given up, or may have gone out.")
def retry(order_id: str, mail: bool) -> None:
    """Read the order from 4Seller again and do everything that is open on it.

    Exits 1 when it is still quarantined.
    """
    with shop_database() as (settings, database):
        context = SyncContext(settings, database, run_id=by_hand(settings, "retry"))
        done = asyncio.run(retry_order(context, order_id, mail=mail))
    news = "imported" if done.imported else "moved on" if done.updated else "nothing new from 4Seller"
    left = [f"still open: {done.exception}"] if done.exception else []
    if done.messages:
        left.append(f"{done.messages} messages are sent with the next round")
    if done.unsent > done.messages:
        left.append(f"{done.unsent - done.messages} messages wait for `--mail`")
    summary = f"Order {done.order}: {news}; {'; '.join(left) or 'nothing is open on it'}."
    if quarantined := done.exception == "quarantined":
        summary = f"Order {done.order} is still quarantined: {done.reason}"
    answer(vars(done), summary, failed=quarantined)


@changing("erase")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(order_id: str, yes: bool) -> None:
    """Erase who bought an order: name, addresses, phone and what the marketplace sent. The sale itself stays.

    What the buyer changes on the marketplace later is not written down again. 4Seller keeps its own copy.
    """
    with opened(order_id) as (settings, database, found):
        if not (yes or wants_json()):
            order = clean(found.marketplace_order_id)
            click.confirm(f"Erase the buyer of order {order} for good?", abort=True)
        erase_order(database, found.id, OrderContext(by_hand(settings, "erase")))
    _done(found.marketplace_order_id, "its buyer is erased; amounts and stock stay.", erased=True)


@changing("hold")
@click.option("--until", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The day on which it ends.")
@click.option("--because", required=True, metavar="TEXT", help="The law or the case, without any name.")
def hold(order_id: str, until: datetime, because: str) -> None:
    """Keep the buyer of an order until a date, because the law wants it; replaces an earlier hold."""
    end = until.replace(tzinfo=UTC)
    if end <= datetime.now(UTC):
        raise WrongInput("--until: give a day to come, such as 2031-12-31.")
    if not because.strip():
        raise WrongInput("--because: say which law or case needs the buyer.")
    with locked(order_id, "hold") as order:
        name = order.marketplace_order_id
        if order.erased_at is not None:
            raise WrongInput(f"Order {name}: its buyer is erased already.")
        hold_buyer(order.connection, order.id, until=end, because=because, by=str(order.context.run_id))
        order.log("held", f"The buyer is kept until {end:%Y-%m-%d}.")
    _done(name, f"its buyer is kept until {end:%Y-%m-%d}.", held_until=end)


@changing("release")
def release(order_id: str) -> None:
    """End the hold on an order; its buyer is erased when that is due."""
    with locked(order_id, "release") as order:
        name, ended = order.marketplace_order_id, release_hold(order.connection, order.id)
        if ended:
            order.log("released_hold", "The hold was ended.")
    _done(name, "the hold is ended." if ended else "no hold was in force.", released=ended)
