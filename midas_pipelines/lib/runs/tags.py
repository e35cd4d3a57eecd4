"""The workflows and how a run of each is asked for: by a schedule, a sensor or the command line, all in the same way."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from midas_pipelines.lib.shards import every_shard

SHARDED = {"full_sync", "consistency_check"}
"""Workflows whose runs say which shards they are for."""


def ops_config(ops: Mapping[str, Any] | None) -> dict[str, Any]:
    """The configuration of a workflow's assets, by name, as a run takes it."""
    return {"ops": {asset: {"config": config} for asset, config in (ops or {}).items()}}


def run_tags(workflow: str) -> dict[str, str]:
    """The tags of a run that considers the whole of what the workflow is about."""
    return every_shard() if workflow in SHARDED else {}


def whole_run(workflow: str, run_key: str | None = None) -> dg.RunRequest:
    """A request for one run over everything; `run_key` keeps a sensor from asking twice for the same."""
    return dg.RunRequest(run_key=run_key, job_name=workflow, tags=run_tags(workflow))
