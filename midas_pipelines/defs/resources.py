"""What runs and sensors are given: the shop and its channel.

Expected errors are shown as one sentence in the UI.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import dagster as dg
from pydantic import Field

from midas_pipelines.errors import ExpectedError
from midas_pipelines.installation import SETTINGS
from midas_pipelines.lib import engine
from midas_pipelines.lib.snapshot_io import SnapshotIO
from midas_pipelines.settings import VARIABLES, Settings, load_settings


class MidasResource(dg.ConfigurableResource):
    """The shop and its channel. A field without a value is as the environment of the run's process says.

    Set one in code, or in the launchpad under `resources: midas: config:` for a single run.
    """

    database_url: str | None = Field(None, description="The shop's database; if unset, MIDAS_DATABASE_URL.")
    fourseller_api_url: str | None = Field(None, description="4Seller's API; if unset, FOURSELLER_API_URL.")
    fourseller_api_key: str | None = Field(None, description="API key; if unset, FOURSELLER_API_KEY.")
    fourseller_seller_id: str | None = Field(None, description="Seller id; if unset, FOURSELLER_SELLER_ID.")
    in_flight: int | None = Field(None, description="Requests under way at once; if unset, MIDAS_IN_FLIGHT.")
    rate_limit: float | None = Field(None, description="Requests a second; if unset, MIDAS_RATE_LIMIT.")

    def settings(self) -> Settings:
        """The settings of the environment with this resource's fields in their place; raises `SettingsError`."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return load_settings(**{name: value for name, value in given.items() if value is not None})

    @contextmanager
    def sync_context(
        self,
        context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext,
        *,
        as_it_is: bool = False,
    ) -> "Iterator[engine.SyncContext]":
        """The sync context for the run of an asset, check or op; `as_it_is` also where the shop's columns or our triggers
        are not as a sync needs them. Raises dagster.Failure for an expected error, with its message."""
        try:
            settings = self.settings()
            with engine.Database(settings.database(), settings.limits("bulk")) as database:
                (engine.version.require_tables if as_it_is else engine.version.require_upgraded)(database)
                yield engine.SyncContext(settings, database, run_id=context.run.run_id)
        except ExpectedError as error:
            raise failure_of(error) from None


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of every job. Raises SettingsError where Celery is chosen and its addresses are missing.

    In the run's process is best for small shops, and on a Celery worker, which takes whole runs: starting a process for
    each step takes longer than most steps. The processes of the multiprocess executor are forked from one that has
    loaded everything.
    """
    if settings.executor == "celery":
        settings.queue()
    if settings.executor == "multiprocess":
        preload = {"preload_modules": ["midas_pipelines.definitions"]}
        return dg.multiprocess_executor.configured({"start_method": {"forkserver": preload}})
    return dg.in_process_executor


SECRETS = ("database_url", "fourseller_api_key")


@dg.definitions
def resources() -> dg.Definitions:
    """The resources of every run, and where its steps are executed; secrets that are set are read where a run begins."""
    is_set = [name for name in SECRETS if getattr(SETTINGS, name) is not None]
    secrets: dict[str, Any] = {name: dg.EnvVar(VARIABLES[name]) for name in is_set}
    return dg.Definitions(
        resources={"midas": MidasResource(**secrets), "snapshots": SnapshotIO()}, executor=executor(SETTINGS)
    )


@contextmanager
def shop(*, as_it_is: bool = False) -> "Iterator[engine.Database | dg.SkipReason]":
    """The shop's database, or the reason why it cannot be used; `as_it_is` as for `sync_context`."""
    from sqlalchemy.exc import DatabaseError

    try:
        settings = load_settings()
        with engine.Database(settings.database(), settings.limits("bulk")) as database:
            (engine.version.require_tables if as_it_is else engine.version.require_upgraded)(database)
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
    return dg.Failure(str(error), metadata=facts, allow_retries=False)


class Expected(NamedTuple):
    """The expected error that a step failed with."""

    reason: str  # a sentence for a person
    exit_code: int


def expected_in(event: dg.DagsterEvent) -> Expected | None:
    """The expected error that a step failed with; None for any other error."""
    data = event.step_failure_data.user_failure_data
    if data is None or "reason" not in data.metadata:
        return None
    facts = data.metadata
    return Expected(str(facts["reason"].value), int(str(facts["exit_code"].value)))
