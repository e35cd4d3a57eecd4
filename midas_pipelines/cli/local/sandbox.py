"""`midas sandbox` and `midas store`: a stateful 4Seller on this machine, and a sample shop to try things on."""

from __future__ import annotations

import sqlite3
from typing import Any

import click

from midas_pipelines.cli.local.workplace import make_shop
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import AnsweringGroup, answer
from midas_pipelines.sandbox.background import serve
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.habits import HABITS, read_habit
from midas_pipelines.storefront import sample


@click.command()
@click.option("--port", default=4400, help="Port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--latency-ms", default=0.0, help="How long each call takes, at least.")
@click.option("--jitter-ms", default=0.0, help="How much longer it may take, by chance.")
@click.option("--rate-limit", type=float, help="Calls a second, beyond which it answers 429.")
@click.option("--fault-rate", default=0.0, help="Share of calls that fail (0 to 1).")
@click.option("--fault", "faults", multiple=True, metavar="KIND=SHARE", help="A kind of fault and its share.")
@click.option(
    "--habit", "habits", multiple=True, metavar="NAME[=N]", help="A way of real hubs; see --habits."
)
@click.option(
    "--habits",
    "list_habits",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, given: _list_habits(context) if given else None,
    help="List the habits and exit.",
)
@click.option("--state", "state_file", metavar="FILE", help="Keep the state in this file.")
@click.option("--api-key", default="sandbox-key", help="The key that callers must send.")
@click.option("--seller-id", default="sandbox-seller", help="That callers must send.")
@click.option("--webhook-url", help="Where to send webhooks.")
@click.option("--webhook-secret", envvar="FOURSELLER_WEBHOOK_SECRET", help="whsec_… that signs them.")
@click.option("--shoppers", "shoppers_rate", default=0.0, help="Their actions a second.")
@click.option("--seed", type=int, help="Makes chance repeatable.")
def sandbox(port: int, host: str, faults: tuple[str, ...], habits: tuple[str, ...], **options: Any) -> None:
    """Run a 4Seller of your own: it keeps products and orders, and fails on demand.

    Point FOURSELLER_API_URL at the address it prints. Its page shows what it holds; its controls are under
    /__sandbox.
    """
    try:
        shares, ways = dict(map(_fault, faults)), dict(map(read_habit, habits))
        config = SandboxConfig(**options, faults=shares, habits=ways)
    except ValueError as wrong:
        raise click.UsageError(str(wrong)) from None
    try:
        serve(config, host=host, port=port)
    except OSError as taken:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {taken.strerror or taken}.") from None
    except sqlite3.Error as wrong:
        raise click.ClickException(f"--state {config.state_file} cannot be used: {wrong}.") from None


def _fault(text: str) -> tuple[str, float]:
    kind, _, share = text.partition("=")
    try:
        return kind, float(share)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not KIND=SHARE, as in 503=0.05", param_hint="--fault"
        ) from None


def _list_habits(context: click.Context) -> None:
    for name, habit in HABITS.items():
        click.echo(f"{name}={habit.number:g}\n    {habit.sentence}")
    context.exit()


@click.group(cls=AnsweringGroup)
def store() -> None:
    """Make a sample shop."""


@store.command()
@click.option("--products", default=sample.CATALOGUE_SIZE, help="Sellable items to make.")
@click.option("--seed", default=1, help="The same seed makes the same shop.")
def seed(products: int, seed: int) -> None:
    """Fill the database with a made-up phone-repair shop; its tables are created where they are missing.

    Rows that are there already stay. Running it again with the same seed adds nothing.
    """
    if products < 1:
        raise click.BadParameter("at least one item is needed", param_hint="--products")
    with shop_database(upgraded=False) as (_, database):
        created, added = make_shop(database, items=products, seed=seed)
    said = f"{added} items added." if added else f"The shop of seed {seed} is there already."
    answer({"tables_created": created, "items_added": added, "seed": seed}, said)
