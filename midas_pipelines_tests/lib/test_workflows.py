"""The timetable is the whole of what runs by itself, and each row can be left off."""

from __future__ import annotations

import pytest

from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.alert_delivery import alerts_waiting
from midas_pipelines.defs.operations.retention import retention_schedule
from midas_pipelines.defs.operations.run_alerts import run_alert_sensor
from midas_pipelines.defs.operations.sensors import stale_work_sensors
from midas_pipelines.lib.workflows import entry, timetable
from midas_pipelines.settings import WORKFLOWS, Settings

ROWS = {found.started_by: found for found in timetable(Settings())}


def test_every_schedule_and_sensor_has_its_row_and_no_row_lacks_one() -> None:
    repository = defs.get_repository_def()
    started = {one.name for one in [*repository.schedule_defs, *repository.sensor_defs]}
    assert started == ROWS.keys()


def test_the_settings_know_every_row_by_name() -> None:
    assert {found.workflow for found in ROWS.values()} == set(WORKFLOWS)


def test_every_schedule_and_sensor_tells_its_row_in_the_ui() -> None:
    repository = defs.get_repository_def()
    for one in [*repository.schedule_defs, *repository.sensor_defs]:
        row = ROWS[one.name]
        assert row.in_words in str(one.description), one.name
        assert one.metadata["every"].value == row.every, one.name


def test_the_job_of_a_row_tells_it_too() -> None:
    jobs = {found.workflow: defs.resolve_job_def(found.workflow) for found in timetable(Settings())[:10]}
    for name, job in jobs.items():
        if name != "retention":
            assert entry(Settings(), name).in_words in str(job.description), name


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_each_is_left_off_by_its_name(workflow: str) -> None:
    settings = Settings(schedules=True, paused=workflow)
    off = {found.workflow for found in timetable(settings) if not found.on}
    with_it = {"incremental_sync": {"stale_items"}}.get(workflow, set())
    assert off == {workflow} | with_it


def test_sensors_start_as_their_rows_say() -> None:
    paused = "retention, run_failure_alerts, alert_delivery, stale_items"
    settings = Settings(schedules=True, paused=paused)
    started = [
        retention_schedule(settings),
        run_alert_sensor(settings),
        alerts_waiting(settings),
        *stale_work_sensors(settings),
    ]
    states = {one.name: one.default_status.value for one in started}
    assert [name for name, state in states.items() if state == "RUNNING"] == ["stale_webhooks"]


def test_a_portion_is_never_more_than_a_push_claims() -> None:
    assert entry(Settings(in_flight=10, inventory_batch=500), "inventory_push").batch == 40
    assert entry(Settings(in_flight=10, inventory_batch=7), "inventory_push").batch == 7
