"""`midas connect`: which listing is which item, and what the first sync would change."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table, say
from midas_pipelines.sync.connect.accept import confirm_matches, read_pairs
from midas_pipelines.sync.connect.preview import SURE, counts, make_preview, write_csv
from midas_pipelines.sync.context import SyncContext

SHOWN = ("result", "sku", "listing_id", "score", "price", "quantity", "content", "note")
CSV = click.Path(dir_okay=False, path_type=Path)


@click.group(invoke_without_command=True)
@click.option("--csv", "path", type=CSV, help="Also write the whole report to FILE.")
@click.option("--most", default=30, show_default=True, help="Rows to print.")
@json_option
@click.pass_context
def connect(ctx: click.Context, path: Path | None, most: int, as_json: bool) -> None:
    """Match the shop's items with the account's listings, and show what the first sync would change. Writes nothing.

    \b
    sku, spelling, barcode   certainly one: `midas connect accept` takes them
    title                    perhaps one: confirm it with `midas connect match SKU ID`, or in the CSV
    only here                would be listed
    only there               stays as it is
    doubled                  listings that share a SKU
    unlistable               items that 4Seller cannot list, with the reason
    """
    if ctx.invoked_subcommand is not None:
        return
    with shop_database() as (settings, database):
        found = asyncio.run(make_preview(SyncContext(settings, database)))
    if path is not None:
        write_csv(found, path)
    if as_json:
        print_json({"counts": counts(found), "rows": [asdict(row) for row in found]})
        return
    rows = [{name: getattr(row, name) for name in SHOWN} for row in found[:most]]
    if rows:
        print_table("What the first sync would change, the worst first", rows, len(found), "--csv writes all")
    say(", ".join(f"{count} {result}" for result, count in counts(found).items()) or "Both sides are empty.")
    say("Nothing was written. Confirm with `midas connect accept`; then the first sync may run.")


@connect.command(cls=Changing)
@click.argument("sku")
@click.argument("listing_id")
def match(sku: str, listing_id: str) -> None:
    """Tie the item with the SKU to a listing of 4Seller; the next sync updates that listing."""
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        tied = asyncio.run(confirm_matches(context, [(sku, listing_id)], accept=False))
    say(f"{sku} is tied to {listing_id}." if tied else f"{sku} was tied to {listing_id} already.")


@connect.command(cls=Changing)
@click.option(
    "--csv",
    "path",
    type=CSV,
    help="Take the matches of this file, as `midas connect --csv` wrote it or as a person corrected it.",
)
@click.option("--titles", is_flag=True, help="Of the file, take the matches by title too.")
def accept(path: Path | None, titles: bool) -> None:
    """Tie what is certainly one, or what a CSV says, and let the first sync run."""
    results = (*SURE, "title") if titles else SURE
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        if path is not None:
            pairs = read_pairs(path, results)
        else:
            found = asyncio.run(make_preview(context))
            pairs = [(row.sku, row.listing_id) for row in found if row.result in SURE]
        tied = asyncio.run(confirm_matches(context, pairs, accept=True))
    say(f"{tied} items are tied to their listings. The first sync may run: `midas sync products --full`.")
