"""A plan that is applied in Dagster leaves who applied it in the audit log."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from midas_pipelines.cli.dagster.running import QUIET
from midas_pipelines.definitions import defs
from midas_pipelines.sync.listings.scan import make_plan
from midas_pipelines_tests.shop import add_product, rows
from midas_pipelines_tests.sync.world import World


@pytest.mark.parametrize(
    ("tags", "actor"),
    [
        ({"user": "ann"}, "ann"),
        ({"midas/driver": "gateway"}, "gateway"),
        ({}, "Dagster, no sign-in"),
    ],
)
def test_an_applied_plan_leaves_a_name(
    environment: World, tmp_path: Path, tags: dict[str, str], actor: str
) -> None:
    add_product(environment.database, sku="A")
    plan = make_plan(environment.sync_context())
    plan.write(tmp_path / "plan.json")
    ops = {"fourseller_listings": {"config": {"apply_plan": str(tmp_path / "plan.json")}}}
    with dg.DagsterInstance.ephemeral() as instance:
        defs.resolve_job_def("incremental_sync").execute_in_process(
            instance=instance, run_config=QUIET | {"ops": ops}, tags=tags, raise_on_error=False
        )
    (row,) = rows(environment.database, "SELECT actor, action, detail FROM gateway_audit")
    assert (row.actor, row.action, plan.hash in str(row.detail)) == (actor, "Dagster apply_plan", True)
    assert [found["sku"] for found in environment.sandbox.state.products.values()] == ["A"]
