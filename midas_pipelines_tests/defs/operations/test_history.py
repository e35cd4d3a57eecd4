"""Dagster's history forgets what is old, and never what tells how things stand now; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from midas_pipelines.defs.operations.op_jobs import delete_old_runs
from midas_pipelines_tests.conftest import empty
from midas_pipelines_tests.copies import Copies

SHARDS = dg.StaticPartitionsDefinition(["0", "1", "2"])
LATER = datetime.now(UTC) + timedelta(days=1)
"""By then everything is old."""


@dg.asset(partitions_def=SHARDS)
def shared_out() -> None:
    """An asset with a run for each shard."""


@dg.asset
def whole() -> None:
    """An asset without shards."""


@dg.asset_check(asset=whole)
def sound() -> dg.AssetCheckResult:
    """A check that passes."""
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(copies: Copies, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster with a history of its own."""
    url = copies.fresh(empty)
    text = "telemetry: {enabled: false}\n"
    if url.startswith("postgresql"):
        address = "postgresql" + url[url.index("://") :]
        text += f"storage: {{postgres: {{postgres_url: '{address}'}}}}\n"
    (tmp_path / "dagster.yaml").write_text(text)
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made
    copies.drop(url)


def finish(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition, shard: str | None = None) -> str:
    """The id of a run over them."""
    return dg.materialize([*assets, sound], instance=instance, partition_key=shard).run_id


@pytest.mark.both_databases
def test_only_what_newer_runs_have_replaced_is_forgotten_with_its_events_and_its_file(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    by_shard = {shard: finish(instance, shared_out, shard=shard) for shard in ("0", "1", "2", "1", "0")}
    old, checked = finish(instance, whole), finish(instance, whole)
    newest = dg.materialize([whole], instance=instance).run_id
    assert delete_old_runs(instance, LATER) == 4
    assert {run.run_id for run in instance.get_runs()} == {*by_shard.values(), newest}
    assert instance.get_materialized_partitions(shared_out.key) == {"0", "1", "2"}
    made = instance.fetch_materializations(whole.key, limit=10).records
    assert [event.run_id for event in made] == [newest]
    assert not list(tmp_path.rglob(f"{old}*"))
    left = instance.get_latest_asset_check_evaluation_record(sound.check_key)
    assert left is not None
    assert (left.run_id, left.status.value) == (checked, "SUCCEEDED")


def test_runs_that_are_young_or_not_ended_stay(instance: dg.DagsterInstance) -> None:
    finish(instance, whole)
    finish(instance, whole)
    instance.add_run(dg.DagsterRun(job_name="waits", run_id="waits"))
    assert delete_old_runs(instance, datetime.now(UTC) - timedelta(days=1)) == 0
    assert delete_old_runs(instance, LATER) == 1
    assert instance.get_run_by_id("waits") is not None


def test_runs_of_other_code_locations_are_not_ours_to_delete(instance: dg.DagsterInstance) -> None:
    tags = {"dagster/code_location": "warehouse"}
    foreign = dg.materialize([whole], instance=instance, tags=tags).run_id
    finish(instance, whole)
    assert delete_old_runs(instance, LATER) == 0
    assert instance.get_run_by_id(foreign) is not None
