"""The erasure of buyers whose time has come."""

import dagster as dg

from midas_pipelines.defs.orders.assets import order_statuses
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import shop_check
from midas_pipelines.lib.metadata import OWNERS, PERSONAL, SHOP, numbers, table


@dg.asset(
    group_name="privacy",
    kinds={"python"},
    owners=OWNERS,
    tags=SHOP | PERSONAL,
    deps=[order_statuses],
    pool="operations",
)
def erased_buyers(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Erases the buyers whose time has come; shows by week who is due, who was erased, and whom the law keeps."""
    with midas.sync_context(context) as sync:
        report = engine.erase_due_buyers(sync)
        weeks = engine.erasure_weeks(sync.database, sync.settings)
    context.log.info(f"{report.erased} buyers erased, {report.busy} busy, {weeks.overdue} overdue.")
    return dg.MaterializeResult(
        metadata={
            **numbers(report, "erased", "busy", "events", "left"),
            **{
                f"all_{name}": count
                for name, count in numbers(weeks, "due", "overdue", "erased", "held", "never").items()
            },
            "weeks": table(weeks.weeks),
        }
    )


CHECKS = [
    shop_check(
        erased_buyers,
        "no_buyer_kept_too_long",
        "No buyer is kept longer than MIDAS_ERASE_BUYERS_AFTER_DAYS says, unless the law holds the order.",
        lambda sync: engine.overdue_buyers(sync.database, sync.settings),
        counted="orders",
        hint="See why `buyer_erasure` does not run: `midas status`, or its schedule and last run in this UI; "
        "`midas privacy erase-due` erases them now.",
    ),
    shop_check(
        erased_buyers,
        "every_request_answered_in_time",
        "Each request of a person is answered within its 30 days.",
        lambda sync: engine.late_requests(sync.database),
        counted="requests",
        hint="`midas privacy requests` lists them; say the request again, such as `midas privacy erase --email …`.",
    ),
]
