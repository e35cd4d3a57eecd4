"""Shards: each item in exactly one, a backfill over all of them a full sync, one of them alone nothing more."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.partition_status_cache import AssetPartitionStatus  # what the asset's page shows

from midas_pipelines.cli.dagster.instance import dagster_yaml
from midas_pipelines.definitions import defs
from midas_pipelines.defs.listings.reconciliation import listing_observation
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib.partitions import SHARDS, shard_names
from midas_pipelines.lib.schedules import schedule_of
from midas_pipelines.lib.snapshot_io import TICK
from midas_pipelines.settings import load_settings
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.workflows import BY_NAME
from midas_pipelines_tests.defs.conftest import Execute, metadata, observed, partition_range
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.world import World

EVERY = SHARDS.get_partition_keys()
FAILED, MATERIALIZED = AssetPartitionStatus.FAILED, AssetPartitionStatus.MATERIALIZED
SHARDED_ASSETS = ("fourseller_listings", "listing_observation")


@pytest.mark.parametrize(("count", "last"), [(1, "00"), (16, "15"), (100, "99"), (1000, "999")])
def test_names_sort_as_numbers_do(count: int, last: str) -> None:
    names = shard_names(count)
    assert (names[-1], len(names), sorted(names)) == (last, count, names)


def test_shards_synced_one_by_one_make_a_full_sync(environment: World) -> None:
    for _ in range(len(EVERY) + 3):
        add_product(environment.database)
    listed = [0]
    for number in range(len(EVERY)):
        environment.full(shards=Shards({number}, len(EVERY)))
        listed.append(len(environment.listed))
    created = [after - before for before, after in pairwise(listed)]
    assert sorted(created) == [1] * (len(EVERY) - 3) + [2] * 3
    assert environment.shown == environment.wanted


def test_a_shard_leaves_the_items_of_others_alone(environment: World, execute: Execute) -> None:
    for _ in range(5):
        add_product(environment.database)
    execute("full_sync", shard="01")
    (row,) = rows(
        environment.database,
        "SELECT id FROM fourseller_product_mappings WHERE fourseller_product_id IS NOT NULL",
    )
    assert row[0] % len(EVERY) == 1


def test_one_run_over_every_shard_materializes_each_with_its_own_numbers(
    environment: World, execute: Execute, instance: dg.DagsterInstance
) -> None:
    for _ in range(len(EVERY) + 2):
        add_product(environment.database)
    *events, whole = execute("full_sync").asset_materializations_for_node("fourseller_listings")
    states = instance.get_status_by_partition(dg.AssetKey("fourseller_listings"), EVERY, SHARDS)
    assert states == dict.fromkeys(EVERY, MATERIALIZED)
    assert (whole.partition, whole.metadata["created"].value) == (None, len(EVERY) + 2)
    rows_by_shard = {event.partition: event.metadata["dagster/partition_row_count"].value for event in events}
    assert rows_by_shard == {name: 2 if name in ("01", "02") else 1 for name in EVERY}
    assert {event.metadata["still_waiting"].value for event in events} == {0}
    assert all(
        not {"created", "seconds"} & event.metadata.keys() for event in events
    )  # of the run, not theirs


def test_a_shard_that_failed_stands_as_failed_whatever_else_is_pushed(
    environment: World, execute: Execute, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_product(environment.database)
    listings = defs.resolve_asset_graph().get(dg.AssetKey("fourseller_listings"))
    monkeypatch.setenv("FOURSELLER_API_KEY", "wrong-key")
    assert not execute("full_sync", shard="01").success
    monkeypatch.setenv("FOURSELLER_API_KEY", environment.background.config.api_key)
    assert execute("incremental_sync").success
    assert instance.get_status_by_partition(listings.key, EVERY, SHARDS)["01"] is FAILED
    assert execute("full_sync", shard="01").success
    assert instance.get_status_by_partition(listings.key, EVERY, SHARDS)["01"] is MATERIALIZED
    assert len(environment.listed) == 1


def test_one_shard_is_read_back_alone(environment: World, execute: Execute) -> None:
    for _ in range(len(EVERY) + 1):
        add_product(environment.database)
    environment.full()
    for product in environment.listed.values():
        product["price"] = "99.00"
    told = [
        metadata(execute("consistency_check", shard=name), "listing_observation") for name in ("01", "02")
    ]
    assert [one["dagster/partition_row_count"] for one in told] == [2, 1]
    assert [(one["scanned"], one["discrepancies"], one["listed"]) for one in told] == [(2, 2, 17), (1, 1, 17)]
    assert {one["scope"] for one in told} == {"this shard alone"}


def test_several_shards_are_read_back_in_one_run(environment: World, instance: dg.DagsterInstance) -> None:
    for _ in range(len(EVERY)):
        add_product(environment.database)
    environment.full()
    environment.calls()
    result = dg.materialize(
        [listing_observation],
        instance=instance,
        resources={"midas": MidasResource()},
        tags=partition_range("03", "06"),
    )
    events = result.asset_materializations_for_node("listing_observation")
    assert sorted(str(event.partition) for event in events) == ["03", "04", "05", "06"]
    assert (whole := observed(result, "listing_observation"))["scanned"] == 4
    assert whole["seconds"] > 0
    assert not any("seconds" in event.metadata for event in events)  # of the run, and of none of them
    assert environment.calls()["GET"] <= 3  # one page of products, two questions for orders


def test_a_sync_of_shards_says_so_in_its_log(environment: World) -> None:
    add_product(environment.database)
    environment.incremental(shards=Shards({0, 3}, 16))
    assert rows(environment.database, "SELECT scope FROM fourseller_sync_logs")[0][0] == (
        "incremental, shard 0, 3 of 16"
    )


def test_the_nightly_full_sync_may_be_runs_a_shard_that_wait_for_no_other_pool(tmp_path: Path) -> None:
    settings = load_settings(spread_full_sync=True, shards_at_once=len(EVERY))
    schedule = schedule_of(settings, BY_NAME["full_sync"])
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(
            instance,
            scheduled_execution_time=datetime(2026, 1, 1, 2, tzinfo=UTC),
            repository_def=defs.get_repository_def(),
        ) as context,
    ):
        requests = schedule.evaluate_tick(context).run_requests or []
    graph, pools = defs.resolve_asset_graph(), {}
    for request in requests:
        pools[request.partition_key] = [
            pool for key in request.asset_selection or [] for pool in graph.get(key).pools
        ]
    shards = {name: ["fourseller_listings"] for name in EVERY}
    assert pools == {None: ["catalog_snapshot", "listing_snapshot"]} | shards
    assert len({request.tags[TICK] for request in requests}) == 1
    limits = yaml.safe_load(dagster_yaml(settings))["concurrency"]["runs"]
    assert limits["max_concurrent_runs"] > len(EVERY)


def test_a_backfill_reads_back_once() -> None:
    graph = defs.resolve_asset_graph()
    policies = {key: graph.get(dg.AssetKey(key)).backfill_policy for key in SHARDED_ASSETS}
    assert policies == {
        "fourseller_listings": None,
        "listing_observation": dg.BackfillPolicy.single_run(),
    }
