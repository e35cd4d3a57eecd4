"""`midas orders hold | release`: the buyer of an order is kept longer because a law says so."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from midas_pipelines.cli.audited import Changing, actor
from midas_pipelines.cli.orders.group import by_hand, opened, order_argument, orders
from midas_pipelines.cli.printing import json_option, print_json
from midas_pipelines.cli.terminal import say
from midas_pipelines.errors import WrongInput
from midas_pipelines.store.privacy.holds import hold_buyer, release_hold
from midas_pipelines.sync.orders.model.order_log import OrderContext, lock_order


@orders.command(cls=Changing)
@order_argument
@click.option(
    "--until", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The day on which the hold ends."
)
@click.option("--because", required=True, metavar="TEXT", help="The law or the case, without any name.")
@json_option
def hold(order_id: str, until: datetime, because: str, as_json: bool) -> None:
    """Keep the buyer of an order until a date, because the law wants it; replaces an earlier hold."""
    end = until.replace(tzinfo=UTC)
    if end <= datetime.now(UTC):
        raise WrongInput("--until: give a day to come, such as 2031-12-31.")
    if not because.strip():
        raise WrongInput("--because: say which law or case needs the buyer.")
    with opened(order_id) as (settings, database, found), database.writing() as connection:
        row = lock_order(connection, found.id, OrderContext(by_hand(settings, "hold")))
        name = row.marketplace_order_id
        if row.erased_at is not None:
            raise WrongInput(f"Order {name}: its buyer is erased already.")
        hold_buyer(connection, row.id, until=end, because=because, by=actor(settings))
        row.log("held", f"The buyer is kept until {end:%Y-%m-%d}.")
    if as_json:
        print_json({"order": name, "held_until": end})
    else:
        say(f"Order {name}: its buyer is kept until {end:%Y-%m-%d}.")


@orders.command(cls=Changing)
@order_argument
@json_option
def release(order_id: str, as_json: bool) -> None:
    """End the hold on an order; its buyer is erased when that is due."""
    with opened(order_id) as (settings, database, found), database.writing() as connection:
        row = lock_order(connection, found.id, OrderContext(by_hand(settings, "release")))
        name, ended = row.marketplace_order_id, release_hold(connection, row.id)
        if ended:
            row.log("released_hold", "The hold was ended.")
    if as_json:
        print_json({"order": name, "released": ended})
    else:
        say(f"Order {name}: {'the hold is ended' if ended else 'no hold was in force'}.")
