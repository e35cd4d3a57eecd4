"""Staff get one alert for each asset that fails, and one when it recovers; nothing is lost meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.run_alerts import NAME, read_place, run_alert_sensor
from midas_pipelines.lib.runs.failures import is_tried_again
from midas_pipelines.lib.runs.tags import run_tags
from midas_pipelines.settings import Settings
from midas_pipelines_tests.defs.conftest import tick
from midas_pipelines_tests.shop import rows
from midas_pipelines_tests.sync.world import World

SENSOR = run_alert_sensor(Settings())
UNREACHABLE = "postgresql://nobody:secret@127.0.0.1:1/none"
ORDER_POLL, LISTINGS = "asset:order_poll", "asset:fourseller_listings"


class Watch:
    """A sensor that ticks after each run, as the daemon does: its cursor is kept, an error leaves it as it was."""

    def __init__(self, world: World, instance: dg.DagsterInstance, patch: pytest.MonkeyPatch) -> None:
        self.world, self.instance, self.patch = world, instance, patch
        self.good_key = world.background.config.api_key
        self.cursor = tick(SENSOR, instance).cursor

    def tick(self) -> str:
        """Returns why nothing was launched."""
        found = tick(SENSOR, self.instance, self.cursor)
        self.cursor = found.cursor
        assert not found.run_requests
        return str(found.skip_message)

    def run(self, job: str, *, good: bool, shard: str | None = None) -> dg.DagsterRun:
        """Runs it with a key that 4Seller takes, or not."""
        self.patch.setenv("FOURSELLER_API_KEY", self.good_key if good else "wrong-key")
        result = defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            partition_key=shard,
            tags=None if shard else run_tags(job),
        )
        assert result.success is good
        return result.dagster_run

    def materialize(self, asset: str, *, good: bool = True) -> None:
        """As from the asset's page."""
        self.patch.setenv("FOURSELLER_API_KEY", self.good_key if good else "wrong-key")
        job = defs.resolve_implicit_global_asset_job_def()
        chosen = job.get_subset(asset_selection={dg.AssetKey(asset)})
        result = chosen.execute_in_process(instance=self.instance, raise_on_error=False)
        assert (result.success, result.dagster_run.job_name) == (good, "__ASSET_JOB")

    def alerts(self) -> list[tuple[str, str, bool]]:
        query = "SELECT kind, subject, cleared_at IS NULL FROM alerts ORDER BY id"
        found = rows(self.world.database, query)
        return [(kind, subject, bool(is_open)) for kind, subject, is_open in found if kind != "channel_down"]

    def text(self, kind: str) -> str:
        query = f"SELECT text FROM alerts WHERE kind = '{kind}' ORDER BY id DESC LIMIT 1"
        ((found,),) = rows(self.world.database, query)
        return str(found)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """With its history in files, as an operator has it: there each run's events are in a file of their own."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


@pytest.fixture
def watch(environment: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(environment, instance, monkeypatch)


def test_an_asset_that_fails_twice_is_told_once_and_so_is_its_recovery(watch: Watch) -> None:
    for _ in range(2):
        watch.run("order_import", good=False)
        watch.tick()
    assert watch.alerts() == [("run_failed", ORDER_POLL, True)]
    for _ in range(2):
        watch.run("order_import", good=True)
        watch.tick()
    assert watch.alerts() == [("run_failed", ORDER_POLL, False), ("run_recovered", ORDER_POLL, True)]
    assert watch.text("run_recovered") == "order_poll works again."


def test_a_second_failure_after_a_recovery_is_told_anew(watch: Watch) -> None:
    for good in (False, True, False):
        watch.run("order_import", good=good)
        watch.tick()
    assert watch.alerts() == [
        ("run_failed", ORDER_POLL, False),
        ("run_recovered", ORDER_POLL, False),
        ("run_failed", ORDER_POLL, True),
    ]


def test_where_nothing_fails_nothing_is_told_and_no_run_is_written_to(watch: Watch) -> None:
    run = watch.run("order_import", good=True)
    assert watch.tick() == "Nothing is failed."
    assert watch.alerts() == []
    assert not [entry for entry in watch.instance.all_logs(run.run_id) if NAME in entry.user_message]


def test_the_alert_says_which_workflow_what_of_it_and_why(watch: Watch) -> None:
    run = watch.run("order_import", good=False)
    assert watch.tick() == "Still failed: order_poll. Alerts for what changed were written."
    text = watch.text("run_failed")
    assert text.startswith("The workflow order_import failed at order_poll. ")
    assert "refused the credentials" in text
    assert text.endswith(f"See run {run.run_id} in the Dagster UI.")


def test_the_alert_links_to_the_run_where_the_ui_is_known(watch: Watch) -> None:
    watch.patch.setenv("MIDAS_DAGSTER_URL", "https://dagster.example/")
    run = watch.run("order_import", good=False)
    watch.tick()
    assert f"See https://dagster.example/runs/{run.run_id} in the Dagster UI." in watch.text("run_failed")


def test_a_failure_while_the_database_is_away_is_told_once_it_answers(watch: Watch) -> None:
    watch.run("order_import", good=False)
    with watch.patch.context() as patch:
        patch.setenv("MIDAS_DATABASE_URL", UNREACHABLE)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="does not answer"):
                watch.tick()
    watch.tick()
    assert watch.alerts() == [("run_failed", ORDER_POLL, True)]


def test_a_failure_and_its_end_while_the_database_is_away_are_told_together(watch: Watch) -> None:
    watch.run("order_import", good=False)
    with watch.patch.context() as patch:
        patch.delenv("MIDAS_DATABASE_URL")
        assert "MIDAS_DATABASE_URL is not set" in watch.tick()
    watch.run("order_import", good=True)
    watch.tick()
    assert watch.alerts() == [("run_recovered", ORDER_POLL, True)]
    assert watch.text("run_recovered").startswith("The workflow order_import failed at order_poll.")
    assert watch.text("run_recovered").endswith("Since then: order_poll works again.")


def test_a_shard_that_succeeds_is_no_recovery_of_another(watch: Watch) -> None:
    for shard, good in (("00", False), ("01", True), ("02", False), ("03", True), ("00", True)):
        watch.run("full_sync", good=good, shard=shard)
        watch.tick()
    assert watch.alerts() == [("run_failed", LISTINGS, True)]
    assert "failed at fourseller_listings, partition 00. " in watch.text("run_failed")
    watch.run("full_sync", good=True, shard="02")
    watch.tick()
    assert watch.alerts() == [("run_failed", LISTINGS, False), ("run_recovered", LISTINGS, True)]


def test_a_run_for_all_shards_makes_each_of_them_well(watch: Watch) -> None:
    for shard in ("00", "07"):
        watch.run("full_sync", good=False, shard=shard)
    watch.tick()
    assert "fourseller_listings, partitions 00, 07. " in watch.text("run_failed")
    watch.run("full_sync", good=True)
    watch.tick()
    assert watch.alerts()[-1] == ("run_recovered", LISTINGS, True)
    assert watch.text("run_recovered") == "fourseller_listings works again in all that had failed."


def test_runs_by_hand_of_other_assets_recover_nothing(watch: Watch) -> None:
    watch.materialize("order_poll", good=False)
    watch.tick()
    assert watch.text("run_failed").startswith("A run started by hand failed at order_poll.")
    watch.materialize("sync_performance")
    watch.tick()
    assert watch.alerts() == [("run_failed", ORDER_POLL, True)]


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_asset_recovers_by_whatever_run(watch: Watch, by_hand: bool) -> None:
    watch.materialize("order_poll", good=False)
    watch.tick()
    watch.materialize("order_poll") if by_hand else watch.run("order_import", good=True)
    watch.tick()
    assert watch.alerts()[-1] == ("run_recovered", ORDER_POLL, True)


def died(watch: Watch, job: str) -> None:
    """A run whose process is gone before any step began."""
    created = watch.instance.create_run_for_job(defs.resolve_job_def(job), status=dg.DagsterRunStatus.STARTED)
    watch.instance.report_run_failed(created, "The process is gone.")


def test_a_run_that_died_failed_at_what_it_had_yet_to_make(watch: Watch) -> None:
    died(watch, "inventory_push")
    watch.tick()
    assert watch.alerts() == [("run_failed", "asset:inventory_levels", True)]
    assert "Its error is in Dagster." in watch.text("run_failed")


def test_a_run_without_assets_stands_for_its_workflow(watch: Watch) -> None:
    died(watch, "retention")
    watch.tick()
    assert watch.alerts() == [("run_failed", "workflow:retention", True)]
    watch.run("retention", good=True)
    watch.tick()
    assert watch.text("run_recovered") == "The workflow retention works again."


def test_a_check_that_could_not_be_made_recovers_by_being_made(watch: Watch) -> None:
    with watch.patch.context() as patch:
        patch.setattr("midas_pipelines.store.orders.checks.stale_orders", lambda *_: 1 / 0)
        result = defs.resolve_job_def("order_import").execute_in_process(
            instance=watch.instance, raise_on_error=False
        )
        assert not result.success
    watch.tick()
    subject = "check:order_poll:no_order_open_too_long"
    assert watch.alerts() == [("run_failed", subject, True)]
    watch.run("order_import", good=True)
    watch.tick()
    assert watch.text("run_recovered") == "The check no_order_open_too_long of order_poll works again."


def test_a_run_that_dagster_tries_again_is_not_told_yet(watch: Watch) -> None:
    job = defs.resolve_job_def("order_import")
    created = watch.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/will_retry": "true"}
    )
    watch.instance.report_run_failed(created, "The process is gone.")
    watch.tick()
    assert watch.alerts() == []


def test_a_shard_that_is_no_more_is_forgotten_without_a_word(watch: Watch) -> None:
    watch.run("full_sync", good=False, shard="00")
    watch.tick()
    place = read_place(watch.cursor)
    assert place is not None
    watch.cursor = place.model_copy(update={"open_failures": {LISTINGS: {"99": 0.0}}}).model_dump_json()
    watch.tick()
    assert watch.alerts() == [("run_failed", LISTINGS, False)]


def test_a_failure_written_late_is_seen_though_a_newer_one_was_before(watch: Watch) -> None:
    watch.run("order_import", good=False)
    watch.tick()
    place = read_place(watch.cursor)
    assert place is not None
    later = (datetime.now(UTC) + timedelta(seconds=60)).timestamp()
    watch.cursor = place.model_copy(update={"read_to": later}).model_dump_json()
    watch.run("inventory_push", good=True)
    died(watch, "status_sync")
    watch.tick()
    assert ("run_failed", "asset:order_statuses", True) in watch.alerts()


@pytest.mark.parametrize("cursor", [None, "", "12", '{"record_id": 3, "record_timestamp": null}'])
def test_a_place_that_cannot_be_read_is_a_new_start(cursor: str | None) -> None:
    assert read_place(cursor) is None


@pytest.mark.parametrize(
    ("status", "tried"), [(BulkActionStatus.REQUESTED, True), (BulkActionStatus.COMPLETED, False)]
)
def test_a_run_of_a_backfill_that_has_ended_is_not_tried_again(
    instance: dg.DagsterInstance, status: BulkActionStatus, tried: bool
) -> None:
    backfill = PartitionBackfill("b", status=status, from_failure=False, tags={}, backfill_timestamp=0.0)
    instance.add_backfill(backfill)
    tags = {"dagster/will_retry": "true", "dagster/backfill": "b"}
    job = defs.resolve_job_def("order_import")
    assert is_tried_again(instance, instance.create_run_for_job(job, tags=tags)) is tried
