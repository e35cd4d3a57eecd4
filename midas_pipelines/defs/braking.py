"""The brake in Dagster: a blocking check on what a sync would do, told before anything is sent."""

from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.defs.metadata import table

if TYPE_CHECKING:
    from midas_pipelines.sync.brake import BrakeEngaged

NAME = "within_the_brake"


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
    return dg.AssetCheckResult(check_name=NAME, passed=True)


def brake_engaged(stopped: "BrakeEngaged") -> dg.AssetCheckResult:
    """The check of a push that was stopped, with what it would have done."""
    return dg.AssetCheckResult(
        check_name=NAME,
        passed=False,
        description=str(stopped),
        metadata={"items": len(stopped.steps), "would_do": table(stopped.steps)},
    )
