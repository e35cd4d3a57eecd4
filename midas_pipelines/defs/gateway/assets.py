"""Assets for the gateway's work between runs; no run materializes them.

The gateway reports them itself, at most once a minute (`midas_pipelines.gateway.worker.dagster_events`). If it reported
to the assets that runs materialize, its events would look newer than the last run's checks, and would keep an asset
fresh whose runs have stopped.
"""

import dagster as dg

from midas_pipelines.lib.metadata import FOURSELLER, OWNERS, PERSONAL, SHOP

PREFIX = "gateway"


def _reported_by_gateway(
    name: str, described: str, *, reads: list[str], writes: dict[str, str]
) -> dg.AssetSpec:
    return dg.AssetSpec(
        [PREFIX, name],
        group_name=PREFIX,
        kinds={"python", "api"},
        owners=OWNERS,
        tags={"driver": "gateway", **writes},
        deps=[dg.AssetKey(reads)],
        description=f"{described} The gateway does this within a second or two, and reports it here at most once a "
        "minute, with the time from each change to its confirmation.",
    )


gateway_orders = _reported_by_gateway(
    "orders",
    "Orders announced by webhooks, read from 4Seller and imported.",
    reads=["fourseller", "orders"],
    writes=SHOP | PERSONAL,
)
gateway_listings = _reported_by_gateway(
    "listings",
    "Items pushed to 4Seller or removed from it as soon as they changed.",
    reads=["storefront", "products"],
    writes=FOURSELLER,
)
gateway_inventory = _reported_by_gateway(
    "inventory",
    "Quantities pushed as soon as the stock changed.",
    reads=["storefront", "products"],
    writes=FOURSELLER,
)
