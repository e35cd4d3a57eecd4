"""What a failed run failed at: its assets with their partitions, its checks, or the run as a whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import dagster as dg

from midas_pipelines.errors import ExpectedError

WILL_RETRY = "dagster/will_retry"
ASSET, CHECK, WORKFLOW = "asset", "check", "workflow"
Things = dict[str, set[str]]
"""What failed, such as `asset:order_poll`, and of it which partitions; the empty one for what has none."""

_TYPE = dg.DagsterEventType
_PLANNED = {_TYPE.ASSET_MATERIALIZATION_PLANNED, _TYPE.ASSET_CHECK_EVALUATION_PLANNED}
_DONE = {_TYPE.ASSET_MATERIALIZATION, _TYPE.ASSET_CHECK_EVALUATION}


@dataclass
class Failure:
    """A run that failed for good, for people."""

    run: dg.DagsterRun
    at: float  # seconds since 1970
    things: Things = field(default_factory=dict)
    reasons: tuple[str, ...] = ()  # sentences; empty where only Dagster may show the error


def read_failure(instance: dg.DagsterInstance, run: dg.DagsterRun, at: float) -> Failure:
    """What Dagster's event log says about that run."""
    events = instance.all_logs(run.run_id, of_type=_PLANNED | _DONE | {_TYPE.STEP_FAILURE})
    logged = [entry.dagster_event for entry in events if entry.dagster_event is not None]
    return Failure(run, at, failed_things(run.job_name, logged), tuple(dict.fromkeys(_reasons(logged))))


def failed_things(job_name: str, events: Iterable[dg.DagsterEvent]) -> Things:
    """The assets of the steps that failed, and the checks that are steps of their own.

    Where no step failed, since the process died or never started: the assets that it had yet to make. The workflow
    itself where it makes none.
    """
    logged = list(events)
    steps = {event.step_key for event in logged if event.event_type is _TYPE.STEP_FAILURE}
    done = {named for event in logged if event.event_type in _DONE for named in _named(event)}
    planned = [
        (event.step_key, named) for event in logged if event.event_type in _PLANNED for named in _named(event)
    ]
    failed = [named for step, named in planned if (step in steps if steps else named not in done)]
    assets = [named for named in failed if named[0].startswith(f"{ASSET}:")]
    things: Things = {}
    for thing, partition in assets or failed or [(f"{WORKFLOW}:{job_name}", "")]:
        things.setdefault(thing, set()).add(partition)
    return things


def _named(event: dg.DagsterEvent) -> Iterator[tuple[str, str]]:
    if event.event_type is _TYPE.ASSET_CHECK_EVALUATION_PLANNED:
        planned = event.asset_check_planned_data
        yield _check(planned.asset_key, planned.check_name), ""
    elif event.event_type is _TYPE.ASSET_CHECK_EVALUATION:
        found = event.asset_check_evaluation_data
        yield _check(found.asset_key, found.check_name), ""
    elif event.asset_key is not None:
        yield f"{ASSET}:{event.asset_key.to_user_string()}", event.partition or ""


def _check(asset_key: dg.AssetKey, name: str) -> str:
    return f"{CHECK}:{asset_key.to_user_string()}:{name}"


def _reasons(events: Iterable[dg.DagsterEvent]) -> Iterator[str]:
    """The sentences that steps failed with. Any other error's text may hold a row of the shop's: it stays in Dagster."""
    for event in events:
        if event.event_type is _TYPE.STEP_FAILURE and (expected := expected_in(event)) is not None:
            yield expected[0]


def failure_of(error: ExpectedError) -> dg.Failure:
    """The failure that ends a step for an expected error; not retried, the next tick tries again."""
    from midas_pipelines.sync.operations.formatting import plain

    facts = {
        "reason": dg.MetadataValue.text(str(error)),
        "exit_code": dg.MetadataValue.int(error.exit_code),
    }
    return dg.Failure(
        plain(str(error)), metadata=facts, allow_retries=False
    )  # the UI renders the description


def expected_in(event: dg.DagsterEvent) -> tuple[str, int] | None:
    """The sentence and the exit code of the expected error that a step failed with; None for any other error."""
    data = event.step_failure_data.user_failure_data
    if data is None or "reason" not in data.metadata:
        return None
    return str(data.metadata["reason"].value), int(str(data.metadata["exit_code"].value))


def is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether Dagster starts another run in place of this one.

    The tag alone does not say so: of a backfill that has ended, no run is tried again, whatever its tags.
    """
    backfill_id = run.tags.get("dagster/backfill")
    backfill = instance.get_backfill(backfill_id) if backfill_id else None
    over = backfill is not None and backfill.status.value != "REQUESTED"
    return run.tags.get(WILL_RETRY) == "true" and not over


def exists(repository: dg.RepositoryDefinition, thing: str, partition: str) -> bool:
    """Whether that thing is still defined, with that partition."""
    kind, _, name = thing.partition(":")
    graph = repository.asset_graph
    if kind == WORKFLOW:
        return repository.has_job(name)
    if kind == CHECK:
        return _check_key(name) in graph.asset_check_keys
    key = dg.AssetKey.from_user_string(name)
    if not partition or not graph.has(key):
        return graph.has(key)
    partitions = graph.get(key).partitions_def
    return partitions is not None and partitions.has_partition_key(partition)


def works_again(instance: dg.DagsterInstance, thing: str, partition: str, since: float) -> bool:
    """Whether Dagster has seen that very thing succeed after that moment, in whatever run."""
    kind, _, name = thing.partition(":")
    match kind:
        case "asset":
            wanted = dg.AssetRecordsFilter(
                dg.AssetKey.from_user_string(name), [partition] if partition else None, after_timestamp=since
            )
            return bool(instance.fetch_materializations(wanted, limit=1).records)
        case "check":
            record = instance.get_latest_asset_check_evaluation_record(_check_key(name))
            return (
                record is not None and record.status.value != "PLANNED"
            )  # which it stays when its step fails
        case _:
            return _has_succeeded(instance, name, since)


def _has_succeeded(instance: dg.DagsterInstance, job_name: str, since: float) -> bool:
    wanted = dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.SUCCESS])
    return any((record.end_time or 0) > since for record in instance.get_run_records(wanted, limit=1))


def _check_key(name: str) -> dg.AssetCheckKey:
    asset, _, check = name.partition(":")
    return dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), check)
