"""Streams: what is written is compressed (gzip) and encrypted to a recipient (age); `age -d | gunzip` reads it too."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pyrage
from pyrage import x25519

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import Settings, SettingsError

GZIP = 31  # the window bits by which zlib writes and reads gzip's format


class Damaged(ExpectedError):
    """A backup cannot be read, or is not what was written; the message says which part."""


def recipients(settings: Settings) -> list[Any]:
    """The keys that backups are encrypted to. Raises SettingsError."""
    texts = [text.strip() for text in settings.backup_recipients.split(",") if text.strip()]
    if not texts:
        raise SettingsError(
            "MIDAS_BACKUP_RECIPIENTS is not set: make a key with `midas backup key FILE`, keep FILE on another machine, "
            "and set the age1... that it prints."
        )
    try:
        return [x25519.Recipient.from_str(text) for text in texts]
    except pyrage.RecipientError:
        why = "MIDAS_BACKUP_RECIPIENTS must be keys such as age1..., comma separated."
        raise SettingsError(why) from None


def identities(path: Path | None) -> list[Any]:
    """The secret keys in a file that open backups. Raises SettingsError."""
    if path is None:
        unset = "MIDAS_BACKUP_IDENTITY_FILE is not set: name the file with the secret key of the backups."
        raise SettingsError(unset)
    with suppress(OSError, ValueError, pyrage.IdentityError):
        lines = path.expanduser().read_text().split()
        keys = [x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-")]
        if keys:
            return keys
    raise SettingsError(f"The file {path} holds no key that begins with AGE-SECRET-KEY-.")


class Counted:
    """The size and SHA-256 of what passed."""

    def __init__(self) -> None:
        self.size, self.hash = 0, hashlib.sha256()

    def add(self, chunk: bytes) -> bytes:
        """Counts a chunk, and hands it on."""
        self.size += len(chunk)
        self.hash.update(chunk)
        return chunk


class _Source:
    """Chunks as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            while not self._left:
                self._left = next(self._chunks)
        except StopIteration:
            return b""
        except Exception as error:
            self.error = error
            raise
        taken, self._left = self._left[:size], self._left[size:]
        return taken


class _Sink:
    """A file to write to that hands on what it gets, decompressed."""

    def __init__(self, take: Callable[[bytes], object], counted: Counted) -> None:
        self._take, self._counted = take, counted
        self._unpacker = zlib.decompressobj(wbits=GZIP)

    def write(self, data: bytes) -> int:
        if plain := self._unpacker.decompress(data):
            self._take(self._counted.add(plain))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def seal(chunks: Iterable[bytes], target: Any, keys: list[Any]) -> Counted:
    """Writes the chunks to an open file, compressed and encrypted; returns what they were."""
    counted, packer = Counted(), zlib.compressobj(5, wbits=GZIP)
    packed = (packer.compress(counted.add(chunk)) for chunk in chunks)
    source = _Source(chain(packed, (packer.flush() for _ in range(1))))
    try:
        pyrage.encrypt_io(source, target, keys)
    except pyrage.EncryptError:
        raise source.error or OSError("the file could not be written") from None
    return counted


def unseal(source: Any, take: Callable[[bytes], object], keys: list[Any], name: str) -> Counted:
    """Reads an open file and hands its plain chunks to `take`; returns what they were. Raises Damaged where it is
    not for these keys, or was changed or cut short."""
    counted = Counted()
    try:
        pyrage.decrypt_io(source, _Sink(take, counted), keys)
    except (pyrage.DecryptError, zlib.error, OSError) as failed:
        raise Damaged(f"{name} cannot be opened: {str(failed)[:100]}.") from None
    return counted
