"""Opens the shop's database for a command, with sentences in place of tracebacks; what changes something is audited."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from midas_pipelines.cli.printing import Answering
from midas_pipelines.settings import Settings, SettingsError, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import AuditEntry, kept, note_audit
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
    """The settings and the database they name; `upgraded` ends the command unless it is ready for a sync. Raises
    SettingsError where it is not set or cannot be reached, NotUpgraded where it is not prepared."""
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


def actor(settings: Settings) -> str:
    """Who runs this command: MIDAS_ACTOR, else the operating system's user and host."""
    user = "someone"
    with suppress(OSError, KeyError):  # a user without a name, as in some containers
        user = getpass.getuser()
    return settings.actor or f"{user}@{socket.gethostname()}"


def command_entry(
    settings: Settings, action: str, target: str | None = None, detail: dict[str, Any] | None = None
) -> AuditEntry:
    """A command as an entry of the audit log."""
    return AuditEntry(actor(settings), f"midas {action}", target=target, detail=detail, remote="command line")


class Changing(Answering):
    """Writes one row before anything is done, and another one only when the command fails, with its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command between its rows; a look alone has none."""
        given = ctx.params
        if given.get("dry_run") or given.get("plan_file") or not given.get("send_again", True):
            return super().invoke(ctx)
        with shop_database() as (settings, database):
            entry = command_entry(settings, ctx.command_path.partition(" ")[2], detail=self.detail(ctx))
            database.write(note_audit, entry, "asked")
            try:
                return super().invoke(ctx)
            except BaseException as error:
                code = error.code if isinstance(error, SystemExit) else getattr(error, "exit_code", 1)
                if code:
                    with suppress(Exception), database.writing() as connection:
                        note_audit(connection, entry, "answered", code if isinstance(code, int) else 1)
                raise

    def detail(self, ctx: click.Context) -> dict[str, Any]:
        """The options and arguments that were given."""
        given = {name: value for name, value in ctx.params.items() if value not in (None, False, ())}
        return {name: kept(value) for name, value in given.items() if name != "yes"}
