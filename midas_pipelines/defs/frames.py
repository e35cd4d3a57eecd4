"""Where snapshots are kept: a pickled frame for each shard, put together again when they are loaded."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

if TYPE_CHECKING:
    import pandas as pd


class Frames(dg.ConfigurableIOManager):
    """Keeps a frame with a column `shard` as one file a shard, below Dagster's storage folder.

    A run over several shards writes several files, which Dagster's own file storage refuses to do.
    """

    _root: Path = PrivateAttr()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Finds the storage folder of the instance that the run belongs to."""
        assert context.instance is not None
        self._root = Path(context.instance.storage_directory())

    def handle_output(self, context: dg.OutputContext, obj: "pd.DataFrame") -> None:
        """Writes the rows of each of the run's shards to that shard's file."""
        folder = self._folder(context)
        folder.mkdir(parents=True, exist_ok=True)
        for name in context.asset_partition_keys:
            rows = obj[obj["shard"] == name] if len(obj) else obj
            rows.to_pickle(folder / f"{name}.pkl")

    def load_input(self, context: dg.InputContext) -> "pd.DataFrame":
        """The rows of the wanted shards that have been written."""
        import pandas as pd

        files = [self._folder(context) / f"{name}.pkl" for name in context.asset_partition_keys]
        found = [pd.read_pickle(file) for file in files if file.exists()]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def _folder(self, context: dg.OutputContext | dg.InputContext) -> Path:
        return self._root.joinpath(*context.asset_key.path)
