"""`MidasResource`: gives an asset its sync context, and shows expected errors as one sentence in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from midas_pipelines.sync.context import SyncContext


def expected() -> tuple[type[Exception], ...]:
    """Errors that a person can act on: the UI shows their message in place of a stack trace."""
    from midas_pipelines.fourseller.errors import FourSellerError
    from midas_pipelines.store.schema.version import NotUpgraded
    from midas_pipelines.sync.context import ChannelDown
    from midas_pipelines.sync.listings.approved_plan import PlanRefused
    from midas_pipelines.sync.product_sync import UnknownSku

    return (SettingsError, NotUpgraded, FourSellerError, ChannelDown, UnknownSku, PlanRefused)


class MidasResource(dg.ConfigurableResource):
    """The shop and its channel, as this process's environment names them."""

    @contextmanager
    def sync_context(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    ) -> "Iterator[SyncContext]":
        """The sync context for the run of `context`.

        Raises:
            dagster.Failure: for an expected error, with its message; not retried, the next tick tries again.
        """
        from midas_pipelines.store.database import Database
        from midas_pipelines.store.schema.version import require_upgraded
        from midas_pipelines.sync.context import SyncContext

        try:
            settings = load_settings()
            with Database(settings.database(), settings.limits("bulk")) as database:
                require_upgraded(database)
                yield SyncContext(settings, database, run_id=context.run.run_id)
        except expected() as error:
            kind = {"kind": type(error).__name__}
            raise dg.Failure(description=str(error), metadata=kind, allow_retries=False) from None
