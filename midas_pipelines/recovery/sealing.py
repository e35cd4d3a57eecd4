"""Streams: what is written is compressed (gzip) and encrypted to a recipient (age); `age -d | gunzip` reads it too."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyrage
from pyrage import x25519

from midas_pipelines.errors import ExpectedError
from midas_pipelines.settings import Settings, SettingsError

GZIP = 31
"""The window bits by which zlib writes and reads gzip's format."""


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
        raise SettingsError(
            "MIDAS_BACKUP_RECIPIENTS must be keys such as age1..., comma separated."
        ) from None


def identities(path: Path | None) -> list[Any]:
    """The secret keys in a file that open backups. Raises SettingsError."""
    if path is None:
        raise SettingsError(
            "MIDAS_BACKUP_IDENTITY_FILE is not set: name the file with the secret key of the backups."
        )
    try:
        lines = path.expanduser().read_text().split()
        return [x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-")]
    except (OSError, ValueError, pyrage.IdentityError):
        raise SettingsError(f"The file {path} holds no key that begins with AGE-SECRET-KEY-.") from None


class Counted:
    """The size and SHA-256 of what passed."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Counts a part."""
        self.size += len(chunk)
        self._hash.update(chunk)

    @property
    def sha256(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


class _Source(io.RawIOBase):
    """Chunks as a file to read from, compressed."""

    def __init__(self, chunks: Iterable[bytes], counted: Counted) -> None:
        self._parts = self._compressed(chunks, counted)
        self._left = b""
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            while not self._left:
                self._left = next(self._parts)
        except StopIteration:
            return 0
        except Exception as error:
            self.error = error
            raise
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count

    @staticmethod
    def _compressed(chunks: Iterable[bytes], counted: Counted) -> Any:
        packer = zlib.compressobj(5, wbits=GZIP)
        for chunk in chunks:
            counted.add(chunk)
            yield packer.compress(chunk)
        yield packer.flush()


class _Sink(io.RawIOBase):
    """A file to write to that hands on what it gets, decompressed."""

    def __init__(self, take: Callable[[bytes], object], counted: Counted) -> None:
        self._unpacker = zlib.decompressobj(wbits=GZIP)
        self._take, self._counted = take, counted
        self.error: Exception | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            plain = self._unpacker.decompress(bytes(data))
            self._counted.add(plain)
            if plain:
                self._take(plain)
        except Exception as error:
            self.error = error
            raise
        return len(data)


def seal(chunks: Iterable[bytes], target: Any, keys: list[Any]) -> Counted:
    """Writes the chunks to an open file, compressed and encrypted; returns what they were."""
    counted = Counted()
    source = _Source(chunks, counted)
    try:
        pyrage.encrypt_io(source, target, keys)
    except pyrage.EncryptError:
        raise source.error or OSError("the file could not be written") from None
    return counted


def unseal(source: Any, take: Callable[[bytes], object], keys: list[Any], name: str) -> Counted:
    """Reads an open file and hands its plain chunks to `take`; returns what they were.

    Raises:
        Damaged: it is not for these keys, or was changed or cut short.
    """
    counted = Counted()
    sink = _Sink(take, counted)
    try:
        pyrage.decrypt_io(source, sink, keys)
    except (pyrage.DecryptError, OSError) as failed:
        if sink.error is not None and not isinstance(sink.error, zlib.error):
            raise sink.error from None
        raise Damaged(f"{name} cannot be opened: {str(failed)[:100]}.") from None
    return counted
