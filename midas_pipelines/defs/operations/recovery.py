"""Backups, restore drills and the compliance report."""

import dagster as dg

from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib import engine
from midas_pipelines.lib.check_results import WARN, check_result
from midas_pipelines.lib.metadata import OWNERS, PERSONAL, numbers, table
from midas_pipelines.recovery.figures import FIGURES

BY = "Dagster"


@dg.asset(group_name="recovery", kinds={"python"}, owners=OWNERS, tags=PERSONAL, pool="operations")
def backups(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """Encrypted backups of our tables, the shop's tables that we use, and Dagster's storage; the newest one's figures."""
    with midas.sync_context(context) as sync:
        made = engine.create_backup(sync.settings, sync.database, BY)
    figures = numbers(made, "rows", "size", "parts", "seconds", "removed")
    return dg.MaterializeResult(metadata={"name": made.name, **figures})


@dg.asset(group_name="recovery", kinds={"python"}, owners=OWNERS, deps=[backups], pool="operations")
def backup_drill(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """The newest backup restored into a scratch database and checked: what would be lost (RPO), how long it took (RTO)."""
    with midas.sync_context(context) as sync:
        drill = engine.run_drill(sync.settings, sync.database, BY)
    broken = [{"invariant": name, "rows": count} for name, count in drill.broken.items()]
    figures = numbers(drill, "rpo_seconds", "rto_seconds", "checked")
    return dg.MaterializeResult(
        metadata={"name": drill.name, **figures, "broken": len(broken), "offenders": table(broken)}
    )


@dg.asset(
    group_name="recovery",
    kinds={"python"},
    owners=OWNERS,
    deps=[backup_drill],
    pool="operations",
    check_specs=[dg.AssetCheckSpec(name, asset="compliance") for name in FIGURES],
)
def compliance(context: dg.AssetExecutionContext, midas: MidasResource) -> dg.MaterializeResult:
    """What marketplaces and the law ask for, against the running settings and the newest proofs; a check for each figure."""
    with midas.sync_context(context) as sync:
        facts = engine.read_facts(sync.settings, sync.database)
        with sync.database.writing() as connection:
            engine.match_alerts(connection, kind="key", texts=engine.expiring_keys(connection, 30))
    rows = engine.compliance_rows(facts)
    shown = [
        {"verdict": row.verdict.value, "asked": row.asked, "by": row.by, "here": row.reason} for row in rows
    ]
    failed = [row for row in rows if row.verdict.value == "FAIL"]
    return dg.MaterializeResult(
        metadata={"passed": len(rows) - len(failed), "failed": len(failed), "rows": table(shown)},
        check_results=[
            check_result(
                [{"asked": row.asked, "here": row.reason}] if row in failed else [],
                name=row.name,
                severity=WARN,
                hint=f"{row.reason} `midas compliance` shows all figures.",
                description=row.reason,
            )
            for row in rows
        ],
    )
