"""Makes and verifies backups: the shop's tables that we read or write, ours, and Dagster's storage.

The shop's database is read in one transaction. The payloads in it stay sealed, and their data keys wrapped; the master
key is never part of a backup.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from upath import UPath

from midas_pipelines.recovery import dumps, places
from midas_pipelines.recovery.places import BackupPart, Manifest
from midas_pipelines.recovery.sealing import recipients, seal
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import verify_audit
from midas_pipelines.store.operations.cursors import record_proof
from midas_pipelines.store.privacy.keys import key_ring
from midas_pipelines.store.privacy.register import TABLES
from midas_pipelines.store.schema.version import VERSION_TABLE, read_version
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.snapshots.files import is_local

SHOP = {"postgresql": "shop.sql.gz.age", "sqlite": "shop.sqlite.gz.age"}
HISTORY, HOME = "dagster.sql.gz.age", "home.tar.gz.age"
"""The parts: the shop's database, Dagster's, and the files of DAGSTER_HOME."""

OUR_TABLES = (*TABLES, VERSION_TABLE)  # Our tables, and the shop's that we know

KEPT = ("dagster.yaml", "history", "schedules", "storage", "snapshots")
"""What of DAGSTER_HOME is in a backup: keys, logs, backups and the shop's own file are not."""
JOURNALS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Made:
    """A new backup: rows of the shop's database, bytes before compression, seconds, and how many old ones were removed."""

    name: str
    rows: int
    size: int
    parts: int
    seconds: float
    removed: int


def create_backup(settings: Settings, database: Database, by: str) -> Made:
    """Writes one backup to MIDAS_BACKUP_TO, then removes those that are too old. Raises SettingsError."""
    keys, place, signer = recipients(settings), places.backup_place(settings), key_ring(settings).newest()
    began = time.monotonic()
    with database.reading() as connection:
        moment = connection.execute(sa.select(utc_now())).scalar_one().astimezone(UTC)
        folder = place / moment.strftime(places.FORM)
        if is_local(place):
            os.makedirs(str(folder), mode=0o700)
        kind = database.engine.url.get_backend_name()
        manifest = Manifest(moment.isoformat(), kind, read_version(connection).current)
        write = partial(_write, folder, manifest, keys)
        present = set(sa.inspect(connection).get_table_names())
        names = [name for name in OUR_TABLES if name in present]
        counts = (sa.select(sa.func.count()).select_from(sa.table(name)) for name in names)
        manifest.facts["rows"] = sum(connection.scalar(count) or 0 for count in counts)
        manifest.facts["audit_hash"] = verify_audit(connection).last_hash
        if database.is_postgresql:
            manifest.tables[SHOP[kind]] = names
            write(SHOP[kind], dumps.dump(connection, names))
        else:
            with dumps.snapshot(Path(str(database.engine.url.database)).absolute()) as copy:
                write(SHOP[kind], dumps.chunks_of(copy))
    if (url := settings.dagster_database()) is not None:
        with Database(url) as history, history.reading() as connection:
            names = [name for name in dumps.tables_of(connection) if name not in OUR_TABLES]
            manifest.tables[HISTORY] = names
            write(HISTORY, dumps.dump(connection, names))
    if settings.home().is_dir():
        write(HOME, _tar_of(settings.home()))
    size, seconds = sum(part.size for part in manifest.parts), round(time.monotonic() - began, 3)
    manifest.facts |= {"size": size, "seconds": seconds}
    places.write_manifest(folder, manifest, signer)
    removed = places.thin_out(place, settings.longest_backup_days())
    made = Made(folder.name, manifest.facts["rows"], size, len(manifest.parts), seconds, removed)
    database.write(record_proof, "backup", passed=True, by=by, detail=asdict(made))
    return made


def verify_backup(settings: Settings, name: str | None) -> tuple[str, int]:
    """Opens every part of a backup, the newest without a name; returns its name and bytes. Raises Damaged where a
    part is missing, changed or cut short, or the manifest was changed."""
    backup = places.find_backup(settings, name)
    for part in backup.manifest.parts:
        backup.open(part.name, lambda _: None)
    return backup.folder.name, sum(part.size for part in backup.manifest.parts)


def _write(folder: UPath, manifest: Manifest, keys: list[Any], name: str, chunks: Iterable[bytes]) -> None:
    with (folder / name).open("wb") as file:
        counted = seal(chunks, file, keys)
        if is_local(folder):
            file.flush()
            os.fsync(file.fileno())
    manifest.parts.append(BackupPart(name, counted.size, counted.hash.hexdigest()))


def _tar_of(home: Path) -> Iterator[bytes]:
    """What is kept of DAGSTER_HOME as a tar, each SQLite file as of one moment."""
    found = (path for name in KEPT for path in ((home / name), *sorted((home / name).rglob("*"))))
    with tempfile.TemporaryFile() as spool, closing(tarfile.open(fileobj=spool, mode="w")) as tar:
        for path in found:
            unneeded = path.name.endswith(JOURNALS) or path.name.startswith(dumps.SCRATCH)
            if unneeded or not path.is_file() or path.is_symlink():
                continue
            start = spool.tell()
            with ExitStack() as stack:
                plain = stack.enter_context(path.open("rb"))
                is_database = plain.peek(15).startswith(b"SQLite format 3")
                file = stack.enter_context(dumps.snapshot(path.absolute())) if is_database else plain
                info = tarfile.TarInfo(str(path.relative_to(home)))
                info.size, info.mode = os.fstat(file.fileno()).st_size, 0o600
                tar.addfile(info, file)
            spool.seek(start)
            yield from dumps.chunks_of(spool)
            spool.seek(start)
            spool.truncate()
        yield b"\0" * 2 * tarfile.BLOCKSIZE
