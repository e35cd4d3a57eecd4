"""How old each asset may get: a few of the intervals that it is renewed at, so that one missed run is no alarm."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

from midas_pipelines.settings import Settings

START_UP = timedelta(minutes=2)
"""What a run may take to be launched and to end."""


def policies(settings: Settings) -> dict[str, dg.FreshnessPolicy]:
    """The policy of each asset by name: WARN after two missed renewals, FAIL after four; for the nightly after two."""
    return {
        "changed_listings": every(settings.products_interval),
        "fourseller_listings": nightly(),
        "inventory_levels": every(settings.inventory_interval),
        "order_poll": every(settings.orders_interval),
        "customer_messages": every(settings.orders_interval),
        "order_fulfilment": every(settings.status_interval),
        "order_statuses": every(settings.status_interval),
        "catalog_snapshot": nightly(),
        "listing_observation": nightly(),
        "channel_availability": every(settings.stock_watch_interval),
        "low_stock": every(settings.stock_watch_interval),
        "daily_digest": nightly(),
        "sync_performance": every(60),
        "capacity_plan": nightly(),
        "sync_report": nightly(),
    }


def every(minutes: int) -> dg.FreshnessPolicy:
    """For what is renewed every so many minutes."""
    interval = timedelta(minutes=minutes)
    return dg.FreshnessPolicy.time_window(
        warn_window=2 * interval + START_UP, fail_window=4 * interval + START_UP
    )


def nightly() -> dg.FreshnessPolicy:
    """For what is renewed once a night."""
    return dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=26), fail_window=timedelta(hours=50))


def with_freshness(assets: Iterable[Any], settings: Settings) -> list[Any]:
    """The assets with their policies."""
    known = policies(settings)

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = known.get(spec.key.to_user_string())
        return dg.apply_freshness_policy(spec, policy) if policy is not None else spec

    return list(dg.map_asset_specs(attach, list(assets)))
