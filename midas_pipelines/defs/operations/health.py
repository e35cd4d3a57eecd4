"""Alerts for failed assets and checks, late assets, stuck items, a gateway that is down.

The sensor reads Dagster's state, not its events: an alert that could not be written is written at the next tick.
"""

import re
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta

import dagster as dg

from midas_pipelines.defs.resources import shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.failed_work import failed_work
from midas_pipelines.lib.freshness import longest_ages
from midas_pipelines.lib.schedules import sensor_options
from midas_pipelines.settings import Settings, load_settings

NAME = "health_watch"
CHECK_FAILED = "check_failed"
"""The kind of alert about a check."""

MOST_NAMED = 10


def health_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor that maintains these alerts; it launches nothing."""

    @dg.sensor(**sensor_options(settings, NAME))
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now, repository = load_settings(), context.repository_def
        if repository is None:
            return dg.SkipReason("No definitions are loaded.")
        failed, unknown = failed_checks(context.instance, repository.asset_graph.asset_check_keys)
        late = late_assets(context.instance, longest_ages(now), time.time())
        work = failed_work(context.instance, repository, now.dagster_url)
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            engine.beat(database, engine.DAGSTER, watched=engine.GATEWAY)
            engine.report_stuck_items(database)
            with database.writing() as connection:
                engine.match_alerts(connection, kind=CHECK_FAILED, texts=failed, unknown=unknown)
                if not engine.open_subjects(connection, engine.NEEDS_KEY):  # else all of it has one cause
                    engine.match_alerts(connection, kind="asset_late", texts=late)
                    engine.report_failed_work(connection, work.texts, work.unknown)
        return dg.SkipReason(
            f"{len(work.texts)} workflows or assets and {len(failed)} checks fail, {len(late)} assets are late."
        )

    return watch


@dg.definitions
def health() -> dg.Definitions:
    """The sensor, by the settings of this process."""
    return dg.Definitions(sensors=[health_sensor(SETTINGS)])


def failed_checks(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]
) -> tuple[dict[str, str], set[str]]:
    """The ERROR checks whose latest result is a failure, each in words, and those with no result yet."""
    failed: dict[str, str] = {}
    unknown: set[str] = set()
    for key in keys:
        subject = f"{key.asset_key.to_user_string()}:{key.name}"
        record = instance.get_latest_asset_check_evaluation_record(key)
        event = record.event.dagster_event if record is not None and record.event is not None else None
        if record is not None and record.status.value == "PLANNED" and _died(instance, record.run_id):
            failed[subject] = f"Check {key.name} could not run: see run {record.run_id} in the Dagster UI."
        elif record is None or event is None or record.status.value == "PLANNED":
            unknown.add(subject)
        elif record.status.value == "FAILED":
            evaluation = event.asset_check_evaluation_data
            if evaluation.severity is dg.AssetCheckSeverity.ERROR:
                failed[subject] = in_words(evaluation)
    return failed, unknown


def _died(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status is dg.DagsterRunStatus.FAILURE


def in_words(evaluation: dg.AssetCheckEvaluation) -> str:
    """A failed check for people: how many, the worst by name, and what to do."""
    checked, count = (evaluation.metadata.get(name) for name in ("checked", "failed"))
    offenders, hint = evaluation.metadata.get("offenders"), evaluation.metadata.get("hint")
    named = (
        [_name(row) for row in offenders.records[:MOST_NAMED]]
        if isinstance(offenders, dg.TableMetadataValue)
        else []
    )
    parts = [
        f"Check {evaluation.check_name} of {evaluation.asset_key.to_user_string()} failed"
        + (f": {count.value}" if count and count.value else "")
        + (f" of {checked.value}." if count and count.value and checked else "."),
        f"The worst: {', '.join(named)}." if named else "",
        re.sub(r"\\(\W)", r"\1", evaluation.description or ""),  # escaped for the UI alone
        str(hint.value) if hint is not None else "",
    ]
    return " ".join(part for part in parts if part)


def _name(row: dg.TableRecord) -> str:
    known = next((name for name in ("sku", "order", "webhook") if name in row.data), None)
    return str(row.data[known] if known else next(iter(row.data.values()), ""))


def late_assets(instance: dg.DagsterInstance, longest: Mapping[str, timedelta], now: float) -> dict[str, str]:
    """The assets that were materialized before and are too old; `now` in seconds since 1970."""
    late = {}
    for name, allowed in longest.items():
        made = instance.get_latest_materialization_event(dg.AssetKey.from_user_string(name))
        if made is not None and now - made.timestamp > allowed.total_seconds():
            late[name] = (
                f"Asset {name} is late: the limit is {allowed}. See why its workflow does not run: `midas status`, or its "
                "schedule and last run in the Dagster UI."
            )
    return late
