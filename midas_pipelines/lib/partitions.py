"""Dagster's partitions: shards of items and days of orders, and how a run over everything is asked for."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import LIVE_TAG, known
from midas_pipelines.settings import Settings
from midas_pipelines.store.items.shards import Shards, shard_names

SHARDS = dg.StaticPartitionsDefinition(shard_names(SETTINGS.shards))
"""Set by `MIDAS_SHARDS`. After a change the runs so far count for shards that are no more: backfill once."""

Counts = Mapping[str, int | float | None]


def has_partitions(context: dg.AssetExecutionContext) -> bool:
    """Whether the run was launched for partitions; a run without is for all shards, or for what is new."""
    return bool(context.has_partition_key or context.has_partition_key_range)


def has_several(context: dg.AssetExecutionContext) -> bool:
    """Whether the run was launched for several partitions, each of which shows what it returns."""
    return context.has_partition_key_range and len(context.partition_keys) > 1


def chosen_shards(context: dg.AssetExecutionContext) -> list[str]:
    """The names of the shards that this run is for."""
    return list(context.partition_keys) if has_partitions(context) else list(SHARDS.get_partition_keys())


def shards_of(context: dg.AssetExecutionContext) -> Shards | None:
    """The shards that this run is for; None when it is for all of them."""
    every, chosen = SHARDS.get_partition_keys(), chosen_shards(context)
    return None if len(chosen) == len(every) else Shards({int(name) for name in chosen}, len(every))


def shard_counts(context: dg.AssetExecutionContext, sync: "engine.SyncContext", counts: Counts) -> Counts:
    """Gives each shard of the run its own row count, for its plot, and returns the counts to show with the whole."""
    totals = sync.database.read(engine.shard_totals, len(SHARDS.get_partition_keys()))
    found = {name: totals.get(int(name), {"items": 0, "waiting": 0}) for name in chosen_shards(context)}
    words = {"dagster/partition_row_count": "items", "still_waiting": "waiting"}
    facts = {name: {word: one[key] for word, key in words.items()} for name, one in found.items()}
    return by_partition(context, facts, counts)


def by_partition(context: dg.AssetExecutionContext, facts: Mapping[str, Counts], counts: Counts) -> Counts:
    """Shows with each partition its own facts, by its name, and returns the counts to show with the whole.

    The counts of a run over several are an observation of the asset: shown with each partition, they would be its own.
    """
    for name, own in facts.items():
        if has_partitions(context):
            context.add_asset_metadata(own, partition_key=name)
        else:
            made = dg.AssetMaterialization(context.asset_key, partition=name, metadata=own, tags=LIVE_TAG)
            context.log_event(made)
    if not has_several(context):
        return counts
    context.log_event(dg.AssetObservation(context.asset_key, metadata=known(counts)))
    return {}


def shard_metadata(context: dg.AssetExecutionContext) -> str:
    """What the numbers of a run are about: Dagster shows them with each shard that the run was for."""
    every, chosen = SHARDS.get_partition_keys(), chosen_shards(context)
    if len(chosen) == len(every):
        return f"all {len(every)} shards in one run"
    return f"{len(chosen)} shards in one run" if len(chosen) > 1 else "this shard alone"


def ops_config(ops: Mapping[str, Any] | None) -> dict[str, Any]:
    """The configuration of a run, by asset or op."""
    return {"ops": {name: {"config": config} for name, config in ops.items()}} if ops else {}


LOCATION_TAG, LOCATION = "dagster/code_location", "midas_pipelines"
"""The tag that Dagster names a run's code location in, and the name of ours, as `workspace.yaml` has it."""


def is_of_our_location(run: dg.DagsterRun) -> bool:
    """Whether the run is of this code location; one that a person began in a process of theirs may name none."""
    location = run.tags.get(LOCATION_TAG, LOCATION)
    return location.replace("-", "_").startswith(LOCATION)  # Kubernetes allows no underscore


DRIVER_TAG, COMMAND_LINE = "midas/driver", "command line"
"""The tag that says what launched a run, and its value for runs of `midas sync`, which name who in the audit log."""


FIRST_DAY = "2024-01-01"  # the first day where MIDAS_ORDERS_SINCE names none


def days_of_orders(settings: Settings) -> dg.DailyPartitionsDefinition:
    """The days of the shop from which orders are imported at all, today included."""
    since = settings.orders_since
    first = FIRST_DAY if since is None else settings.day_of(since).isoformat()
    return dg.DailyPartitionsDefinition(start_date=first, timezone=settings.timezone, end_offset=1)


order_days = days_of_orders(SETTINGS)


def days_begun(settings: Settings, since: datetime, now: datetime) -> set[date]:
    """The days of the shop that have begun after one moment and not after another."""
    first, last = settings.day_of(since) + timedelta(days=1), settings.day_of(now)
    return {first + timedelta(days=number) for number in range((last - first).days + 1)}
