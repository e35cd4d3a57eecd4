"""Commands that change something: each leaves a row in the audit log, with who ran it."""

from __future__ import annotations

import getpass
import socket
from contextlib import suppress
from typing import Any

import click

from midas_pipelines.cli.opening import shop_database
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import AuditEntry, kept, note_answered, note_asked

SILENT = ("as_json", "yes")
"""Options that change nothing about what a command does."""


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


class Changing(click.Command):
    """Writes one row before anything is done, and another one only when the command fails, with its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command between its rows; a look alone has none."""
        looks = (
            ctx.params.get("dry_run") or ctx.params.get("plan_file") or not ctx.params.get("send_again", True)
        )
        if looks:
            return super().invoke(ctx)
        with shop_database() as (settings, database):
            entry = command_entry(settings, ctx.command_path.partition(" ")[2], detail=self.detail(ctx))
            with database.writing() as connection:
                note_asked(connection, entry)
            try:
                return super().invoke(ctx)
            except BaseException as error:
                _note_failure(database, entry, error)
                raise

    def detail(self, ctx: click.Context) -> dict[str, Any]:
        """The options and arguments that were given."""
        given = {name: value for name, value in ctx.params.items() if value not in (None, False, ())}
        return {name: kept(value) for name, value in given.items() if name not in SILENT}


def _note_failure(database: Database, entry: AuditEntry, error: BaseException) -> None:
    code = getattr(error, "exit_code", None) if not isinstance(error, SystemExit) else error.code
    code = 1 if code is None and not isinstance(error, SystemExit) else code
    if code:
        with suppress(Exception), database.writing() as connection:
            note_answered(connection, entry, code if isinstance(code, int) else 1)
