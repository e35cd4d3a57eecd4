"""Catalog assets: what the shop sells now."""

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import DATABASE_KIND, table_name
from midas_pipelines.lib import engine
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.check_results import WARN, check_result, shop_check
from midas_pipelines.lib.snapshot_io import kept_in, made_for_this_shop, run_set, shown_of
from midas_pipelines.workflows import pool_of

GROUP = "catalog"
DAYS_COMPARED = 3


@ui.observed(
    ui.PRODUCTS.path,
    group_name=GROUP,
    kinds={DATABASE_KIND},
    metadata=ui.columns(
        id="int: the product's",
        sku="string: unique; its variants have SKUs of their own",
        name="string: the title that buyers see",
        price="decimal: USD",
        discount_percentage="decimal: off the price",
        stock_quantity="int: units on hand",
        status="string: only what is active is sold",
    )
    | table_name("products"),
)
def storefront_products(context: dg.OpExecutionContext, midas: MidasResource) -> dg.ObserveResult:
    """The shop's own `products` and `product_variants`. Triggers record each change, from any writer."""
    with midas.sync_context(context, as_it_is=True) as sync:
        items = engine.count_rows(sync.database, "products")
        variants = engine.count_rows(sync.database, "product_variants")
    return dg.ObserveResult(metadata={"dagster/row_count": items, "variants": variants})


@dg.asset_check(asset=storefront_products)
def columns_as_expected(context: dg.AssetCheckExecutionContext, midas: MidasResource) -> dg.AssetCheckResult:
    """The shop's tables have the columns that a sync reads and writes, of the kinds it expects; else none begins."""
    with midas.sync_context(context, as_it_is=True) as sync, sync.database.reading() as connection:
        found = engine.version.differing_columns(connection)
    return check_result(
        found,
        checked=len(engine.version.EXPECTED),
        hint="Put these columns of the shop's tables back; `midas doctor` looks at them again.",
    )


@dg.asset(
    group_name=GROUP,
    kinds={"parquet"},
    pool=pool_of("catalog_snapshot"),
    deps=[storefront_products, "inventory_levels"],
    io_manager_key="snapshots",
    metadata=kept_in("catalog_snapshot"),
)
def catalog_snapshot(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What the shop says of every sellable item, and what 4Seller should show of it: a Parquet file a day.

    A record of one moment; the last of a day is kept. `midas explain SKU --at DAY`, `midas diff` and the consistency
    figure read it. Syncs never do: they read the shop's tables. What 4Seller confirmed comes from the rows that
    `fourseller_listings` and, after it, `inventory_levels` write.
    """
    with midas.sync_context(context) as sync:
        if (earlier := made_for_this_shop(context, sync)) is not None:
            return earlier
        spool, previews = engine.snapshot_catalog(sync, run_set(context))
    facts = shown_of(spool.rows, spool.facts, sync.settings.today(), sync.run_id)
    return ui.made(sync, facts | {name: ui.table(rows) for name, rows in previews.items()}, value=spool)


skus_unique = shop_check(
    catalog_snapshot,
    "skus_unique",
    "No two sellable items share a SKU: 4Seller could not distinguish them.",
    lambda sync: engine.ledger.duplicate_skus(sync.database),
    counted=lambda sync: sync.database.read(engine.ledger.stock_totals).items,
    severity=WARN,
    hint="Give each of them a SKU of its own in the shop; until then the later ones are quarantined: `midas items list`.",
)


@dg.asset_check(asset=catalog_snapshot)
def catalog_kept_its_size(
    context: dg.AssetCheckExecutionContext, midas: MidasResource
) -> dg.AssetCheckResult:
    """The newest snapshot has more than half the items of each of the three days before it that have one."""
    kind = catalog_snapshot.key.path[-1]
    with midas.sync_context(context) as sync:
        kept = engine.Snapshots.of(sync.settings)
        counts = [(day, kept.rows(kind, day)) for day in kept.days(kind)[-DAYS_COMPARED - 1 :]]
    if not counts:
        return check_result([], hint="", description="No snapshot is kept yet.")
    *before, (_, now) = counts
    larger = [(day, rows) for day, rows in before if now * 2 <= rows]
    offenders = [{"day": f"{day:%Y-%m-%d}", "items": rows, "now": now} for day, rows in larger]
    return check_result(
        offenders,
        severity=WARN,
        checked=now,
        hint="`midas diff --from DAY --to DAY` shows what went; put the shop right unless it is meant. What the brake "
        "held back stays on 4Seller until then.",
        more={"compared_with": len(before)},
    )
