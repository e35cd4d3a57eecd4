"""Failed work, a failed ERROR check and a late asset reach staff, and the alerts end with their cause."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange  # as the daemon reports

from midas_pipelines.definitions import defs
from midas_pipelines.defs.operations.health import failed_checks, failure_alerts, health_watch
from midas_pipelines.notify.alerts import report_failure
from midas_pipelines_tests.defs.conftest import Execute, tick
from midas_pipelines_tests.shop import add_product, amend, drop_watched_column, rows
from midas_pipelines_tests.sync.world import World

LEDGER = "inventory_ledger:ledger_explains_stock"
KEYS = [dg.AssetCheckKey(dg.AssetKey("inventory_ledger"), "ledger_explains_stock")]
UNSEEN = [dg.AssetCheckKey(dg.AssetKey("listing_observation"), "prices_match")]


def test_a_broken_ledger_is_named_until_it_adds_up_again(
    environment: World, execute: Execute, instance: dg.DagsterInstance
) -> None:
    add_product(environment.database, sku="A-1", stock_quantity=3)
    amend(environment.database, "UPDATE inventory_changes SET delta = delta + 1")
    execute("stock_watch")
    failed, unknown = failed_checks(instance, KEYS + UNSEEN)
    assert ": 1 of 1." in failed[LEDGER]
    assert "A-1" in failed[LEDGER]
    assert unknown == {"listing_observation:prices_match"}
    amend(environment.database, "UPDATE inventory_changes SET delta = delta - 1")
    execute("stock_watch", checks=["ledger_explains_stock"])
    assert failed_checks(instance, KEYS + UNSEEN)[0] == {}


def test_a_list_that_cannot_be_judged_is_one_failed_check_in_plain_words(
    environment: World, execute: Execute, instance: dg.DagsterInstance
) -> None:
    for number in range(30):
        add_product(environment.database, sku=f"A-{number}")
    environment.full()
    environment.habits("empty-lists=0")
    execute("consistency_check")
    failed, _ = failed_checks(instance, defs.resolve_asset_graph().asset_check_keys)
    ((subject, text),) = failed.items()
    assert subject == "listing_observation:consistent"
    assert "failed. 4Seller's listings could not be read completely; nothing was concluded." in text


def test_an_asset_is_late_while_dagster_calls_it_so(watch: Watch) -> None:
    for before, now, late in (("PASS", "WARN", []), ("WARN", "FAIL", ["low_stock"]), ("FAIL", "PASS", [])):
        watch.is_late("low_stock", before, now)
        watch.alerts()
        query = "SELECT subject FROM alerts WHERE kind = 'asset_late' AND cleared_at IS NULL"
        assert [row.subject for row in rows(watch.world.database, query)] == late


UNREACHABLE = "postgresql://nobody:secret@127.0.0.1:1/none"


class Watch:
    """Runs with a key that 4Seller accepts, or not, and the alerts after a tick of the sensor."""

    def __init__(self, world: World, instance: dg.DagsterInstance, patch: pytest.MonkeyPatch) -> None:
        self.world, self.instance, self.patch = world, instance, patch
        self.good_key = world.background.config.api_key
        self.cursor = tick(health_watch, instance).cursor

    def run(self, job: str, *, good: bool, shard: str | None = None, bad_key: str = "") -> dg.DagsterRun:
        """A run that succeeds or fails as `good` says; a bad one without a key, or with this one."""
        self.patch.setenv("FOURSELLER_API_KEY", self.good_key if good else bad_key)
        done = defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False, partition_key=shard
        )
        assert done.success is good
        return self.reported(done.dagster_run)

    def make(self, asset: str, *, key: str) -> None:
        """The run of one asset that a person launched, with this key."""
        self.patch.setenv("FOURSELLER_API_KEY", key)
        job = defs.resolve_implicit_global_asset_job_def()
        chosen = [dg.AssetKey(asset)]
        done = job.execute_in_process(instance=self.instance, raise_on_error=False, asset_selection=chosen)
        self.reported(done.dagster_run)

    def is_late(self, asset: str, before: str = "WARN", now: str = "FAIL") -> None:
        """How Dagster's daemon has found the asset."""
        change = FreshnessStateChange(
            key=dg.AssetKey(asset),
            previous_state=FreshnessState(before),
            new_state=FreshnessState(now),
            state_change_timestamp=datetime.now(UTC).timestamp(),
        )
        self.instance.report_runless_asset_event(change)

    def died(self, job: str, **tags: str) -> None:
        """A run whose process is gone before any step began."""
        created = self.instance.create_run_for_job(
            defs.resolve_job_def(job), status=dg.DagsterRunStatus.STARTED, tags=tags
        )
        self.instance.report_run_failed(created, "The process is gone.")
        self.reported(created)

    def reported(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """The run, after the sensor has seen it where it failed."""
        found = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        if found and found[-1].dagster_event is not None:
            context = dg.build_run_status_sensor_context(
                "failure_alerts_sensor",
                found[-1].dagster_event,
                self.instance,
                run,
                repository_def=defs.get_repository_def(),
            )
            failure_alerts(context.for_run_failure())
        return run

    def alerts(self) -> list[tuple[str, str]]:
        """The open ones."""
        self.cursor = tick(health_watch, self.instance, self.cursor).cursor
        query = "SELECT kind, subject FROM alerts WHERE kind LIKE 'run_%' AND cleared_at IS NULL ORDER BY id"
        return [(kind, subject) for kind, subject in rows(self.world.database, query)]

    def text(self) -> str:
        query = "SELECT text FROM alerts WHERE kind LIKE 'run_%' ORDER BY id DESC LIMIT 1"
        return str(rows(self.world.database, query)[0][0])


@pytest.fixture
def watch(environment: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """With a Dagster of its own."""
    return Watch(environment, instance, monkeypatch)


def test_a_dropped_column_that_a_trigger_watches_reaches_staff_by_its_name(watch: Watch) -> None:
    drop_watched_column(watch.world.database)
    run = watch.run("stock_watch", good=False)
    failed, _ = failed_checks(watch.instance, defs.resolve_asset_graph().asset_check_keys)
    assert list(failed) == ["storefront/products:columns_as_expected"]
    assert "orders.payment_status" in failed["storefront/products:columns_as_expected"]
    assert "The shop's tables have changed: orders.payment_status should be" in watch.text()
    watch.alerts()
    query = "SELECT kind FROM alerts WHERE cleared_at IS NULL ORDER BY id"
    assert [row.kind for row in rows(watch.world.database, query)] == ["run_failed", "check_failed"]
    assert run.status is dg.DagsterRunStatus.FAILURE


OTHER = {"dagster/code_location": "another"}
FAILED, WELL = [("run_failed", "order_import")], [("run_recovered", "order_import")]


def test_an_asset_that_fails_has_one_alert_and_so_has_its_recovery(watch: Watch) -> None:
    watch.patch.setenv("MIDAS_DAGSTER_URL", "https://dagster.example")
    assert watch.alerts() == []
    run_id = watch.run("order_import", good=False).run_id
    assert watch.alerts() == watch.alerts() == FAILED
    assert watch.text().startswith("The workflow order_import failed at imported_orders. ")
    assert "FOURSELLER_API_KEY is not set: " in watch.text()
    assert watch.text().endswith(f" See https://dagster.example/runs/{run_id} in the Dagster UI.")
    watch.run("order_import", good=True)
    assert watch.alerts() == watch.alerts() == WELL
    assert watch.text() == "order_import works again."
    watch.run("order_import", good=False)
    assert watch.alerts() == FAILED


def test_a_failure_while_the_database_is_away_has_its_alert_once_it_is_back(watch: Watch) -> None:
    with watch.patch.context() as patch:
        patch.setenv("MIDAS_DATABASE_URL", UNREACHABLE)
        with pytest.raises(RuntimeError, match="does not answer"):
            watch.run("order_import", good=False)
        with pytest.raises(RuntimeError, match="does not answer"):
            watch.alerts()
    assert watch.alerts() == FAILED
    watch.run("order_import", good=True)
    assert watch.alerts() == watch.alerts() == WELL


def test_a_shard_that_succeeds_is_no_recovery_of_another(watch: Watch) -> None:
    for shard, good in (("00", False), ("01", True), ("02", False)):
        watch.run("full_sync", good=good, shard=shard)
    assert watch.alerts() == [("run_failed", "fourseller_listings")]
    assert ", partition 02. FOURSELLER_API_KEY is not set" in watch.text()
    watch.run("full_sync", good=True, shard="02")
    assert watch.alerts() == [("run_failed", "fourseller_listings")]
    watch.run("full_sync", good=True)
    assert watch.alerts() == [("run_recovered", "fourseller_listings")]


def test_what_a_refused_key_explains_is_one_alert_and_all_else_has_its_own(watch: Watch) -> None:
    for job in ("order_import", "order_import", "status_sync"):
        watch.run(job, good=False, bad_key="refused")
    for asset in ("imported_orders", "low_stock"):
        watch.is_late(asset)
    watch.died("retention")
    assert watch.alerts() == [("run_failed", "retention")]
    query = "SELECT kind, subject FROM alerts WHERE kind IN ('asset_late', 'needs_new_key') ORDER BY kind"
    assert rows(watch.world.database, query) == [("asset_late", "low_stock"), ("needs_new_key", "fourseller")]


def test_a_run_of_another_code_location_is_not_ours_to_report(watch: Watch) -> None:
    watch.died("retention", **OTHER)
    assert watch.alerts() == []
    watch.died("retention")
    done = dg.DagsterRunStatus.SUCCESS
    watch.instance.create_run_for_job(defs.resolve_job_def("retention"), status=done, tags=OTHER)
    assert watch.alerts() == [("run_failed", "retention")]


def test_the_alert_about_a_workflow_that_is_no_more_ends_without_a_recovery(watch: Watch) -> None:
    with watch.world.database.writing() as connection:
        report_failure(connection, {"a_job_of_before": "It failed."})
    assert watch.alerts() == []


def test_an_asset_that_a_person_made_in_vain_fails_by_its_own_name(watch: Watch) -> None:
    watch.make("order_statuses", key="")
    assert watch.alerts() == [("run_failed", "order_statuses")]
    assert "A run of assets failed at order_statuses. FOURSELLER_API_KEY is not set" in watch.text()
    watch.make("low_stock", key=watch.good_key)
    assert watch.alerts() == [("run_failed", "order_statuses")]
    watch.run("status_sync", good=True)
    assert watch.alerts() == [("run_recovered", "order_statuses")]


def test_a_run_that_died_failed_at_what_it_had_yet_to_make(watch: Watch) -> None:
    watch.died("inventory_push", **{"dagster/will_retry": "true"})
    assert watch.alerts() == []  # Dagster tries it again
    watch.died("inventory_push")
    assert watch.alerts() == [("run_failed", "inventory_push")]
    assert "Its error is in Dagster." in watch.text()


def test_a_workflow_without_assets_fails_as_a_whole(watch: Watch) -> None:
    watch.died("retention")
    assert watch.alerts() == [("run_failed", "retention")]
    watch.run("retention", good=True)
    assert watch.alerts() == [("run_recovered", "retention")]


def test_a_check_that_could_not_run_is_a_failed_run_and_one_alert(watch: Watch) -> None:
    key = dg.AssetCheckKey(dg.AssetKey("imported_orders"), "no_order_open_too_long")
    with watch.patch.context() as patch:
        patch.setattr("midas_pipelines.store.orders.checks.stale_orders", lambda *_: 1 / 0)
        watch.run("stock_watch", good=False)
    assert failed_checks(watch.instance, [key]) == ({}, {"imported_orders:no_order_open_too_long"})
    assert watch.alerts() == [("run_failed", "stock_watch")]
    assert "failed at imported_orders_no_order_open_too_long." in watch.text()
    watch.run("stock_watch", good=True)
    assert failed_checks(watch.instance, [key]) == ({}, set())
