"""What the gateway did at once, between two runs: assets of its own, that no run makes.

It tells of them itself, at most once a minute (`midas_pipelines.gateway.worker.dagster_events`). Were its deeds told as those of the assets
that runs make, each would stand there as newer than the checks of the last run, and would keep an asset fresh whose
runs have stopped.
"""

import dagster as dg

from midas_pipelines.lib.metadata import FOURSELLER, OWNERS, PERSONAL, SHOP

PREFIX = "gateway"


def _told_by_gateway(name: str, described: str, *, reads: list[str], writes: dict[str, str]) -> dg.AssetSpec:
    return dg.AssetSpec(
        [PREFIX, name],
        group_name=PREFIX,
        kinds={"python", "api"},
        owners=OWNERS,
        tags={"driver": "gateway", **writes},
        deps=[dg.AssetKey(reads)],
        description=f"{described} The gateway does this within a second or two, and sums it up here, a minute at most in "
        "one event, with how long it took from the change to the answer.",
    )


gateway_orders = _told_by_gateway(
    "orders",
    "Orders that webhooks told of, read from 4Seller and taken in.",
    reads=["fourseller", "orders"],
    writes=SHOP | PERSONAL,
)
gateway_listings = _told_by_gateway(
    "listings",
    "Items brought to 4Seller or taken off as soon as they changed.",
    reads=["storefront", "products"],
    writes=FOURSELLER,
)
gateway_inventory = _told_by_gateway(
    "inventory",
    "Quantities pushed as soon as the stock changed.",
    reads=["storefront", "products"],
    writes=FOURSELLER,
)
