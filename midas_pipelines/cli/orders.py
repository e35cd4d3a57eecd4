"""`midas orders`: look at marketplace orders, ship them, and settle what needs a person."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.fourseller.errors import FourSellerError
from midas_pipelines.storefront.lookup import items_by_sku
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.orders import carriers, conflicts, shipments, unmapped
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.flaws import Flaw
from midas_pipelines.sync.orders.giving_back import give_back
from midas_pipelines.sync.orders.lookup import NoSuchOrder, find_order, list_orders
from midas_pipelines.sync.orders.mail_rules import mail_rules
from midas_pipelines.sync.orders.retrying import CannotRetry, retry_order
from midas_pipelines.sync.orders.story import Story, read_story

EXCEPTIONS = ["any", "set_aside", *(flaw.value for flaw in Flaw)]
STATUSES = ["pending", "processing", "shipped", "delivered", "cancelled", "refunded"]
line_option = click.option(
    "--line",
    "lines",
    multiple=True,
    metavar="N[=UNITS]",
    help="Only this line of the order, and so many units of it; may be given several times.",
)


class Mistaken(click.ClickException):
    """Something that the person who called can mend: exit code 2."""

    exit_code = 2


@click.group()
def orders() -> None:
    """Look at marketplace orders, ship them, and settle what needs a person.

    ID is the marketplace's id, the order number or the shop's own id of an order, in every command.
    """


@orders.command("list")
@click.option(
    "--exception", type=click.Choice(EXCEPTIONS), help="Only orders that need a person for this reason."
)
@click.option("--status", type=click.Choice(STATUSES), help="Only orders that stand there.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many."
)
@json_option
def list_(exception: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List orders, the newest first."""
    with shop_database() as (_, database):
        found = list_orders(database, exception=exception, status=status, limit=limit)
    if as_json:
        print_json({"orders": found})
    elif found:
        print_table("Orders", found)
    else:
        click.echo("No such orders.")


@orders.command()
@click.argument("order_id", metavar="ID")
@json_option
def show(order_id: str, as_json: bool) -> None:
    """Tell an order's whole story: steps, stock, parcels and messages, with times and causes."""
    with shop_database() as (_, database), database.reading() as connection:
        story = _or_mistaken(lambda: read_story(connection, order_id))
    if as_json:
        print_json(asdict(story))
    else:
        _print_story(story)


@orders.command()
@click.argument("order_id", metavar="ID")
@click.option("--carrier", required=True, help="UPS, USPS, FedEx, DHL, or any other name.")
@click.option("--number", required=True, help="The tracking number as on the label.")
@click.option("--url", help="The page that follows the parcel; known for the usual carriers.")
@click.option("--anyway", is_flag=True, help="Take a number that the carrier's formats do not know.")
@line_option
@json_option
def ship(
    order_id: str,
    carrier: str,
    number: str,
    url: str | None,
    anyway: bool,
    lines: Sequence[str],
    as_json: bool,
) -> None:
    """Record a parcel: everything that is left to ship, or the given lines.

    The shop's order moves on at once; 4Seller is told, with the tracking number, by the next `midas sync status`.
    The same parcel recorded again changes nothing.
    """
    with shop_database() as (settings, database):
        clerk = Clerk(mail=mail_rules(settings))
        with database.reading() as connection:
            row = _or_mistaken(lambda: find_order(connection, order_id))
        units = _units(lines, database, row.id) if lines else None
        try:
            parcel = carriers.tracking(carrier, number, url=url, anyway=anyway)
            shipped = shipments.ship(database, row.id, parcel, clerk, units=units)
        except carriers.BadTracking as bad:
            raise Mistaken(f"{bad} `--anyway` takes it as it is.") from None
        except shipments.CannotShip as why:
            raise Mistaken(str(why)) from None
    told = {"order": row.marketplace_order_id, **asdict(shipped), **parcel.model_dump()}
    if as_json:
        print_json(told)
    elif not shipped.new:
        click.echo(f"Order {row.marketplace_order_id}: this parcel is on record already; nothing changed.")
    else:
        rest = "everything has left" if shipped.complete else "the rest is still to ship"
        click.echo(
            f"Order {row.marketplace_order_id}: {shipped.units} units in {parcel.carrier} {parcel.number}; {rest}."
        )
        click.echo(parcel.url or "No page is known that follows this parcel.")


@orders.command("map")
@click.argument("order_id", metavar="ID")
@click.option(
    "--line", "number", type=int, required=True, help="The line, as `midas orders show` numbers it."
)
@click.option("--sku", required=True, help="The SKU of the shop's item that was sold.")
@json_option
def map_(order_id: str, number: int, sku: str, as_json: bool) -> None:
    """Say which item an unmapped line sold; its stock is taken now, once."""
    with shop_database() as (_, database):
        with database.reading() as connection:
            row = _or_mistaken(lambda: find_order(connection, order_id))
            item = items_by_sku(connection, [sku]).get(sku)
        if item is None:
            raise Mistaken(f"The shop has no item with the SKU {sku}.")
        done = unmapped.map_line(database, row.id, number, item, Clerk())
    told = {"order": row.marketplace_order_id, "line": number, "sku": sku, "mapped": done}
    if as_json:
        print_json(told)
    else:
        result = f"is {sku} now" if done else "is mapped already, or is not there; nothing changed"
        click.echo(f"Order {row.marketplace_order_id}: line {number} {result}.")


