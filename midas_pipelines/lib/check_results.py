"""Check results: how many offenders, the worst by name, and what to do about them.

ERROR is a broken invariant, WARN something that a person should look at. None blocks: each failure concerns one item or
order, which the engine quarantines, and must not hold up the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from midas_pipelines.lib.links import Shown
from midas_pipelines.lib.metadata import table

MOST_SHOWN = 20
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def check_result(
    offenders: Sequence[Mapping[str, Any]],
    *,
    hint: str,
    counted: str = "items",
    severity: dg.AssetCheckSeverity = ERROR,
    passed: bool | None = None,
    name: str | None = None,
    description: str | None = None,
    links: Shown | None = None,
    more: Mapping[str, Any] | None = None,
    total: int | None = None,
) -> dg.AssetCheckResult:
    """A check's result.

    Args:
        offenders: the worst first, each with its name and the two values that should agree.
        hint: what to do, in a sentence that names the command; shown when the check fails.
        counted: the name of their count.
        severity: how bad a failure is.
        passed: overrides "there are no offenders".
        name: of the check, for an asset that has several.
        description: why nothing could be judged.
        links: where to look at them, as `links.links` makes them.
        more: other numbers.
        total: how many there are, where `offenders` are the first of them.
    """
    from midas_pipelines.sync.operations.formatting import plain

    well = not offenders if passed is None else passed
    return dg.AssetCheckResult(
        check_name=name,
        passed=well,
        severity=severity,
        description=description and plain(description),  # the UI renders it; it may quote 4Seller
        metadata={
            counted: len(offenders) if total is None else total,
            "offenders": table(offenders[:MOST_SHOWN]),
            **({} if well else {"hint": dg.MetadataValue.md(hint)}),
            **(links or {}),
            **(more or {}),
        },
    )
