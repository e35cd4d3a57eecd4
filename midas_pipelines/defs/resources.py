"""What runs and sensors are given: the shop and its channel, and the storage of snapshots.

Expected errors are shown as one sentence in the UI.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import PrivateAttr

from midas_pipelines.errors import ExpectedError
from midas_pipelines.lib import engine
from midas_pipelines.settings import load_settings
from midas_pipelines.sync.operations.formatting import plain

if TYPE_CHECKING:
    import pandas as pd


class MidasResource(dg.ConfigurableResource):
    """The shop and its channel, as this process's environment names them."""

    @contextmanager
    def sync_context(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    ) -> "Iterator[engine.SyncContext]":
        """The sync context for the run of `context`.

        Raises:
            dagster.Failure: for an expected error, with its message.
        """
        try:
            settings = load_settings()
            with engine.Database(settings.database(), settings.limits("bulk")) as database:
                engine.require_upgraded(database)
                yield engine.SyncContext(settings, database, run_id=context.run.run_id)
        except ExpectedError as error:
            raise failure_of(error) from None


@contextmanager
def shop() -> "Iterator[engine.Database | dg.SkipReason]":
    """The shop's database, or the reason why it cannot be used."""
    from sqlalchemy.exc import DatabaseError

    try:
        settings = load_settings()
        with engine.Database(settings.database(), settings.limits("bulk")) as database:
            engine.require_upgraded(database)
            yield database
    except ExpectedError as error:
        yield dg.SkipReason(str(error))
    except DatabaseError as error:
        raise RuntimeError(f"The shop's database does not answer: {type(error.orig).__name__}.") from None


def failure_of(error: ExpectedError) -> dg.Failure:
    """The failure that ends a step for an expected error; not retried, the next tick tries again."""
    facts = {
        "reason": dg.MetadataValue.text(str(error)),
        "exit_code": dg.MetadataValue.int(error.exit_code),
    }
    description = plain(str(error))  # the UI renders it
    return dg.Failure(description, metadata=facts, allow_retries=False)


def expected_in(event: dg.DagsterEvent) -> tuple[str, int] | None:
    """The sentence and the exit code of the expected error that a step failed with; None for any other error."""
    data = event.step_failure_data.user_failure_data
    if data is None or "reason" not in data.metadata:
        return None
    return str(data.metadata["reason"].value), int(str(data.metadata["exit_code"].value))


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
