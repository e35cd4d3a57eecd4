"""Each asset may miss a few of its own renewals, and none is late that nothing renews."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from midas_pipelines.definitions import defs
from midas_pipelines.lib.schedules import WITHOUT_POLICY, policies, windows
from midas_pipelines.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("asset", "settings", "warn", "fail"),
    [
        ("imported_orders", load_settings(orders_interval=10), 22, 42),
        ("sync_performance", load_settings(), 32, 62),
        ("sync_performance", load_settings(performance_interval=30), 62, 122),
        ("fourseller_listings", load_settings(), 12, 22),
        ("order_statuses", load_settings(), 12, 22),
    ],
)
def test_an_asset_warns_after_two_missed_renewals_and_fails_after_four(
    asset: str, settings: Settings, warn: int, fail: int
) -> None:
    assert policies(settings)[asset] == dg.FreshnessPolicy.time_window(
        warn_window=timedelta(minutes=warn), fail_window=timedelta(minutes=fail)
    )


def test_what_a_paused_workflow_would_renew_is_never_late() -> None:
    found = policies(load_settings(paused="stock_watch, performance, daily_report, incremental_sync"))
    late = {"low_stock", "sync_performance", "staff_report"}
    assert not late & found.keys()
    assert found["fourseller_listings"] == dg.FreshnessPolicy.time_window(
        warn_window=windows(24 * 60)[0], fail_window=timedelta(hours=50)
    )


def test_each_of_our_assets_has_a_policy_or_a_reason_to_have_none() -> None:
    graph = defs.resolve_asset_graph()
    ours = {
        spec.key.to_user_string(): spec
        for definition in graph.assets_defs
        for spec in definition.specs
        if definition.is_executable
    }
    assert {name for name, spec in ours.items() if spec.freshness_policy is None} == set(WITHOUT_POLICY) - {
        "fourseller/orders"
    }
