"""Alert texts for failures and recoveries: what happened and where to look."""

from collections.abc import Collection, Iterable

import dagster as dg

from midas_pipelines.lib.runs.failures import CHECK, WORKFLOW, Failure

OF_ASSETS = "__ASSET_JOB"
"""Dagster's own job for runs that name assets: a person's, a backfill's, or those of automation conditions."""
MOST_NAMED = 5


def failure_in_words(thing: str, failures: Iterable[Failure], dagster_url: str | None) -> str:
    """What failed, why, and where to look. Of several failed runs, the first one's reason is shown."""
    about = [failure for failure in failures if thing in failure.things]
    partitions = {name for failure in about for name in failure.things[thing]}
    where = f" at {names_in_words(thing)}{_of(partitions)}" if not thing.startswith(f"{WORKFLOW}:") else ""
    why = " ".join(about[0].reasons) or "Its error is in Dagster."
    return f"{_started_by(about[0].run)} failed{where}. {why} {_look(about[0].run.run_id, dagster_url)}"


def recovery(thing: str, partitions: Collection[str], unsent: str | None) -> str:
    """The recovery text; `unsent` is the text of a failure that was not sent to staff yet."""
    every = " in all that had failed" if len(partitions) > 1 else ""
    text = f"{names_in_words(thing)} works again{every}."
    text = text[0].upper() + text[1:] if thing.startswith((f"{WORKFLOW}:", f"{CHECK}:")) else text
    return f"{unsent} Since then: {text}" if unsent else text


def names_in_words(thing: str) -> str:
    """The thing as a person calls it."""
    kind, _, name = thing.partition(":")
    if kind == CHECK:
        asset, _, check = name.partition(":")
        return f"the check {check} of {asset}"
    return f"the workflow {name}" if kind == WORKFLOW else name


def _of(partitions: Collection[str]) -> str:
    named = sorted(set(partitions) - {""})
    if len(named) < 2:
        return "".join(f", partition {name}" for name in named)
    if len(named) <= MOST_NAMED:
        return f", partitions {', '.join(named)}"
    return f", {len(named)} partitions from {named[0]} to {named[-1]}"


def _started_by(run: dg.DagsterRun) -> str:
    if run.job_name != OF_ASSETS:
        return f"The workflow {run.job_name}"
    if "dagster/backfill" in run.tags:
        return "A backfill"
    sensor = run.tags.get("dagster/sensor_name")
    return f"A run of {sensor}" if sensor else "A run started by hand"


def _look(run_id: str, dagster_url: str | None) -> str:
    if dagster_url is None:
        return f"See run {run_id} in the Dagster UI."
    return f"See {dagster_url}/runs/{run_id} in the Dagster UI."
