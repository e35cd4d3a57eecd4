"""Operations assets: how syncs run, what the staff reads each day, backups, and what is asked of us."""

import asyncio
from datetime import timedelta
from typing import Any

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.check_results import ERROR, WARN, check_result
from midas_pipelines.recovery.figures import FIGURES
from midas_pipelines.workflows import pool_of

GROUP = "operations"


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    pool=pool_of("sync_performance"),
    deps=[
        "fourseller_listings",
        "inventory_levels",
        "imported_orders",
        "order_statuses",
        "listing_observation",
    ],
    metadata=ui.columns(
        work="string: products, inventory, orders, status, reconcile or gateway",
        syncs="int: runs; a gateway has none",
        items="int: items or orders looked at",
        written="int: items written at 4Seller",
        requests="int: calls to 4Seller",
        seconds="decimal: at work",
    )
    | ui.IN_DAGSTER,
)
def sync_performance(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Throughput, latency, error rate and age of the queue over the last hour, to be plotted over time.

    Includes the gateway. `requests_per_second` covers only the seconds in which a sync or the gateway was working.
    """
    with midas.sync_context(context) as sync:
        rows = engine.sync_metrics.finished_syncs(sync.database, seconds=3600)
        queue = engine.sync_metrics.stock_measured(sync.database)
    waits = {"queue": queue.waiting, "oldest_in_queue_seconds": queue.oldest_seconds}
    kinds, sums = engine.sync_metrics.by_kind(rows), engine.sync_metrics.sum_up(rows)
    sums["seconds_at_work"] = sums.pop("seconds")
    return ui.made(sync, {"dagster/row_count": len(kinds), **sums, **waits, "by_kind": ui.table(kinds)})


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    pool=pool_of("capacity_plan"),
    deps=[sync_performance],
    metadata=ui.columns(days="int: from today", full_sync_seconds="decimal: of a full sync by then")
    | ui.IN_DAGSTER,
)
def capacity_plan(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """How long a full sync takes today, in 30 and in 90 days, and what to raise first, with the arithmetic shown.

    Worst case: every item has to be written. Growth is that of the last 30 days, the pace that of their large pushes.
    """
    with midas.sync_context(context) as sync:
        measured = engine.capacity.measure(sync.database, sync.settings)
    plan, horizons = engine.capacity.plan_capacity(measured), engine.capacity.HORIZONS
    took = {days: round(measured.full_sync_seconds(days), 1) for days in horizons}
    seconds = {f"full_sync_seconds_in_{days}_days": found for days, found in took.items()}
    return ui.made(
        sync,
        {
            "dagster/row_count": len(seconds),
            "plan": dg.MetadataValue.md(plan.markdown),
            "raise_first": plan.raise_first,
            "advice": plan.words,
            "calls_per_second": round(measured.sync_pace, 4),
            "pace_from": "pushes" if measured.pace.measured else "assumed",
            **seconds,
        },
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    pool=pool_of("staff_report"),
    deps=[sync_performance, "low_stock"],
    metadata=ui.columns(line="string: of the report that staff get") | ui.IN_DAGSTER,
)
def staff_report(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """The day for staff: what was synced, what waits, what runs out, what needs a person. It is an alert, once a day, which
    the job `alert_delivery` sends.

    In shadow mode also what was kept back, against what 4Seller and the shop show by now.
    """
    shadowed: dict[str, Any] = {}
    with midas.sync_context(context) as sync:
        text, counts = engine.write_report(sync)
        if sync.settings.shadow:
            shadow = asyncio.run(engine.compare_shadow(sync, report_it=True))
            shadowed = {**ui.numbers(shadow, "kept", "agree"), "differ": len(shadow.differ)}
            shadowed["shadow_differences"] = ui.table(shadow.differ[:20])
    counts["seconds_at_work"] = counts.pop("seconds")
    report = {
        "dagster/row_count": len(text.splitlines()),
        "report": dg.MetadataValue.md(engine.escaped(text)),
    }
    return ui.made(sync, {**report, **counts, **shadowed})


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    pool=pool_of("backups"),
    tags=ui.PERSONAL,
    deps=[ui.PRODUCTS, "imported_orders"],
    metadata=ui.columns(
        name="string: a sealed file of the newest backup",
        size="int: bytes before compression",
        sha256="string: of its plain content",
    )
    | {"dagster/uri": f"{SETTINGS.backup_to}"},
)
def backups(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Encrypted backups of our tables, the shop's tables that we use, and Dagster's storage; the newest one's figures."""
    with midas.sync_context(context) as sync:
        backup = engine.create_backup(sync.settings, sync.database, "Dagster")
    figures = ui.numbers(backup, "rows", "size", "parts", "seconds", "removed")
    return ui.made(sync, {"dagster/row_count": backup.parts, "name": backup.name, **figures})


@dg.asset_check(asset=backups)
def newest_backup_restores(
    context: dg.AssetCheckExecutionContext, midas: MidasResource
) -> dg.AssetCheckResult:
    """The last drill, a run of `restore_drill` or a person's, restored the newest backup, and every invariant held on it.

    Shows how old that proof is, what would be lost (RPO) and how long the restore took (RTO), in seconds.
    """
    with midas.sync_context(context) as sync:
        now = sync.database.now()
        proof = sync.database.read(engine.last_proofs).get("backup_drill")
    hint = "`midas backup verify` reads the files; `midas backup drill` restores the newest again."
    if proof is None:
        return check_result([], hint=hint, severity=WARN, passed=False, description="No drill was made yet.")
    age, detail = now - proof.at, proof.detail or {}
    late = age > timedelta(days=engine.PROOFS["backup_drill"][1])
    return check_result(
        [{"invariant": name, "rows": count} for name, count in detail.get("broken", {}).items()],
        passed=proof.passed and not late,
        severity=WARN if proof.passed else ERROR,
        description=f"The drill ended early: {detail['error']}." if "error" in detail else None,
        checked=detail.get("checked"),
        hint=hint,
        more={"age_seconds": round(age.total_seconds())}
        | {name: detail[name] for name in ("name", "rpo_seconds", "rto_seconds") if name in detail},
    )


@dg.asset(
    group_name=GROUP,
    kinds={"python"},
    pool=pool_of("compliance"),
    deps=["imported_orders", "order_statuses", *([backups] if SETTINGS.backup_to else [])],
    check_specs=[dg.AssetCheckSpec(name, asset="compliance") for name in FIGURES],
    metadata=ui.columns(
        result="string: PASS or FAIL",
        asked="string: the figure",
        by="string: the marketplace or the law",
        here="string: what runs here",
    )
    | ui.IN_DAGSTER,
)
def compliance(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What marketplaces and the law ask for, against the running settings and the newest proofs; a check for each figure."""
    with midas.sync_context(context) as sync:
        rows = engine.compliance_rows(sync.settings, sync.database)
    shown = [
        {"result": row.result.value, "asked": row.asked, "by": row.by, "here": row.reason} for row in rows
    ]
    failed = [row for row in rows if row.result.value == "FAIL"]
    return ui.made(
        sync,
        {
            "dagster/row_count": len(rows),
            "passed": len(rows) - len(failed),
            "failed": len(failed),
            "rows": ui.table(shown),
        },
        check_results=[
            check_result(
                [{"asked": row.asked, "here": row.reason}] if row in failed else [],
                name=row.name,
                checked=1,
                severity=WARN,
                hint=f"{row.reason} `midas compliance` shows all figures.",
                description=row.reason,
            )
            for row in rows
        ],
    )
