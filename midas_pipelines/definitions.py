"""The one Definitions object that Dagster loads: all that is in `defs/`, each asset with its owner, freshness and code."""

import gc
import inspect
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg

from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib.schedules import with_freshness
from midas_pipelines.settings import Settings

WHAT_TO_SET = (
    "MIDAS_DATABASE_URL is not set: the definitions are loaded, and each run will fail until it names the shop's "
    "database; `midas dev` shows everything on a sample shop, and docs/settings.md lists all settings."
)
ROOT = Path(__file__).parents[1]
KEY = "dagster/code_references"
BACKUPS = ("backups", "backup", "restore_drill")
"""The asset and the jobs that are left out while MIDAS_BACKUP_TO is not set: they could never be made."""


def load(settings: Settings) -> dg.Definitions:
    """What is in `defs/`, by these settings."""
    if settings.database_url is None and in_dagster_dev():
        logging.getLogger(__name__).warning(WHAT_TO_SET)
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    left_out = BACKUPS if settings.backup_to is None else ()
    assets = [asset for asset in found.assets or [] if _key(asset) not in left_out]
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


def with_code(assets: Iterable[Any], settings: Settings) -> list[Any]:
    """The assets with links to the lines that make them, if the reader of the UI can follow them."""
    if settings.code_url is None and not in_dagster_dev():
        return list(assets)
    return [_linked(asset, settings.code_url) for asset in assets]


def in_dagster_dev() -> bool:
    """Whether `dagster dev` loads this, as in `midas dev`: then UI and files are on one machine, and an editor can
    open a path."""
    return os.environ.get("DAGSTER_IS_DEV_CLI") == "1"


def _linked(asset: Any, code_url: str | None) -> Any:
    if not isinstance(asset, dg.AssetsDefinition) or not asset.is_executable:
        return asset
    function = inspect.unwrap(asset.op.compute_fn.decorated_fn)  # type: ignore[union-attr]
    path, line = Path(function.__code__.co_filename), function.__code__.co_firstlineno
    reference: Any = dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=path.name)
    if code_url is not None:
        url = f"{code_url.rstrip('/')}/{path.relative_to(ROOT).as_posix()}#L{line}"
        reference = dg.UrlCodeReference(url=url, label=path.name)
    found = dg.CodeReferencesMetadataValue(code_references=[reference])
    return asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata={KEY: found}))


gc.freeze()  # dagster stays as long as the process: looking through it for garbage, now and in each run, takes 50 ms
defs = load(SETTINGS)
