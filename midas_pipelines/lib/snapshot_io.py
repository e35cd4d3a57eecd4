"""The IO manager of snapshots: Dagster's own UPathIOManager over Parquet files by day, in a folder or in a bucket."""

import asyncio
import time
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from midas_pipelines.errors import WrongInput
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.metadata import columns, made
from midas_pipelines.settings import VARIABLES, load_settings
from midas_pipelines.sync.snapshots.files import COLUMNS, LISTING

if TYPE_CHECKING:
    import pandas as pd
    from upath import UPath

BACKFILL, TICK = "dagster/backfill", "midas/run_set"
"""The tags of runs that belong together: those of a backfill, and those that one tick of a schedule asked for."""
ONE_SHOP = ("database_url", "fourseller_api_url", "fourseller_seller_id")
"""The settings by which a run is for one shop."""


class SnapshotFiles(dg.UPathIOManager):
    """Keeps an asset's value as `<asset>/<day>.parquet`, and loads the newest day as a pandas frame."""

    extension = ".parquet"

    def get_asset_relative_path(self, context: dg.InputContext | dg.OutputContext) -> "UPath":
        """The asset and the day: today to write, the newest one kept to read."""
        from upath import UPath

        kind = context.asset_key.path[-1]
        kept = [] if isinstance(context, dg.OutputContext) else engine.Snapshots(self._base_path).days(kind)
        return UPath(*context.asset_key.path, f"{kept[-1] if kept else load_settings().today():%Y-%m-%d}")

    def dump_to_path(self, context: dg.OutputContext, obj: "engine.Spool", path: "UPath") -> None:
        """Puts a spooled snapshot at its place."""
        engine.place(obj.path, path)

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> "pd.DataFrame":
        """The day's snapshot."""
        import pandas as pd

        with path.open("rb") as file:
            return pd.read_parquet(file)


class SnapshotIO(dg.ConfigurableIOManagerFactory[SnapshotFiles]):
    """Snapshots in the folder or bucket of MIDAS_SNAPSHOTS."""

    def create_io_manager(self, context: dg.InitResourceContext) -> SnapshotFiles:
        """The manager for one run."""
        from upath import UPath

        _ = context
        return SnapshotFiles(UPath(load_settings().snapshots_place()))


def kept_in(kind: str) -> dict[str, Any]:
    """The metadata that names the files of a snapshot and their columns."""
    return {"dagster/uri": f"{SETTINGS.snapshots_place()}/{kind}", **columns(**COLUMNS[kind])}


def shown_of(rows: int, facts: Mapping[str, Any], day: date, run_id: str | None) -> dict[str, Any]:
    """The metadata of a snapshot's materialization in that run, apart from its path, by the facts that its file keeps."""
    shown = {"dagster/row_count": rows, "day": f"{day}", **facts["counts"]}
    if facts["run_id"] == run_id:
        return shown
    return shown | ({"requests": 0} if "requests" in shown else {}) | {"made_by_run": str(facts["run_id"])}


def run_set(context: dg.AssetExecutionContext) -> str:
    """What shares one snapshot of the moment: a backfill's runs of one day, those of one tick, or this run alone."""
    shared = "_".join(_set_tags(context).values())
    return f"{load_settings().today()}_{shared}" if shared else context.run.run_id


def _set_tags(context: dg.AssetExecutionContext) -> dict[str, str]:
    return {tag: value for tag, value in context.run.tags.items() if tag in (BACKFILL, TICK)}


def read_once(context: dg.AssetExecutionContext, sync: "engine.SyncContext") -> str:
    """Reads 4Seller's listing for a backfill or tick if none of its runs has: its first does, the others wait.
    Returns the run set; a read that ended early serves its own run alone."""
    files, name, tags = engine.Snapshots.of(sync.settings), run_set(context), _set_tags(context)
    begun = dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
    while tags and not _serves(files, name, sync.run_id):
        first = context.instance.get_run_records(begun, limit=1, ascending=True)
        if first and first[0].dagster_run.run_id != sync.run_id:
            time.sleep(1)
            continue
        spool = asyncio.run(engine.snapshot_listing(sync, name))
        engine.place(spool.path, files.path(LISTING, name))
    return name


def _serves(files: "engine.Snapshots", name: str, run_id: str | None) -> bool:
    facts = files.facts(LISTING, name) if files.path(LISTING, name).exists() else {}
    return bool(facts) and (facts["counts"]["is_complete"] or facts["run_id"] == run_id)


def made_for_this_shop(
    context: dg.AssetExecutionContext, sync: "engine.SyncContext"
) -> dg.MaterializeResult[Any] | None:
    """The result for an asset whose snapshot of the day another run of the same set has made; None where none has.

    Raises WrongInput where the run is for another shop than its process: the place and its days are that one's.
    """
    here = load_settings()
    others = [
        VARIABLES[name]
        for name in ONE_SHOP
        if name in here.model_fields_set and getattr(here, name) != getattr(sync.settings, name)
    ]
    if others:
        raise WrongInput(
            f"The resource midas has another {' and '.join(others)} than the environment, whose snapshot of today this run "
            f"would replace. Leave {context.asset_key.path[-1]} out of it, or begin it with {' and '.join(others)} and "
            "MIDAS_SNAPSHOTS in its environment."
        )
    kind, files = context.asset_key.path[-1], engine.Snapshots.of(sync.settings)
    kept = files.newest_of(kind, run_set(context))
    if kept is None:
        return None
    day, facts = kept
    return made(sync, shown_of(files.rows(kind, day), facts, day, sync.run_id))
