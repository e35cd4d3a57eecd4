"""Alerts for what no run reports: failed checks, late assets, stuck items, a gateway that is down.

Checks only read; this sensor turns their latest results into alerts, and clears those that pass again.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta

import dagster as dg

from midas_pipelines.lib import engine
from midas_pipelines.lib.freshness import longest_ages
from midas_pipelines.lib.shop import shop
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings, load_settings

NAME = "health_watch"
MOST_NAMED = 10


def health_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor that maintains these alerts; it launches nothing."""
    on = settings.is_automatic(NAME)

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        description="Raises an alert for each failed check, late asset and dead worker; clears it when it is resolved. "
        + entry(settings, NAME).in_words,
        metadata=shown(settings, NAME),
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:

        keys = context.repository_def.asset_graph.asset_check_keys if context.repository_def else []
        failed, unknown = failed_checks(context.instance, keys)
        late = late_assets(context.instance, longest_ages(load_settings()), time.time())
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            engine.beat(database, engine.DAGSTER, watched=engine.GATEWAY)
            engine.report_stuck_items(database)
            with database.writing() as connection:
                engine.match_alerts(connection, kind="check_failed", texts=failed, unknown=unknown)
                engine.match_alerts(connection, kind="asset_late", texts=late)
        return dg.SkipReason(f"{len(failed)} checks fail, {len(late)} assets are late.")

    return watch


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
        if record is None or event is None or record.status.value == "PLANNED":
            unknown.add(subject)
        elif record.status.value == "FAILED":
            evaluation = event.asset_check_evaluation_data
            if evaluation.severity is dg.AssetCheckSeverity.ERROR:
                failed[subject] = in_words(evaluation)
    return failed, unknown


def in_words(evaluation: dg.AssetCheckEvaluation) -> str:
    """A failed check for people: how many, the worst by name, and what to do."""
    counts = [f"{v.value} {k}" for k, v in evaluation.metadata.items() if isinstance(v, dg.IntMetadataValue)]
    offenders, hint = evaluation.metadata.get("offenders"), evaluation.metadata.get("hint")
    named = (
        [_name(row) for row in offenders.records[:MOST_NAMED]]
        if isinstance(offenders, dg.TableMetadataValue)
        else []
    )
    parts = [
        f"Check {evaluation.check_name} of {evaluation.asset_key.to_user_string()} failed"
        + (f": {counts[0]}." if counts else "."),
        f"The worst: {', '.join(named)}." if named else "",
        evaluation.description or "",
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
