"""The one resource: gives an asset the engine, and turns expected trouble into a sentence in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from midas_pipelines.sync.context import SyncContext


def expected() -> tuple[type[Exception], ...]:
    """Trouble that a person can act on: its message is the whole story, and stands before Dagster's own trace in the UI."""
    from midas_pipelines.fourseller.errors import FourSellerError
    from midas_pipelines.store.schema.version import NotUpgraded
    from midas_pipelines.sync.context import ChannelDown
    from midas_pipelines.sync.listings.approved_plan import PlanRefused
    from midas_pipelines.sync.product_sync import UnknownSku

    return (SettingsError, NotUpgraded, FourSellerError, ChannelDown, UnknownSku, PlanRefused)


class MidasResource(dg.ConfigurableResource):
    """The shop and its channel, as this process's environment names them."""

    @contextmanager
    def engine(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    ) -> "Iterator[SyncContext]":
        """An engine for the run of `context`.

        Raises:
            dagster.Failure: for expected trouble, with its sentence; it is not retried, the next tick tries anew.
        """
        from midas_pipelines.store.database import Database
        from midas_pipelines.store.schema.version import require_upgraded
        from midas_pipelines.sync.context import SyncContext

        try:
            settings = load_settings()
            with Database(settings.database(), settings.limits("bulk")) as database:
                require_upgraded(database)
                yield SyncContext(settings, database, run_id=context.run.run_id)
        except expected() as trouble:
            kind = {"kind": type(trouble).__name__}
            raise dg.Failure(description=str(trouble), metadata=kind, allow_retries=False) from None
