"""`midas doctor`, `connect`, `contract`, `shadow` and `undo`: trying and changing safely."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import yaml

from midas_pipelines.cli.opening import Changing, shop_database
from midas_pipelines.cli.printing import Answering, AnsweringGroup, Table, answer, json_option
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.conformance import RESERVED_SKU, Tried, run_conformance
from midas_pipelines.fourseller.contract_watch import ContractWatch, overlay
from midas_pipelines.fourseller.errors import ShadowWrite
from midas_pipelines.fourseller.http.answers import AnswerSample, Call
from midas_pipelines.lib.doctor.report import doctor_report
from midas_pipelines.settings import load_settings
from midas_pipelines.store.operations.findings import FOUND, read_findings
from midas_pipelines.sync.connect import first_connection
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.safety.shadow_report import compare_shadow
from midas_pipelines.sync.safety.undo import undo_run

PREVIEWED = ("result", "sku", "listing_id", "score", "price", "quantity", "content", "note")
CSV = click.Path(dir_okay=False, path_type=Path)
KEPT = {True: "kept", False: "NOT KEPT", None: "not tried"}


@click.command(cls=Answering)
@click.option("--new-key", is_flag=True, help="Try the key; resume pushes when 4Seller takes it.")
def doctor(new_key: bool) -> None:
    """Check everything a start needs: settings, database, 4Seller, webhooks, mail, Dagster, disk.

    Each line is ok, a warning, or wrong with the next step. Nothing is changed or stored. Exits 1 when a line is wrong.
    """
    lines = doctor_report(new_key=new_key)
    bad = [line for line in lines if line.state == "wrong"]
    warnings = sum(line.state == "warning" for line in lines)
    rows = [asdict(line) for line in lines]
    answer(
        {"healthy": not bad, "lines": rows},
        Table("midas doctor", rows),
        f"{len(lines) - len(bad) - warnings} ok, {warnings} warnings, {len(bad)} wrong.",
        f"Next: {bad[0].next_step}" if bad else "",
        failed=bad,
    )


@click.command(cls=Answering)
def shadow() -> None:
    """Compare what shadow mode kept back with what 4Seller and the shop show by now."""
    with shop_database() as (settings, database):
        report = asyncio.run(compare_shadow(SyncContext(settings, database)))
    agree, differ = report.agree, report.differ
    said = f"{report.kept} writes were kept back: {agree} agree with what is there, {len(differ)} differ."
    answer(asdict(report), Table("Where shadow mode would have differed", differ), said)


@click.command(cls=Changing)
@click.argument("run_or_plan")
def undo(run_or_plan: str) -> None:
    """Put back what was written to 4Seller, field by field, where 4Seller still shows it; list the rest.

    RUN_OR_PLAN is a run's id, as a sync prints it, or a plan's hash; or, of what the gateway's worker wrote, an hour or a
    day (UTC): gateway-2026-12-24T14, gateway-2026-12-24. What is put back is pinned, so that the next sync leaves it:
    correct the shop, then release it with `midas conflicts release`. Quantities follow the shop. Exits 1 when something
    was left as it is.
    """
    with shop_database() as (settings, database):
        report = asyncio.run(undo_run(SyncContext(settings, database), run_or_plan))
    said = f"{report.put_back} listings are put back, {report.removed} that were created are removed."
    answer(asdict(report), said, Table("Left as it is", report.left), failed=report.left)


@click.group(cls=AnsweringGroup)
def contract() -> None:
    """Show where 4Seller's answers differ from the contract (openapi.yaml), and try the account against it."""


@contract.command(name="list")
def list_command() -> None:
    """List what was found in production: kind, place, count, first and last time. No personal data is kept."""
    found = _findings()
    none = "Everything that was looked at keeps the contract."
    table = Table("4Seller's answers against the contract", _without(found, "example"), none)
    answer({"findings": found}, table)


