"""The one Definitions object that Dagster loads: all that is in `defs/`, each asset with its freshness and its code."""

import logging
from pathlib import Path
from typing import Any

import dagster as dg

from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib.code_references import in_dagster_dev, with_code
from midas_pipelines.lib.schedules import with_freshness
from midas_pipelines.settings import Settings

WHAT_TO_SET = (
    "MIDAS_DATABASE_URL is not set: the definitions are loaded, and each run will fail until it names the shop's "
    "database; `midas dev` shows everything on a sample shop, and docs/settings.md lists all settings."
)


BACKUPS = ("backups", "backup", "restore_drill")
"""The asset and the jobs that are left out while MIDAS_BACKUP_TO is not set: they could never be made."""


def load(settings: Settings) -> dg.Definitions:
    """What is in `defs/`, by these settings."""
    if settings.database_url is None and in_dagster_dev():
        logging.getLogger(__name__).warning(WHAT_TO_SET)
    # load_from_defs_folder also describes all components that are installed, which costs as much as all the rest
    found = dg.ComponentTree.for_project(Path(__file__).parent).build_defs(Path())
    left_out = BACKUPS if settings.backup_to is None else ()
    # a module that imports an asset of another names it too
    assets = list({id(asset): asset for asset in found.assets or [] if _key(asset) not in left_out}.values())
    return dg.Definitions(
        assets=with_freshness(with_code(assets, settings), settings),
        asset_checks=[one for one in found.asset_checks or [] if _key(one) not in left_out],
        jobs=[job for job in found.jobs or [] if job.name not in left_out],
        schedules=[
            one for one in found.schedules or [] if one.name.removesuffix("_schedule") not in left_out
        ],
        sensors=found.sensors,
        resources=found.resources,
        executor=found.executor,
    )


def _key(one: Any) -> str | None:
    """The one asset that this makes or checks, by name; None where it is about several."""
    keys = one.check_keys if isinstance(one, dg.AssetChecksDefinition) else getattr(one, "keys", ())
    named = {getattr(key, "asset_key", key).to_user_string() for key in keys}
    return named.pop() if len(named) == 1 else None


defs = load(SETTINGS)
