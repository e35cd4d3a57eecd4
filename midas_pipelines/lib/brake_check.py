"""The brake check: what a push held back. It fails while anything is held, and fails no run."""

import dagster as dg

from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import WARN, check_result

NAME = "within_the_brake"
HINT = (
    "If this is right, write it down with `midas sync products --full --plan FILE`, read it, and send it with "
    "`midas sync products --apply FILE`; if not, put the shop right."
)


def brake_spec(asset: str) -> dg.AssetCheckSpec:
    """The check of that asset. Staff have an alert of kind `brake` while it fails."""
    return dg.AssetCheckSpec(
        NAME,
        asset=asset,
        description="The push zeroes, removes or reprices no more of the catalogue than it may without a person.",
    )


def brake_result(report: "engine.InventoryReport | engine.ProductReport") -> dg.AssetCheckResult:
    """The check of a push, with what it held back."""
    return check_result(
        report.held_items,
        name=NAME,
        total=report.held,
        severity=WARN,
        description=report.stopped,
        hint=HINT,
    )
