"""How old each asset may get: a few of the intervals that it is really renewed at, so that one missed run is no alarm."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

from midas_pipelines.lib.timetable import minutes_apart
from midas_pipelines.settings import Settings
from midas_pipelines.workflows import WORKFLOWS

START_UP = timedelta(minutes=2)
"""What a run may take to be launched and to end."""

DAY = 24 * 60

WITHOUT_POLICY = {
    "sync_plan": "It is made when a person asks for it.",
    "storefront/products": "The shop writes it; it is observed.",
    "inventory_ledger": "Triggers write it; it is observed.",
    "fourseller/orders": "4Seller has them; they are observed.",
}
"""Assets whose age says nothing, and why."""


def renewals(settings: Settings) -> dict[str, int]:
    """The minutes after which each asset is renewed, by the workflow that renews it most often; without paused ones."""
    found: dict[str, int] = {}
    for workflow in WORKFLOWS:
        minutes = minutes_apart(settings, workflow)
        if minutes is not None and not settings.is_paused(workflow.name):
            for asset in set(workflow.makes) - WITHOUT_POLICY.keys():
                found[asset] = min(minutes, found.get(asset, minutes))
    return found


def windows(minutes: int) -> tuple[timedelta, timedelta]:
    """The ages at which an asset that is renewed every `minutes` warns and is late.

    After two missed renewals and after four; of what is renewed daily after one and after two.
    """
    if minutes == DAY:
        return timedelta(hours=26), timedelta(hours=50)
    interval = timedelta(minutes=minutes)
    return 2 * interval + START_UP, 4 * interval + START_UP


def longest_ages(settings: Settings) -> dict[str, timedelta]:
    """How old each asset may get before it counts as late: the age at which its policy fails."""
    return {asset: windows(minutes)[1] for asset, minutes in renewals(settings).items()}


def policies(settings: Settings) -> dict[str, dg.FreshnessPolicy]:
    """The policy of each asset by name; none where all workflows that renew it are paused."""
    made = {asset: windows(minutes) for asset, minutes in renewals(settings).items()}
    return {
        asset: dg.FreshnessPolicy.time_window(warn_window=warn, fail_window=fail)
        for asset, (warn, fail) in made.items()
    }


def with_freshness(assets: Iterable[Any], settings: Settings) -> list[Any]:
    """The assets with their policies."""
    known = policies(settings)

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = known.get(spec.key.to_user_string())
        return dg.apply_freshness_policy(spec, policy) if policy is not None else spec

    return list(dg.map_asset_specs(attach, list(assets)))
