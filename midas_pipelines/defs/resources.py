"""`MidasResource`: gives an asset its sync context, and shows expected errors as one sentence in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.errors import ExpectedError
from midas_pipelines.lib.runs.failures import failure_of
from midas_pipelines.settings import load_settings

if TYPE_CHECKING:
    from midas_pipelines.sync.context import SyncContext


class MidasResource(dg.ConfigurableResource):
    """The shop and its channel, as this process's environment names them."""

    @contextmanager
    def sync_context(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    ) -> "Iterator[SyncContext]":
        """The sync context for the run of `context`.

        Raises:
            dagster.Failure: for an expected error, with its message.
        """
        from midas_pipelines.store.database import Database
        from midas_pipelines.store.schema.version import require_upgraded
        from midas_pipelines.sync.context import SyncContext

        try:
            settings = load_settings()
            with Database(settings.database(), settings.limits("bulk")) as database:
                require_upgraded(database)
                yield SyncContext(settings, database, run_id=context.run.run_id)
        except ExpectedError as error:
            raise failure_of(error) from None
