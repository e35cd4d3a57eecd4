"""The one Definitions object that Dagster loads: all that is in `defs/`, each asset with its freshness and its code."""

import logging
from pathlib import Path

import dagster as dg

from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib.code_references import in_dagster_dev, with_code
from midas_pipelines.lib.schedules import with_freshness
from midas_pipelines.settings import Settings

WHAT_TO_SET = (
    "MIDAS_DATABASE_URL is not set: the definitions are loaded, and each run will fail until it names the shop's "
    "database; `midas dev` shows everything on a sample shop, and docs/settings.md lists all settings."
)


def load(settings: Settings) -> dg.Definitions:
    """What is in `defs/`, by these settings."""
    if settings.database_url is None and in_dagster_dev():
        logging.getLogger(__name__).warning(WHAT_TO_SET)
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    # a module that imports an asset of another names it too
    assets = list({id(asset): asset for asset in found.assets or []}.values())
    return dg.Definitions(
        assets=with_freshness(with_code(assets, settings), settings),
        asset_checks=found.asset_checks,
        jobs=found.jobs,
        schedules=found.schedules,
        sensors=found.sensors,
        resources=found.resources,
        executor=found.executor,
    )


defs = load(SETTINGS)
