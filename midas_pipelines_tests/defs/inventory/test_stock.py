"""Stock in Dagster: what runs out, what the rules leave, who is told, and the brake as a check."""

from __future__ import annotations

import dagster as dg
import pytest

from midas_pipelines.lib.check_results import brake_spec
from midas_pipelines.sync.rules.edit import set_rule
from midas_pipelines_tests.defs.conftest import Execute, checks, evaluation, metadata
from midas_pipelines_tests.notify.conftest import WebhookReceiver, webhook  # noqa: F401 - fixture
from midas_pipelines_tests.shop import add_product, run, value
from midas_pipelines_tests.sync.world import World


def test_low_stock_is_a_table_and_one_message(
    environment: World,
    execute: Execute,
    webhook: WebhookReceiver,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIDAS_NOTIFY_URLS", webhook.url)
    add_product(environment.database, sku="A-1", stock_quantity=2)
    set_rule(environment.database, {"buffer": 2}, sku="A-1")
    result = execute("stock_watch")
    shown = metadata(result, "low_stock")
    assert (shown["dagster/row_count"], shown["checked"]) == (1, 1)
    assert (shown["units_on_hand"], shown["units_available"]) == (2, 0)
    assert [shown["raised"], metadata(execute("stock_watch"), "low_stock")["raised"]] == [1, 0]
    assert [metadata(execute("alert_delivery"), "deliver_alerts")["sent"] for _ in range(2)] == [1, 0]
    assert len(webhook.bodies) == 1


def test_a_dead_target_fails_no_run_and_the_alert_waits(
    environment: World, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDAS_NOTIFY_URLS", "json://127.0.0.1:1/dead mailto://127.0.0.1:1?from=a@example.com")
    add_product(environment.database, sku="A-1", stock_quantity=2)
    for job in ("stock_watch", "daily_report"):
        execute(job)
    assert metadata(execute("alert_delivery"), "deliver_alerts")["waiting"] == 2
    assert value(environment.database, "SELECT count(*) FROM alerts WHERE sent_at IS NULL") == 2


def test_the_brake_is_a_check_that_counts_all_it_holds_while_the_run_goes_on(
    environment: World, execute: Execute
) -> None:
    for number in range(32):
        add_product(environment.database, sku=f"A-{number}")
    environment.full()
    run(environment.database, "UPDATE products SET stock_quantity = 0 WHERE id <= 30")
    run(environment.database, "UPDATE products SET stock_quantity = 3 WHERE id = 31")
    for job, asset in (("inventory_push", "inventory_levels"), ("full_sync", "fourseller_listings")):
        result = execute(job)
        assert result.success
        assert checks(result)["within_the_brake"] is False
        (found,) = [
            one for one in result.get_asset_check_evaluations() if one.check_name == "within_the_brake"
        ]
        assert (found.asset_key, found.severity) == (dg.AssetKey(asset), dg.AssetCheckSeverity.WARN)
        assert found.metadata["failed"].value == 30
        assert "30 would be zeroed" in str(found.description)
        assert "midas sync products --apply" in str(found.metadata["hint"].value)
        assert "has pushed since" in str(brake_spec(asset).description)
    one = execute("incremental_sync", {"fourseller_listings": {"skus": ["A-31"]}})  # what waits, waits still
    found = evaluation(one, "within_the_brake")
    assert (found.passed, found.metadata["checked"].value, found.metadata["failed"].value) == (False, 1, 30)
    assert sorted(one[2] for one in environment.shown.values()) == [3, *[5] * 31]
    assert value(environment.database, "SELECT count(*) FROM alerts WHERE kind = 'brake'") == 1
