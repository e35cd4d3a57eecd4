"""`midas sync`: runs a workflow now, as the same Dagster job that the schedules run."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from midas_pipelines.cli.opening import Changing, shop_database
from midas_pipelines.cli.printing import json_option, print_counts, print_json, print_table, say
from midas_pipelines.store.operations.sync_log import sync_of_run
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.scan import make_plan, read_plan
from midas_pipelines.sync.product_sync import mapping_ids

NEW_FILE = click.Path(dir_okay=False, path_type=Path)
OLD_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.group()
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
@click.option(
    "--sku", "skus", multiple=True, metavar="SKU", help="Only this item; may be given several times."
)
@click.option("--plan", "plan_file", type=NEW_FILE, help="Write what would be done to FILE and send nothing.")
@click.option(
    "--apply", "apply_file", type=OLD_FILE, help="Send the steps of a plan's FILE, if they still hold."
)
@json_option
def products(
    full: bool,
    dry_run: bool,
    skus: tuple[str, ...],
    plan_file: Path | None,
    apply_file: Path | None,
    as_json: bool,
) -> None:
    """Create, update and take off products on 4Seller, so that it shows what the shop sells.

    What would zero, remove or reprice too much of the catalog at once waits while the rest is sent: write it with
    --plan, read it, and send it with --apply, which refuses when anything in it has changed since.
    """
    if plan_file is not None:
        _write_plan(plan_file, full, list(skus), as_json)
        return
    if apply_file is not None:
        config: dict[str, Any] = {"apply_plan": str(apply_file.resolve())}
        _run("incremental_sync", {"fourseller_listings": config}, "products", PRODUCT_COUNTS, as_json)
    if dry_run:
        _plan(full, list(skus), as_json)
        return
    if full and not skus:
        _run("full_sync", None, "products", PRODUCT_COUNTS, as_json)
    config = {"skus": list(skus), "ignore_delays": True}
    _run("incremental_sync", {"fourseller_listings": config}, "products", PRODUCT_COUNTS, as_json)


@sync.command(cls=Changing)
@json_option
def inventory(as_json: bool) -> None:
    """Push the quantities of items whose stock changed."""
    config = {"inventory_levels": {"ignore_delays": True}}
    _run("inventory_push", config, "inventory", INVENTORY_COUNTS, as_json)


@sync.command(cls=Changing)
@json_option
def orders(as_json: bool) -> None:
    """Import the sales that 4Seller has and the shop has not."""
    _run("order_import", None, "orders", ORDER_COUNTS, as_json)


@sync.command(cls=Changing)
@json_option
def status(as_json: bool) -> None:
    """Sync order statuses, both ways."""
    _run("status_sync", None, "status", STATUS_COUNTS, as_json)


CHANGES = ("created", "updated", "deleted", "unchanged")
PRODUCT_COUNTS = ("scanned", *CHANGES, "failed", "held", "shadowed", "quarantined", "adopted")
INVENTORY_COUNTS = ("scanned", "pushed", "unchanged", "failed", "held", "shadowed")
ORDER_COUNTS = ("fetched", "imported", "duplicates", "exceptions", "failed", "postponed", "moved_on")
STATUS_COUNTS = ("scanned", "pushed", "refused", "moved_on", "failed")


def _run(job: str, ops: dict[str, Any] | None, kind: str, counts: tuple[str, ...], as_json: bool) -> None:
    with shop_database() as (settings, database):
        settings.channel()
        from midas_pipelines.cli.dagster.running import run_job  # dagster takes two seconds to import

        run = run_job(job, ops)
        record = sync_of_run(database, kind, run.run_id)
    shown = _shown(record, counts) | {"run_id": run.run_id, "failed_checks": run.broken}
    if run.failure is not None:
        shown |= {"outcome": "failed", "error": run.failure}
    if as_json:
        print_json(shown)
    else:
        print_counts(kind.capitalize(), shown)
        if shown.get("problems"):
            print_table("Needs a look", shown["problems"])
    if run.failure is not None:
        say(f"Error: {run.failure}", err=True)
        sys.exit(run.exit_code)
    stopped = ((record or {}).get("counts") or {}).get("stopped")
    wrong = [stopped, *run.broken] if stopped else run.broken
    for words in wrong:
        say(f"Error: {words}", err=True)
    sys.exit(1 if shown.get("failed") or wrong else 0)


def _shown(record: dict[str, Any] | None, counts: tuple[str, ...]) -> dict[str, Any]:
    found = (record or {}).get("counts") or {}
    shown: dict[str, Any] = {name: found.get(name, 0) for name in counts}
    shown["requests"] = (record or {}).get("requests") or 0
    shown["seconds"] = (record or {}).get("seconds") or 0.0
    shown["outcome"] = (record or {}).get("outcome") or "failed"
    if found.get("problems"):
        shown["problems"] = found["problems"]
    return shown


def _write_plan(path: Path, full: bool, skus: list[str], as_json: bool) -> None:
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        plan = make_plan(
            context, dirty_only=not (full or skus), ids=mapping_ids(context, skus) if skus else None
        )
        try:
            plan.write(path)
        except OSError as failed:
            raise click.UsageError(f"The plan cannot be written to {path}: {failed.strerror}.") from None
    counts = Counter(step.action for step in plan.steps)
    if as_json:
        print_json({"plan": str(path), "hash": plan.hash, "steps": len(plan.steps), **counts})
    else:
        summary = (
            ", ".join(f"{count} {action}" for action, count in sorted(counts.items())) or "nothing to do"
        )
        say(f"{path}: {summary}. Nothing was sent. Apply it with `midas sync products --apply {path}`.")


def _plan(full: bool, skus: list[str], as_json: bool) -> None:
    with shop_database() as (_, database):
        from midas_pipelines.cli.dagster.running import run_job  # dagster takes two seconds to import

        run = run_job("plan_sync", {"sync_plan": {"full": full, "skus": skus}})
        record = sync_of_run(database, "products", run.run_id)
    if run.failure is not None or run.result is None:
        say(f"Error: {run.failure}", err=True)
        sys.exit(1)
    steps: list[dict[str, Any]] = run.result.output_for_node("sync_plan")
    shown = _shown(record, PRODUCT_COUNTS) | {"dry_run": True, "run_id": run.run_id}
    if as_json:
        print_json(shown | {"plan": steps})
        return
    if steps:
        print_table("What a sync would do", steps)
    print_counts("Planned, nothing sent", shown)
