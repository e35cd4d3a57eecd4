"""The settings by which the definitions of this process are made, read once; runs read their own."""

import warnings
from urllib.parse import urlsplit

import dagster as dg

from midas_pipelines.settings import load_settings

for _kind in (dg.BetaWarning, dg.PreviewWarning):  # else each process prints one for each job and each folder
    warnings.filterwarnings("ignore", category=_kind)
SETTINGS = load_settings()
_URL = urlsplit(
    SETTINGS.database_url.get_secret_value() if SETTINGS.database_url is not None else "sqlite:///shop.db"
)
IS_POSTGRESQL = _URL.scheme.startswith("postgres")
DATABASE_KIND = "postgres" if IS_POSTGRESQL else "sqlite"
"""The kind of assets that are tables of the shop's database."""


def table_name(name: str) -> dict[str, str]:
    """The metadata that names an asset's table: database, schema, table."""
    database = _URL.path.rpartition("/")[2].removesuffix(".db") or "shop"
    return {"dagster/table_name": f"{database}.{'public' if IS_POSTGRESQL else 'main'}.{name}"}
