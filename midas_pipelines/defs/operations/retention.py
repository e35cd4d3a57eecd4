"""Deletes in time: old runs with their logs, rows that are done with, snapshots, and the buyers of old orders."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from midas_pipelines.defs.resources import MidasResource, shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import numbers, table
from midas_pipelines.lib.schedules import op_job
from midas_pipelines.settings import load_settings

BLOCK = 1000
"""Ids in one query."""

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
NO_RUN = ""
"""The run id of events that belong to no run, such as those that the gateway reports."""

Remove = Callable[[dg.DagsterInstance, int], dict[str, int]]
"""Removes what is older than so many days, and returns how many of each."""


def _step(name: str, what: str, setting: str, remove: Remove) -> dg.OpDefinition:
    """One step of the job; `setting` names the days that its rows are kept."""

    @dg.op(name=name, description=f"Deletes {what}.")
    def remove_old(context: dg.OpExecutionContext) -> None:
        days = getattr(load_settings(), setting)
        removed = remove(context.instance, days)
        context.add_output_metadata(removed)
        counts = ", ".join(f"{count} {kind}" for kind, count in removed.items()) or "Nothing"
        context.log.info(f"{counts} older than {days} days removed.")

    return remove_old


def _runs(instance: dg.DagsterInstance, days: int) -> dict[str, int]:
    return {"runs": delete_old_runs(instance, _days_ago(days))}


def _rows(name: str) -> Remove:
    """Removes the rows that MIDAS_KEEP_<name>_DAYS is about."""

    def remove(_: dg.DagsterInstance, days: int) -> dict[str, int]:
        with shop() as database:
            return (
                {}
                if isinstance(database, dg.SkipReason)
                else {name: engine.delete_old(database, name, days=days)}
            )

    return remove


def _audit_rows(instance: dg.DagsterInstance, days: int) -> dict[str, int]:
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            return {}
        return {"audit_rows": engine.audit.delete_old_audit_rows(database, days=days)}


def _snapshots(_: dg.DagsterInstance, days: int) -> dict[str, int]:
    kept = engine.Snapshots.of(load_settings())
    return {"snapshots": kept.remove_before(_days_ago(days).date())}


def _days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


STEPS = (
    _step("remove_old_runs", "old finished runs, unless something still needs them", "keep_runs_days", _runs),
    _step("remove_old_audit_rows", "old rows of the gateway's audit log", "keep_audit_days", _audit_rows),
    _step("remove_old_snapshots", "old snapshots of shop and channel", "keep_snapshots_days", _snapshots),
    *(
        _step(f"remove_old_{name}", what, f"keep_{name}_days", _rows(name))
        for name, what in (
            ("webhooks", "webhooks applied or superseded long ago"),
            ("writes", "what listings showed before old writes"),
            ("sync_logs", "old rows of the sync log"),
            ("api_errors", "old failed calls"),
            ("order_logs", "old steps of orders, but not what a person decided"),
            ("alerts", "alerts that were over long ago"),
        )
    ),
)


retention = op_job(SETTINGS, "retention", *STEPS)


@dg.op(pool="operations")
def erase_buyers(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Erases the buyers whose time has come; shows by week who is due, who was erased, and whom the law keeps."""
    with midas.sync_context(context) as sync:
        report = engine.erase_due_buyers(sync)
        weeks = engine.erasure_weeks(sync.database, sync.settings)
    context.log.info(f"{report.erased} buyers erased, {report.busy} busy, {weeks.overdue} overdue.")
    every = {f"all_{name}": getattr(weeks, name) for name in ("due", "overdue", "erased", "held", "never")}
    counts = numbers(report, "erased", "busy", "events", "left")
    context.add_output_metadata({**counts, **every, "weeks": table(weeks.weeks)})


buyer_erasure = op_job(SETTINGS, "buyer_erasure", erase_buyers)


def delete_old_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Removes finished runs created before that moment, with events and logs, except those still needed.

    Returns how many were removed.
    """
    old = instance.get_run_ids(filters=dg.RunsFilter(statuses=FINISHED, created_before=before))
    needed = needed_runs(instance) if old else set()
    doomed = [run_id for run_id in old if run_id not in needed]
    for run_id in doomed:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        for file in Path(instance.root_directory).glob(f"history/runs/{run_id}.db*"):
            file.unlink()  # SQLite's file of the run, which Dagster empties and leaves there
    return len(doomed)


def needed_runs(instance: dg.DagsterInstance) -> set[str]:
    """The runs behind the newest materialization of each asset and partition; results of checks outlive their runs.

    Without the run its partitions would be missing again, and a backfill of those that are missing would redo them.
    """
    needed: set[str] = set()
    for asset in instance.get_asset_keys():
        newest = instance.get_latest_materialization_event(asset)
        needed |= {newest.run_id} if newest is not None else set()
        needed |= set(_partition_runs(instance, asset))
    return needed - {NO_RUN}


def _partition_runs(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Iterator[str]:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    newest = list(instance.get_latest_storage_id_by_partition(asset, kind).values())
    for start in range(0, len(newest), BLOCK):
        ids = newest[start : start + BLOCK]
        wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=ids)
        for record in instance.fetch_materializations(wanted, limit=len(ids)).records:
            yield record.run_id
