"""Where snapshots are kept: a file of JSON lines for each shard, put together again when they are loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

if TYPE_CHECKING:
    import pandas as pd


class SnapshotIO(dg.ConfigurableIOManager):
    """Keeps a frame with a column `shard` as one file a shard, below Dagster's storage folder.

    A run over several shards writes several files, which Dagster's own file storage refuses to do. The files are
    text, since a pickle runs as code when it is read; amounts are read back as the text that they are written as.
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
            lines = [json.dumps(row, default=str) for row in rows.to_dict("records")]
            (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def load_input(self, context: dg.InputContext) -> "pd.DataFrame":
        """The rows of the wanted shards that have been written."""
        import pandas as pd

        files = [self._folder(context) / f"{name}.jsonl" for name in context.asset_partition_keys]
        texts = [file.read_text() for file in files if file.exists()]
        return pd.DataFrame([json.loads(line) for text in texts for line in text.splitlines()])

    def _folder(self, context: dg.OutputContext | dg.InputContext) -> Path:
        return self._root.joinpath(*context.asset_key.path)
