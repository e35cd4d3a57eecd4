"""The master keys that payloads are sealed with: from the environment, a command, or a file that is made once. Of several
keys, newest first, the newest seals, and any of them opens."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import shlex
import subprocess
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from midas_pipelines.settings import Settings, SettingsError

FILE_NAME = "payload-key"
COMMAND_SECONDS = 30
"""How long a command may take to print the keys."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MasterKey:
    """One key of 32 bytes; what is used are keys derived from it."""

    secret: bytes

    @cached_property
    def key_id(self) -> str:
        """Names the key without giving it away; each payload begins with it."""
        return hashlib.sha256(b"midas key id" + self.secret).hexdigest()[:8]

    @cached_property
    def wrapping(self) -> AESGCM:
        """Seals the data keys."""
        return AESGCM(self._derived(b"midas wrapping"))

    @cached_property
    def indexing(self) -> bytes:
        """Keys the digests by which a person is found."""
        return self._derived(b"midas indexing")

    @property
    def signing(self) -> bytes:
        """Signs the manifests of backups."""
        return self._derived(b"midas signing")

    def _derived(self, purpose: bytes) -> bytes:
        return hmac.digest(self.secret, purpose, "sha256")


def new_key() -> str:
    """A fresh key as it is written down."""
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


@lru_cache(8)  # a key file is read whenever a payload is sealed or opened
def read_keys(text: str) -> tuple[MasterKey, ...]:
    """The keys in a text, separated by commas or line ends. Raises ValueError, without the keys, where one is none."""
    found = [urlsafe_b64decode(part) for part in text.replace(",", " ").split()]
    if any(len(secret) != 32 for secret in found):
        raise ValueError("a key has 32 bytes")
    return tuple(map(MasterKey, found))


class KeyRing:
    """The keys of one source, newest first; `read` reads them, `forget` makes it read again what it has kept."""

    def __init__(
        self, read: Callable[[], Sequence[MasterKey]], forget: Callable[[], None] = lambda: None
    ) -> None:
        self._read, self._forget = read, forget

    def all(self) -> Sequence[MasterKey]:
        """Every key, newest first. Raises SettingsError where there is none."""
        keys = self._read()
        if not keys:
            raise SettingsError("There is no payload key: set MIDAS_PAYLOAD_KEY.")
        return keys

    def newest(self) -> MasterKey:
        """The key that seals."""
        return self.all()[0]

    def find(self, key_id: str) -> MasterKey:
        """The key of that id. Raises KeyError."""
        for _ in range(2):
            for key in self.all():
                if key.key_id == key_id:
                    return key
            self._forget()
        raise KeyError(key_id)


def key_ring(settings: Settings) -> KeyRing:
    """The keys that the settings name; a key file that does not exist is made."""
    if settings.payload_key is not None:
        return fixed_ring(settings.payload_key.get_secret_value())
    if settings.key_command is not None:
        printed = cache(partial(_printed_by, settings.key_command))
        return KeyRing(printed, printed.cache_clear)
    return KeyRing(partial(_in_file, key_file(settings)))


def fixed_ring(text: str) -> KeyRing:
    """The keys in a text."""
    keys = read_keys(text)
    return KeyRing(lambda: keys)


def key_source(settings: Settings) -> str:
    """Where the keys come from, in words for a person."""
    if settings.payload_key is not None:
        return "MIDAS_PAYLOAD_KEY"
    return f"the command {settings.key_command}" if settings.key_command else f"the file {key_file(settings)}"


def uses_file(settings: Settings) -> bool:
    """Whether the keys are in a file of ours, which can be made and written."""
    return settings.payload_key is None and settings.key_command is None


def key_is_there(settings: Settings) -> bool:
    """Whether reading the keys would make none."""
    return not uses_file(settings) or key_file(settings).exists()


def key_file(settings: Settings) -> Path:
    """The file of the keys: MIDAS_PAYLOAD_KEY_FILE, else in DAGSTER_HOME, else in the state folder."""
    if settings.payload_key_file is not None:
        return settings.payload_key_file.expanduser()
    return settings.home() / FILE_NAME


def add_key(path: Path) -> None:
    """Puts a fresh key before those of the file."""
    _write(path, f"{new_key()}\n{path.read_text()}")


def keep_keys(path: Path, kept: Sequence[MasterKey]) -> None:
    """Leaves only these keys in the file."""
    _write(path, "".join(f"{urlsafe_b64encode(key.secret).decode()}\n" for key in kept))


def _printed_by(command: str) -> Sequence[MasterKey]:
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
        )
        keys = read_keys(done.stdout)
    except (OSError, subprocess.SubprocessError) as failed:
        why = f"MIDAS_KEY_COMMAND failed ({type(failed).__name__}): run it by hand to see why."
        raise SettingsError(why) from None
    except ValueError:
        keys = ()
    if not keys:
        raise SettingsError("MIDAS_KEY_COMMAND printed no key: it should print 32 bytes as url-safe base64.")
    return keys


def _in_file(path: Path) -> Sequence[MasterKey]:
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, new_key() + "\n", new=True)
            log.warning("Made the payload key %s. Keep a copy: no stored payload opens without it.", path)
        return read_keys(path.read_text())
    except OSError as failed:
        why = f"The payload key {path} cannot be read or made ({failed.strerror})"
    except ValueError:
        why = f"The payload key {path} holds no key: 32 bytes as url-safe base64"
    raise SettingsError(
        f"{why}. Set MIDAS_PAYLOAD_KEY, or MIDAS_PAYLOAD_KEY_FILE to a file that this user owns."
    )


def _write(path: Path, text: str, *, new: bool = False) -> None:
    """Writes the whole file or nothing, for its owner alone; a `new` one never replaces that of another process."""
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # has mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if not new:
            os.replace(made, path)
            return
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        Path(made).unlink(missing_ok=True)
