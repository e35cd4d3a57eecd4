"""The one Definitions object that Dagster loads."""

import dagster as dg

from midas_pipelines.defs.catalog import assets as catalog
from midas_pipelines.defs.gateway import assets as gateway
from midas_pipelines.defs.inventory import assets as inventory
from midas_pipelines.defs.inventory import stock
from midas_pipelines.defs.listings import assets as listings
from midas_pipelines.defs.listings import reconciliation, snapshot
from midas_pipelines.defs.operations import assets as operations
from midas_pipelines.defs.operations.health import health_sensor
from midas_pipelines.defs.operations.jobs import JOBS, schedules
from midas_pipelines.defs.operations.sensors import alert_sensor, stale_work_sensors
from midas_pipelines.defs.orders import assets as orders
from midas_pipelines.defs.orders import checks as order_checks
from midas_pipelines.defs.orders import imported_orders
from midas_pipelines.defs.privacy import assets as privacy
from midas_pipelines.defs.resources import MidasResource
from midas_pipelines.lib.code_references import with_code
from midas_pipelines.lib.executors import executor
from midas_pipelines.lib.freshness import with_freshness
from midas_pipelines.lib.snapshot_io import SnapshotIO
from midas_pipelines.settings import load_settings

DOMAINS = [catalog, gateway, snapshot, listings, inventory, orders, order_checks, stock, privacy, operations]
ASSETS = [
    *dg.load_assets_from_modules(DOMAINS, include_specs=True),
    *dg.load_assets_from_modules([reconciliation], backfill_policy=reconciliation.READ_ONCE),
    *dg.load_assets_from_modules(
        [imported_orders], backfill_policy=imported_orders.BY_MONTH, include_specs=True
    ),
]
SETTINGS = load_settings()

defs = dg.Definitions(
    assets=with_freshness(with_code(ASSETS, SETTINGS), SETTINGS),
    asset_checks=dg.load_asset_checks_from_modules(DOMAINS),
    jobs=JOBS,
    schedules=schedules(SETTINGS),
    sensors=[
        *stale_work_sensors(SETTINGS),
        health_sensor(SETTINGS),
        alert_sensor(SETTINGS),
    ],
    resources={"midas": MidasResource(), "snapshots": SnapshotIO()},
    executor=executor(SETTINGS),
)
