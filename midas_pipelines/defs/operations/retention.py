"""Retention: deletes old Dagster runs with their logs, finished webhooks and old audit rows."""

from datetime import UTC, datetime, timedelta
from typing import Protocol

import dagster as dg

from midas_pipelines.lib import engine
from midas_pipelines.lib.runs.history import delete_old_checks, delete_old_events, delete_old_runs
from midas_pipelines.lib.shop import shop
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings, load_settings


@dg.op(description="Deletes old finished runs with their events and logs, unless something still needs them.")
def remove_old_runs(context: dg.OpExecutionContext) -> int:
    """Deletes runs older than `MIDAS_KEEP_RUNS_DAYS`, except those behind the newest events; returns how many."""
    days = load_settings().keep_runs_days
    removed = delete_old_runs(context.instance, _days_ago(days))
    context.add_output_metadata({"runs": removed})
    context.log.info(f"{removed} runs older than {days} days were removed.")
    return removed


@dg.op(
    description="Deletes old events that belong to no run or outlive it: gateway reports and check results."
)
def remove_old_events(context: dg.OpExecutionContext) -> int:
    """Deletes events older than `MIDAS_KEEP_RUNS_DAYS`, except the newest of each; returns how many."""
    days = load_settings().keep_runs_days
    events = delete_old_events(context.instance, _days_ago(days))
    checks = delete_old_checks(context.instance, _days_ago(days))
    context.add_output_metadata({"events": events, "check_results": checks})
    context.log.info(f"{events} events and {checks} check results older than {days} days were removed.")
    return events + checks


def _days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


@dg.op(description="Deletes old webhooks that were applied or superseded.")
def remove_old_webhooks(context: dg.OpExecutionContext) -> int:
    """Deletes finished webhooks older than `MIDAS_KEEP_WEBHOOKS_DAYS`; returns how many."""
    return _delete_rows(
        context, "webhooks", load_settings().keep_webhooks_days, engine.webhooks.delete_old_webhooks
    )


@dg.op(description="Deletes old rows of the gateway's audit log.")
def remove_old_audit_rows(context: dg.OpExecutionContext) -> int:
    """Deletes audit rows older than `MIDAS_KEEP_AUDIT_DAYS`; returns how many."""
    return _delete_rows(
        context, "audit_rows", load_settings().keep_audit_days, engine.audit.delete_old_audit_rows
    )


class _DeleteRows(Protocol):
    def __call__(self, database: "engine.Database", *, days: int) -> int: ...


def _delete_rows(context: dg.OpExecutionContext, what: str, days: int, delete_rows: _DeleteRows) -> int:
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            context.log.info(f"No {what} were removed. {database.skip_message}")
            return 0
        removed = delete_rows(database, days=days)
    context.add_output_metadata({what: removed})
    context.log.info(f"{removed} {what} older than {days} days were removed.")
    return removed


@dg.job(
    executor_def=dg.in_process_executor,
    description="Deletes old history: runs, events, webhooks, audit rows.",
)
def retention() -> None:
    """Four independent steps."""
    remove_old_runs()
    remove_old_events()
    remove_old_webhooks()
    remove_old_audit_rows()


def retention_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """The nightly schedule, before the full sync."""
    on = settings.is_automatic(retention.name)
    return dg.ScheduleDefinition(
        name="retention_nightly",
        job=retention,
        cron_schedule=f"30 {(settings.full_sync_hour - 1) % 24} * * *",
        execution_timezone="UTC",
        description=f"Deletes old history. {entry(settings, retention.name).in_words}",
        metadata=shown(settings, retention.name),
        default_status=dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED,
    )
