"""Deletes from Dagster's history: old runs that nothing needs any more, and old events that belong to no run."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import sqlalchemy as sa
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

BLOCK = 1000
"""Rows in one transaction, and ids in one query: on SQLite a deleting transaction keeps every writer waiting."""

RUNS_BLOCK = 50
"""Runs whose events are removed in one transaction."""

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
    for start in range(0, len(doomed), RUNS_BLOCK):
        _remove_runs(instance, doomed[start : start + RUNS_BLOCK])
    return len(doomed)


def needed_runs(instance: dg.DagsterInstance) -> set[str]:
    """The runs behind the newest materialization of each asset and partition, and the newest result of each check.

    Without the run its partitions would be missing again, and a backfill of those that are missing would redo them.
    """
    needed = set(_check_runs(instance))
    for asset in instance.get_asset_keys():
        newest = instance.get_latest_materialization_event(asset)
        needed |= {newest.run_id} if newest is not None else set()
        needed |= set(_partition_runs(instance, asset))
    return needed - {NO_RUN}


def _remove_runs(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    """Removes runs, their events first: what is cut short leaves runs that the next night finds again."""
    storage = _sql(instance)
    if storage is not None:
        _remove_events(storage, run_ids)
    for run_id in run_ids:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        if storage is not None:
            instance.run_storage.delete_run(run_id)
        else:
            instance.delete_run(run_id)


def _partition_runs(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Iterator[str]:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    newest = list(instance.get_latest_storage_id_by_partition(asset, kind).values())
    for start in range(0, len(newest), BLOCK):
        ids = newest[start : start + BLOCK]
        wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=ids)
        for record in instance.fetch_materializations(wanted, limit=len(ids)).records:
            yield record.run_id


# From here on Dagster's tables are used directly: it has no call that deletes single events, nor one that lists all
# checks. Each function does nothing where the storage is not SQL.


def _remove_events(storage: "SqlEventLogStorage", run_ids: Sequence[str]) -> None:
    """Removes the events of finished runs, whose slots run monitoring has freed.

    `delete_run` makes half a dozen connections for each run: minutes for some thousand. On SQLite, where each run has a
    file beside the common index, it opens that file, empties it and leaves it there until the disk is full.
    """
    with storage.index_connection() as connection:
        for run_id in run_ids:
            storage.delete_events_for_run(connection, run_id)
    for run_id in run_ids if storage.is_run_sharded else ():
        shard = Path(storage.path_for_shard(run_id))  # type: ignore[attr-defined]
        for suffix in ("", "-wal", "-shm"):
            shard.with_name(shard.name + suffix).unlink(missing_ok=True)


def delete_old_events(instance: dg.DagsterInstance, before: datetime) -> int:
    """Removes events of no run that are older than that moment; the newest of each kind, asset and partition stays.

    Returns how many were removed.
    """
    storage = _sql(instance)
    if storage is None:
        return 0
    if storage.is_run_sharded:  # SQLite has each of them twice: in the file of its run, and in the index
        _delete_events(storage.run_connection, before, NO_RUN)
    return _delete_events(storage.index_connection, before)


def delete_old_checks(instance: dg.DagsterInstance, before: datetime) -> int:
    """Removes results of checks older than that moment, which outlive their runs; the newest of each check stays.

    Returns how many were removed.
    """
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Checks

    storage = _sql(instance)
    if storage is None:
        return 0
    with storage.index_connection() as connection:
        newest = _ids(connection, _newest_checks())
    old = sa.and_(Checks.c.evaluation_event_timestamp < _as_stored(before), Checks.c.id.not_in(newest))
    return _remove(storage.index_connection, (), sa.select(Checks.c.id).where(old), [Checks.c.id])


def _check_runs(instance: dg.DagsterInstance) -> list[str]:
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Checks

    storage = _sql(instance)
    if storage is None:
        return []
    with storage.index_connection() as connection:
        return list(connection.scalars(sa.select(Checks.c.run_id).where(Checks.c.id.in_(_newest_checks()))))


def _newest_checks() -> "sa.Select[Any]":
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Checks

    return sa.select(sa.func.max(Checks.c.id)).group_by(
        Checks.c.asset_key, Checks.c.check_name, Checks.c.partition
    )


def _delete_events(connect: Any, before: datetime, *shard: str) -> int:
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetEventTagsTable as Tags
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events

    runless = sa.and_(Events.c.run_id == NO_RUN, Events.c.asset_key.is_not(None))
    kinds = (Events.c.asset_key, Events.c.dagster_event_type, Events.c.partition)
    with connect(*shard) as connection:
        newest = _ids(connection, sa.select(sa.func.max(Events.c.id)).where(runless).group_by(*kinds))
    old = sa.and_(runless, Events.c.timestamp < _as_stored(before), Events.c.id.not_in(newest))
    return _remove(connect, shard, sa.select(Events.c.id).where(old), [Tags.c.event_id, Events.c.id])


def _remove(
    connect: Any, shard: Iterable[str], wanted: "sa.Select[Any]", columns: "Sequence[sa.Column[Any]]"
) -> int:
    """Removes the rows with the wanted ids in each of those columns, a block at a time; returns how many ids."""
    import sqlalchemy as sa

    removed = 0
    while True:
        with connect(*shard) as connection:
            ids = _ids(connection, wanted.limit(BLOCK))
            for column in columns:
                connection.execute(sa.delete(column.table).where(column.in_(ids)))
        if not ids:
            return removed
        removed += len(ids)


def _ids(connection: "sa.Connection", wanted: "sa.Select[Any]") -> list[int]:
    return list(connection.scalars(wanted))


def _as_stored(moment: datetime) -> datetime:
    """UTC without saying so, as Dagster writes its events' times."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _sql(instance: dg.DagsterInstance) -> "SqlEventLogStorage | None":
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    return storage if isinstance(storage, SqlEventLogStorage) else None
