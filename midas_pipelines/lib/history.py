"""Deletes from Dagster's history: old runs that nothing needs any more, and old events that outlive or have no run."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

BLOCK = 1000
"""Rows in one transaction, and ids in one query: on SQLite a deleting transaction keeps every writer waiting."""

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


def delete_old_events(instance: dg.DagsterInstance, before: datetime) -> dict[str, int]:
    """Removes events of no run, and results of checks, which outlive their runs; the newest of each kind stays.

    Dagster has no call that deletes these, and they are thousands a day: its own tables are used, where they are SQL.

    Returns how many were removed, by kind.
    """
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import (
        AssetCheckExecutionsTable,
        AssetEventTagsTable,
        SqlEventLogStorageTable,
    )
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return {}
    event, check = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    stored = before.astimezone(UTC).replace(tzinfo=None)  # as Dagster writes times: UTC without saying so
    runless = sa.and_(event.run_id == NO_RUN, event.asset_key.is_not(None))
    events = (runless, event.timestamp < stored, (event.asset_key, event.dagster_event_type, event.partition))
    results = (
        sa.true(),
        check.evaluation_event_timestamp < stored,
        (check.asset_key, check.check_name, check.partition),
    )
    tagged = [AssetEventTagsTable.c.event_id, event.id]
    if storage.is_run_sharded:  # SQLite has each of them twice: in the file of its run, and in the index
        _remove(lambda: storage.run_connection(NO_RUN), *events, tagged)
    return {
        "events": _remove(storage.index_connection, *events, tagged),
        "check_results": _remove(storage.index_connection, *results, [check.id]),
    }


def _remove(connect: Any, which: Any, old: Any, kinds: tuple[Any, ...], columns: list[Any]) -> int:
    """Removes the old rows but the newest of each kind, a block at a time, from the table of each of those columns."""
    import sqlalchemy as sa

    key, removed = columns[-1], 0
    with connect() as connection:
        newest = list(connection.scalars(sa.select(sa.func.max(key)).where(which).group_by(*kinds)))
    wanted = sa.select(key).where(which, old, key.not_in(newest)).limit(BLOCK)
    while True:
        with connect() as connection:
            ids = list(connection.scalars(wanted))
            for column in columns:
                connection.execute(sa.delete(column.table).where(column.in_(ids)))
        if not ids:
            return removed
        removed += len(ids)
