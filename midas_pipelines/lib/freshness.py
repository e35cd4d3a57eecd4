"""How old each asset may get: a few of the intervals that it is really renewed at, so that one missed run is no alarm."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

from midas_pipelines.settings import Settings

START_UP = timedelta(minutes=2)
"""What a run may take to be launched and to end."""

DAY = 24 * 60
NIGHTLY_FAIL = timedelta(hours=50)

WITHOUT_POLICY = {
    "sync_plan": "It is made when a person asks for it.",
    "staff_alerts": "It is made when an alert is due, which may be never.",
    "gateway/orders": "It reports processed webhooks; without webhooks there is no event.",
    "gateway/listings": "It reports changes; without changes there is no event.",
    "gateway/inventory": "It reports changes; without changes there is no event.",
}
"""Assets whose age says nothing, and why."""


def renewals(settings: Settings) -> list[tuple[str, str, int]]:
    """Which workflow renews which asset, and how many minutes apart."""
    return [
        ("changed_listings", "incremental_sync", settings.products_interval),
        ("fourseller_listings", "full_sync", DAY),
        ("inventory_levels", "inventory_push", settings.inventory_interval),
        ("order_poll", "order_import", settings.orders_interval),
        ("imported_orders", "order_import", DAY),  # each day is noted as it begins
        ("customer_messages", "order_import", settings.orders_interval),
        ("customer_messages", "status_sync", settings.status_interval),
        ("order_fulfilment", "status_sync", settings.status_interval),
        ("order_statuses", "status_sync", settings.status_interval),
        ("catalog_snapshot", "full_sync", DAY),
        ("listing_observation", "consistency_check", settings.reconcile_interval),
        ("channel_availability", "stock_watch", settings.stock_watch_interval),
        ("low_stock", "stock_watch", settings.stock_watch_interval),
        ("sync_performance", "performance", settings.performance_interval),
        ("capacity_plan", "daily_report", DAY),
        ("daily_report", "daily_report", DAY),
    ]


def shortest(settings: Settings) -> dict[str, int]:
    """The minutes after which each asset is renewed, by the workflow that renews it most often; without paused ones."""
    found: dict[str, int] = {}
    for asset, workflow, minutes in renewals(settings):
        if not settings.is_paused(workflow):
            found[asset] = min(minutes, found.get(asset, minutes))
    return found


def longest_ages(settings: Settings) -> dict[str, timedelta]:
    """How old each asset may get before it counts as late: the age at which its policy fails."""
    return {
        asset: NIGHTLY_FAIL if minutes == DAY else 4 * timedelta(minutes=minutes) + START_UP
        for asset, minutes in shortest(settings).items()
    }


def policies(settings: Settings) -> dict[str, dg.FreshnessPolicy]:
    """The policy of each asset by name, by the workflow that renews it most often; none where all of them are paused.

    WARN after two missed renewals, FAIL after four; of what is renewed nightly after one, and after two.
    """
    return {
        asset: nightly() if minutes == DAY else every(minutes)
        for asset, minutes in shortest(settings).items()
    }


def every(minutes: int) -> dg.FreshnessPolicy:
    """The policy of an asset that is renewed every `minutes`."""
    interval = timedelta(minutes=minutes)
    return dg.FreshnessPolicy.time_window(
        warn_window=2 * interval + START_UP, fail_window=4 * interval + START_UP
    )


def nightly() -> dg.FreshnessPolicy:
    """The policy of an asset that is renewed nightly."""
    return dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=26), fail_window=NIGHTLY_FAIL)


def with_freshness(assets: Iterable[Any], settings: Settings) -> list[Any]:
    """The assets with their policies."""
    known = policies(settings)

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = known.get(spec.key.to_user_string())
        return dg.apply_freshness_policy(spec, policy) if policy is not None else spec

    return list(dg.map_asset_specs(attach, list(assets)))
