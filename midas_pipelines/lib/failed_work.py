"""What Dagster failed at last and has not done since, read from its state: no cursor that could get ahead of an alert."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

OF_ASSETS = "__ASSET_JOB"
"""Dagster's own job for runs that name assets: a person's, or a backfill's."""

RETRY_SECONDS = 600
"""Within this a run that Dagster wants to try again has a successor, or will not get one."""

MOST_NAMED = 5


@dataclass
class FailedWork:
    """What failed in words, by asset, check or workflow; and what is under way, so that nothing is known of it yet."""

    texts: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Suspect:
    """The last run of what may have failed, its failed partitions, and whether some are under way."""

    run_id: str
    partitions: list[str] = field(default_factory=list)
    is_open: bool = False


def failed_work(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, jobs: Iterable[str], url: str | None
) -> FailedWork:
    """Reads which assets, and which jobs that make no assets, failed and have not succeeded since, in whatever run.

    Args:
        instance: Dagster's history.
        repository: what is defined now.
        jobs: the jobs without assets.
        url: where the Dagster UI is, for links.
    """
    found, graph = FailedWork(), repository.asset_graph
    suspects = {job: Suspect(run.dagster_run.run_id) for job in jobs for run in _newest(instance, job)}
    for record in instance.get_asset_records(list(graph.executable_asset_keys)):
        partitions = graph.get(record.asset_entry.asset_key).partitions_def
        if suspect := _suspect(instance, record.asset_entry, partitions):
            suspects[record.asset_entry.asset_key.to_user_string()] = suspect
    ids = {suspect.run_id for suspect in suspects.values()}
    records = instance.get_run_records(dg.RunsFilter(run_ids=sorted(ids))) if ids else []
    runs = {record.dagster_run.run_id: record for record in records}
    blocked: dict[str, tuple[set[str], str]] = {}
    for name, suspect in suspects.items():
        last = runs.get(suspect.run_id)
        if last is None:
            continue  # deleted since
        if suspect.is_open or _is_open(last):
            found.unknown.add(name)
        elif suspect.partitions or last.dagster_run.status is dg.DagsterRunStatus.FAILURE:
            failures = _failures(instance, last.dagster_run)
            if name in failures or not failures or name == last.dagster_run.job_name:
                reasons = failures.get(name) or next(iter(failures.values()), "")
                found.texts[name] = _in_words(name, suspect.partitions, reasons, last.dagster_run, url)
            else:
                found.unknown.add(name)  # it was not tried, since something before it failed
                words = _in_words(
                    name, suspect.partitions, next(iter(failures.values())), last.dagster_run, url
                )
                blocked[name] = set(failures), words
    for name, (before, words) in blocked.items():
        if not before & (found.texts.keys() | found.unknown):  # that works again, and this was not made since
            found.texts[name] = words
            found.unknown.discard(name)
    return found


def _suspect(
    instance: dg.DagsterInstance, entry: Any, partitions: dg.PartitionsDefinition | None
) -> Suspect | None:
    """The last run of an asset that did not make it, or of one with failed partitions; None for a sound one."""
    if entry.last_run_id is None:
        return None
    if partitions is None:
        made = entry.last_materialization
        return None if made is not None and made.run_id == entry.last_run_id else Suspect(entry.last_run_id)
    names = partitions.get_partition_keys()
    found = instance.get_status_by_partition(entry.asset_key, names, partitions) or {}
    states = {name: state.value for name, state in found.items() if state is not None}
    failed = [name for name, state in states.items() if state == "FAILED"]
    is_open = "IN_PROGRESS" in states.values()
    return Suspect(entry.last_run_id, failed, is_open) if failed or is_open else None


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


def _in_words(name: str, partitions: list[str], reason: str, run: dg.DagsterRun, url: str | None) -> str:
    """What failed, why, and where to look."""
    started = f"The workflow {run.job_name}" if run.job_name != OF_ASSETS else "A run of assets"
    where = f" at {name}" if name != run.job_name else ""
    more = f" and {len(partitions) - MOST_NAMED} more" if len(partitions) > MOST_NAMED else ""
    parts = f", partitions {', '.join(partitions[:MOST_NAMED])}{more}" if partitions else ""
    place = f"{url}/runs/{run.run_id}" if url else f"run {run.run_id}"
    why = reason or "Its error is in Dagster."
    return f"{started} failed{where}{parts}. {why} See {place} in the Dagster UI."
