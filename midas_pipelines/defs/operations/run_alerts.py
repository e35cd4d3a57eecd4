"""Telling staff what fails, once, and that it works again, once.

Dagster's own sensors of a run's status move on whether or not the telling worked. This one keeps its place itself: it
moves on only when the alerts are written, so that nothing is lost while the shop's database is away.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import BaseModel, ValidationError

from midas_pipelines.lib.runs.failure_messages import failure_in_words, names_in_words, recovery
from midas_pipelines.lib.runs.failures import Failure, exists, is_tried_again, read_failure, works_again
from midas_pipelines.lib.shop import shop
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

RUN_FAILED, RECOVERED = "run_failed", "run_recovered"
NAME = "tell_of_failures"
OVERLAP_SECONDS = 120
"""How far before the newest failure is read again: one may be written later than another that is newer."""
AT_ONCE = 100
"""Failures taken up in one tick, for a tick has to end within a minute; the rest follow in the next."""
MOST_READ = 10_000

Standing = dict[str, dict[str, float]]
"""What stands failed: each thing with its partitions, and when each of them failed last."""


class Place(BaseModel):
    """Where the sensor is, kept by Dagster from tick to tick."""

    read_to: float  # seconds since 1970
    seen: dict[str, float] = {}  # the failed runs since shortly before then
    standing: Standing = {}


def run_alert_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor that tells of failures and of recoveries."""
    on = settings.runs_by_itself(NAME)

    @dg.sensor(
        name=NAME,
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=15,
        description="Raises one alert for each asset that fails and is not tried again; tells once that it works again. "
        + entry(settings, NAME).in_words,
        metadata=shown(settings, NAME),
    )
    def tell_of_failures(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        place = read_place(context.cursor)
        if place is None:
            return _moved(Place(read_to=time.time()), "Failures are told of from now on.")
        ended = _ended_badly(context.instance, place)
        failures = [found for found in ended if not is_tried_again(context.instance, found.run)]
        known = _existing(context, with_failures(place.standing, failures))
        left = _still_failed(context.instance, known)
        moved = further(place, ended, left)
        if not failures and left.keys() == place.standing.keys():
            return _moved(moved, _standing_in_words(left))
        with shop() as database:
            if isinstance(database, dg.SkipReason):
                return database
            with database.writing() as connection:
                _tell(connection, place.standing, known, left, failures)
        return _moved(moved, f"{_standing_in_words(left)} Staff were told what changed.")

    return tell_of_failures


def read_place(cursor: str | None) -> Place | None:
    """The place that a tick left; None before the first, and where what is kept cannot be read."""
    try:
        return Place.model_validate_json(cursor) if cursor else None
    except ValidationError:
        return None


def with_failures(standing: Standing, failures: Iterable[Failure]) -> Standing:
    """What stands failed after these failures too."""
    found = {thing: dict(failed) for thing, failed in standing.items()}
    for failure in failures:
        for thing, partitions in failure.things.items():
            found.setdefault(thing, {}).update(dict.fromkeys(partitions, failure.at))
    return found


def further(place: Place, ended: Iterable[Failure], standing: Standing) -> Place:
    """The place after these runs, of which those near its end are remembered: they will be read again."""
    seen = place.seen | {found.run.run_id: found.at for found in ended}
    read_to = max([place.read_to, *seen.values()])
    recent = {run_id: at for run_id, at in seen.items() if at > read_to - OVERLAP_SECONDS}
    return Place(read_to=read_to, seen=recent, standing=standing)


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


def _existing(context: dg.SensorEvaluationContext, standing: Standing) -> Standing:
    """Without what is no more, such as a shard after `MIDAS_SHARDS` was lowered: it could never recover."""
    repository = context.repository_def
    if repository is None:
        return standing
    return _kept(standing, lambda thing, partition, _: exists(repository, thing, partition))


def _still_failed(instance: dg.DagsterInstance, standing: Standing) -> Standing:
    """Without the partitions that have succeeded since; a thing is well when all of its partitions are."""
    return _kept(standing, lambda thing, partition, at: not works_again(instance, thing, partition, at))


def _kept(standing: Standing, keep: Callable[[str, str, float], bool]) -> Standing:
    kept = {
        thing: {partition: at for partition, at in failed.items() if keep(thing, partition, at)}
        for thing, failed in standing.items()
    }
    return {thing: failed for thing, failed in kept.items() if failed}


def _tell(
    connection: "sa.Connection", before: Standing, known: Standing, left: Standing, failures: list[Failure]
) -> None:
    """Writes the alerts: of what stood failed `before`, what does with these failures (`known`), what is `left`."""
    from midas_pipelines.notify.alerts import clear_alerts, raise_alerts

    new = known.keys() - before.keys()
    well = known.keys() - left.keys()
    url = load_settings().dagster_url
    stories = {thing: failure_in_words(thing, failures, url) for thing in new}
    # A new one too: it may be open since before the sensor's place was reset.
    clear_alerts(connection, kind=RUN_FAILED, subjects=sorted((before.keys() - left.keys()) | new))
    clear_alerts(connection, kind=RECOVERED, subjects=sorted(new | well))
    raise_alerts(connection, kind=RUN_FAILED, texts={thing: stories[thing] for thing in new - well})
    texts = {thing: recovery(thing, known[thing], stories.get(thing)) for thing in well}
    raise_alerts(connection, kind=RECOVERED, texts=texts)


def _moved(place: Place, why: str) -> dg.SensorResult:
    return dg.SensorResult(cursor=place.model_dump_json(), skip_reason=why)


def _standing_in_words(standing: Standing) -> str:
    if not standing:
        return "Nothing stands failed."
    return f"Still failed: {', '.join(names_in_words(thing) for thing in sorted(standing))}."
