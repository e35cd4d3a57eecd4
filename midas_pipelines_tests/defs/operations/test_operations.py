"""Operations assets, freshness, retention, executors and code links: what they tell and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from pyrage import x25519

from midas_pipelines.cli.dagster.instance import dagster_yaml
from midas_pipelines.definitions import KEY, defs, load, with_code
from midas_pipelines.defs.inventory.assets import inventory_levels
from midas_pipelines.defs.operations.assets import capacity_plan, staff_report, sync_performance
from midas_pipelines.defs.operations.op_jobs import retention
from midas_pipelines.defs.resources import MidasResource, executor, expected_in
from midas_pipelines.settings import SettingsError, load_settings
from midas_pipelines.store.operations.sync_log import note_work
from midas_pipelines.store.schema.gateway_tables import gateway_audit, marketplace_webhooks
from midas_pipelines.sync.snapshots.files import CATALOG, Snapshots
from midas_pipelines_tests.defs.conftest import failure, metadata
from midas_pipelines_tests.shop import add_product, amend, rows
from midas_pipelines_tests.sync.world import World


def operate(asset: dg.AssetsDefinition) -> dict[str, object]:
    """Materializes it on an instance of its own, whatever other tests have left behind, and returns what it tells."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], resources={"midas": MidasResource()}, instance=instance)
    return metadata(result, asset.key.to_user_string())


def test_performance_sums_up_the_hour(environment: World) -> None:
    for _ in range(3):
        add_product(environment.database)
    environment.full()
    add_product(environment.database)
    told = operate(sync_performance)
    assert (told["syncs"], told["items"], told["requests"], told["queue"]) == (1, 3, 4, 1)


def test_performance_of_an_idle_hour_is_nothing(environment: World) -> None:
    told = operate(sync_performance)
    assert (told["syncs"], told["error_rate"], told["seconds_per_call"]) == (0, 0.0, 0.0)


