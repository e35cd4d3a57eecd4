"""Makes and verifies backups: the shop's tables that we read or write, ours, and Dagster's storage.

The shop's database is read in one transaction. The payloads in it stay sealed, and their data keys wrapped; the master
key is never part of a backup.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
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
    is_local,
    new_backup,
    thin_out,
    write_manifest,
)
from midas_pipelines.recovery.sealing import Damaged, identities, recipients, seal, unseal
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.gateway.audit import verify_audit
from midas_pipelines.store.operations.proofs import record_proof
from midas_pipelines.store.privacy.keys import FILE_NAME, key_file, key_ring
from midas_pipelines.store.privacy.register import TABLES
from midas_pipelines.store.schema.version import VERSION_TABLE, read_version
from midas_pipelines.storefront.types import utc_now

SHOP, HISTORY, HOME = "shop.sql.gz.age", "dagster.sql.gz.age", "home.tar.gz.age"
SHOP_FILE = "shop.sqlite.gz.age"
"""The parts: the shop's database as a script or a file, Dagster's database, and the files of DAGSTER_HOME."""

OUR_TABLES = (*TABLES, VERSION_TABLE)
"""Our tables, and the shop's that we know."""

LEFT_OUT = ("tmp", ".tmp", "logs", ".logs_queue", ".telemetry")
SECRETS = (".key", ".pem", ".env", FILE_NAME)
"""How names of files end, or begin, that hold keys and stay out."""


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
        ExpectedError: `pg_dump` failed.
    """
    keys, place, signer = recipients(settings), backup_place(settings), key_ring(settings).newest()
    began = time.monotonic()
    with database.reading() as connection:
        if database.is_postgresql:
            postgres.be_patient(connection)
        moment = connection.execute(sa.select(utc_now())).scalar_one().astimezone(UTC)
        folder = new_backup(place, moment)
        kind = "postgresql" if database.is_postgresql else "sqlite"
        manifest = Manifest(moment.isoformat(), kind, read_version(connection).current)
        present = set(sa.inspect(connection).get_table_names())
        names = [name for name in OUR_TABLES if name in present]
        manifest.facts["rows"] = sum(
            connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name))) or 0 for name in names
        )
        manifest.facts["audit_hash"] = verify_audit(connection).last_hash
        if database.is_postgresql:
            manifest.tables[SHOP] = names
            _write(folder, SHOP, postgres.dump(connection, names), manifest, keys)
        else:
            with sqlite.snapshot(Path(str(database.engine.url.database)).absolute()) as copy:
                _write(folder, SHOP_FILE, sqlite.chunks_of(copy), manifest, keys)
    if (url := settings.dagster_database()) is not None:
        with Database(url) as history, history.reading() as connection:
            postgres.be_patient(connection)
            names = [name for name in postgres.tables_of(connection) if name not in OUR_TABLES]
            manifest.tables[HISTORY] = names
            _write(folder, HISTORY, postgres.dump(connection, names), manifest, keys)
    if settings.home().is_dir():
        _write(folder, HOME, _tar_of(settings.home(), settings), manifest, keys)
    size, seconds = sum(part.size for part in manifest.parts), round(time.monotonic() - began, 3)
    manifest.facts |= {"size": size, "seconds": seconds}
    write_manifest(folder, manifest, signer)
    removed = thin_out(place, settings.longest_backup_days())
    made = Made(folder.name, manifest.facts["rows"], size, len(manifest.parts), seconds, removed)
    with database.writing() as connection:
        record_proof(connection, "backup", passed=True, by=by, detail=asdict(made))
    return made


def verify_backup(settings: Settings, name: str | None) -> tuple[str, int]:
    """Opens every part of a backup, the newest without a name, and compares it with the manifest; name and bytes.

    Raises:
        Damaged: a part is missing, changed or cut short, or the manifest was changed.
    """
    keys = identities(settings.backup_identity_file)
    folder, manifest = find_backup(settings, name)
    for part in manifest.parts:
        open_part(folder, part, lambda _: None, keys)
    return folder.name, sum(part.size for part in manifest.parts)


def open_part(folder: UPath, part: BackupPart, take: Callable[[bytes], object], keys: list[Any]) -> None:
    """Hands the plain content of a part to `take`, chunk by chunk. Raises Damaged."""
    try:
        with (folder / part.name).open("rb") as file:
            found = unseal(file, take, keys, f"{folder.name}/{part.name}")
    except FileNotFoundError:
        raise Damaged(f"{folder.name} lacks the part {part.name}.") from None
    if (found.size, found.hash.hexdigest()) != (part.size, part.sha256):
        raise Damaged(f"{folder.name}/{part.name} is not what was written.")


def _write(folder: UPath, name: str, chunks: Iterable[bytes], manifest: Manifest, keys: list[Any]) -> None:
    with (folder / name).open("wb") as file:
        counted = seal(chunks, file, keys)
        if is_local(folder):
            file.flush()
            os.fsync(file.fileno())
    manifest.parts.append(BackupPart(name, counted.size, counted.hash.hexdigest()))


def _tar_of(home: Path, settings: Settings) -> Iterator[bytes]:
    """A folder as a tar, each SQLite file as of one moment; without keys, logs, backups, and the shop's own database."""
    url, out = settings.database(), {key_file(settings).absolute(), Path(settings.backup_to or "").absolute()}
    if url.get_backend_name() == "sqlite":
        out.add(Path(str(url.database)).absolute())
    with tempfile.TemporaryFile() as spool, closing(tarfile.open(fileobj=spool, mode="w")) as tar:
        for path in sorted(home.rglob("*")):
            inside, whole = path.relative_to(home), path.absolute()
            if not path.is_file() or path.is_symlink() or out & {whole, *whole.parents} or _left_out(inside):
                continue
            start = spool.tell()
            with path.open("rb") as file:
                if file.read(15) == b"SQLite format 3":
                    with sqlite.snapshot(whole) as copy:
                        _add(tar, inside, copy)
                else:
                    file.seek(0)
                    _add(tar, inside, file)
            spool.seek(start)
            yield from sqlite.chunks_of(spool)
            spool.seek(start)
            spool.truncate()
        yield b"\0" * 2 * tarfile.BLOCKSIZE


def _left_out(inside: Path) -> bool:
    journal = inside.name.endswith(("-wal", "-shm", "-journal")) or inside.name.startswith(sqlite.SCRATCH)
    secret = inside.name.endswith(SECRETS) or inside.name.startswith(SECRETS)
    return journal or secret or inside.parts[0] in LEFT_OUT


def _add(tar: tarfile.TarFile, inside: Path, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(str(inside))
    info.size, info.mode = os.fstat(file.fileno()).st_size, 0o600
    tar.addfile(info, file)
