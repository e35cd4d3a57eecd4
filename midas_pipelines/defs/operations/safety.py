"""Safety assets: where 4Seller's answers differ from the contract, and what shadow mode kept back."""

import asyncio

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import WARN, check_result
from midas_pipelines.lib.metadata import FOURSELLER, OWNERS, table

GROUP = "operations"
RECENT_DAYS = 7
SHOWN = ("kind", "call", "place", "what", "times", "first_at", "last_at")


@dg.asset(
    group_name=GROUP,
    kinds={"python", "api"},
    owners=OWNERS,
    tags=FOURSELLER,
    pool="operations",
    check_specs=[dg.AssetCheckSpec("answers_keep_the_contract", asset="fourseller_contract")],
)
def fourseller_contract(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Where 4Seller's answers differed from the contract: unknown fields and words, types, missing fields, statuses, paging.

    Found in a sample of all answers in production. `midas contract diff` proposes the change to the contract.
    """
    with midas.sync_context(context) as sync, sync.database.reading() as connection:
        found = engine.read_findings(connection)
        recent = engine.read_findings(connection, days=RECENT_DAYS)
    rows = [{name: str(row[name]) for name in SHOWN} for row in recent]
    result = check_result(
        rows,
        name="answers_keep_the_contract",
        severity=WARN,
        hint="See `midas contract list`, and `midas contract diff` for the change to openapi.yaml.",
    )
    return dg.MaterializeResult(
        check_results=[result],
        metadata={"findings": len(found), "recent": len(rows), "worst": table(rows[:20])},
    )


@dg.asset(group_name=GROUP, kinds={"python", "api"}, owners=OWNERS, tags=FOURSELLER, pool="operations")
def shadow_report(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What shadow mode kept back, against what 4Seller and the shop show by now; sent to staff once a day.

    Empty while MIDAS_SHADOW is off.
    """
    with midas.sync_context(context) as sync:
        if not sync.settings.shadow:
            return dg.MaterializeResult(metadata={"shadow_mode": "off"})
        report = asyncio.run(engine.compare_shadow(sync, tell=True))
    return dg.MaterializeResult(
        metadata={
            "kept": report.kept,
            "agree": report.agree,
            "differ": len(report.differ),
            "worst": table(report.differ[:20]),
        }
    )
