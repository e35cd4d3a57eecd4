"""The restore drill: the newest backup in a scratch database, every invariant checked on it, and the time that took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import URL

from midas_pipelines.recovery import sqlite
from midas_pipelines.recovery.places import find_backup
from midas_pipelines.recovery.restore import restore_shop
from midas_pipelines.recovery.sealing import identities
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import verify_audit
from midas_pipelines.store.operations.proofs import record_proof
from midas_pipelines.store.orders import checks as orders
from midas_pipelines.store.schema.version import require_upgraded
from midas_pipelines.store.stock import checks as stock
from midas_pipelines.sync.orders.model.state_machine import BACKWARD

SCRATCH = "midas_drill_"


@dataclass(frozen=True)
class Drill:
    """Result of a drill.

    Args:
        name: the backup's.
        rpo_seconds: its age: what would have been lost.
        rto_seconds: from the decision to restore until the checks were done.
        checked: how many invariants.
        broken: offenders by invariant, only those that have some.
    """

    name: str
    rpo_seconds: float
    rto_seconds: float
    checked: int
    broken: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether the backup can be restored and every invariant holds on it."""
        return not self.broken


def run_drill(settings: Settings, database: Database, by: str) -> Drill:
    """Restores the newest backup into a scratch database, checks it, drops it, and records the proof.

    Raises:
        SettingsError: a setting is missing.
        Damaged: the backup cannot be read; the failure is recorded too.
    """
    keys = identities(settings.backup_identity_file)
    began = time.monotonic()
    try:
        folder, manifest = find_backup(settings, None)
        with scratch_database(database) as url:
            restore_shop(folder, manifest, url, keys, drill=True)
            with Database(url) as copy:
                found = broken_invariants(copy)
    except Exception as failed:
        with database.writing() as connection:
            record_proof(
                connection, "backup_drill", passed=False, by=by, detail={"error": type(failed).__name__}
            )
        raise
    rpo = (datetime.now(UTC) - manifest.moment).total_seconds() - (time.monotonic() - began)
    broken = {name: count for name, count in found.items() if count}
    drill = Drill(folder.name, round(rpo, 1), round(time.monotonic() - began, 2), len(found), broken)
    with database.writing() as connection:
        record_proof(connection, "backup_drill", passed=drill.passed, by=by, detail=asdict(drill))
    return drill


def broken_invariants(database: Database) -> dict[str, int]:
    """How many rows break each invariant that the database alone can show."""
    require_upgraded(database)
    with database.reading() as connection:
        audit = len(verify_audit(connection).problems)
    offenders: dict[str, list[Any]] = {
        "ledger_explains_stock": list(stock.unexplained_stock(database)),
        "no_negative_stock": list(stock.negative_stock(database)),
        "order_totals_add_up": orders.unbalanced_orders(database),
        "one_shop_order_each": orders.unpaired_orders(database),
        "deductions_equal_items": orders.unexplained_deductions(database),
        "statuses_never_go_back": orders.statuses_gone_back(database, BACKWARD),
    }
    return {"audit_log_is_whole": audit, **{name: len(rows) for name, rows in offenders.items()}}


@contextmanager
def scratch_database(database: Database) -> Iterator[URL]:
    """A new database beside the shop's, dropped at the end; those that killed drills left are dropped first.

    On PostgreSQL the role needs CREATEDB.
    """
    url = database.engine.url
    if not database.is_postgresql:
        with sqlite.scratch_file(Path(str(url.database)).absolute().parent) as path:
            path.unlink()
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
        with server.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        server.dispose()
