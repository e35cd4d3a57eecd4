"""Access to the shop's database outside of assets: sensors and retention."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from midas_pipelines.errors import ExpectedError
from midas_pipelines.lib import engine
from midas_pipelines.settings import load_settings


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
