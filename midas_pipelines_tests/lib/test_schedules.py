"""Schedules keep the interval they were set to, and never start a second run of a workflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._utils.schedules import schedule_execution_time_iterator

from midas_pipelines.cli.dagster.instance import dagster_yaml
from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.jobs import schedules
from midas_pipelines.lib.schedules import due, every, schedule_of
from midas_pipelines.settings import SettingsError, load_settings
from midas_pipelines.workflows import BY_NAME, pool_of

DAY = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute) for minute in range(24 * 60)]


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [
        (1, ["*/1 * * * *"]),
        (5, ["*/5 * * * *"]),
        (60, ["0 * * * *"]),
        (45, ["0,45 0-23/3 * * *", "30 1-23/3 * * *", "15 2-23/3 * * *"]),
        (7, ["* * * * *"]),
    ],
)
def test_an_interval_has_its_cron_lines(minutes: int, cron: list[str]) -> None:
    assert every(minutes) == cron


@pytest.mark.parametrize("minutes", [9, 32, 45, 48])
def test_the_lines_of_an_interval_tick_at_it_and_at_nothing_else(minutes: int) -> None:
    ticks = schedule_execution_time_iterator(DAY[0].timestamp(), every(minutes), "UTC", ascending=True)
    found = [next(ticks) for _ in range(24 * 60 // minutes + 1)]
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=minutes)}


@pytest.mark.parametrize("minutes", [7, 13, 25, 59])
def test_an_interval_that_cron_cannot_say_is_kept_across_the_hour_and_told(minutes: int) -> None:
    ticks = [at for at in DAY if due(minutes, at)]
    gaps = {later - earlier for earlier, later in pairwise(ticks)}
    assert gaps == {timedelta(minutes=minutes)}
    schedule = schedule_of(load_settings(orders_interval=minutes), BY_NAME["order_import"])
    assert f"every {minutes} minutes" in str(schedule.description)
    assert f"every {minutes} minutes" in str(schedule.description)


@pytest.mark.parametrize("minutes", [0, 61, -5, "often"])
@pytest.mark.parametrize("workflow", ["products", "inventory", "orders", "status"])
def test_an_interval_outside_1_to_60_minutes_is_refused(workflow: str, minutes: object) -> None:
    with pytest.raises(SettingsError):
        load_settings(**{f"{workflow}_interval": minutes})


def test_the_defaults_are_those_of_the_readme() -> None:
    lines = {schedule.job_name: schedule.cron_schedule for schedule in schedules(load_settings())}
    assert lines == {
        "incremental_sync": "*/5 * * * *",
        "inventory_push": "*/1 * * * *",
        "order_import": "*/2 * * * *",
        "status_sync": "*/5 * * * *",
        "full_sync": "0 2 * * *",
        "consistency_check": "0 * * * *",
        "stock_watch": "*/15 * * * *",
        "performance": "*/15 * * * *",
        "daily_report": "0 7 * * *",
        "buyer_erasure": "0 1 * * *",
        "retention": "30 1 * * *",
        "backup": "0 * * * *",
        "restore_drill": "0 4 * * *",
        "compliance_report": "30 6 * * *",
    }


@pytest.mark.parametrize(("on", "status"), [(True, "RUNNING"), (False, "STOPPED")])
def test_schedules_start_as_the_settings_say(on: bool, status: str) -> None:
    settings = load_settings(schedules=on, backup_to="x", backup_identity_file="x")
    assert {schedule.default_status.value for schedule in schedules(settings)} == {status}


def test_a_tick_skips_with_a_reason_while_the_last_run_is_still_going(tmp_path: Path) -> None:
    (schedule,) = [found for found in schedules(load_settings()) if found.job_name == "order_import"]
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(instance, scheduled_execution_time=DAY[2]) as context,  # has one of its own
    ):
        assert schedule.evaluate_tick(context).run_requests
        instance.create_run_for_job(defs.resolve_job_def("order_import"), status=dg.DagsterRunStatus.STARTED)
        tick = schedule.evaluate_tick(context)
    assert not tick.run_requests
    assert tick.skip_message == "A run of order_import is in progress; the next tick looks again."


def test_every_asset_has_the_pool_of_the_table_with_one_slot_and_every_job_an_owner() -> None:
    graph = defs.resolve_asset_graph()
    pools = {key.to_user_string(): graph.get(key).pools for key in graph.materializable_asset_keys}
    assert pools == {name: {pool_of(name)} for name in pools}
    jobs = [job for job in defs.get_repository_def().get_all_jobs() if not job.name.startswith("__")]
    assert [job.name for job in jobs if not job.owners] == []
    ops = {
        job.name: [op.pools for op in job.all_node_defs]
        for job in jobs
        if not job.asset_layer.executable_asset_keys
    }
    assert ops == {name: [{pool_of(name)}] * len(pools) for name, pools in ops.items()}
    assert yaml.safe_load(dagster_yaml(load_settings()))["concurrency"]["pools"]["default_limit"] == 1


def test_no_two_runs_of_one_shard_or_of_all_of_them_at_once() -> None:
    concurrency = yaml.safe_load(dagster_yaml(load_settings()))["concurrency"]
    each = {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    assert concurrency["runs"]["tag_concurrency_limits"] == [each]
    assert concurrency["pools"]["granularity"] == "run"  # a run waits for the pools of all its assets
    whole = ({pool_of(name) for name in BY_NAME[job].makes} for job in ("full_sync", "consistency_check"))
    assert set.intersection(*whole) == {"catalog_snapshot", "listing_snapshot"}
