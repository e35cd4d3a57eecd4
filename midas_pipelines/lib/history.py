"""Deletes from Dagster's history: old runs that nothing needs any more, with their events and logs."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg

BLOCK = 1000
"""Ids in one query."""

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
NO_RUN = ""
"""The run id of events that belong to no run, such as those that the gateway reports."""


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
