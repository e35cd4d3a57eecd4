"""The job that delivers alerts to staff, and the sensor that starts it."""

import dagster as dg

from midas_pipelines.defs.resources import MidasResource, shop
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import numbers, table
from midas_pipelines.lib.schedules import op_job, sensor_options, unless_running
from midas_pipelines.settings import load_settings

NAME = "alert_delivery"


@dg.op(pool="alerts")
def deliver_alerts(context: dg.OpExecutionContext, midas: MidasResource) -> None:
    """Delivers the alerts that are due to MIDAS_NOTIFY_URLS; while a target is down its alerts wait."""
    with midas.sync_context(context) as sync:
        targets = engine.read_targets(sync.settings.notify_urls)
        delivered = engine.deliver(sync.database, targets, sync.settings.console_url)
    problems = table([{"problem": text} for text in delivered.problems])
    context.add_output_metadata({**numbers(delivered, "sent", "waiting"), "problems": problems})


alert_delivery = op_job(SETTINGS, NAME, deliver_alerts)


@dg.sensor(job=alert_delivery, **sensor_options(SETTINGS, NAME))
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
    return unless_running(context, NAME)
