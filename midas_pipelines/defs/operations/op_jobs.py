"""The jobs that make no asset: alerts to staff and messages to customers, each with the sensor that starts it when one is
due, the deletion in time of old history and of old orders' buyers, and the drill of the newest backup."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from midas_pipelines.defs.resources import MidasResource, shop
from midas_pipelines.errors import ExpectedError
from midas_pipelines.lib import engine
from midas_pipelines.lib import metadata as ui
from midas_pipelines.lib.partitions import is_of_our_location
from midas_pipelines.lib.schedules import FINISHED, op_job, sensor_options, unless_running
from midas_pipelines.settings import load_settings
from midas_pipelines.workflows import pool_of

ALERTS, MAIL, ERASURE, DRILL = "alert_delivery", "customer_mail", "buyer_erasure", "restore_drill"
NO_RUN = ""  # the run id of events that belong to no run, such as those that the gateway reports
BLOCK = 1000  # ids in one query


@dg.op(pool=pool_of(ALERTS))
def deliver_alerts(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Delivers the alerts that are due to MIDAS_NOTIFY_URLS; while a target is down its alerts wait."""
    with midas.sync_context(context, as_it_is=True) as sync:
        targets = engine.read_targets(sync.settings.notify_urls)
        delivered = engine.deliver(sync.database, targets, sync.settings.console_url)
    counts = ui.numbers(delivered, "sent", waiting="waiting")
    problems = ui.table([{"problem": text} for text in delivered.problems])
    context.add_output_metadata(ui.known({**counts, "problems": problems}))


alert_delivery = op_job(ALERTS, deliver_alerts)


@dg.sensor(job=alert_delivery, **sensor_options(ALERTS))
def alerts_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Starts the job when an alert is due."""
    with shop(as_it_is=True) as database:
        if isinstance(database, dg.SkipReason):
            return database
        if not engine.read_targets(load_settings().notify_urls):
            return dg.SkipReason("MIDAS_NOTIFY_URLS is not set: alerts stay in `midas alerts list`.")
        if not engine.something_due(database):
            return dg.SkipReason("No alert is due.")
    return unless_running(context, ALERTS)


@dg.op(pool=pool_of(MAIL))
def send_customer_mail(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Sends each message that is due once; while the mail server is down, messages wait and nothing else fails."""
    with midas.sync_context(context) as sync:
        states = engine.send_mails(sync.database, sync.settings, sync.run_id)
        unsent = engine.unsent_messages(sync.database)[:20]
    counts = {state: states[state] for state in ("sent", "waiting", "failed")}
    context.log.info(f"Messages: {', '.join(f'{count} {state}' for state, count in counts.items())}.")
    names = ("order", "kind", "reason")
    problems = [{name: str(row[name]) for name in names} for row in unsent if row["reason"]]
    context.add_output_metadata(ui.known({**counts, "problems": ui.table(problems)}))


customer_mail = op_job(MAIL, send_customer_mail)


@dg.sensor(job=customer_mail, **sensor_options(MAIL))
def customer_mail_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Starts the job when a message is due."""
    if load_settings().smtp_url is None:
        return dg.SkipReason("MIDAS_SMTP_URL is not set: no customer is written to.")
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            return database
        if not engine.mail_due(database):
            return dg.SkipReason("No message is due.")
    return unless_running(context, MAIL)


OLD = {
    "runs": "old finished runs, unless something still needs them",
    "audit": "old rows of the gateway's audit log",
    "snapshots": "old snapshots of shop and channel",
    "webhooks": "webhooks applied or superseded long ago",
    "writes": "what listings showed before old writes",
    "sync_logs": "old rows of the sync log",
    "api_errors": "old failed calls",
    "order_logs": "old steps of orders, but not what a person decided",
    "alerts": "alerts that were over long ago",
}
"""What `retention` removes after MIDAS_KEEP_<name>_DAYS, each by a step of its own."""


def _step(name: str, what: str) -> dg.OpDefinition:
    @dg.op(name=f"remove_old_{name}", pool=pool_of("retention"), description=f"Deletes {what}.")
    def remove_old(context: dg.OpExecutionContext, midas: MidasResource) -> None:
        days = getattr(load_settings(), f"keep_{name}_days")
        count = _remove(context, midas, name, days)
        context.add_output_metadata({name: count})
        context.log.info(f"{count} {name} older than {days} days removed.")

    return remove_old


def _remove(context: dg.OpExecutionContext, midas: MidasResource, name: str, days: int) -> int:
    """Removes what is older, and returns how many. Raises `dagster.Failure` where the shop's database cannot be used."""
    before = datetime.now(UTC) - timedelta(days=days)
    if name == "runs":
        return delete_old_runs(context.instance, before)
    if name == "snapshots":
        settings = load_settings()
        return engine.Snapshots.of(settings).remove_before(settings.day_of(before), settings.today())
    with midas.sync_context(context) as sync:
        if name == "audit":
            return engine.audit.delete_old_audit_rows(sync.database, days=days)
        return engine.delete_old(sync.database, name, days=days)


