"""Restores a backup into an empty database, in one transaction, and marks what has to be caught up.

Until orders were read again from before the backup, nothing is pushed: the stock of the backup counts sales that were
made since as unsold.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from upath import UPath

from midas_pipelines.errors import WrongInput
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.recovery import postgres, sqlite
from midas_pipelines.recovery.backup import HISTORY, HOME, SHOP, SHOP_FILE, open_part
from midas_pipelines.recovery.places import BackupPart, Manifest
from midas_pipelines.recovery.sealing import Damaged
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.claims import RESTORED, stop_pushes
from midas_pipelines.store.migrate import upgrade_within
from midas_pipelines.store.schema.gateway_tables import console_sessions, marketplace_webhooks
from midas_pipelines.store.schema.shipment_tables import customer_mails
from midas_pipelines.store.schema.tables import mappings, rate_limits, workers
from midas_pipelines.storefront.types import utc_now


class NotEmpty(WrongInput):
    """The place of a restore holds something already; nothing was changed."""


@dataclass(frozen=True)
class RestoredShop:
    """What was restored."""

    name: str
    made_at: str
    tables: int
    size: int


def restore_shop(
    folder: UPath,
    manifest: Manifest,
    target: URL,
    keys: list[Any],
    *,
    replace: bool = False,
    drill: bool = False,
) -> RestoredShop:
    """Writes the shop's and our tables into a database: all of them or none.

    Args:
        folder, manifest: the backup.
        target: a database of the same kind.
        keys: that open it.
        replace: tables with rows are replaced.
        drill: the copy is only looked at: nothing in it is marked.

    Raises:
        NotEmpty: one of the tables has rows.
        Damaged: a part of the backup cannot be read.
    """
    kind = "postgresql" if target.get_backend_name() == "postgresql" else "sqlite"
    if kind != manifest.kind:
        raise WrongInput(f"The backup is of {manifest.kind}: restore it into a database of that kind.")
    part = manifest.part(SHOP if kind == "postgresql" else SHOP_FILE)
    if part is None:
        raise Damaged(f"The backup {folder.name} holds no shop.")

    def catch_up(connection: sa.Connection) -> int:
        upgrade_within(connection)
        if not drill:
            _mark(connection, manifest)
        return len(sa.inspect(connection).get_table_names())

    if kind == "sqlite":
        tables = _restore_file(folder, part, Path(str(target.database)), keys, replace, catch_up)
    else:
        with Database(target) as database, database.writing() as connection:
            _run_script(connection, folder, part, manifest.tables[SHOP], keys, replace=replace)
            tables = catch_up(connection)
    return RestoredShop(folder.name, manifest.made_at, tables, part.size)


def restore_history(
    folder: UPath, manifest: Manifest, keys: list[Any], *, database: URL | None, home: Path
) -> int:
    """Writes Dagster's storage: its tables into a database, its files into a folder, where each is empty; files written.

    Raises:
        NotEmpty: there is a history already.
    """
    if (part := manifest.part(HISTORY)) is not None and database is not None:
        with Database(database) as history, history.writing() as connection:
            _run_script(connection, folder, part, manifest.tables[HISTORY], keys)
    if (part := manifest.part(HOME)) is None:
        return 0
    if (home / "history").exists():
        raise NotEmpty(f"{home} holds a history of Dagster's already: move it away, or leave out --history.")
    with sqlite.scratch_file(home) as scratch:
        with scratch.open("wb") as spool:
            open_part(folder, part, spool.write, keys)
        with tarfile.open(scratch) as tar:
            tar.extractall(home, filter="data")  # no path outside, no links
            return len(tar.getnames())


def _restore_file(
    folder: UPath,
    part: BackupPart,
    target: Path,
    keys: list[Any],
    replace: bool,
    catch_up: Callable[[sa.Connection], int],
) -> int:
    if target.exists() and target.stat().st_size and not replace:
        raise NotEmpty(f"{target} exists already: give another file, or --replace.")
    with sqlite.scratch_file(target.absolute().parent) as scratch:
        with scratch.open("wb") as spool:
            open_part(folder, part, spool.write, keys)
            os.fsync(spool.fileno())
        if not sqlite.is_whole(scratch):
            raise Damaged(f"{folder.name}/{part.name} is no whole database.")
        with Database(sa.URL.create("sqlite+pysqlite", database=str(scratch))) as database:
            with database.writing() as connection:
                tables = catch_up(connection)
            database.overwrite_erased()
        sqlite.copy_into(scratch, target)
    return tables


def _run_script(
    connection: sa.Connection,
    folder: UPath,
    part: BackupPart,
    tables: list[str],
    keys: list[Any],
    *,
    replace: bool = False,
) -> None:
    """Makes the tables of a script and their rows again, in place of empty ones, or of any with `replace`."""
    postgres.be_patient(connection)
    present = sorted({*tables} & {*postgres.tables_of(connection)})
    for name in () if replace else present:
        if connection.execute(sa.text(f"SELECT 1 FROM {postgres.quoted(name)} LIMIT 1")).first() is not None:
            raise NotEmpty(
                f"The table {name} has rows already: restore into an empty database, or give --replace."
            )
    if present:
        connection.exec_driver_sql(f"DROP TABLE {', '.join(map(postgres.quoted, present))}")
    with postgres.Script(connection) as script:
        open_part(folder, part, script.write, keys)


def _mark(connection: sa.Connection, manifest: Manifest) -> None:
    """Marks what may have changed since the backup: all listings, and mails that may have been sent."""
    stop_pushes(connection, f"{RESTORED} {manifest.made_at}")
    text = f"The backup of {manifest.made_at} was restored: nothing is pushed until `midas sync orders` has read what came since."
    raise_alert(connection, kind="incident", subject="restore", text=text)
    unknown = dict.fromkeys(
        (
            "claimed_by",
            "claimed_until",
            "acked_hash",
            "acked_quantity",
            "acked_price",
            "observed_hash",
            "next_attempt_at",
        )
    )
    dirty = {"dirty_since": sa.func.coalesce(mappings.c.dirty_since, utc_now())}
    connection.execute(sa.update(mappings).values(unknown | dirty))
    for table in (workers, rate_limits, console_sessions):  # a session may have been ended since
        connection.execute(sa.delete(table))
    connection.execute(sa.update(marketplace_webhooks).values(claimed_by=None, claimed_until=None))
    unsent = customer_mails.c.state.in_(("waiting", "sending"))
    why = "Restored from a backup: it may have been sent since. Send it with `midas orders messages --send-again`."
    connection.execute(sa.update(customer_mails).where(unsent).values(state="failed", reason=why))
