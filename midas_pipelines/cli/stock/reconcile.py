"""`midas reconcile`: reads back what 4Seller shows, and resolves differences."""

from __future__ import annotations

import sys

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_counts, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.store.operations.sync_log import sync_of_run

COUNTS = (
    "scanned",
    "equal",
    "changing",
    "not_seen",
    "discrepancies",
    "settled",
    "waiting",
    "consistency",
    "unknown",
    "complete",
)


@click.command(cls=Changing)
@json_option
def reconcile(as_json: bool) -> None:
    """Read every listing back, compare it with the shop, and resolve differences by policy.

    Runs the Dagster job `consistency_check` in this process. Consistency is the share of items that 4Seller showed as
    they should be, before anything was resolved; null when none could be judged. Items that are being pushed count as
    changing, those that no readable row shows as not seen. Exits 1 when it failed, 2 for wrong settings.
    """
    with shop_database() as (settings, database):
        settings.channel()
        from midas_pipelines.cli.dagster.running import run_job  # dagster takes two seconds to import

        run = run_job("consistency_check")
        record = sync_of_run(database, "reconcile", run.run_id) or {}
    counts = record.get("counts") or {}
    shown = {name: counts.get(name, 0) for name in COUNTS} | {"consistency": counts.get("consistency")}
    shown |= {name: record.get(name) or 0 for name in ("requests", "seconds")}
    shown |= {"outcome": record.get("outcome") or "failed", "run_id": run.run_id}
    if run.failure is not None:
        shown["error"] = run.failure
    if as_json:
        print_json(shown | {"note": counts.get("note"), "worst": counts.get("worst", [])})
    else:
        unread = bool(run.failure) or not shown["complete"]
        consistency = shown.pop("consistency")
        print_counts("Reconciled", shown | {"complete": None})
        say(consistency_sentence(consistency, unread=unread))
        if counts.get("worst"):
            print_table("What differed", counts["worst"])
    if run.failure is not None:
        say(f"Error: {run.failure}", err=True)
        sys.exit(1)
    for name in ("stopped", "note"):
        if counts.get(name):
            say(f"Error: {counts[name]}", err=True)
    sys.exit(1 if counts.get("failed") else 0)


def consistency_sentence(consistency: float | None, *, unread: bool) -> str:
    """What could be judged, as a sentence; `unread` when 4Seller could not be read whole."""
    if consistency is None:
        why = "4Seller could not be read whole" if unread else "No item could be compared"
        return f"{why}, so consistency was not judged."
    return f"Consistency is {consistency:.2%}{', of what could be read of 4Seller' if unread else ''}."
