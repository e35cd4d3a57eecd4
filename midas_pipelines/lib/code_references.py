"""A link from each asset in the UI to the lines that make it: where the code is published, or on a developer's machine."""

import inspect
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg

from midas_pipelines.settings import Settings

ROOT = Path(__file__).parents[2]
KEY = "dagster/code_references"


def with_code(assets: Iterable[Any], settings: Settings) -> list[Any]:
    """The assets with their code references, if the reader of the UI can follow them.

    Assets that are only declared have none.
    """
    if settings.code_url is None and not in_dagster_dev():
        return list(assets)
    return [_linked(asset, settings.code_url) for asset in assets]


def in_dagster_dev() -> bool:
    """Whether `dagster dev` loads this, as in `midas dev`: then the UI and the files are on the same machine.

    Anywhere else a path would be one inside a container, which no editor can open.
    """
    return os.environ.get("DAGSTER_IS_DEV_CLI") == "1"


def _linked(asset: Any, code_url: str | None) -> Any:
    if not isinstance(asset, dg.AssetsDefinition) or not asset.is_executable:
        return asset
    function = inspect.unwrap(asset.op.compute_fn.decorated_fn)  # type: ignore[union-attr]
    path, line = Path(function.__code__.co_filename), function.__code__.co_firstlineno
    found = dg.CodeReferencesMetadataValue(code_references=[_reference(path, line, code_url)])
    return asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata={KEY: found}))


def _reference(path: Path, line: int, code_url: str | None) -> Any:
    if code_url is None:
        return dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=path.name)
    inside = path.relative_to(ROOT).as_posix()
    return dg.UrlCodeReference(url=f"{code_url.rstrip('/')}/{inside}#L{line}", label=path.name)
