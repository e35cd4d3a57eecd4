"""Running a Dagster job in this process, and reading back what the engine recorded of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dagster as dg

from midas_pipelines.cli.opening import DATABASE_MODULES, database_sentence
from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.health import in_words
from midas_pipelines.defs.resources import expected_in
from midas_pipelines.lib.partitions import COMMAND_LINE, DRIVER_TAG, LOCATION, LOCATION_TAG, ops_config

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's own event log belongs in its UI; a command prints its result alone."""

PLACE = {
    LOCATION_TAG: LOCATION,
    ".dagster/repository": f"__repository__@{LOCATION}",
    DRIVER_TAG: COMMAND_LINE,
}
"""Tags by which Dagster's page of a job finds the runs that were executed here, and what launched them."""


@dataclass(frozen=True)
class Run:
    """A finished run of a job."""

    result: dg.ExecuteInProcessResult
    failure: str | None  # the sentence for a person
    exit_code: int

    @property
    def checks(self) -> Sequence[dg.AssetCheckEvaluation]:
        """What its checks found."""
        return self.result.get_asset_check_evaluations()

    @property
    def broken(self) -> list[str]:
        """The checks of severity ERROR that failed, in words."""
        failed = (check for check in self.checks if not check.passed)
        return [in_words(check) for check in failed if check.severity is dg.AssetCheckSeverity.ERROR]


def run_job(name: str, ops: dict[str, Any] | None = None) -> Run:
    """Executes the job with this configuration of its assets; recorded in Dagster's history when DAGSTER_HOME is
    set."""
    job = defs.resolve_job_def(name)
    run_config: dict[str, Any] = QUIET | ops_config(ops)
    instance = _instance(os.environ.get("DAGSTER_HOME"))
    result = job.execute_in_process(
        instance=instance, run_config=run_config, tags=PLACE, raise_on_error=False
    )
    return Run(result, *_failure(result))


@cache  # to open one takes longer than a short run
def _instance(home: str | None) -> dg.DagsterInstance:
    return dg.DagsterInstance.get() if home else dg.DagsterInstance.ephemeral()


def _failure(result: dg.ExecuteInProcessResult) -> tuple[str | None, int]:
    for event in result.all_events:
        if event.is_step_failure:
            if (expected := expected_in(event)) is not None:
                return expected.reason, expected.exit_code
            error = event.step_failure_data.error
            cause = error.cause or error if error is not None else None
            if cause is not None and cause.message.startswith(DATABASE_MODULES):
                return database_sentence(str(cause.cls_name)), 1
            return (cause.message.strip() if cause is not None else "The run failed."), 1
    return (None, 0) if result.success else ("The run failed; see it in the Dagster UI.", 1)
