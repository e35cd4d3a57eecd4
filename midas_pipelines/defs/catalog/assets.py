"""Catalog assets: what the shop sells now."""

import time
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import WARN, shop_check
from midas_pipelines.lib.metadata import OWNERS, columns, preview
from midas_pipelines.lib.shards import SHARDS, shards_of

if TYPE_CHECKING:
    import pandas as pd

GROUP = "catalog"

storefront_products = dg.AssetSpec(
    ["storefront", "products"],
    group_name="storefront",
    kinds={"postgres"},
    owners=OWNERS,
    description="The shop's own `products` and `product_variants`. Triggers record each change, from any writer.",
)


@dg.asset(
    group_name=GROUP,
    kinds={"python", "pandas"},
    owners=OWNERS,
    deps=[storefront_products],
    partitions_def=SHARDS,
    pool="listings",
    io_manager_key="frames",
    metadata=columns(
        sku="string: the shop's SKU; empty where the shop gave none",
        title="string: as buyers see it",
        price="decimal: selling price in USD, after adjustment and discount",
        on_hand="int: stock in the shop",
        available="int: what channels may show",
        category="string",
        brand="string",
        state="string: new, listed, quarantined or removed",
        reason="string: why it cannot be listed",
        shard="string: the shard of the catalog that a backfill handles it in",
    ),
)
def catalog_snapshot(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Every sellable item: a product without variants, or a variant, with its price and stock as they are now.

    A record of one moment, for people and for analysis. Syncs never read it: they read the shop's tables afresh.
    """
    import pandas as pd  # takes as long to load as half of dagster, and only this asset needs it

    started = time.perf_counter()
    with midas.sync_context(context) as sync:
        frame = pd.DataFrame(
            engine.snapshot_rows(sync.database, sync.settings.title_limit, shards_of(context))
        )
    frame = _with_shards(frame)
    unlistable = frame[frame["reason"].notna()] if len(frame) else frame
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "dagster/row_count": len(frame),
            "units_on_hand": int(frame["on_hand"].sum()) if len(frame) else 0,
            "out_of_stock": int((frame["available"] == 0).sum()) if len(frame) else 0,
            "cannot_be_listed": len(unlistable),
            "seconds": round(time.perf_counter() - started, 3),
            "preview": preview(frame),
            "cannot_be_listed_preview": preview(unlistable),
        },
    )


def _with_shards(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The frame with each row's shard in place of its mapping's id."""
    if not len(frame):
        return frame
    names = SHARDS.get_partition_keys()
    return frame.assign(shard=[names[row % len(names)] for row in frame["mapping"]]).drop(columns="mapping")


skus_unique = shop_check(
    catalog_snapshot,
    "skus_unique",
    "No two sellable items share a SKU: 4Seller could not distinguish them.",
    lambda sync: engine.duplicate_skus(sync.database),
    counted="shared",
    severity=WARN,
    hint="Give each of them a SKU of its own in the shop; until then the later ones are quarantined: `midas items list`.",
)
