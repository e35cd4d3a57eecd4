"""Alerts for failed runs and checks, late assets, stuck items, a gateway that is down.

`failure_alerts` reacts to each failed run. `health_watch` reads how things are now, and closes what is over.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import dagster as dg

from midas_pipelines.defs.resources import Expected, expected_in, shop
from midas_pipelines.lib import engine
from midas_pipelines.lib.partitions import is_of_our_location
from midas_pipelines.lib.schedules import sensor_options
from midas_pipelines.settings import load_settings
from midas_pipelines.workflows import WORKFLOWS

CHECK_FAILED, KEY_EXPIRES = "check_failed", "key"  # kinds of alerts
KEY_DAYS = 30  # days before its end at which staff hears of a key of the gateway
OF_ASSETS = "__ASSET_JOB"  # Dagster's own job for runs that name assets: a person's, or a backfill's
MOST_NAMED = 10
PARTITION = "dagster/partition"  # the tag of a run for one shard or day
MADE = {workflow.name: workflow.makes for workflow in WORKFLOWS}
ASKED_FOR = {asset for workflow in WORKFLOWS if workflow.kind for asset in workflow.makes}
"""The assets that are made by asking 4Seller."""


@dg.sensor(**sensor_options("health_watch"))
def health_watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Makes the open alerts match what is wrong now; it launches nothing.

    The cursor holds when a tick last reached the shop's database: of runs that failed since then some may have no alert.
    """
    began, repository = datetime.now(UTC), context.repository_def
    if repository is None:
        return dg.SkipReason("No definitions are loaded.")
    failed, unknown = failed_checks(context.instance, repository.asset_graph.asset_check_keys)
    late = late_assets(context.instance, repository.asset_graph.materializable_asset_keys)
    since = datetime.fromisoformat(context.cursor) if context.cursor else began
    ended = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    with shop(as_it_is=True) as database:
        if isinstance(database, dg.SkipReason):
            return database
        engine.alerts.beat(database, engine.alerts.DAGSTER, watched=engine.alerts.GATEWAY)
        explained = explained_by_key(database)
        missed: dict[str, str] = {}
        for record in context.instance.get_run_records(ended):  # the newest first
            missed = failure_texts(context.instance, repository, record.dagster_run, explained) | missed
        missed = {
            name: text for name, text in missed.items() if not works_again(context.instance, repository, name)
        }
        with database.writing() as connection:
            engine.alerts.match_alerts(connection, kind=CHECK_FAILED, texts=failed, unknown=unknown)
            expiring = engine.expiring_keys(connection, KEY_DAYS)
            engine.alerts.match_alerts(connection, kind=KEY_EXPIRES, texts=expiring)
            engine.alerts.report_failure(connection, missed)
            open_ones = engine.alerts.open_subjects(connection, engine.alerts.RUN_FAILED)
            assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
            removed = open_ones - assets - {*repository.job_names}
            engine.alerts.clear_alerts(connection, kind=engine.alerts.RUN_FAILED, subjects=removed)
            over = {name for name in open_ones - removed if works_again(context.instance, repository, name)}
            engine.alerts.report_recovery(connection, over)
            own = {name: text for name, text in late.items() if name not in explained}
            engine.alerts.match_alerts(connection, kind="asset_late", texts=own, unknown=late.keys() - own)
        context.update_cursor(began.isoformat())
        # the last: it reads the shop's tables, of which a column may be away
        engine.alerts.report_stuck(database)
    return dg.SkipReason(
        f"{len(open_ones - removed - over)} workflows or assets and {len(failed)} checks fail, {len(late)} assets are late."
    )


@dg.run_failure_sensor(monitor_all_code_locations=True, **sensor_options("failure_alerts"))
def failure_alerts(context: dg.RunFailureSensorContext) -> None:
    """Raises an alert about the run, also one of the command line.

    Where the shop's database is away the tick is red, and `health_watch` raises the alert once it is back.
    """
    with shop(as_it_is=True) as database:
        if isinstance(database, dg.SkipReason):
            raise dg.Failure(str(database.skip_message))
        if context.repository_def is None:
            return
        explained = explained_by_key(database)
        texts = failure_texts(context.instance, context.repository_def, context.dagster_run, explained)
        database.write(engine.alerts.report_failure, texts)


def explained_by_key(database: "engine.Database") -> set[str]:
    """The assets whose failures raise no alert of their own, for staff knows that 4Seller refuses the key."""
    return ASKED_FOR if database.read(engine.alerts.open_subjects, engine.NEEDS_KEY) else set()


def failure_texts(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    run: dg.DagsterRun,
    explained: set[str],
) -> dict[str, str]:
    """What staff reads of a failed run, by workflow or asset; nothing of one that Dagster tries again, of another
    code location, or of assets whose failure is explained."""
    retried = run.tags.get("dagster/will_retry") == "true"
    if retried or not _is_ours(repository, run):
        return {}
    own = [name for name in _failed(instance, repository, run) if not explained & {name, *MADE.get(name, ())}]
    return {name: _run_in_words(instance, name, run) for name in own}


