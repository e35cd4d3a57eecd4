"""`midas demo`: the main job on a sample shop, each step a Dagster run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx
import sqlalchemy as sa

from midas_pipelines.cli.dagster.sync import execute
from midas_pipelines.cli.local.workplace import Workplace, make_shop, workplace_option
from midas_pipelines.cli.printing import Answering, Table, answer, wants_json
from midas_pipelines.store.database import Database
from midas_pipelines.storefront.schema import product_variants, products
from midas_pipelines.text import counted, counts_of

ORDERS = 25
REPORTS = ("stock_watch", "performance", "daily_report", "backup", "compliance_report", "plan_sync")
"""The jobs that write nothing to 4Seller; the first runs the checks of the shop."""


@dataclass
class DemoStep:
    """One line of the demo's table."""

    step: str
    what_happened: str
    requests: int | None
    seconds: float
    run: str
    passed: bool = True


@click.command(cls=Answering)
@workplace_option
def demo(workplace: Path) -> None:
    """Show the whole system at work on a sample shop, in a minute.

    Seeds a shop of 556 items, starts a sandbox of 4Seller, and runs every workflow once. The runs stay in Dagster's
    history: `midas dev` shows them.
    """
    place = Workplace(workplace)
    with place.held():
        place.prepare()
        place.clear_shop()
        started = time.perf_counter()
        steps = _walk(place)
    failed = [step for step in steps if not step.passed]
    answer(
        {"steps": [vars(step) for step in steps], "passed": not failed},
        Table("midas demo", [vars(step) | {"run": step.run[:8], "passed": None} for step in steps]),
        f"{len(steps)} steps in {time.perf_counter() - started:.0f} s. `make dev` (`midas dev`) goes on with this shop: it "
        "prints a link that signs you in to the console, where you decide what needs a person, and one to the runs.",
    )
    if failed:
        raise click.ClickException(f"{failed[0].step} did not end well: {failed[0].what_happened}")


def _walk(place: Workplace) -> list[DemoStep]:
    with place.sandbox(seed=1) as sandbox:
        settings = place.enter(sandbox.url)
        with Database(settings.database(), settings.limits("bulk")) as database:
            _say("Seeding the shop, starting the sandbox and loading Dagster ...")
            started = time.perf_counter()
            items = f"{make_shop(database)[1]} items, our tables and triggers"
            return [
                DemoStep("Seed a shop", items, None, _since(started), ""),
                _workflow("Full sync", "full_sync", "products"),
                _change_products(database),
                _workflow("Incremental sync", "incremental_sync", "products"),
                _place_orders(sandbox.control_url),
                _workflow("Import the orders", "order_import", "orders"),
                _workflow("Push the new stock", "inventory_push", "inventory"),
                _workflow("Sync order statuses", "status_sync", "status"),
                _workflow("Full sync, nothing changed", "full_sync", "products"),
                _workflow("Read back and check", "consistency_check", "reconcile"),
                _report(),
            ]


def _say(text: str) -> None:
    if not wants_json():
        click.echo(text)


def _workflow(step: str, job: str, kind: str) -> DemoStep:
    _say(f"{step} ...")
    run, found, shown = execute(job, kind)
    summary = run.failure or _summary(found, run.checks)
    passed = shown["outcome"] == "done" and not run.broken
    return DemoStep(step, summary, shown["requests"], round(shown["seconds"], 2), shown["run_id"], passed)


def _report() -> DemoStep:
    from midas_pipelines.cli.dagster.running import run_job  # dagster takes two seconds to import

    step = "Check the shop, write the reports"
    _say(f"{step} ...")
    started = time.perf_counter()
    runs = [run_job(name) for name in REPORTS]
    failure = next((run.failure for run in runs if run.failure is not None), None)
    summary = failure or _summary({}, runs[0].checks)
    well = failure is None and not runs[0].broken
    return DemoStep(step, summary, None, _since(started), runs[0].result.run_id, well)


def _summary(counts: dict[str, Any], checks: Sequence[Any]) -> str:
    parts = [words] if (words := counted(counts_of(counts))) else []
    if checks:
        parts.append(f"{sum(check.passed for check in checks)} of {len(checks)} checks passed")
        parts += [
            f"{'FAILED' if check.severity.value == 'ERROR' else 'to look at'}: {check.check_name}"
            for check in checks
            if not check.passed
        ]
    return ", ".join(parts) or "nothing to do"


def _change_products(database: Database) -> DemoStep:
    """What a shop does in a morning: new prices, new stock, one product gone, one new."""
    started = time.perf_counter()
    with database.writing() as connection:
        few = products.c.id
        connection.execute(sa.update(products).where(few.between(1, 12)).values(price=products.c.price + 1))
        connection.execute(sa.update(products).where(few.between(10, 30)).values(stock_quantity=40))
        first = product_variants.c.id <= 4
        connection.execute(sa.update(product_variants).where(first).values(stock_quantity=9))
        connection.execute(sa.update(products).where(few == 40).values(status="archived"))
        new = {
            "name": "Battery Compatible For Sample Phone",
            "slug": "battery-sample-phone",
            "sku": "MD-NEW-1",
        }
        connection.execute(sa.insert(products).values(new | {"price": "12.90", "stock_quantity": 15}))
    summary = "12 new prices, 25 new stock counts, 1 archived, 1 new product"
    return DemoStep("Change products in the shop", summary, None, _since(started), "")


def _place_orders(control_url: str) -> DemoStep:
    started = time.perf_counter()
    for _ in range(ORDERS - 1):
        httpx.post(f"{control_url}/orders", json={}).raise_for_status()
    stranger = [{"sku": "NOT-OURS", "title": "A part we never sold", "quantity": 1, "price": "9.99"}]
    httpx.post(f"{control_url}/orders", json={"items": stranger}).raise_for_status()
    summary = f"{ORDERS} orders, one of them with an unknown SKU"
    return DemoStep("Shoppers order", summary, None, _since(started), "")


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 2)
