"""Forgetting what nobody looks at any more: Dagster's runs with their logs, webhooks done with, old audit rows."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import dagster as dg

from midas_pipelines.lib.runs.history import delete_old_checks, delete_old_events, delete_old_runs
from midas_pipelines.lib.shop import shop
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from midas_pipelines.store.database import Database


@dg.op(
    description="Removes finished runs, their events and their logs, once they are old enough and nothing needs them."
)
def remove_old_runs(context: dg.OpExecutionContext) -> int:
    """How many were removed; those of the last `MIDAS_KEEP_RUNS_DAYS` days stay, and those behind what is newest."""
    days = load_settings().keep_runs_days
    removed = delete_old_runs(context.instance, _days_ago(days))
    context.add_output_metadata({"runs": removed})
    context.log.info(f"{removed} runs older than {days} days were removed.")
    return removed


@dg.op(
    description="Removes what belongs to no run, or outlives it: what the gateway told, and results of checks."
)
def remove_old_events(context: dg.OpExecutionContext) -> int:
    """How many were removed; those of the last `MIDAS_KEEP_RUNS_DAYS` days stay, and the newest of each."""
    days = load_settings().keep_runs_days
    events = delete_old_events(context.instance, _days_ago(days))
    checks = delete_old_checks(context.instance, _days_ago(days))
    context.add_output_metadata({"events": events, "check_results": checks})
    context.log.info(f"{events} events and {checks} results of checks older than {days} days were removed.")
    return events + checks


def _days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


@dg.op(description="Removes webhooks that were applied or superseded, once they are old enough.")
def remove_old_webhooks(context: dg.OpExecutionContext) -> int:
    """How many were removed; those of the last `MIDAS_KEEP_WEBHOOKS_DAYS` days stay, and all that are not done with."""
    from midas_pipelines.store.gateway import webhooks

    return _forget_rows(context, "webhooks", load_settings().keep_webhooks_days, webhooks.delete_old_webhooks)


@dg.op(description="Removes rows of the gateway's audit log, once they are old enough.")
def remove_old_audit_rows(context: dg.OpExecutionContext) -> int:
    """How many were removed; those of the last `MIDAS_KEEP_AUDIT_DAYS` days stay."""
    from midas_pipelines.store.gateway import audit

    return _forget_rows(context, "audit_rows", load_settings().keep_audit_days, audit.delete_old_audit_rows)


class _Forget(Protocol):
    def __call__(self, database: "Database", *, days: int) -> int: ...


def _forget_rows(context: dg.OpExecutionContext, what: str, days: int, forget_rows: _Forget) -> int:
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            context.log.info(f"No {what} were removed. {database.skip_message}")
            return 0
        removed = forget_rows(database, days=days)
    context.add_output_metadata({what: removed})
    context.log.info(f"{removed} {what} older than {days} days were removed.")
    return removed


@dg.job(executor_def=dg.in_process_executor, description="Keeps Dagster's history to what is looked at.")
def forget_old_runs() -> None:
    """Four steps, none of which needs another."""
    remove_old_runs()
    remove_old_events()
    remove_old_webhooks()
    remove_old_audit_rows()


def forgetting(settings: Settings) -> dg.ScheduleDefinition:
    """Once a night, before the full sync."""
    on = settings.runs_by_itself(forget_old_runs.name)
    return dg.ScheduleDefinition(
        name="forget_old_runs_nightly",
        job=forget_old_runs,
        cron_schedule=f"30 {(settings.full_sync_hour - 1) % 24} * * *",
        execution_timezone="UTC",
        description=f"Keeps Dagster's history short. {entry(settings, forget_old_runs.name).in_words}",
        metadata=shown(settings, forget_old_runs.name),
        default_status=dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED,
    )
