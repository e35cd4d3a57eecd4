"""Access to the shop's database outside of assets: sensors and retention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import load_settings

if TYPE_CHECKING:
    from midas_pipelines.store.database import Database


@contextmanager
def shop() -> "Iterator[Database | dg.SkipReason]":
    """The shop's database, or the reason why it cannot be used."""
    from sqlalchemy.exc import DatabaseError

    from midas_pipelines.store.database import Database
    from midas_pipelines.store.schema.version import require_upgraded

    try:
        settings = load_settings()
        with Database(settings.database(), settings.limits("bulk")) as database:
            require_upgraded(database)
            yield database
    except ExpectedError as error:
        yield dg.SkipReason(str(error))
    except DatabaseError as error:
        raise RuntimeError(f"The shop's database does not answer: {type(error.orig).__name__}.") from None
