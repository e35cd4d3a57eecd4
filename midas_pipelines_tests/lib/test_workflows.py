"""The table of workflows is the whole of what runs automatically, and each row can be left off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from midas_pipelines.definitions import defs, load
from midas_pipelines.lib.schedules import schedule_of
from midas_pipelines.lib.timetable import entry, next_run, timetable
from midas_pipelines.settings import SettingsError, load_settings
from midas_pipelines.workflows import BY_NAME, WORKFLOWS

PUSH = BY_NAME["inventory_push"]


def test_every_schedule_sensor_and_job_has_its_row_and_shows_it_in_the_ui() -> None:
    assert "backup" not in {job.name for job in defs.get_repository_def().get_all_jobs()}  # it has no target
    with_backups = load(load_settings(backup_to="x"))
    repository = with_backups.get_repository_def()
    started = [*repository.schedule_defs, *repository.sensor_defs]
    rows = {found.workflow: found for found in timetable(load_settings())}
    names = [one.name.removesuffix("_schedule").removesuffix("_sensor") for one in started]
    assert sorted(names) == sorted(rows)
    jobs = [with_backups.resolve_job_def(workflow.name) for workflow in WORKFLOWS if workflow.makes]
    for one, name in [*zip(started, names, strict=True), *((job, job.name) for job in jobs)]:
        assert rows[name].in_words in str(one.description), one.name


def test_the_table_of_the_docs_has_the_numbers_of_now() -> None:
    written = (Path(__file__).parents[2] / "docs" / "dagster.md").read_text()
    _, *rows = [row for row in written.splitlines() if row.startswith("│")]
    for row, now in zip(rows, timetable(load_settings()), strict=True):
        name, _, when, batch, at_once, _ = map(str.strip, row.strip("│").split("│"))
        fixed = ", fixed" if now.at_once_is_fixed else ""
        assert (name, batch, at_once) == (now.workflow, str(now.batch or ""), f"{now.at_once}{fixed}")
        assert now.every.startswith(when.partition("…")[0].strip()), name


@pytest.mark.parametrize("workflow", [one.name for one in WORKFLOWS])
def test_each_is_left_off_by_its_name(workflow: str) -> None:
    ready = {"backup_to": "x", "backup_identity_file": "x"}
    settings = load_settings(schedules=True, paused=workflow, **ready)
    off = {found.workflow for found in timetable(settings) if not found.on}
    assert off == {workflow}


def test_what_is_on_is_in_dagster() -> None:
    settings = load_settings(schedules=True, backup_identity_file="x")  # and no place for backups
    on = {found.workflow for found in timetable(settings) if found.on}
    repository = load(settings).get_repository_def()
    started = [one.name for one in (*repository.schedule_defs, *repository.sensor_defs)]
    assert on <= {name.removesuffix("_schedule").removesuffix("_sensor") for name in started}


@pytest.mark.parametrize(
    ("paused", "on"),
    [
        ("order_import, incremental_sync", True),
        ("order_import, incremental_sync, consistency_check", False),
        ("stale_work", False),
    ],
)
def test_stale_work_is_looked_after_while_anything_may_take_it_up(paused: str, on: bool) -> None:
    assert entry(load_settings(schedules=True, paused=paused), BY_NAME["stale_work"]).on is on


@pytest.mark.parametrize(
    ("workflow", "paused", "at"),
    [
        ("incremental_sync", "", "2026-11-27 09:35"),
        ("consistency_check", "", "2026-11-27 10:00"),
        ("full_sync", "", "2026-11-28 02:00"),
        ("retention", "", "2026-11-28 01:30"),
        ("daily_report", "", "2026-11-28 07:00"),
        ("incremental_sync", "incremental_sync", None),
        ("health_watch", "", None),
    ],
)
def test_the_next_run_is_the_schedules_next_tick(workflow: str, paused: str, at: str | None) -> None:
    now = datetime(2026, 11, 27, 9, 31, 5, tzinfo=UTC)
    found = next_run(load_settings(schedules=True, paused=paused), BY_NAME[workflow], now)
    assert (found and f"{found:%Y-%m-%d %H:%M}") == at
    assert next_run(load_settings(), BY_NAME[workflow], now) is None


def test_a_daily_run_keeps_its_hour_where_clocks_change() -> None:
    there = load_settings(schedules=True, timezone="Europe/Berlin")
    assert entry(there, BY_NAME["full_sync"]).every == "daily at 02:00 Europe/Berlin"
    for now, at in ((datetime(2026, 11, 27, 9, tzinfo=UTC), 1), (datetime(2026, 7, 27, 9, tzinfo=UTC), 0)):
        assert next_run(there, BY_NAME["full_sync"], now) == now.replace(day=28, hour=at)
    assert schedule_of(there, BY_NAME["full_sync"]).execution_timezone == "Europe/Berlin"
    assert schedule_of(there, BY_NAME["order_import"]).execution_timezone == "UTC"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("workflow", ["full_sync", "retention"])  # at full hours and at half
@pytest.mark.parametrize("hour", [1, 2, 3])
def test_the_next_run_is_dagsters_on_the_days_that_clocks_change(zone: str, workflow: str, hour: int) -> None:
    settings = load_settings(schedules=True, timezone=zone, full_sync_hour=hour)
    cron = schedule_of(settings, BY_NAME[workflow]).cron_schedule
    for month in (3, 4, 10, 11):
        now = datetime(2026, month, 1, 0, 1, tzinfo=UTC)
        ticks = schedule_execution_time_iterator(now.timestamp(), cron, zone)
        for tick in (found.astimezone(UTC) for found in islice(ticks, 31)):
            assert next_run(settings, BY_NAME[workflow], now) == tick
            assert next_run(settings, BY_NAME[workflow], tick - timedelta(minutes=20)) == tick
            now = tick


@pytest.mark.parametrize("name", ["Berlin", "Europe", "../etc/passwd", "."])
def test_a_time_zone_that_does_not_exist_is_refused_with_a_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDAS_TIMEZONE", name)
    with pytest.raises(SettingsError, match="MIDAS_TIMEZONE must name a time zone, such as UTC"):
        load_settings()


def test_the_documentation_lists_every_row() -> None:
    page = (Path(__file__).parents[2] / "docs" / "dagster.md").read_text()
    for found in timetable(load_settings()):
        line = next((line for line in page.splitlines() if line.startswith(f"│ {found.workflow} ")), "")
        assert found.every[:20] in line, found.workflow


def test_a_portion_is_never_more_than_a_push_claims() -> None:
    assert entry(load_settings(in_flight=10, inventory_batch=500), PUSH).batch == 30
    assert entry(load_settings(in_flight=10, inventory_batch=7), PUSH).batch == 7
