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
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from upath import UPath

from midas_pipelines.recovery import postgres, sqlite
from midas_pipelines.recovery.places import (
    BackupPart,
    Manifest,
    backup_place,
    find_backup,
    new_backup,
    thin_out,
    write_manifest,
)
from midas_pipelines.recovery.sealing import Damaged, identities, recipients, seal, unseal
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import verify_audit
from midas_pipelines.store.operations.proofs import record_proof
from midas_pipelines.store.privacy.keys import FILE_NAME, key_file
from midas_pipelines.store.privacy.register import TABLES
from midas_pipelines.store.schema.version import VERSION_TABLE, read_version
from midas_pipelines.storefront.types import utc_now

SHOP, HISTORY = "shop", "dagster"
LEFT_OUT = ("tmp", ".tmp", "logs", ".logs_queue", ".telemetry")
SECRET_SUFFIXES = (".key", ".pem", ".env")
SECRET_NAMES = (FILE_NAME, ".env")
"""Files of DAGSTER_HOME that hold keys, and stay out."""


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
    """Writes one backup to MIDAS_BACKUP_TO, then removes those that are too old.

    Raises:
        SettingsError: a setting is missing.
    """
    keys, place = recipients(settings), backup_place(settings)
    began = time.monotonic()
    with database.reading() as connection:
        if database.is_postgresql:
            postgres.be_patient(connection)
        moment = connection.execute(sa.select(utc_now())).scalar_one().astimezone(UTC)
        folder = new_backup(place, moment)
        kind = "postgresql" if database.is_postgresql else "sqlite"
        manifest = Manifest(moment.isoformat(), kind, read_version(connection).current)
        rows = _dump_shop(database, connection, folder, manifest, keys)
    _dump_history(settings, folder, manifest, keys)
    size = sum(part.size for part in manifest.parts)
    manifest.facts |= {"rows": rows, "size": size, "seconds": round(time.monotonic() - began, 3)}
    write_manifest(folder, manifest)
    removed = thin_out(place, settings.longest_backup_days())
    made = Made(folder.name, rows, size, len(manifest.parts), manifest.facts["seconds"], removed)
    with database.writing() as connection:
        record_proof(connection, "backup", passed=True, by=by, detail=asdict(made))
    return made


def verify_backup(settings: Settings, name: str | None) -> tuple[str, int]:
    """Opens every part of a backup, the newest without a name, and compares it with the manifest; name and bytes.

    Raises:
        Damaged: a part is missing, changed or cut short.
    """
    keys = identities(settings.backup_identity_file)
    folder, manifest = find_backup(backup_place(settings), name)
    for part in manifest.parts:
        open_part(folder, part, lambda _: None, keys)
    return folder.name, sum(part.size for part in manifest.parts)


def open_part(folder: UPath, part: BackupPart, take: Any, keys: list[Any]) -> None:
    """Hands the plain content of a part to `take`, chunk by chunk. Raises Damaged."""
    try:
        with (folder / part.name).open("rb") as file:
            found = unseal(file, take, keys, f"{folder.name}/{part.name}")
    except FileNotFoundError:
        raise Damaged(f"{folder.name} lacks the part {part.name}.") from None
    if (found.size, found.sha256) != (part.size, part.sha256):
        raise Damaged(f"{folder.name}/{part.name} is not what was written.")


def our_tables() -> list[str]:
    """The names of our tables and of the shop's that we know."""
    return [*TABLES, VERSION_TABLE]


def _dump_shop(
    database: Database, connection: sa.Connection, folder: UPath, manifest: Manifest, keys: list[Any]
) -> int:
    """Writes the shop's database; returns the number of its rows."""
    present = set(sa.inspect(connection).get_table_names())
    names = [name for name in our_tables() if name in present]
    counts = {
        name: connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name))) or 0 for name in names
    }
    manifest.facts["audit_hash"] = verify_audit(connection).last_hash
    if database.is_postgresql:
        manifest.types = postgres.enum_types(connection)
        _dump_tables(connection, SHOP, names, folder, manifest, keys)
    else:
        with sqlite.snapshot(Path(str(database.engine.url.database)).absolute()) as copy:
            _write(folder, f"{SHOP}.sqlite", sqlite.chunks_of(copy), manifest, keys)
    return sum(counts.values())


def _dump_tables(
    connection: sa.Connection, kind: str, names: list[str], folder: UPath, manifest: Manifest, keys: list[Any]
) -> None:
    for name in names:
        shape = asdict(postgres.shape_of(connection, name, names))
        (manifest.shop if kind == SHOP else manifest.history).append(shape)
        _write(folder, f"{kind}.{name}.copy", postgres.copy_out(connection, name), manifest, keys)


def _dump_history(settings: Settings, folder: UPath, manifest: Manifest, keys: list[Any]) -> None:
    """Writes Dagster's storage: its tables where they are on PostgreSQL, and its folder."""
    if (url := settings.dagster_database()) is not None:
        with Database(url) as history, history.reading() as connection:
            postgres.be_patient(connection)
            names = [name for name in postgres.tables_of(connection) if name not in our_tables()]
            _dump_tables(connection, HISTORY, names, folder, manifest, keys)
    home = Path(settings.dagster_home).expanduser() if settings.dagster_home else None
    if home is not None and home.is_dir():
        _write(folder, f"{HISTORY}.tar", _tar_of(home, settings), manifest, keys)


def _write(folder: UPath, name: str, chunks: Iterable[bytes], manifest: Manifest, keys: list[Any]) -> None:
    path = folder / f"{name}.gz.age"
    with path.open("wb") as file:
        counted = seal(chunks, file, keys)
        if path.protocol in ("", "file", "local"):
            file.flush()
            os.fsync(file.fileno())
    manifest.parts.append(BackupPart(path.name, counted.size, counted.sha256))


def _tar_of(home: Path, settings: Settings) -> Iterator[bytes]:
    """A folder as a tar, each SQLite file as of one moment; without keys, logs, and the shop's own database."""
    url = settings.database()
    own = {key_file(settings).absolute()}
    if url.get_backend_name() == "sqlite":
        own.add(Path(str(url.database)).absolute())
    with tempfile.TemporaryFile() as spool, closing(tarfile.open(fileobj=spool, mode="w")) as tar:
        for path in sorted(home.rglob("*")):
            inside = path.relative_to(home)
            if not path.is_file() or path.is_symlink() or path.absolute() in own or _left_out(inside):
                continue
            start = spool.tell()
            if path.read_bytes()[:15] == b"SQLite format 3":
                with sqlite.snapshot(path.absolute()) as copy:
                    _add(tar, inside, copy)
            else:
                with path.open("rb") as file:
                    _add(tar, inside, file)
            spool.seek(start)
            yield from sqlite.chunks_of(spool)
            spool.seek(start)
            spool.truncate()
        yield b"\0" * 2 * tarfile.BLOCKSIZE


def _left_out(inside: Path) -> bool:
    name = inside.name
    journal = name.endswith(("-wal", "-shm", "-journal")) or name.startswith(sqlite.SCRATCH)
    secret = inside.suffix in SECRET_SUFFIXES or name.startswith(SECRET_NAMES)
    return journal or secret or inside.parts[0] in LEFT_OUT


def _add(tar: tarfile.TarFile, inside: Path, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(str(inside))
    info.size, info.mode = os.fstat(file.fileno()).st_size, 0o600
    tar.addfile(info, file)
