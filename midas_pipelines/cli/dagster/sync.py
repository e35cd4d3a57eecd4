"""`midas sync`: runs a workflow now, as the same Dagster job that the schedules run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from midas_pipelines.cli.opening import Changing, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer, say, sync_sentence
from midas_pipelines.errors import WrongInput
from midas_pipelines.store.operations.sync_log import newest_sync
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.scan import make_plan, read_plan
from midas_pipelines.sync.orders.intake.pages import OrderReport
from midas_pipelines.sync.orders.status.status_sync import StatusSyncReport
from midas_pipelines.sync.product_sync import InventoryReport, ProductReport, mapping_ids
from midas_pipelines.sync.reconcile.report import ReconcileReport
from midas_pipelines.text import counted, counts_of

if TYPE_CHECKING:
    from midas_pipelines.cli.dagster.running import Run

NEW_FILE = click.Path(dir_okay=False, path_type=Path)
OLD_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)
REPORTS: dict[str, type] = {
    "products": ProductReport,
    "inventory": InventoryReport,
    "orders": OrderReport,
    "status": StatusSyncReport,
    "reconcile": ReconcileReport,
}
"""The report of each kind of sync: programs find its counts, at 0, where the run failed before it began."""


@click.group(cls=AnsweringGroup)
def sync() -> None:
    """Sync products, stock and orders now.

    Each command runs the Dagster job of that workflow in this process; with DAGSTER_HOME set the run is in the UI. It
    exits 1 when something failed, also when a check of the job did.
    """


class Applying(Changing):
    """Names the hash of the plan that a person approves."""

    def detail(self, ctx: click.Context) -> dict[str, Any]:
        """The options, and the plan's hash."""
        path: Path | None = ctx.params["apply_file"]
        return super().detail(ctx) | ({"plan": read_plan(path).hash} if path is not None else {})


@sync.command(cls=Applying)
@click.option("--full", is_flag=True, help="Consider every item, not only those that changed.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and send nothing.")
@click.option("--sku", "skus", multiple=True, metavar="SKU", help="Only this item; may be repeated.")
@click.option("--plan", "plan_file", type=NEW_FILE, help="Write what would be done to FILE and send nothing.")
@click.option("--apply", "apply_file", type=OLD_FILE, help="Send a plan's FILE, if its steps still hold.")
def products(
    full: bool, dry_run: bool, skus: tuple[str, ...], plan_file: Path | None, apply_file: Path | None
) -> None:
    """Create, update and take off products on 4Seller, so that it shows what the shop sells.

    What would zero, remove or reprice too much of the catalog at once waits while the rest is sent: write it with
    --plan, read it, and send it with --apply, which refuses when anything in it has changed since.
    """
    if apply_file is not None and (full or dry_run or skus or plan_file is not None):
        raise WrongInput("--apply sends a plan as it is: it takes no other option.")
    if dry_run or plan_file is not None:
        _plan(full, list(skus), plan_file)
        return
    config: dict[str, Any] = {"skus": list(skus), "ignore_delays": True}
    if apply_file is not None:
        config = {"apply_plan": str(apply_file.resolve())}
    elif full and not skus:
        _run("full_sync", "products")
    _run("incremental_sync", "products", {"fourseller_listings": config})


@sync.command(cls=Changing)
def inventory() -> None:
    """Push the quantities of items whose stock changed."""
    _run("inventory_push", "inventory", {"inventory_levels": {"ignore_delays": True}})


@sync.command(cls=Changing)
def orders() -> None:
    """Import the sales that 4Seller has and the shop has not."""
    _run("order_import", "orders")


@sync.command(cls=Changing)
def status() -> None:
    """Sync order statuses, both ways."""
    _run("status_sync", "status")


def execute(
    job: str, kind: str, ops: dict[str, Any] | None = None
) -> tuple[Run, dict[str, Any], dict[str, Any]]:
    """Runs the job here; returns the run, the report of its sync, and the counts of that with its outcome."""
    with shop_database() as (settings, database):
        settings.channel()
        from midas_pipelines.cli.dagster.running import run_job  # dagster takes two seconds to import

        run = run_job(job, ops)
        record = database.read(newest_sync, kind, run.result.run_id) or {}
    found = record.get("counts") or {}
    shown: dict[str, Any] = counts_of(vars(REPORTS[kind]()) | found)
    shown |= {name: record.get(name) or 0 for name in ("requests", "seconds")}
    shown |= {"outcome": record.get("outcome") or "failed", "run_id": run.result.run_id}
    if found.get("problems"):
        shown["problems"] = found["problems"]
    return run, found, shown if run.failure is None else shown | {"outcome": "failed", "error": run.failure}


def end(run: Run, wrong: Iterable[str | None], *, failed: object) -> NoReturn:
    """Prints why the run failed, or else what was wrong, and ends the command: with 1 where it `failed`."""
    for words in wrong if run.failure is None else [run.failure]:
        if words:
            say(f"Error: {words}", err=True)
    sys.exit(int(bool(failed)) if run.failure is None else run.exit_code)


def _run(job: str, kind: str, ops: dict[str, Any] | None = None) -> NoReturn:
    run, found, shown = execute(job, kind, ops)
    shown["failed_checks"] = broken = run.broken
    answer(shown, sync_sentence(kind.capitalize(), shown), Table("Needs a look", shown.get("problems", ())))
    wrong = [*filter(None, [found.get("stopped")]), *broken]
    end(run, wrong, failed=shown.get("failed") or wrong)


def _plan(full: bool, skus: list[str], path: Path | None) -> None:
    """Prints what a sync would do, and writes it to the file; nothing is sent."""
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        ids = mapping_ids(context, skus) if skus else None
        plan = make_plan(context, dirty_only=not (full or skus), ids=ids)
    said = f"{counted(plan.counts) or 'nothing to do'}. Nothing was sent."
    record = plan.counts | {"hash": plan.hash, "steps": len(plan.steps), "plan": plan.rows}
    if path is None:
        answer(record, Table("What a sync would do", plan.rows), f"Planned: {said}")
        return
    try:
        plan.write(path)
    except OSError as failed:
        raise click.UsageError(f"The plan cannot be written to {path}: {failed.strerror}.") from None
    answer(
        record | {"plan": str(path)}, f"{path}: {said} Apply it with `midas sync products --apply {path}`."
    )
