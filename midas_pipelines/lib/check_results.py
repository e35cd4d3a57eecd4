"""Check results: how many offenders, the worst by name, and what to do about them.

ERROR is a broken invariant, WARN something that a person should look at. No check blocks an asset: a failure concerns one
item or order, which the engine quarantines; where the shop's columns changed, the engine itself begins nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from midas_pipelines.console_pages import in_console
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import table, tables

MOST_SHOWN = 20
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def check_result(
    offenders: Sequence[Mapping[str, Any]],
    *,
    hint: str,
    sync: "engine.SyncContext | None" = None,
    severity: dg.AssetCheckSeverity = ERROR,
    passed: bool | None = None,
    name: str | None = None,
    description: str | None = None,
    more: Mapping[str, Any] | None = None,
    total: int | None = None,
    checked: int | None = None,
) -> dg.AssetCheckResult:
    """A check's result.

    Args:
        offenders: the worst first, each with its name and the two values that should agree.
        hint: what to do, in a sentence that names the command, in whose place the console's page is shown where that
            has an address; shown when the check fails.
        sync: finds titles and pages of the items and orders that offenders name.
        passed: overrides "there are no offenders".
        description: why nothing could be judged.
        total: how many there are, where `offenders` are the first of them.
    """
    well = not offenders if passed is None else passed
    shown = {} if well else {"hint": in_console(hint, SETTINGS.console_url, markdown=True)}
    worst = offenders[:MOST_SHOWN]
    named = {"offenders": table(worst)} if sync is None else tables(sync, offenders=worst)
    return dg.AssetCheckResult(
        check_name=name,
        passed=well,
        severity=severity,
        description=description and engine.escaped(description),  # the UI renders it; it may quote 4Seller
        metadata={
            **({} if checked is None else {"checked": checked}),
            **({} if well and not offenders else {"failed": len(offenders) if total is None else total}),
            **(named if offenders else {}),
            **{name: dg.MetadataValue.md(text) for name, text in shown.items()},
            **(more or {}),
        },
    )


def shop_check(
    asset: Any,
    name: str,
    description: str,
    find: Callable[["engine.SyncContext"], Sequence[Mapping[str, Any]]],
    *,
    hint: str,
    counted: str | Callable[["engine.SyncContext"], int],
    severity: dg.AssetCheckSeverity = ERROR,
) -> dg.AssetChecksDefinition:
    """A check that reads the shop's database alone, and passes when it finds no offenders.

    Args:
        description: what is true while it passes.
        find: reads the offenders, the worst first.
        counted: the table whose rows are all looked at, or what counts those that are.
    """

    @dg.asset_check(asset=asset, name=name, description=description, required_resource_keys={"midas"})
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with context.resources.midas.sync_context(context) as sync:
            found = find(sync)
            checked = engine.count_rows(sync.database, counted) if isinstance(counted, str) else counted(sync)
            return check_result(found, sync=sync, hint=hint, severity=severity, checked=checked)

    return check


BRAKE = "within_the_brake"
BRAKE_HINT = (
    "If this is right, write it down with `midas sync products --full --plan FILE`, read it, and send it with "
    "`midas sync products --apply FILE`; if not, put the shop right."
)


def brake_spec(asset: str) -> dg.AssetCheckSpec:
    """The check of that asset. Staff have an alert of kind `brake` while it fails."""
    return dg.AssetCheckSpec(
        BRAKE,
        asset=asset,
        description="The push zeroes, removes or reprices no more of the catalog than it may without a person. "
        "*Not evaluated*: the gateway or a backfill has pushed since; see the execution history.",
    )


def brake_result(
    sync: "engine.SyncContext",
    report: "engine.product_sync.InventoryReport | engine.product_sync.ProductReport",
) -> dg.AssetCheckResult:
    """The check of a push: what waits now, of whichever items the push was, is no more than may be sent."""
    brake = engine.RollingBrake(sync.database, sync.settings)
    brake.weigh_all(time.monotonic())
    return check_result(
        report.held_items,
        sync=sync,
        name=BRAKE,
        total=max(report.held, brake.over),
        severity=WARN,
        passed=not (report.held or brake.engaged),
        description=report.stopped or brake.message,
        hint=BRAKE_HINT,
        checked=report.scanned,
    )


def results_of_a_part(
    context: dg.AssetExecutionContext, results: Sequence[dg.AssetCheckResult]
) -> list[dg.AssetCheckResult]:
    """The results of a run that looked at some items alone: its failures, and the last result again where it found
    none, since a part can show that something is wrong, never that nothing is."""
    known = context.instance.event_log_storage.get_asset_check_summary_records

    def judged(result: dg.AssetCheckResult) -> dg.AssetCheckResult:
        key = dg.AssetCheckKey(context.asset_key, str(result.check_name))
        record = known([key])[key].last_completed_check_execution_record
        last = record.evaluation if record is not None else None
        found_some = not (result.passed or result.description)  # with a description it could judge nothing
        if found_some or last is None:
            return result
        shown = {"metadata": last.metadata, "severity": last.severity, "description": last.description}
        return dg.AssetCheckResult(passed=last.passed, check_name=key.name, **shown)

    return [judged(result) for result in results]
