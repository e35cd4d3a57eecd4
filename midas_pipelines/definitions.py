"""The one Definitions object that Dagster loads."""

import dagster as dg

from midas_pipelines.defs import catalog, inventory, listings, order_checks, orders, stock
from midas_pipelines.defs.jobs import JOBS, schedules
from midas_pipelines.defs.midas import Midas
from midas_pipelines.settings import load_settings

DOMAINS = [catalog, listings, inventory, orders, order_checks, stock]

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(DOMAINS, include_specs=True),
    asset_checks=dg.load_asset_checks_from_modules(DOMAINS),
    jobs=JOBS,
    schedules=schedules(load_settings()),
    sensors=[stock.alerts_waiting],
    resources={"midas": Midas()},
    executor=dg.in_process_executor,
)
