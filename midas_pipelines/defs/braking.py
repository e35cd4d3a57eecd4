"""The brake in Dagster: a blocking check on what a sync would do, told before anything is sent."""

from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.defs.verdicts import verdict

if TYPE_CHECKING:
    from midas_pipelines.sync.brake import BrakeEngaged

NAME = "within_the_brake"
HINT = (
    "If this is right, write it down with `midas sync products --full --plan FILE`, read it, and send it with "
    "`midas sync products --apply FILE`; if not, put the shop right."
)


def brake_spec(asset: str) -> dg.AssetCheckSpec:
    """The check of that asset; while it fails nothing downstream runs."""
    return dg.AssetCheckSpec(
        NAME,
        asset=asset,
        blocking=True,
        description="The push zeroes, removes or reprices no more of the catalogue than it may without a person.",
    )


def brake_held() -> dg.AssetCheckResult:
    """The check of a push that went through."""
    return verdict([], name=NAME, hint=HINT)


def brake_engaged(stopped: "BrakeEngaged") -> dg.AssetCheckResult:
    """The check of a push that was stopped, with what it would have done."""
    return verdict(stopped.steps, name=NAME, passed=False, description=str(stopped), hint=HINT)
