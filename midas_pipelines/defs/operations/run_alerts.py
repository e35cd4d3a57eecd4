"""Alerts staff once when something fails, and once when it recovers.

Dagster's own run status sensors advance even if the alert could not be written. This one keeps its own cursor and
advances it only once the alerts are written, so that nothing is lost while the shop's database is down.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import BaseModel, ValidationError

from midas_pipelines.lib import engine
from midas_pipelines.lib.runs.failure_messages import failure_in_words, names_in_words, recovery
from midas_pipelines.lib.runs.failures import Failure, exists, is_tried_again, read_failure, works_again
from midas_pipelines.lib.shop import shop
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

RUN_FAILED, RECOVERED = "run_failed", "run_recovered"
NAME = "run_failure_alerts"
OVERLAP_SECONDS = 120
"""How far before the newest failure to read again: an older failure may be written later."""
AT_ONCE = 100
"""Failures handled in one tick, which must end within a minute; the rest follow in the next."""
MOST_READ = 10_000

OpenFailures = dict[str, dict[str, float]]
"""What is failed now: each thing with its partitions, and when each last failed."""


class Place(BaseModel):
    """The sensor's cursor."""

    read_to: float  # seconds since 1970
    seen: dict[str, float] = {}  # the failed runs since shortly before then
    open_failures: OpenFailures = {}


def run_alert_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor that reports failures and recoveries."""
    on = settings.is_automatic(NAME)

    @dg.sensor(
        name=NAME,
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=15,
        description="Raises one alert for each asset that fails and is not retried, and one when it recovers. "
        + entry(settings, NAME).in_words,
        metadata=shown(settings, NAME),
    )
    def run_failure_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        place = read_place(context.cursor)
        if place is None:
            return _moved(Place(read_to=time.time()), "Failures are reported from now on.")
        ended = _ended_badly(context.instance, place)
        failures = [found for found in ended if not is_tried_again(context.instance, found.run)]
        known = _existing(context, with_failures(place.open_failures, failures))
        left = _still_failed(context.instance, known)
        moved = further(place, ended, left)
        if not failures and left.keys() == place.open_failures.keys():
            return _moved(moved, _summary(left))
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            with database.writing() as connection:
                _write_alerts(connection, place.open_failures, known, left, failures)
        return _moved(moved, f"{_summary(left)} Alerts for what changed were written.")

    return run_failure_alerts


def read_place(cursor: str | None) -> Place | None:
    """The stored cursor; None before the first tick and where it cannot be read."""
    try:
        return Place.model_validate_json(cursor) if cursor else None
    except ValidationError:
        return None


def with_failures(open_failures: OpenFailures, failures: Iterable[Failure]) -> OpenFailures:
    """What is failed after these failures too."""
    found = {thing: dict(failed) for thing, failed in open_failures.items()}
    for failure in failures:
        for thing, partitions in failure.things.items():
            found.setdefault(thing, {}).update(dict.fromkeys(partitions, failure.at))
    return found


def further(place: Place, ended: Iterable[Failure], open_failures: OpenFailures) -> Place:
    """The cursor after these runs; it remembers the latest, which will be read again."""
    seen = place.seen | {found.run.run_id: found.at for found in ended}
    read_to = max([place.read_to, *seen.values()])
    recent = {run_id: at for run_id, at in seen.items() if at > read_to - OVERLAP_SECONDS}
    return Place(read_to=read_to, seen=recent, open_failures=open_failures)


def _ended_badly(instance: dg.DagsterInstance, place: Place) -> list[Failure]:
    """The runs that failed and were not seen yet, oldest first."""
    wanted = dg.RunStatusChangeRecordsFilter(
        dg.DagsterEventType.RUN_FAILURE, after_timestamp=place.read_to - OVERLAP_SECONDS
    )
    found = instance.fetch_run_status_changes(wanted, limit=MOST_READ, ascending=True).records
    new = {one.run_id: one.timestamp for one in found if one.run_id not in place.seen}
    failures = []
    for run_id, at in list(new.items())[:AT_ONCE]:
        run = instance.get_run_by_id(run_id)
        if run is not None:
            failures.append(read_failure(instance, run, at))
    return failures


def _existing(context: dg.SensorEvaluationContext, open_failures: OpenFailures) -> OpenFailures:
    """Drops what no longer exists, such as a shard after `MIDAS_SHARDS` was lowered: it could never recover."""
    repository = context.repository_def
    if repository is None:
        return open_failures
    return _kept(open_failures, lambda thing, partition, _: exists(repository, thing, partition))


def _still_failed(instance: dg.DagsterInstance, open_failures: OpenFailures) -> OpenFailures:
    """Drops the partitions that have succeeded since; a thing recovers when all of its partitions have."""
    return _kept(open_failures, lambda thing, partition, at: not works_again(instance, thing, partition, at))


def _kept(open_failures: OpenFailures, keep: Callable[[str, str, float], bool]) -> OpenFailures:
    kept = {
        thing: {partition: at for partition, at in failed.items() if keep(thing, partition, at)}
        for thing, failed in open_failures.items()
    }
    return {thing: failed for thing, failed in kept.items() if failed}


def _write_alerts(
    connection: "sa.Connection",
    before: OpenFailures,
    known: OpenFailures,
    left: OpenFailures,
    failures: list[Failure],
) -> None:
    """Writes the alerts for what was failed `before`, is failed with these failures (`known`), and is `left`."""
    new = known.keys() - before.keys()
    well = known.keys() - left.keys()
    url = load_settings().dagster_url
    texts_of_new = {thing: failure_in_words(thing, failures, url) for thing in new}
    # Also new ones: their alert may be open since before the cursor was reset.
    engine.clear_alerts(connection, kind=RUN_FAILED, subjects=sorted((before.keys() - left.keys()) | new))
    engine.clear_alerts(connection, kind=RECOVERED, subjects=sorted(new | well))
    engine.raise_alerts(
        connection, kind=RUN_FAILED, texts={thing: texts_of_new[thing] for thing in new - well}
    )
    texts = {thing: recovery(thing, known[thing], texts_of_new.get(thing)) for thing in well}
    engine.raise_alerts(connection, kind=RECOVERED, texts=texts)


def _moved(place: Place, why: str) -> dg.SensorResult:
    return dg.SensorResult(cursor=place.model_dump_json(), skip_reason=why)


def _summary(open_failures: OpenFailures) -> str:
    if not open_failures:
        return "Nothing is failed."
    return f"Still failed: {', '.join(names_in_words(thing) for thing in sorted(open_failures))}."
