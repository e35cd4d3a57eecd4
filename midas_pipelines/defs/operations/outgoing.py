"""What goes out: alerts to staff and messages to customers, each a job and the sensor that starts it when one is due."""

import dagster as dg

from midas_pipelines.defs.resources import MidasResource, shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import numbers, table
from midas_pipelines.lib.schedules import op_job, sensor_options, unless_running
from midas_pipelines.settings import load_settings

ALERTS, MAIL = "alert_delivery", "customer_mail"


@dg.op(pool="alerts")
def deliver_alerts(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Delivers the alerts that are due to MIDAS_NOTIFY_URLS; while a target is down its alerts wait."""
    with midas.sync_context(context) as sync:
        targets = engine.read_targets(sync.settings.notify_urls)
        delivered = engine.deliver(sync.database, targets, sync.settings.console_url)
    problems = table([{"problem": text} for text in delivered.problems])
    context.add_output_metadata({**numbers(delivered, "sent", "waiting"), "problems": problems})


alert_delivery = op_job(SETTINGS, ALERTS, deliver_alerts)


@dg.sensor(job=alert_delivery, **sensor_options(SETTINGS, ALERTS))
def alerts_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Starts the job when an alert is due."""
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            return database
        if not engine.read_targets(load_settings().notify_urls):
            return dg.SkipReason(
                "MIDAS_NOTIFY_URLS is not set: alerts stay in the outbox (`midas alerts list`)."
            )
        if not engine.something_due(database):
            return dg.SkipReason("No alert is due.")
    return unless_running(context, ALERTS)


@dg.op(pool="messages")
def send_customer_mail(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Sends each message that is due once; while the mail server is down, messages wait and nothing else fails."""
    with midas.sync_context(context) as sync:
        states = engine.send_mails(sync.database, sync.settings, sync.run_id)
        unsent = engine.unsent_messages(sync.database)[:20]
    counts = {state: states[state] for state in ("sent", "waiting", "failed")}
    context.log.info(f"Messages: {', '.join(f'{count} {state}' for state, count in counts.items())}.")
    problems = [
        {name: str(row[name]) for name in ("order", "kind", "reason")} for row in unsent if row["reason"]
    ]
    context.add_output_metadata({**counts, "problems": table(problems)})


customer_mail = op_job(SETTINGS, MAIL, send_customer_mail)


@dg.sensor(job=customer_mail, **sensor_options(SETTINGS, MAIL))
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