def works_again(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, name: str) -> bool:
    """Whether that workflow's last run succeeded, or the last run for that asset made it, and no partition of it is failed
    or under way."""
    if name in repository.job_names:
        newest = instance.get_runs(dg.RunsFilter(job_name=name), limit=10)
        runs = [run for run in newest if _is_ours(repository, run)]
        return bool(runs) and runs[0].status is dg.DagsterRunStatus.SUCCESS
    records = instance.get_asset_records([dg.AssetKey.from_user_string(name)])
    entries = [(one.asset_entry.last_materialization, one.asset_entry.last_run_id) for one in records]
    made = all(event is not None and event.run_id == run_id for event, run_id in entries)
    return made and _is_whole(instance, repository, name)


def _is_ours(repository: dg.RepositoryDefinition, run: dg.DagsterRun) -> bool:
    """Whether the run is of this code location and of a job that there is still."""
    return is_of_our_location(run) and run.job_name in repository.job_names


def _is_whole(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, asset: str) -> bool:
    """Whether no partition of the asset is failed or under way."""
    key = dg.AssetKey.from_user_string(asset)
    partitions = repository.asset_graph.get(key).partitions_def if repository.asset_graph.has(key) else None
    if partitions is None:
        return True
    stored = instance.get_status_by_partition(key, partitions.get_partition_keys(), partitions) or {}
    return all(state is None or state.value not in ("FAILED", "IN_PROGRESS") for state in stored.values())


def _failed(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, run: dg.DagsterRun
) -> set[str]:
    """What failed: the workflow, of a run for one partition the assets that have partitions, and of a run for chosen
    assets those that it did not make."""
    by_hand = run.job_name == OF_ASSETS
    if not by_hand and PARTITION not in run.tags:
        return {run.job_name}
    chosen = repository.asset_graph.materializable_asset_keys & (run.asset_selection or set())
    assets = [key.to_user_string() for key in chosen] or MADE.get(run.job_name, ())
    is_well = works_again if by_hand else _is_whole
    failed = {asset for asset in assets if not is_well(instance, repository, asset)}
    return failed or {run.job_name} - {OF_ASSETS}


def _run_in_words(instance: dg.DagsterInstance, name: str, run: dg.DagsterRun) -> str:
    """What failed, why, and where to look. An error that was not expected may hold a row of the shop's in its text,
    and stays in Dagster."""
    failures: dict[str, Expected | None] = {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is not None and event.step_key is not None:
            failures[event.step_key.replace("__", "/")] = expected_in(event)
    started = f"The workflow {run.job_name}" if run.job_name != OF_ASSETS else "A run of assets"
    where = f" at {', '.join(failures)}" if {*failures} - {run.job_name} else ""
    part = f", partition {run.tags[PARTITION]}" if PARTITION in run.tags else ""
    known = failures.get(name) or next(iter(failures.values()), None)
    why = known.reason if known is not None else "Its error is in Dagster."
    url = load_settings().dagster_url
    place = f"{url}/runs/{run.run_id}" if url else f"run {run.run_id}"
    return f"{started} failed{where}{part}. {why} See {place} in the Dagster UI."


def failed_checks(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> tuple[dict[str, str], set[str]]:
    """The ERROR checks whose latest result is a failure, each in words, and those with no result: their run failed,
    and has its own alert."""
    failed: dict[str, str] = {}
    unknown: set[str] = set()
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    for key in keys:
        subject, record = f"{key.asset_key.to_user_string()}:{key.name}", latest.get(key)
        event = record.event.dagster_event if record is not None and record.event is not None else None
        if record is None or event is None or record.status.value == "PLANNED":
            unknown.add(subject)
        elif record.status.value == "FAILED":
            evaluation = event.asset_check_evaluation_data
            if evaluation.severity is dg.AssetCheckSeverity.ERROR:
                failed[subject] = in_words(evaluation)
    return failed, unknown


def in_words(evaluation: dg.AssetCheckEvaluation) -> str:
    """A failed check for people: how many, the worst by name, and what to do."""
    known = {name: value.value for name, value in evaluation.metadata.items()}
    offenders = evaluation.metadata.get("offenders")
    rows = offenders.records[:MOST_NAMED] if isinstance(offenders, dg.TableMetadataValue) else []
    count = f": {known['failed']}" if known.get("failed") else ""
    of = f" of {known['checked']}" if count and "checked" in known else ""
    parts = [
        f"Check {evaluation.check_name} of {evaluation.asset_key.to_user_string()} failed{count}{of}.",
        f"The worst: {', '.join(map(_name, rows))}." if rows else "",
        re.sub(r"\\(\W)", r"\1", evaluation.description or ""),  # escaped for the UI alone
        str(known.get("hint", "")),
    ]
    return " ".join(part for part in parts if part)


def _name(row: dg.TableRecord) -> str:
    known = next((name for name in ("sku", "order", "webhook") if name in row.data), None)
    return str(row.data[known] if known else next(iter(row.data.values()), ""))


def late_assets(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> dict[str, str]:
    """The assets that are older than their freshness policy allows, as Dagster's daemon last found; each in words."""
    states = instance.get_freshness_state_records(list(keys))
    late = [key.to_user_string() for key, found in states.items() if found.freshness_state.value == "FAIL"]
    return {
        name: f"Asset {name} is older than its freshness policy allows. See why its workflow does not run: `midas status`, "
        "or its schedule and last run in the Dagster UI."
        for name in late
    }
