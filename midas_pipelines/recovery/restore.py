"""Restores a backup into an empty database, in one transaction, and proves by drills that the newest one can be restored.

After a restore nothing is pushed until orders were read again from before the backup: its stock counts sales that were
made since as unsold.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import URL

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import BACKWARD
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.recovery import dumps
from midas_pipelines.recovery.backup import HISTORY, HOME, SHOP
from midas_pipelines.recovery.places import Backup, Manifest, find_backup
from midas_pipelines.recovery.sealing import Damaged
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import verify_audit
from midas_pipelines.store.items.claims import RESTORED, stop_pushes
from midas_pipelines.store.migrate import upgrade_within
from midas_pipelines.store.operations.cursors import record_proof
from midas_pipelines.store.orders import checks as orders
from midas_pipelines.store.schema.gateway_tables import console_sessions, marketplace_webhooks
from midas_pipelines.store.schema.order_tables import customer_mails
from midas_pipelines.store.schema.tables import mappings, rate_limits, workers
from midas_pipelines.store.schema.version import require_upgraded
from midas_pipelines.store.stock import ledger as stock
from midas_pipelines.storefront.types import utc_now

SCRATCH = "midas_drill_"
UNKNOWN = (
    *("claimed_by", "claimed_until", "acked_hash", "acked_quantity", "acked_price", "observed_hash"),
    "next_attempt_at",
)
"""What is not known of a listing any more once a backup was restored."""


def restore_shop(backup: Backup, target: URL, *, replace: bool = False, drill: bool = False) -> int:
    """Writes the shop's and our tables into a database of the same kind, all or none; returns how many there are.

    `replace` replaces tables with rows; a `drill` is only looked at, so nothing in it is marked to be caught up.

    Raises WrongInput where one of the tables has rows, Damaged where a part of the backup cannot be read.
    """
    kind = backup.manifest.kind
    if target.get_backend_name() != kind:
        raise WrongInput(f"The backup is of {kind}: restore it into a database of that kind.")
    if kind == "postgresql":
        with Database(target) as database, database.writing() as connection:
            _run_script(connection, backup, SHOP[kind], replace=replace)
            return _catch_up(connection, backup.manifest, drill)
    file = Path(str(target.database)).absolute()
    if file.exists() and file.stat().st_size and not replace:
        raise WrongInput(f"{file} exists already: give another file, or --replace.")
    with dumps.scratch_file(file.parent) as scratch:
        with scratch.open("wb") as spool:
            backup.open(SHOP[kind], spool.write)
        with Database(target.set(database=str(scratch))) as database:
            with database.writing() as connection:
                if connection.scalar(sa.text("PRAGMA integrity_check")) != "ok":
                    raise Damaged(f"{backup.folder.name}/{SHOP[kind]} is no whole database.")
                tables = _catch_up(connection, backup.manifest, drill)
            database.overwrite_erased()
        dumps.replace_file(scratch, file)
    return tables


def restore_history(backup: Backup, *, database: URL | None, home: Path) -> int:
    """Writes Dagster's storage: its tables into a database, its files into a folder; returns how many files. Raises
    WrongInput where there is a history already."""
    parts = {part.name for part in backup.manifest.parts}
    if HISTORY in parts and database is not None:
        with Database(database) as history, history.writing() as connection:
            _run_script(connection, backup, HISTORY, replace=False)
    if HOME not in parts:
        return 0
    if (home / "history").exists():
        raise WrongInput(
            f"{home} holds a history of Dagster's already: move it away, or leave out --history."
        )
    with dumps.scratch_file(home) as scratch:
        with scratch.open("wb") as spool:
            backup.open(HOME, spool.write)
        with tarfile.open(scratch) as tar:
            tar.extractall(home, filter="data")  # no path outside, no links
            return len(tar.getnames())


def _run_script(connection: sa.Connection, backup: Backup, part: str, *, replace: bool) -> None:
    """Makes the tables of a script and their rows again, in place of empty ones, or of any with `replace`."""
    dumps.be_patient(connection)
    present = sorted({*backup.manifest.tables.get(part, ())} & {*dumps.tables_of(connection)})
    for name in () if replace else present:
        if connection.execute(sa.text(f"SELECT 1 FROM {dumps.quoted(name)} LIMIT 1")).first() is not None:
            raise WrongInput(f"The table {name} has rows: restore into an empty database, or give --replace.")
    if present:
        connection.exec_driver_sql(f"DROP TABLE {', '.join(map(dumps.quoted, present))}")
    with dumps.script(connection) as write:
        backup.open(part, write)


def _catch_up(connection: sa.Connection, manifest: Manifest, drill: bool) -> int:
    """Upgrades our tables, and marks what may have changed since: all listings, and mails that may have been sent."""
    upgrade_within(connection)
    tables = len(sa.inspect(connection).get_table_names())
    if drill:
        return tables
    stop_pushes(connection, f"{RESTORED} {manifest.made_at}")
    text = f"The backup of {manifest.made_at} was restored: nothing is pushed until `midas sync orders` has read what came since."
    raise_alert(connection, kind="incident", subject="restore", text=text)
    dirty = {"dirty_since": sa.func.coalesce(mappings.c.dirty_since, utc_now())}
    connection.execute(sa.update(mappings).values(dict.fromkeys(UNKNOWN) | dirty))
    for table in (workers, rate_limits, console_sessions):  # a session may have been ended since
        connection.execute(sa.delete(table))
    connection.execute(sa.update(marketplace_webhooks).values(claimed_by=None, claimed_until=None))
    unsent = customer_mails.c.state.in_(("waiting", "sending"))
    why = "Restored from a backup: it may have been sent since. Send it with `midas orders messages --send-again`."
    connection.execute(sa.update(customer_mails).where(unsent).values(state="failed", reason=why))
    return tables


@dataclass(frozen=True)
class Drill:
    """Result of a drill of the backup `name`."""

    name: str
    rpo_seconds: float  # its age: what would have been lost
    rto_seconds: float  # from the decision to restore until the checks were done
    checked: int  # invariants
    broken: dict[str, int]  # offenders by invariant, only those that have some

    @property
    def passed(self) -> bool:
        """Whether the backup can be restored and every invariant holds on it."""
        return not self.broken


def run_drill(settings: Settings, database: Database, by: str) -> Drill:
    """Restores the newest backup into a scratch database, checks it, drops it, and records the proof. Raises
    SettingsError, and Damaged where the backup cannot be read; that is recorded too."""
    began = time.monotonic()
    try:
        backup = find_backup(settings, None)
        with scratch_database(database) as url:
            restore_shop(backup, url, drill=True)
            with Database(url) as copy:
                found = broken_invariants(copy)
    except Exception as failed:
        why = {"error": type(failed).__name__}
        database.write(record_proof, "backup_drill", passed=False, by=by, detail=why)
        raise
    took = time.monotonic() - began
    rpo = (datetime.now(UTC) - backup.manifest.moment).total_seconds() - took
    broken = {name: count for name, count in found.items() if count}
    drill = Drill(backup.folder.name, round(rpo, 1), round(took, 2), len(found), broken)
    database.write(record_proof, "backup_drill", passed=drill.passed, by=by, detail=asdict(drill))
    return drill


def broken_invariants(database: Database) -> dict[str, int]:
    """How many rows break each invariant that the database alone can show."""
    require_upgraded(database)
    offenders: dict[str, Sequence[Any]] = {
        "audit_log_is_whole": database.read(verify_audit).problems,
        "ledger_explains_stock": stock.unexplained_stock(database),
        "no_negative_stock": stock.negative_stock(database),
        "order_totals_add_up": orders.unbalanced_orders(database),
        "one_shop_order_each": orders.unpaired_orders(database),
        "deductions_equal_items": orders.unexplained_deductions(database),
        "statuses_never_go_back": orders.statuses_gone_back(database, BACKWARD),
    }
    return {name: len(rows) for name, rows in offenders.items()}


@contextmanager
def scratch_database(database: Database) -> Iterator[URL]:
    """A new database beside the shop's, for which the role needs CREATEDB, dropped at the end; those that killed
    drills left are dropped first."""
    url = database.engine.url
    if not database.is_postgresql:
        with dumps.scratch_file(Path(str(url.database)).absolute().parent) as path:
            yield url.set(database=str(path))
        return
    name = f"{SCRATCH}{uuid4().hex[:12]}"
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    unused = (
        f"SELECT datname FROM pg_database d WHERE starts_with(datname, '{SCRATCH}') "
        "AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datname = d.datname)"
    )
    with server.connect() as connection:
        for left in list(connection.scalars(sa.text(unused))):
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{left}"')
        connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield url.set(database=name)
        finally:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
