"""The one Definitions object that Dagster loads."""

import dagster as dg

from midas_pipelines.defs import (
    catalog,
    gateway,
    imported_orders,
    inventory,
    listings,
    observation,
    operations,
    order_checks,
    orders,
    stock,
)
from midas_pipelines.defs.alert_delivery import alert_delivery, alerts_waiting
from midas_pipelines.defs.code import with_code
from midas_pipelines.defs.executors import executor
from midas_pipelines.defs.frames import Frames
from midas_pipelines.defs.freshness import with_freshness
from midas_pipelines.defs.health import health_sensor
from midas_pipelines.defs.jobs import JOBS, schedules
from midas_pipelines.defs.midas import Midas
from midas_pipelines.defs.retention import forgetting
from midas_pipelines.defs.run_alerts import run_alert_sensor
from midas_pipelines.defs.sensors import left_over_sensors
from midas_pipelines.settings import load_settings

DOMAINS = [catalog, gateway, listings, inventory, orders, order_checks, stock, operations]
ASSETS = [
    *dg.load_assets_from_modules(DOMAINS, include_specs=True),
    *dg.load_assets_from_modules([observation], backfill_policy=observation.READ_ONCE),
    *dg.load_assets_from_modules(
        [imported_orders], backfill_policy=imported_orders.BY_MONTH, include_specs=True
    ),
]
SETTINGS = load_settings()

defs = dg.Definitions(
    assets=with_freshness(with_code(ASSETS, SETTINGS), SETTINGS),
    asset_checks=dg.load_asset_checks_from_modules(DOMAINS),
    jobs=[*JOBS, alert_delivery(SETTINGS)],
    schedules=[*schedules(SETTINGS), forgetting(SETTINGS)],
    sensors=[
        *left_over_sensors(SETTINGS),
        run_alert_sensor(SETTINGS),
        health_sensor(SETTINGS),
        operations.automation(SETTINGS),
        alerts_waiting(SETTINGS),
    ],
    resources={"midas": Midas(), "frames": Frames()},
    executor=executor(SETTINGS),
)
