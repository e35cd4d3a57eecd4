"""Delivers alerts to staff that no other run has sent."""

from typing import Any

import dagster as dg

from midas_pipelines.defs.inventory.stock import staff_alerts
from midas_pipelines.lib import engine
from midas_pipelines.lib.schedules import unless_running
from midas_pipelines.lib.shop import shop
from midas_pipelines.lib.workflows import entry, shown
from midas_pipelines.settings import Settings, load_settings

NAME = "alert_delivery"


def alert_delivery(settings: Settings) -> Any:
    """The job that sends what is due."""
    return dg.define_asset_job(
        NAME,
        selection=dg.AssetSelection.assets(staff_alerts),
        description=f"Sends the alerts that are due to staff.\n\n{entry(settings, NAME).in_words}",
        metadata=shown(settings, NAME),
    )


def alerts_waiting(settings: Settings) -> dg.SensorDefinition:
    """The sensor that starts that job."""
    on = settings.is_automatic(NAME)

    @dg.sensor(
        name="alerts_waiting",
        job_name=NAME,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED,
        description=f"Sends alerts that no other run has sent. {entry(settings, NAME).in_words}",
        metadata=shown(settings, NAME),
    )
    def waiting(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:

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

    return waiting
