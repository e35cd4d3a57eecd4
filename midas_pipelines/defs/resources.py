"""`MidasResource`: gives an asset its sync context, and shows expected errors as one sentence in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from midas_pipelines.errors import ExpectedError
from midas_pipelines.lib import engine
from midas_pipelines.lib.runs.failures import failure_of
from midas_pipelines.settings import load_settings


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
