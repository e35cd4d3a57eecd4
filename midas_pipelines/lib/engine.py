"""The engine for what Dagster loads: each name or module is imported when it is first used (PEP 562).

Every Dagster process loads all definitions, and most of them run one small thing: SQLAlchemy, the channel's client and
the rest of the engine would double the time to load. The imports below are for type checkers, and the one list of what
there is.
"""
# ruff: noqa: F401

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midas_pipelines.fourseller.status import BACKWARD
    from midas_pipelines.notify import alerts
    from midas_pipelines.notify.delivery import deliver, read_targets, something_due
    from midas_pipelines.recovery.backup import create_backup
    from midas_pipelines.recovery.compliance import PROOFS, compliance_rows
    from midas_pipelines.recovery.restore import run_drill
    from midas_pipelines.store.database import Database, count_rows
    from midas_pipelines.store.gateway import audit, webhooks
    from midas_pipelines.store.gateway.keys import expiring_keys
    from midas_pipelines.store.items.mappings import count_dirty, shard_totals
    from midas_pipelines.store.operations import backlog, sync_metrics
    from midas_pipelines.store.operations.cursors import last_proofs
    from midas_pipelines.store.operations.findings import recent_findings
    from midas_pipelines.store.operations.page_urls import Names, page_names
    from midas_pipelines.store.operations.retention import delete_old
    from midas_pipelines.store.orders import checks, listing
    from midas_pipelines.store.schema import version
    from midas_pipelines.store.stock import ledger
    from midas_pipelines.sync import product_sync
    from midas_pipelines.sync.context import NEEDS_KEY, SyncContext
    from midas_pipelines.sync.listings.brake import RollingBrake
    from midas_pipelines.sync.listings.scan import ApprovedPlan, make_plan, read_plan
    from midas_pipelines.sync.operations import capacity, stock_levels
    from midas_pipelines.sync.operations.daily_report import write_report
    from midas_pipelines.sync.orders.customer_mail import mail_due, send_mails, unsent_messages
    from midas_pipelines.sync.orders.intake.pages import OrderReport
    from midas_pipelines.sync.orders.intake.poll import Window, import_orders, order_progress
    from midas_pipelines.sync.orders.status.status_sync import sync_statuses
    from midas_pipelines.sync.privacy.due import erase_due_buyers, erasure_weeks, overdue_buyers
    from midas_pipelines.sync.privacy.requests import late_requests
    from midas_pipelines.sync.reconcile.report import ReconcileReport
    from midas_pipelines.sync.reconcile.run import reconcile
    from midas_pipelines.sync.safety.shadow_report import compare_shadow
    from midas_pipelines.sync.snapshots.consistency import differences, measure
    from midas_pipelines.sync.snapshots.files import Snapshots, Spool, place
    from midas_pipelines.sync.snapshots.take import listing_of, snapshot_catalog, snapshot_listing
    from midas_pipelines.sync.sync_log import logged_sync, progress_lines
    from midas_pipelines.text import escaped

else:

    def __getattr__(name: str) -> Any:
        """What the import above names so, as its module has it now."""
        module = _modules().get(name)
        if module is None:
            raise AttributeError(f"The engine has no {name} for Dagster: add its import to {__name__}.")
        return getattr(__import__(module, fromlist=[name]), name)


@cache
def _modules() -> dict[str, str]:
    """The module of each name, read from the imports of this file."""
    nodes = ast.walk(ast.parse(Path(__file__).read_text()))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.col_offset]
    return {alias.name: str(node.module) for node in imports for alias in node.names}
