"""The workflows and how a run of each is asked for: by a schedule, a sensor or the command line, all in the same way."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from midas_pipelines.defs.shards import every_shard

SHARDED = {"full_sync", "incremental_sync", "consistency_check"}
"""Workflows whose runs say which shards they are for."""

LISTINGS_CONFIG = {"full_sync": {"full": True}, "incremental_sync": {"full": False}}


def ops_config(workflow: str, ops: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of a workflow's assets: `ops` where given, the workflow's own otherwise."""
    if ops is None and workflow in LISTINGS_CONFIG:
        ops = {"fourseller_listings": LISTINGS_CONFIG[workflow]}
    return {"ops": {asset: {"config": config} for asset, config in (ops or {}).items()}}


def run_tags(workflow: str) -> dict[str, str]:
    """The tags of a run that considers the whole of what the workflow is about."""
    return every_shard() if workflow in SHARDED else {}


def whole_run(workflow: str, run_key: str | None = None) -> dg.RunRequest:
    """A request for one run over everything; `run_key` keeps a sensor from asking twice for the same."""
    return dg.RunRequest(
        run_key=run_key, job_name=workflow, run_config=ops_config(workflow), tags=run_tags(workflow)
    )
