"""Assets run in this process, on a fresh shop and the sandbox, as the environment names them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from midas_pipelines.cli.dagster.running import QUIET
from midas_pipelines.definitions import defs
from midas_pipelines.defs.resources import expected_in
from midas_pipelines.lib.partitions import ops_config
from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures
from midas_pipelines_tests.sync.world import World
from midas_pipelines_tests.vaults import PAYLOAD_KEY

Execute = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def environment(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:  # noqa: F811
    """The environment as an operator would set it."""
    settings = world.settings
    channel = settings.channel()
    monkeypatch.setenv("MIDAS_DATABASE_URL", world.database.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MIDAS_SNAPSHOTS", str(tmp_path / "snapshots"))
    monkeypatch.setenv("MIDAS_PAYLOAD_KEY", PAYLOAD_KEY)
    monkeypatch.setenv("FOURSELLER_API_URL", channel.url)
    monkeypatch.setenv("FOURSELLER_API_KEY", channel.api_key.get_secret_value())
    monkeypatch.setenv("FOURSELLER_SELLER_ID", channel.seller_id)
    return world


@pytest.fixture(scope="session")
def shared_instance() -> Iterator[dg.DagsterInstance]:
    """In memory; to make one takes longer than most runs."""
    found = dg.DagsterInstance.ephemeral()
    yield found
    found.dispose()


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """A Dagster without a past."""
    shared_instance.wipe()
    return shared_instance


def tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorExecutionData:
    """What one tick of the sensor does; `cursor` is what the tick before left."""
    context = dg.build_sensor_context(instance, cursor=cursor, repository_def=defs.get_repository_def())
    return sensor.evaluate_tick(context)


@pytest.fixture
def execute(environment: World, instance: dg.DagsterInstance) -> Execute:
    """Runs a job by name, over every shard or one, or these of its checks alone; `ops` configures its assets."""

    def run(
        name: str,
        ops: dict[str, Any] | None = None,
        shard: str | None = None,
        checks: Collection[str] = (),
    ) -> dg.ExecuteInProcessResult:
        job = defs.resolve_job_def(name)
        if checks:
            known = job.asset_layer.asset_graph.asset_check_keys
            job = job.get_subset(asset_check_selection={key for key in known if key.name in checks})
        return job.execute_in_process(
            instance=instance,
            run_config=QUIET | ops_config(ops),
            partition_key=shard,
            raise_on_error=False,
        )

    return run


def partition_range(first: str, last: str) -> dict[str, str]:
    """The tags with which Dagster makes one run of a backfill cover all partitions from the first to the last."""
    start = "dagster/asset_partition_range"
    return {f"{start}_start": first, f"{start}_end": last}


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What the asset's one materialization in that run tells, by name."""
    found = [
        event for event in result.asset_materializations_for_node(asset) if event.asset_key.path == [asset]
    ]
    if found:  # the last, after those of its days
        return {name: told.value for name, told in found[-1].metadata.items()}
    (output,) = [event.step_output_data for event in result.all_events if event.is_successful_output]
    return {name: told.value for name, told in output.metadata.items()}


def observed(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The totals of a run over several partitions of an asset, by name."""
    (event,) = [
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.is_asset_observation and event.asset_key == dg.AssetKey(asset)
    ]
    return {name: told.value for name, told in event.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The sentence with which the run failed."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    expected = expected_in(event)
    assert expected is not None, event.step_failure_data.error
    return expected[0]


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Which checks of the run passed."""
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def evaluation(result: dg.ExecuteInProcessResult, check: str) -> dg.AssetCheckEvaluation:
    """What the run found by this check."""
    (found,) = [one for one in result.get_asset_check_evaluations() if one.check_name == check]
    return found
