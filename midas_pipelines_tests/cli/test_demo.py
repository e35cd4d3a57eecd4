"""`midas demo`: the main job, end to end, as a user's first minute."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from midas_pipelines.definitions import defs
from midas_pipelines_tests.cli.conftest import Midas


def test_the_demo_walks_through_every_workflow_and_leaves_its_runs(
    midas_process: Midas, tmp_path: Path
) -> None:
    ended = midas_process("demo", "--json")
    assert (ended.code, ended.json["passed"]) == (0, True), ended.errors
    runs = [step["run"] for step in ended.json["steps"] if step["run"]]
    assert len(runs) == 8
    with dg.DagsterInstance.local_temp(str(tmp_path / ".midas" / "dagster_home")) as instance:
        kept = instance.get_runs(dg.RunsFilter(tags={"dagster/code_location": "midas_pipelines"}))
        assert {run.run_id for run in kept} > set(runs)  # one of its steps is several runs
        makes = defs.resolve_asset_graph().materializable_asset_keys
        assert [key for key in makes if instance.get_latest_materialization_event(key) is None] == []
