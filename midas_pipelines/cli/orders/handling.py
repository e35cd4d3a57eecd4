"""`midas orders ship | map | return`: shipments, mappings and returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
import sqlalchemy as sa

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.orders.group import (
    by_hand,
    line_option,
    opened,
    order_argument,
    orders,
    parse_lines,
)
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.cli.terminal import say
from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.storefront.catalog import items_by_sku
from midas_pipelines.sync.orders.changes import shipments
from midas_pipelines.sync.orders.model import carriers
from midas_pipelines.sync.orders.model.order_log import OrderContext, StoredOrder, lock_order
from midas_pipelines.sync.orders.stock import pending_lines
from midas_pipelines.sync.orders.stock.allocate import restock_units
from midas_pipelines.sync.orders.stock.units import away, is_fully_shipped, left_to_ship


@orders.command(cls=Changing)
@order_argument
@click.option("--carrier", required=True, help="UPS, USPS, FedEx, DHL, or any other name.")
@click.option("--number", required=True, help="The tracking number as on the label.")
@click.option("--url", help="The tracking page; known for the usual carriers.")
@click.option("--force", is_flag=True, help="Accept a number that does not match the carrier's formats.")
@click.option(
    "--replaces", metavar="NUMBER", help="Correct the shipment that is on record under this number."
)
@line_option
@json_option
def ship(
    order_id: str,
    carrier: str,
    number: str,
    url: str | None,
    force: bool,
    replaces: str | None,
    lines: Sequence[str],
    as_json: bool,
) -> None:
    """Record a shipment: everything that is left to ship, or the given lines.

    The shop's order is updated at once; the next `midas sync status` pushes status and tracking number to 4Seller.
    The same shipment recorded again changes nothing; --replaces corrects it.
    """
    if replaces and lines:
        raise WrongInput("--replaces corrects a shipment as it is: it takes no --line.")
    with opened(order_id) as (settings, database, row):
        context = OrderContext(by_hand(settings, "ship"), settings=settings)
        shipment = carriers.tracking(carrier, number, url=url, force=force)
        unpushed = None
        if replaces:
            unpushed = shipments.replace_shipment(database, row.id, replaces, shipment, context)
            shipped = shipments.Shipped(new=False)
        else:
            units = parse_lines(lines, _most(database, row))
            shipped = shipments.record_shipment(database, row.id, shipment, context, units=units)
    record = {"order": row.marketplace_order_id, **asdict(shipped), **shipment.model_dump()}
    named = f"{shipment.carrier} {shipment.number}"
    if as_json:
        print_json(record | {"corrected": bool(replaces), "unpushed": unpushed})
    elif replaces:
        news = unpushed or "it is pushed to 4Seller again"
        say(f"Order {row.marketplace_order_id}: the shipment {replaces} is {named} now; {news}.")
    elif not shipped.new:
        rest = "" if shipped.complete else " Record the rest as another shipment."
        say(f"Order {row.marketplace_order_id}: this shipment is on record already; nothing changed.{rest}")
    else:
        rest = "everything has left" if shipped.complete else "the rest is still to ship"
        say(f"Order {row.marketplace_order_id}: {shipped.units} units in {named}; {rest}.")
        say(shipment.url or "No tracking page is known for this shipment.")


def _most(database: Database, row: sa.Row[Any]) -> dict[int, int]:
    """The units of each line when no count is given: what is left to ship, or else what was sold."""
    with database.reading() as connection:
        lines = StoredOrder(connection, row).lines()
    return {line.line: left_to_ship(line) or line.quantity for line in lines}


@orders.command("map", cls=Changing)
@order_argument
@click.option(
    "--line",
    "number",
    type=click.IntRange(1, 2**31 - 1),
    required=True,
    help="The line, as `midas orders show` numbers it.",
)
@click.option("--sku", required=True, help="The SKU of the shop's item that was sold.")
@json_option
def map_(order_id: str, number: int, sku: str, as_json: bool) -> None:
    """Map an unmapped line to an item; its stock is allocated now, once."""
    with opened(order_id) as (settings, database, row):
        with database.reading() as connection:
            item = items_by_sku(connection, [sku]).get(sku)
        if item is None:
            raise WrongInput(f"The shop has no item with the SKU {sku}.")
        done = pending_lines.map_line(database, row.id, number, item, OrderContext(by_hand(settings, "map")))
    record = {"order": row.marketplace_order_id, "line": number, "sku": sku, "mapped": done}
    if as_json:
        print_json(record)
    else:
        result = f"is {sku} now" if done else f"is {sku} already; nothing changed"
        say(f"Order {row.marketplace_order_id}: line {number} {result}.")


@orders.command("return", cls=Changing)
@order_argument
@line_option
@json_option
def return_(order_id: str, lines: Sequence[str], as_json: bool) -> None:
    """Put returned goods back in stock: all that has left, or the given lines; never more than has left.

    A refund without a return needs no command: it puts nothing back.
    """
    with opened(order_id) as (settings, database, found), database.writing() as connection:
        order = lock_order(connection, found.id, OrderContext(by_hand(settings, "return")))
        whole = is_fully_shipped(order, order.shop_status())
        left = {line.line: away(line, all_shipped=whole) for line in order.lines()}
        units = parse_lines(lines, left)
        for number, count in (units or {}).items():
            if count > left[number]:
                raise WrongInput(f"Line {number} has {left[number]} units that have left and not come back.")
        back = restock_units(order, "returned", units=units, all_shipped=whole)
    if as_json:
        print_json({"order": order.marketplace_order_id, "units": back})
    else:
        say(f"Order {order.marketplace_order_id}: {back} units back in stock.")