def test_the_capacity_plan_shows_its_arithmetic(environment: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDAS_IN_FLIGHT", "8")
    for _ in range(25):
        add_product(environment.database)
    environment.full()
    told = operate(capacity_plan)
    assert (told["raise_first"], told["pace_from"]) == ("nothing", "pushes")
    assert "| one worker | 25 writes / " in str(told["plan"])
    assert "(25 writes + 1 pages)" in str(told["plan"])


def test_the_plan_measures_pushes_and_not_the_syncs_that_found_nothing(
    environment: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDAS_IN_FLIGHT", "8")
    for _ in range(25):
        add_product(environment.database)
    environment.full()
    before = operate(capacity_plan)["calls_per_second"]
    for _ in range(3):
        environment.full()
    assert operate(capacity_plan)["calls_per_second"] == before


def test_a_shop_that_never_synced_is_told_what_its_plan_rests_on(
    environment: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDAS_RATE_LIMIT", "3")
    told = operate(capacity_plan)
    assert (told["pace_from"], told["calls_per_second"]) == ("assumed", 3.0)
    assert "No large push: assumed, not measured" in str(told["plan"])
    assert "3 calls a second, set as MIDAS_RATE_LIMIT" in str(told["plan"])


def test_the_gateways_minutes_count_in_performance_report_and_plan(environment: World) -> None:
    calls = {"requests": 600, "failed": 6, "writes": 556, "write_seconds": 27.8, "seconds": 30.0}
    minute = {"kind": "gateway", "scope": "at once", "outcome": "done", "requests": 600, "seconds": 3.0}
    note_work(environment.database, minute | {"counts": {"scanned": 556, "created": 556, "calls": calls}})
    told = operate(sync_performance)
    assert (told["syncs"], told["written"], told["failed_calls"], told["error_rate"]) == (0, 556, 6, 0.01)
    assert operate(staff_report)["written"] == 556
    assert "556 pushes a day" in str(operate(capacity_plan)["plan"])


def test_the_report_is_shown_and_is_one_alert_a_day(environment: World) -> None:
    add_product(environment.database, sku=None, name="No | SKU")
    environment.full()
    for _ in range(2):
        assert "It has no SKU" in str(operate(staff_report)["report"])
    assert len(rows(environment.database, "SELECT id FROM alerts WHERE kind = 'daily_report'")) == 1


def test_every_asset_that_runs_has_a_link_to_its_code() -> None:
    published = load_settings(code_url="https://example.com/midas/blob/main")
    for definition in with_code(defs.resolve_asset_graph().assets_defs, published):
        for spec in definition.specs:
            assert (KEY in spec.metadata) == definition.is_executable, spec.key


def test_a_link_leads_to_where_the_code_is_published() -> None:
    settings = load_settings(code_url="https://example.com/midas/blob/main")
    (linked,) = with_code([inventory_levels], settings)
    (reference,) = linked.specs_by_key[inventory_levels.key].metadata[KEY].code_references
    assert reference.url.startswith(
        "https://example.com/midas/blob/main/midas_pipelines/defs/inventory/assets.py#L"
    )


@pytest.mark.parametrize(("loaded_by", "linked"), [("1", True), ("", False)])
def test_a_file_on_this_machine_is_named_in_dagster_dev_alone(
    loaded_by: str, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", loaded_by)
    (found,) = with_code([inventory_levels], load_settings(code_url=None))
    told = found.specs_by_key[inventory_levels.key].metadata.get(KEY)
    assert (told is not None) == linked
    if linked:
        assert told.code_references[0].file_path.endswith("defs/inventory/assets.py")


def test_keeping_house_tells_how_much_was_forgotten(environment: World) -> None:
    old = datetime.now(UTC) - timedelta(days=500)
    with environment.database.writing() as connection:
        connection.execute(
            sa.insert(gateway_audit).values(
                at=old, event="asked", actor="x", action="POST", previous="0", hash="0"
            )
        )
        event = {"webhook_id": "x", "type": "order.created", "payload": "-"}
        ended = {"processed_at": old, "outcome": "applied"}
        connection.execute(sa.insert(marketplace_webhooks).values(event | ended))
    kept = Snapshots.of(load_settings())
    for day in (old.date(), datetime.now(UTC).date()):
        file = kept.path(CATALOG, day)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    result = retention.execute_in_process(resources={"midas": MidasResource()})
    told = {
        name: found.value
        for one in result.all_events
        if one.is_successful_output
        for name, found in one.step_output_data.metadata.items()
    }
    assert told == {
        "runs": 0,
        "webhooks": 1,
        "audit": 1,
        "snapshots": 1,
        "writes": 0,
        "sync_logs": 0,
        "api_errors": 0,
        "order_logs": 0,
        "alerts": 0,
    }
    assert kept.days(CATALOG) == [datetime.now(UTC).date()]


def test_retention_fails_where_the_shops_database_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDAS_DATABASE_URL", "")
    result = retention.execute_in_process(raise_on_error=False, resources={"midas": MidasResource()})
    failed = [expected_in(event) for event in result.all_events if event.is_step_failure]
    assert {found and found.reason[:30] for found in failed} == {"MIDAS_DATABASE_URL is not set:"}
    assert len(failed) == 7  # runs and snapshots are in no database of the shop


def test_the_check_of_backups_reads_the_proof_of_the_newest_drill(
    environment: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    identity, file = x25519.Identity.generate(), tmp_path / "identity"
    file.write_text(str(identity))
    monkeypatch.setenv("MIDAS_BACKUP_TO", str(tmp_path / "backups"))
    monkeypatch.setenv("MIDAS_BACKUP_RECIPIENTS", str(identity.to_public()))
    monkeypatch.setenv("MIDAS_BACKUP_IDENTITY_FILE", str(file))
    with_backups = load(load_settings())
    add_product(environment.database)

    def result(job: str, *statements: str) -> tuple[bool, str, object]:
        for statement in statements:
            amend(environment.database, statement)
        done = with_backups.resolve_job_def(job).execute_in_process(instance=instance)
        (found,) = done.get_asset_check_evaluations() or [None]
        return found and (found.passed, found.severity.value, found.metadata.get("checked"))

    assert result("backup") == (False, "WARN", None)  # no drill yet
    assert rows(environment.database, "SELECT id FROM midas_proofs WHERE name = 'backup_drill'") == []
    assert result("restore_drill") is None
    assert result("backup") == (True, "WARN", dg.MetadataValue.int(7))
    amend(environment.database, "UPDATE inventory_changes SET delta = delta + 1")
    result("backup")
    drill = with_backups.resolve_job_def("restore_drill")
    assert "break these invariants: ledger_explains_stock (1). The checks" in failure(
        drill.execute_in_process(instance=instance, raise_on_error=False)
    )
    broken = "UPDATE midas_proofs SET passed = FALSE WHERE name = 'backup_drill'"
    late = (
        "UPDATE midas_proofs SET passed = TRUE, at = '2026-01-01 00:00:00+00:00' WHERE name = 'backup_drill'"
    )
    assert result("backup", broken)[:2] == (False, "ERROR")
    assert result("backup", late)[:2] == (False, "WARN")


def test_the_executor_is_the_one_of_the_settings() -> None:
    assert executor(load_settings()).name == "in_process"
    assert "multiprocess" in executor(load_settings(executor="multiprocess")).name
    with pytest.raises(SettingsError, match="MIDAS_CELERY_BROKER"):
        executor(load_settings(executor="celery"))


def test_with_celery_whole_runs_are_handed_to_the_queue_and_may_wait_there() -> None:
    queue = {"celery_broker": "redis://h/0", "celery_backend": "redis://h/1"}
    written = yaml.safe_load(dagster_yaml(load_settings(executor="celery", **queue)))
    assert written["run_launcher"]["class"] == "CeleryRunLauncher"
    assert written["run_monitoring"]["start_timeout_seconds"] == 7200
    assert "run_launcher" not in yaml.safe_load(dagster_yaml(load_settings()))
