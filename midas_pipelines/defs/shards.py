"""The items' shards as Dagster's partitions: a backfill over them is a full sync on many workers."""

import dagster as dg

from midas_pipelines.settings import load_settings
from midas_pipelines.store.shards import Shards

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def shard_names(count: int) -> list[str]:
    """The names of so many shards, in an order that is also that of the alphabet: 00, 01, ..."""
    width = max(2, len(str(count - 1)))
    return [f"{number:0{width}}" for number in range(count)]


SHARDS = dg.StaticPartitionsDefinition(shard_names(load_settings().shards))
"""Set by `MIDAS_SHARDS`. After a change the runs so far count for shards that are no more: backfill once."""


def every_shard(count: int | None = None) -> dict[str, str]:
    """The tags that make one run cover every shard."""
    names = SHARDS.get_partition_keys() if count is None else shard_names(count)
    return {RANGE_START: names[0], RANGE_END: names[-1]}


def shards_of(context: dg.AssetExecutionContext) -> Shards | None:
    """The shards that this run is for; None when it is for all of them."""
    every = SHARDS.get_partition_keys()
    chosen = context.partition_keys
    return None if len(chosen) == len(every) else Shards({int(name) for name in chosen}, len(every))
