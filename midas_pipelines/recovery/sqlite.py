"""Files of SQLite: a copy as of one moment while others write, and the way back."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SCRATCH = ".midas-scratch-"
CHUNK = 1 << 18


@contextmanager
def snapshot(path: Path) -> Iterator[BinaryIO]:
    """A copy of a database as of one moment, open to be read; it has no name in the file system."""
    number, name = tempfile.mkstemp(prefix=SCRATCH, dir=path.parent)  # for its owner alone
    with open(number, "rb") as copy, closing(sqlite3.connect(name)) as target:
        os.unlink(name)
        target.execute("PRAGMA journal_mode=OFF")
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as source:
            source.backup(target)
        target.commit()
        copy.seek(0)
        yield copy


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """What is in an open file."""
    while chunk := file.read(CHUNK):
        yield chunk


@contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """A new file in a folder for its owner alone, removed at the end; those that a killed process left go too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(folder)
    number, name = tempfile.mkstemp(prefix=SCRATCH, dir=folder)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield Path(name)
    finally:
        _remove(Path(name))
        os.close(number)


def sweep(folder: Path) -> None:
    """Removes the scratch files that no process holds any more."""
    for left in folder.glob(f"{SCRATCH}????????"):
        with suppress(OSError), open(left, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def copy_into(source: Path, target: Path) -> None:
    """Replaces the whole content of a database in one transaction, or makes it; other processes may have it open."""
    if not target.exists():
        with suppress(FileExistsError):
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target, timeout=30)) as other:
        one.backup(other)


def is_whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.DatabaseError):
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    return False
