"""`midas contract`: what of the contract the account keeps, what it answers otherwise, and what that would change."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Any

import click
import yaml

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table, say
from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.conformance import RESERVED_SKU, Tried, run_conformance
from midas_pipelines.fourseller.contract_watch import ContractWatch
from midas_pipelines.fourseller.http.answers import AnswerSample
from midas_pipelines.fourseller.overlay import overlay
from midas_pipelines.settings import Settings, load_settings
from midas_pipelines.store.operations.findings import read_findings

SHOWN = ("kind", "call", "place", "what", "times", "first_at", "last_at")


@click.group()
def contract() -> None:
    """Show where 4Seller's answers differ from the contract (openapi.yaml), and try the account against it."""


@contract.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """List what was found in production: kind, place, count, first and last time. No personal data is kept."""
    found = _findings()
    if as_json:
        print_json({"findings": found})
    elif found:
        print_table(
            "4Seller's answers against the contract", [{name: row[name] for name in SHOWN} for row in found]
        )
    else:
        say("Everything that was looked at keeps the contract.")


@contract.command(name="diff")
def propose_change() -> None:
    """Print the change to the contract's document that the findings propose, as an OpenAPI Overlay."""
    click.echo(yaml.safe_dump(overlay(_findings()), sort_keys=False, allow_unicode=True), nl=False)


@contract.command(name="test", cls=Changing)
@json_option
def try_account(as_json: bool) -> None:
    """Try the configured account: create, read, set, list, page and delete one reserved SKU; orders are only read.

    The first thing to run on a real account. In shadow mode only reads are tried. Exits 1 when a promise is not kept.
    """
    settings = load_settings()
    watch = ContractWatch()
    tried = asyncio.run(_tried(settings, watch))
    found = [asdict(one) for one in watch.take()]
    broken = [one for one in tried if one.kept is False]
    if as_json:
        print_json({"kept": not broken, "tried": [asdict(one) for one in tried], "findings": found})
    else:
        words = {True: "kept", False: "NOT KEPT", None: "not tried"}
        print_table(
            f"The contract, tried with {RESERVED_SKU}",
            [{**asdict(one), "kept": words[one.kept]} for one in tried],
        )
        if found:
            print_table("Answers that differ", [{name: row[name] for name in SHOWN[:5]} for row in found])
    sys.exit(1 if broken else 0)


async def _tried(settings: Settings, watch: ContractWatch) -> list[Tried]:
    access = settings.channel()
    async with FourSeller(
        base_url=access.url,
        api_key=access.api_key,
        seller_id=access.seller_id,
        watch=AnswerSample(1, watch.compare).note,
        may_write=lambda: not settings.shadow,
    ) as client:
        return [one async for one in run_conformance(client, base_url=access.url, seller_id=access.seller_id)]


def _findings() -> list[dict[str, Any]]:
    with shop_database() as (_, database), database.reading() as connection:
        return [{name: row[name] for name in (*SHOWN, "example")} for row in read_findings(connection)]