@contract.command(name="diff", cls=click.Command)
def propose_change() -> None:
    """Print the change to the contract's document that the findings propose, as an OpenAPI Overlay."""
    click.echo(yaml.safe_dump(overlay(_findings()), sort_keys=False, allow_unicode=True), nl=False)


@contract.command(name="test", cls=Changing)
def try_account() -> None:
    """Try the configured account: create, read, set, list, page and delete one reserved SKU; orders are only read.

    The first thing to run on a real account. In shadow mode only reads are tried. Exits 1 when a promise is not kept.
    """
    watch = ContractWatch()
    tried = asyncio.run(_try(watch))
    found = [asdict(one) for one in watch.take()]
    broken = [one for one in tried if one.kept is False]
    rows = [{**asdict(one), "kept": KEPT[one.kept]} for one in tried]
    answer(
        {"kept": not broken, "tried": [asdict(one) for one in tried], "findings": found},
        Table(f"The contract, tried with {RESERVED_SKU}", rows),
        Table("Answers that differ", _without(found, "example")),
        failed=broken,
    )


async def _try(watch: ContractWatch) -> list[Tried]:
    settings = load_settings()
    access = settings.channel()

    def guard(call: Call) -> None:
        if settings.shadow:
            raise ShadowWrite(f"{call.subject} was not sent: MIDAS_SHADOW is on, so only reads are tried.")

    async with FourSeller(
        base_url=access.url,
        api_key=access.api_key,
        seller_id=access.seller_id,
        watch=AnswerSample(1, watch.compare).note,
        guard=guard,
    ) as client:
        return [one async for one in run_conformance(client, base_url=access.url, seller_id=access.seller_id)]


def _findings() -> list[dict[str, Any]]:
    with shop_database() as (_, database):
        return [{name: row[name] for name in FOUND} for row in read_findings(database)]


def _without(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    return [{name: cell for name, cell in row.items() if name != column} for row in rows]


@click.group(cls=AnsweringGroup, invoke_without_command=True)
@click.option("--csv", "path", type=CSV, help="Also write the whole report to FILE.")
@click.option("--most", default=30, help="Rows to print.")
@json_option
@click.pass_context
def connect(ctx: click.Context, path: Path | None, most: int) -> None:
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
        found = asyncio.run(first_connection.make_preview(SyncContext(settings, database)))
    if path is not None:
        first_connection.write_csv(found, path)
    counts = Counter(row.result for row in found)
    rows = [{name: getattr(row, name) for name in PREVIEWED} for row in found[:most]]
    title = "What the first sync would change, the worst first"
    answer(
        {"counts": counts, "rows": [asdict(row) for row in found]},
        Table(title, rows, total=len(found), more="--csv writes all"),
        ", ".join(f"{count} {result}" for result, count in counts.items()) or "Both sides are empty.",
        "Nothing was written. Confirm with `midas connect accept`; then the first sync may run.",
    )


@connect.command(cls=Changing)
@click.argument("sku")
@click.argument("listing_id")
def match(sku: str, listing_id: str) -> None:
    """Tie the item with the SKU to a listing of 4Seller; the next sync updates that listing."""
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        tied = asyncio.run(first_connection.confirm_matches(context, [(sku, listing_id)], accept=False))
    said = f"{sku} is tied to {listing_id}." if tied else f"{sku} was tied to {listing_id} already."
    answer({"sku": sku, "listing_id": listing_id, "tied": bool(tied)}, said)


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
    results = (*first_connection.SURE, "title") if titles else first_connection.SURE
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        if path is not None:
            pairs = first_connection.read_pairs(path, results)
        else:
            found = asyncio.run(first_connection.make_preview(context))
            pairs = [(row.sku, row.listing_id) for row in found if row.result in first_connection.SURE]
        tied = asyncio.run(first_connection.confirm_matches(context, pairs, accept=True))
    more = "The first sync may run: `midas sync products --full`."
    answer({"tied": tied}, f"{tied} items are tied to their listings. {more}")
