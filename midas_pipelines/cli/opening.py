"""Opening the shop's database for a command, with sentences instead of tracebacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from midas_pipelines.settings import Settings, SettingsError, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.schema.version import require_upgraded

DATABASE_MODULES = ("sqlalchemy.", "psycopg.", "sqlite3")


def database_error_text(error: BaseException) -> str | None:
    """A sentence for an error of a database, also one of several that came together; None for any other error."""
    for one in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        if (sentence := database_error_text(one)) is not None:
            return sentence
    if not f"{type(error).__module__}.".startswith(DATABASE_MODULES):
        return None
    return database_sentence(type(getattr(error, "orig", None) or error).__name__)


def database_sentence(kind: str) -> str:
    """What to say of a database's error: its kind alone, for its text may quote a row."""
    return (
        f"The database does not answer any more, or refused what was asked of it ({kind}). What was finished is kept: "
        "see that the database runs, then start the command again."
    )


@contextmanager
def shop_database(*, upgraded: bool = True) -> Iterator[tuple[Settings, Database]]:
    """The settings and the database they name.

    Args:
        upgraded: ends the command unless the database is ready for a sync.

    Raises:
        SettingsError: a setting is missing or wrong, or the database cannot be reached.
        NotUpgraded: the database is not prepared.
    """
    settings = load_settings()
    url = settings.database()
    with Database(url, settings.limits("bulk")) as database:
        try:
            with database.reading():
                pass
        except DBAPIError as error:
            why = str(error.orig).strip().splitlines()[0]
            shown = url.set(query={}).render_as_string(hide_password=True)  # a query may hold a password too
            raise SettingsError(f"MIDAS_DATABASE_URL ({shown}) cannot be opened: {why}") from None
        if upgraded:
            require_upgraded(database)
        yield settings, database