@orders.command("return")
@click.argument("order_id", metavar="ID")
@line_option
@json_option
def return_(order_id: str, lines: Sequence[str], as_json: bool) -> None:
    """Put returned goods back in stock: the whole order, or the given lines; never more than it took.

    A refund without a return needs no command: it puts nothing back.
    """
    with shop_database() as (_, database):
        with database.reading() as connection:
            row = _or_mistaken(lambda: find_order(connection, order_id))
        units = _units(lines, database, row.id) if lines else None
        with database.writing() as connection:
            shipments.lock_order(connection, row.id)
            back = give_back(
                connection,
                row.id,
                row.marketplace_order_id,
                "returned",
                Clerk(),
                units=units,
                source="operator",
            )
    if as_json:
        print_json({"order": row.marketplace_order_id, "units": back})
    else:
        click.echo(f"Order {row.marketplace_order_id}: {back} units back in stock.")


@orders.command()
@click.argument("order_id", metavar="ID")
@click.option(
    "--as",
    "decision",
    required=True,
    type=click.Choice(["shipped", "cancelled"]),
    help="Whether the sale stands.",
)
@click.option("--restock", is_flag=True, help="With `cancelled`: the goods are back on the shelf.")
@json_option
def settle(order_id: str, decision: str, restock: bool, as_json: bool) -> None:
    """Decide a conflict: a cancellation that met a shipment."""
    with shop_database() as (_, database), database.writing() as connection:
        found = _or_mistaken(lambda: find_order(connection, order_id))
        row = shipments.lock_order(connection, found.id)
        conflicts.settle(connection, row, decision, Clerk(), restock=restock)
    if as_json:
        print_json({"order": row.marketplace_order_id, "settled": decision, "restock": restock})
    else:
        click.echo(f"Order {row.marketplace_order_id} counts as {decision}.")


@orders.command()
@click.argument("order_id", metavar="ID")
@click.option("--mail", is_flag=True, help="Also send messages that may have gone out, or were given up.")
@json_option
def retry(order_id: str, mail: bool, as_json: bool) -> None:
    """Read the order from 4Seller again and do everything that is open on it."""
    with shop_database() as (settings, database):
        settings.channel()
        engine = Engine(settings, database)
        try:
            done = asyncio.run(retry_order(engine, order_id, mail=mail))
        except (NoSuchOrder, CannotRetry) as why:
            raise Mistaken(str(why)) from None
        except FourSellerError as failed:
            raise click.ClickException(str(failed)) from None
    if as_json:
        print_json(done.record)
    else:
        left = f"still open: {done.exception}" if done.exception else "nothing is open on it"
        news = "imported" if done.imported else "moved on" if done.moved_on else "nothing new from 4Seller"
        click.echo(f"Order {done.order}: {news}; {left}.")


def _or_mistaken(find: Any) -> Any:
    try:
        return find()
    except NoSuchOrder as why:
        raise Mistaken(str(why)) from None


def _units(lines: Sequence[str], database: Any, order_row: int) -> dict[int, int]:
    """`2=3` is three units of line 2, `2` all of it."""
    with database.reading() as connection:
        whole = shipments.line_quantities(connection, order_row)
    units: dict[int, int] = {}
    for text in lines:
        number, _, count = text.partition("=")
        if not number.isdigit() or (count and not count.isdigit()) or int(number) not in whole:
            raise Mistaken(f"--line {text}: give a line of the order, as in 2 or 2=1.")
        units[int(number)] = int(count) if count else whole[int(number)]
    return units


def _print_story(story: Story) -> None:
    order = story.order
    click.echo(
        f"Order {order['marketplace_order_id']} on {order['sales_channel'] or 'a marketplace'}, "
        f"{order['order_number'] or 'not imported'} (id {order['local_order_id'] or 'none'}): "
        f"{order['status']} there, {order['shop_status'] or 'unknown'} in the shop; "
        f"{order['total']} {order['currency']}."
    )
    if order["exception"] or order["reason"]:
        click.echo(f"Needs a person: {order['exception'] or 'set aside'}. {order['reason'] or ''}".rstrip())
    if story.lines:
        print_table("Lines", story.lines)
    entries = [
        {"UTC": f"{one.at:%Y-%m-%d %H:%M:%S}", "what": one.what, "detail": one.detail, "cause": one.cause}
        for one in story.entries
    ]
    if entries:
        print_table("What happened", entries)
