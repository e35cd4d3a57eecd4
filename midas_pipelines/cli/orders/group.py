"""The command group `midas orders`, and what its commands share: ids, lines, errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import sqlalchemy as sa

from midas_pipelines.cli.audited import actor
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.errors import WrongInput
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.sync.orders.lookup import find_order

MOST_UNITS = 2**31 - 1

order_argument = click.argument("order_id", metavar="ID")
line_option = click.option(
    "--line",
    "lines",
    multiple=True,
    metavar="N[=UNITS]",
    help="Only this line of the order, or UNITS of it; may be given several times.",
)


@click.group()
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
        with database.reading() as connection:
            row = find_order(connection, order_id)
        yield settings, database, row


def parse_lines(lines: Sequence[str], whole: dict[int, int]) -> dict[int, int] | None:
    """`2=3` is three units of line 2, `2` all of them; None where no line is named.

    Args:
        lines: as given.
        whole: the units that all of a line are, by its number.

    Raises:
        WrongInput: there is no such line, or no such number of units.
    """
    units: dict[int, int] = {}
    for text in lines:
        number, equals, count = text.partition("=")
        if not _is_a_number(number) or int(number) not in whole:
            raise WrongInput(f"--line {text[:40]}: give a line of the order, as in 2 or 2=1.")
        if equals and not (_is_a_number(count) and 0 < int(count) <= MOST_UNITS):
            raise WrongInput(f"--line {text[:40]}: give a number of units from 1 on, as in 2=1.")
        units[int(number)] = int(count) if equals else whole[int(number)]
    return units or None


def _is_a_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
