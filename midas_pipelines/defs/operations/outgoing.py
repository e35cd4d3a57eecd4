"""What goes out: alerts to staff and messages to customers, each a job and the sensor that starts it when one is due."""

import asyncio
import json

import dagster as dg
from pydantic import Field

from midas_pipelines.defs.resources import MidasResource, shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import PEOPLE, numbers, table
from midas_pipelines.lib.partitions import ops_config
from midas_pipelines.lib.schedules import op_job, sensor_options, unless_running
from midas_pipelines.settings import load_settings

ALERTS, MAIL = "alert_delivery", "customer_mail"
HEARD_OF = ("low_stock", "staff_report")
"""The assets whose news staff gets, as alerts."""


class AlertConfig(dg.Config):
    """What alerts are raised about before all that are due are sent."""

    made: list[str] = Field(
        default=["low_stock"], description="The assets that were made: low_stock, staff_report."
    )


@dg.op(pool="alerts", tags=PEOPLE)
def deliver_alerts(context: dg.OpExecutionContext, config: AlertConfig, midas: MidasResource) -> None:
    """Raises the alerts about these assets, and delivers those that are due to MIDAS_NOTIFY_URLS; while a target is down
    its alerts wait."""
    counts: dict[str, int | float] = {}
    with midas.sync_context(context) as sync:
        if "low_stock" in config.made:
            counts = numbers(engine.check_low_stock(sync, alert=True), "raised", "cleared")
        if "staff_report" in config.made:
            counts["reports"] = int(engine.send_report(sync))
            if sync.settings.shadow:
                asyncio.run(engine.compare_shadow(sync, tell=True))
        targets = engine.read_targets(sync.settings.notify_urls)
        delivered = engine.deliver(sync.database, targets, sync.settings.console_url)
    problems = table([{"problem": text} for text in delivered.problems])
    context.add_output_metadata({**counts, **numbers(delivered, "sent", "waiting"), "problems": problems})


alert_delivery = op_job(SETTINGS, ALERTS, deliver_alerts)


@dg.sensor(job=alert_delivery, **sensor_options(SETTINGS, ALERTS))
def alerts_due(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Starts the job when an asset that staff hears of was made, or an alert is due.

    The cursor holds when each of the assets was last made.
    """
    events = {name: context.instance.get_latest_materialization_event(dg.AssetKey(name)) for name in HEARD_OF}
    made = {name: event.timestamp for name, event in events.items() if event is not None}
    before = json.loads(context.cursor or "{}")
    fresh = [name for name, at in made.items() if at != before.get(name)]
    with shop() as database:
        if isinstance(database, dg.SkipReason):
            return database
        if not fresh and not engine.read_targets(load_settings().notify_urls):
            return dg.SkipReason(
                "MIDAS_NOTIFY_URLS is not set: alerts stay in the outbox (`midas alerts list`)."
            )
        if not fresh and not engine.something_due(database):
            return dg.SkipReason("No alert is due.")
    request = unless_running(context, ALERTS)
    if isinstance(request, dg.SkipReason):
        return request
    asked = dg.RunRequest(run_config=ops_config({"deliver_alerts": {"made": fresh}}), job_name=ALERTS)
    return dg.SensorResult([asked], cursor=json.dumps(made))


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