retention = op_job("retention", *(_step(name, what) for name, what in OLD.items()))


@dg.op(pool=pool_of(ERASURE))
def erase_buyers(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Erases the buyers whose time has come; shows by week who is due, who was erased, and whom the law keeps."""
    with midas.sync_context(context) as sync:
        report = engine.erase_due_buyers(sync)
        totals, weeks = engine.erasure_weeks(sync.database, sync.settings)
    context.log.info(f"{report.erased} buyers erased, {report.busy} busy, {totals['overdue']} overdue.")
    every = {f"all_{name}": count for name, count in totals.items()}
    counts = ui.numbers(report, "erased", "busy", "events", "left")
    context.add_output_metadata(ui.known({**counts, **every, "weeks": ui.table(weeks)}))


buyer_erasure = op_job(ERASURE, erase_buyers)


@dg.op(pool=pool_of(DRILL))
def restore_newest_backup(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Restores the newest backup into a scratch database, checks every invariant on it, and records the proof.

    It fails where one is broken. The check `newest_backup_restores` reads the proof.
    """
    with midas.sync_context(context) as sync:
        drill = engine.run_drill(sync.settings, sync.database, "Dagster")
        if not drill.passed:
            broken = ", ".join(f"{name} ({count})" for name, count in drill.broken.items())
            raise ExpectedError(
                f"Rows of the restored backup {drill.name} break these invariants: {broken}. The checks of the same names "
                "show whether the shop's rows do; once they pass, make a backup and run `midas backup drill`."
            )
    figures = ui.numbers(drill, "rpo_seconds", "rto_seconds", "checked")
    context.add_output_metadata({"name": drill.name, **figures})


restore_drill = op_job(DRILL, restore_newest_backup)


def delete_old_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Removes this code location's finished runs of before that moment, with events and logs, except those still
    needed; returns how many."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=FINISHED, created_before=before))
    old = {run.run_id for run in runs if is_of_our_location(run)}
    doomed = old - (needed_runs(instance) if old else set())
    for run_id in doomed:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        for file in Path(instance.root_directory).glob(f"history/runs/{run_id}.db*"):
            file.unlink()  # SQLite's file of the run, which Dagster empties and leaves there
    return len(doomed)


def needed_runs(instance: dg.DagsterInstance) -> set[str]:
    """The runs behind the newest materialization of each asset and partition: without its run a partition would be
    missing again, and a backfill of those that are missing would redo it."""
    needed: set[str] = set()
    for asset in instance.get_asset_keys():
        newest = instance.get_latest_materialization_event(asset)
        needed |= {newest.run_id} if newest is not None else set()
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        ids = list(instance.get_latest_storage_id_by_partition(asset, kind).values())
        for start in range(0, len(ids), BLOCK):
            wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=ids[start : start + BLOCK])
            records = instance.fetch_materializations(wanted, limit=BLOCK).records
            needed |= {record.run_id for record in records}
    return needed - {NO_RUN}
