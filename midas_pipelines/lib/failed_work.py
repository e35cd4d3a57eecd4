"""What Dagster failed at last and has not done since, read from its state: no cursor that could get ahead of an alert."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import dagster as dg

OF_ASSETS = "__ASSET_JOB"
"""Dagster's own job for runs that name assets: a person's, or a backfill's."""

RETRY_SECONDS = 600
"""Within this a run that Dagster wants to try again has a successor, or will not get one."""

MOST_NAMED, RUNS_SEARCHED = 5, 100


@dataclass
class FailedWork:
    """What failed in words, by asset, check or workflow; and what is under way, so that nothing is known of it yet."""

    texts: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)


def failed_work(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, url: str | None
) -> FailedWork:
    """Reads which jobs failed at last, and which shards and days failed and have not been made since.

    Args:
        instance: Dagster's history.
        repository: what is defined now.
        url: where the Dagster UI is, for links.
    """
    found = FailedWork()
    for job in {*repository.job_names, OF_ASSETS}:
        for record in _newest(instance, job):
            run = record.dagster_run
            if _is_open(record):
                found.unknown.add(job)
            elif run.status is dg.DagsterRunStatus.FAILURE and not _names_partitions(run):
                failures = _failures(instance, run)
                reason = next(iter(failures.values()), "")
                found.texts[job] = _in_words(job, ", ".join(failures), [], reason, run, url)
    for key in repository.asset_graph.executable_asset_keys:
        partitions = repository.asset_graph.get(key).partitions_def
        if partitions is not None:
            _read_partitions(found, instance, key, partitions, url)
    return found


def _read_partitions(
    found: FailedWork,
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    partitions: dg.PartitionsDefinition,
    url: str | None,
) -> None:
    name = key.to_user_string()
    stored = instance.get_status_by_partition(key, partitions.get_partition_keys(), partitions) or {}
    states = {partition: state.value for partition, state in stored.items() if state is not None}
    failed = [partition for partition, state in states.items() if state == "FAILED"]
    if "IN_PROGRESS" in states.values():
        found.unknown.add(name)
    elif failed and (last := _last_failed(instance, key)) is not None:
        failures = _failures(instance, last)
        reason = failures.get(name) or next(iter(failures.values()), "")
        found.texts[name] = _in_words(name, name, failed, reason, last, url)


def _last_failed(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.DagsterRun | None:
    """The newest failed run in which that asset was to be made."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=RUNS_SEARCHED):
        if _names_partitions(run) and (not run.asset_selection or key in run.asset_selection):
            return run
    return None


def _names_partitions(run: dg.DagsterRun) -> bool:
    """Whether the run was for named partitions, whose own states say what failed."""
    return bool(run.tags.keys() & {"dagster/partition", "dagster/asset_partition_range_start"})


def _newest(instance: dg.DagsterInstance, job: str) -> Iterable[dg.RunRecord]:
    return instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)


def _is_open(record: dg.RunRecord) -> bool:
    """Whether the run, or the retry that Dagster starts in its place, may still succeed."""
    run = record.dagster_run
    if run.status is dg.DagsterRunStatus.FAILURE:
        wants_retry = run.tags.get("dagster/will_retry") == "true"
        return wants_retry and time.time() - (record.end_time or 0) < RETRY_SECONDS
    return run.status is not dg.DagsterRunStatus.SUCCESS


def _failures(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, str]:
    """The assets whose steps failed, each with its reason in a sentence.

    Any error but an expected one may hold a row of the shop's in its text: it stays in Dagster.
    """
    found = {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is not None and event.step_key is not None:
            data = event.step_failure_data.user_failure_data
            found[event.step_key.replace("__", "/")] = (data.description if data is not None else None) or ""
    return found


def _in_words(
    name: str, steps: str, partitions: list[str], reason: str, run: dg.DagsterRun, url: str | None
) -> str:
    """What failed, why, and where to look."""
    started = f"The workflow {run.job_name}" if run.job_name != OF_ASSETS else "A run of assets"
    where = f" at {steps}" if steps and steps != run.job_name else ""
    more = f" and {len(partitions) - MOST_NAMED} more" if len(partitions) > MOST_NAMED else ""
    parts = f", partitions {', '.join(partitions[:MOST_NAMED])}{more}" if partitions else ""
    place = f"{url}/runs/{run.run_id}" if url else f"run {run.run_id}"
    why = reason or "Its error is in Dagster."
    return f"{started} failed{where}{parts}. {why} See {place} in the Dagster UI."
